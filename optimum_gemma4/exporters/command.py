# SPDX-License-Identifier: Apache-2.0
"""The redirect of `optimum-cli export neuron`: the one place where a class of optimum-neuron is changed.

The command starts a child process on `optimum.exporters.neuron`, where a registration made by a plug-in does not
exist, through a shell string and whichever `python3` comes first. Two attributes of the command class are set instead:
its options get those of Gemma 4, and its child is `optimum_gemma4.exporters`, which hands every other model over to
optimum-neuron's `main()`. To be dropped when optimum-neuron offers an entry point.
"""

import subprocess
import sys
from argparse import ArgumentParser

from .options import add_gemma4_options, require_instance_type


CHILD_MODULE = "optimum_gemma4.exporters"
INTERRUPTED = 130  # what a shell reports for SIGINT


def extend_export_command() -> type:
    """Extends optimum-neuron's export command, once, and returns it."""
    from optimum.commands.export.neuronx import NeuronxExportCommand

    if NeuronxExportCommand.run is not _run:
        upstream_parse_args = NeuronxExportCommand.parse_args

        def parse_args(parser: ArgumentParser) -> None:
            upstream_parse_args(parser)
            add_gemma4_options(parser)

        NeuronxExportCommand.parse_args = staticmethod(parse_args)
        NeuronxExportCommand.run = _run
    return NeuronxExportCommand


def _run(self) -> None:
    """Runs the export in a child process and ends with its exit status; the child has said what was wrong."""
    if self.args.instance_type is None:
        require_instance_type(self.parser)
    else:
        self.setup_target_instance()
    # argv is `optimum-cli export neuron ...`: the parser has accepted what follows
    child = [sys.executable, "-m", CHILD_MODULE, *sys.argv[3:]]
    try:
        status = subprocess.run(child, check=False).returncode
    except KeyboardInterrupt:
        status = INTERRUPTED
    if status != 0:
        sys.exit(status if status > 0 else 128 - status)
