# SPDX-License-Identifier: Apache-2.0
"""Plug-in of `optimum-cli`: `export neuron` exports Gemma 4 too, with and without the Neuron SDK.

optimum visits the files of this namespace folder in no fixed order (PEP 420: no `__init__.py` here, in any package).
optimum-neuron's own file offers `export neuron` only if it finds an SDK, so the package is imported first, which may
put the simulator there; then the command is offered here exactly when that file does not offer it. A second `neuron`
under `export` would stop `optimum-cli` for every command.
"""

import logging


def _commands() -> list:
    # Said by the process that exports, and not for every other command
    logging.getLogger("optimum_gemma4.simulator").setLevel(logging.ERROR)
    from optimum_gemma4.exporters.command import extend_export_command

    command = extend_export_command()
    # Below a statement, where no sorting of imports moves it above: optimum-neuron looks for the SDK on import
    from optimum.commands.export.base import ExportCommand

    from optimum.commands.register import register_export

    return [] if register_export.REGISTER_COMMANDS else [(command, ExportCommand)]


try:
    # An iterator is empty the second time: two folders on the path may hold this file (a wheel and a source tree)
    REGISTER_COMMANDS = iter(_commands())
except (ImportError, RuntimeError, ValueError) as error:
    # The other commands of optimum-cli must go on working
    logging.getLogger(__name__).warning("optimum_gemma4 adds nothing to optimum-cli: %s", error)
    REGISTER_COMMANDS = []
