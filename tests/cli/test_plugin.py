# SPDX-License-Identifier: Apache-2.0
"""The plug-in of optimum-cli: `export neuron` exists exactly once, in whatever order register files are visited."""

import sys

import pytest
from commands import optimum_cli, run_python

from optimum_gemma4.exporters import command as command_module
from optimum_gemma4.exporters.command import extend_export_command


# optimum's own loop over the register files of a folder, in an order of our choice
VISIT = """
import importlib, sys
from optimum.commands.export.base import ExportCommand
commands = []
for name in sys.argv[1].split(","):
    module = importlib.import_module(f"optimum.commands.register.{name}")
    commands += [(command.__name__, parent is ExportCommand) for command, parent in module.REGISTER_COMMANDS]
    print(commands)
"""


@pytest.mark.parametrize(
    "order",
    [
        # Ours on the path twice: a wheel and a source tree
        "register_export,register_gemma4,register_gemma4",
        "register_gemma4,register_export,register_gemma4",
    ],
)
def test_the_command_is_registered_once_in_every_order(tmp_path, order):
    finished = run_python(VISIT, order, cwd=tmp_path)
    after_each = finished.out.splitlines()
    assert after_each[1:] == ["[('NeuronxExportCommand', True)]"] * 2, finished.err
    # Visited first, the package is in place before optimum-neuron looks for an SDK and falls back to trn1
    assert ("override the platform target to trn1" in finished.err) == order.startswith("register_export")


def test_a_backend_that_cannot_be_had_leaves_the_other_commands_working(tmp_path):
    finished = optimum_cli("env", cwd=tmp_path, OPTIMUM_GEMMA4_BACKEND="neuron")
    assert finished.status == 0
    assert "optimum_gemma4 adds nothing to optimum-cli: OPTIMUM_GEMMA4_BACKEND=neuron" in finished.err


def test_extending_twice_changes_nothing():
    command = extend_export_command()
    parse_args, run = command.parse_args, command.run
    assert extend_export_command() is command
    assert command.parse_args is parse_args and command.run is run


class _Child:
    """Takes the place of the child process."""

    def __init__(self, outcome):
        self.outcome, self.command, self.returncode = outcome, None, outcome

    def __call__(self, command, check):
        self.command = command
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self


def _run(monkeypatch, outcome, *arguments) -> tuple[list[str], int]:
    from optimum.commands.optimum_cli import main

    extend_export_command()
    child = _Child(outcome)
    monkeypatch.setenv("NEURON_PLATFORM_TARGET_OVERRIDE", "trn2")
    monkeypatch.setattr(command_module.subprocess, "run", child)
    monkeypatch.setattr(sys, "argv", ["optimum-cli", "export", "neuron", *arguments])
    try:
        main()
    except SystemExit as ended:
        return child.command, ended.code
    return child.command, 0


@pytest.mark.parametrize(
    ("outcome", "status"), [(0, 0), (1, 1), (2, 2), (-9, 137), (-15, 143), (KeyboardInterrupt(), 130)]
)
def test_the_childs_end_is_the_commands(monkeypatch, outcome, status):
    assert _run(monkeypatch, outcome, "--model", "m", "--instance_type", "trn2", "out")[1] == status


def test_the_child_is_this_interpreter_and_gets_the_arguments_as_they_are(monkeypatch):
    arguments = ("--model", "a folder; rm -rf $HOME", "--instance_type", "trn1", "--no_nki", "out put")
    child, _ = _run(monkeypatch, 0, *arguments)
    assert child == [sys.executable, "-m", "optimum_gemma4.exporters", *arguments]


def test_the_command_asks_for_the_instance_type_itself(monkeypatch, capsys):
    assert _run(monkeypatch, 0, "--model", "m", "out") == (None, 2)
    assert "required: --instance_type" in capsys.readouterr().err
