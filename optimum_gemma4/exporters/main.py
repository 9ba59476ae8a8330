# SPDX-License-Identifier: Apache-2.0
"""The export command: `optimum-cli export neuron`, in the process that does the work.

Parses the options of optimum-neuron and those of Gemma 4. A model of another architecture goes to optimum-neuron's own
`main()`, untouched. For Gemma 4 an error ends with one line that names the argument to change and a non-zero exit
status; `--debug`, or OPTIMUM_GEMMA4_DEBUG=1, shows the traceback instead.
"""

import logging
import os
import re
import signal
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from optimum.commands.export.neuronx import parse_args_neuronx

from .export import export_gemma4
from .options import add_gemma4_options, given_flags, require_instance_type
from .tasks import is_gemma4, read_config_dict
from .wording import one_line


PROGRAM = "optimum-cli export neuron"
DEBUG_VARIABLE = "OPTIMUM_GEMMA4_DEBUG"
FAILED, INTERRUPTED, TERMINATED = 1, 130, 143
# Files that say how to load a model that has no config.json of transformers
_OTHER_LIBRARIES = ("model_index.json", "modules.json", "config_sentence_transformers.json")
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


def main(argv: list[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: Arguments after the command's name; those of the process by default.

    Returns:
        The exit status.
    """
    parser = ArgumentParser(PROGRAM)
    parse_args_neuronx(parser)
    add_gemma4_options(parser)
    args = parser.parse_args(argv)
    if args.instance_type is None:
        require_instance_type(parser)
    _log_to_stderr()
    try:
        config_dict = _config_dict(args)
        if is_gemma4(config_dict):
            # Not given means the checkpoint's dtype, where optimum-neuron's parser says float32
            parser.set_defaults(torch_dtype=None)
            _export(parser.parse_args(argv), config_dict)
            return 0
        _refuse_gemma4_options(args, config_dict)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        if args.debug or os.environ.get(DEBUG_VARIABLE):
            raise
        sys.stderr.write(f"{PROGRAM}: error: {_said(error)}\n")
        return FAILED
    return _upstream_main()


def _upstream_main() -> int:
    from optimum.exporters.neuron.__main__ import main as upstream_main

    upstream_main()
    return 0


def _export(args: Namespace, config_dict: dict) -> None:
    # A terminated export cleans up like one that fails
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    export_gemma4(args, config_dict)


def _config_dict(args: Namespace) -> dict:
    """The model's `config.json`; empty for a model of another library, which optimum-neuron knows how to read.

    Raises:
        ValueError: there is nothing under `--model`.
    """
    folder = Path(args.model, args.subfolder)
    if folder.is_dir():
        if any((folder / name).is_file() for name in _OTHER_LIBRARIES):
            return {}
        if not (folder / "config.json").is_file():
            raise ValueError(f"--model {args.model}: {folder} has no config.json")
        return read_config_dict(str(folder))
    if folder.exists():
        raise ValueError(f"--model {args.model} is a file; give the folder of the checkpoint")
    if Path(args.model).is_dir() or not _HUB_ID.fullmatch(args.model):
        raise ValueError(f"--model {args.model}: there is no folder {folder}")
    try:
        return read_config_dict(args.model, cache_dir=args.cache_dir, subfolder=args.subfolder)
    except OSError as error:
        if "does not appear to have a file named" in str(error):
            return {}
        raise ValueError(
            f"--model {args.model} is neither a folder nor a model that could be read from the Hub ({error})"
        ) from error


def _refuse_gemma4_options(args: Namespace, config_dict: dict) -> None:
    flags = given_flags(args)
    if flags:
        raise ValueError(
            f"{', '.join(flags)}: only for Gemma 4, and --model {args.model} is "
            f"{config_dict.get('model_type', 'another kind of model')}"
        )


def _said(error: Exception) -> str:
    text = one_line(error)
    if isinstance(error, (ValueError, OSError, RuntimeError, MemoryError)) and text:
        return text
    return f"unexpected {type(error).__name__}: {text} (--debug shows where)"


def _log_to_stderr() -> None:
    logger = logging.getLogger("optimum_gemma4")
    if logger.handlers:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
