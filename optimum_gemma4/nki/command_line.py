# SPDX-License-Identifier: Apache-2.0
"""What the command lines of `profile` and `compare` share: the problem's options, and one line for what goes wrong.

A mistake ends with that line and exit status 2, argparse's own; `--debug` shows the traceback instead.
"""

import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable

from .schedules.blocks import HEAD_DIMS


FAILED = 2


def positive(text: str) -> int:
    """An integer of at least 1, for argparse."""
    return _at_least(1, text)


def not_negative(text: str) -> int:
    """An integer of at least 0, for argparse."""
    return _at_least(0, text)


def _at_least(least: int, text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not an integer") from None
    if value < least:
        raise ArgumentTypeError(f"{value} must be at least {least}")
    return value


def problem_parser(module: str, description: str) -> ArgumentParser:
    """A parser with the options of an attention problem.

    Args:
        module: Its name, as in `python -m`.
        description: One line.
    """
    parser = ArgumentParser(prog=f"python -m {module}", description=description)
    parser.add_argument("--d", type=int, default=256, choices=HEAD_DIMS, help="head dim")
    parser.add_argument("--seq", type=positive, default=4096, help="queries of a prefill, slots of a decode's cache")
    parser.add_argument("--heads", type=positive, default=8, help="query heads of a rank")
    parser.add_argument("--kv-heads", type=positive, default=4, help="key heads of a rank")
    parser.add_argument("--window", type=not_negative, default=0, help="keys a query sees; 0: no limit")
    parser.add_argument("--lnc", type=int, default=1, choices=(1, 2), help="cores of a logical NeuronCore")
    parser.add_argument("--target", default="trn2", choices=("trn1", "inf2", "trn2"))
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def run_command(parser: ArgumentParser, options: Namespace, command: Callable[[Namespace], int]) -> int:
    """Run a command on its parsed options.

    Returns:
        Its exit status, or 2 after an error: a value that does not fit, a file that cannot be read or written, or a
        kernel that the simulator refuses.
    """
    try:
        if options.heads % options.kv_heads:
            raise ValueError(f"--heads {options.heads} is not a multiple of --kv-heads {options.kv_heads}")
        if options.lnc == 2 and options.target != "trn2":
            raise ValueError(f"--lnc 2: {options.target} has no logical cores of two; use --target trn2 or --lnc 1")
        return command(options)
    except (ValueError, OSError) as error:
        if options.debug:
            raise
        sys.stderr.write(f"{parser.prog}: error: {' '.join(str(error).split())}\n")
        return FAILED
