# SPDX-License-Identifier: Apache-2.0
"""Options that `optimum-cli export neuron` has for Gemma 4, beside those of optimum-neuron.

Declared once: the command shows them, the export parses them, and `given_options` turns those that were given into
keyword arguments of `get_neuron_config`. None of them has a default here, so that the class that compiles decides.
"""

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterable
from typing import Any

from optimum.neuron.utils.instance import SUPPORTED_INSTANCE_TYPES

from ..modeling.processing.image_processor import SUPPORTED_SOFT_TOKENS
from ..simulator import backend_name


_BUDGETS = ", ".join(map(str, SUPPORTED_SOFT_TOKENS))


def _lengths(text: str) -> list[int]:
    try:
        lengths = [int(part) for part in text.split(",")]
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a list of integers such as 128,512,2048") from None
    if any(length < 1 for length in lengths):
        raise ArgumentTypeError(f"{text!r}: every length must be at least 1")
    return sorted(set(lengths))


def _image_budgets(text: str) -> list[int]:
    try:
        budgets = {int(part) for part in text.split(",")}
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a list of integers such as 70,280") from None
    unknown = sorted(budgets - set(SUPPORTED_SOFT_TOKENS))
    if unknown:
        raise ArgumentTypeError(f"no image budget: {', '.join(map(str, unknown))}; give some of {_BUDGETS}")
    return sorted(budgets)


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not an integer") from None
    if value < 1:
        raise ArgumentTypeError(f"{value} must be at least 1")
    return value


# flag -> keyword arguments of add_argument; `dest` is the name that `get_neuron_config` knows
_OPTIONS: dict[str, dict[str, Any]] = {
    "--prefill_buckets": {
        "dest": "prefill_buckets",
        "type": _lengths,
        "metavar": "N,N,...",
        "help": "Prompt lengths to compile a prefill graph for; the last one is the longest prompt.",
    },
    "--max_context_length": {
        "dest": "max_context_length",
        "type": _positive,
        "metavar": "N",
        "help": "Longest prompt, in tokens. Defaults to the sequence length.",
    },
    "--on_device_sampling": {
        "dest": "on_device_sampling",
        "action": "store_true",
        "help": "Choose tokens on the device (default).",
    },
    "--no_on_device_sampling": {
        "dest": "on_device_sampling",
        "action": "store_false",
        "help": "Return logits to the host, which chooses tokens.",
    },
    "--no_nki": {
        "dest": "nki_kernels",
        "action": "store_false",
        "help": "Leave attention to the compiler: no NKI kernels.",
    },
    "--max_soft_tokens": {
        "dest": "max_soft_tokens",
        "type": _image_budgets,
        "metavar": "N,N,...",
        "help": f"Image budgets to compile, in soft tokens: any of {_BUDGETS}. An image runs in the smallest that "
        "holds it. Defaults to the checkpoint's own. Only for image-text-to-text.",
    },
    "--max_images": {
        "dest": "max_images",
        "type": _positive,
        "metavar": "N",
        "help": "Images in one prompt. Defaults to as many as fit the longest prompt; a limit saves device memory. "
        "Only for image-text-to-text.",
    },
}
# Options of a task that takes images, by the name that `get_neuron_config` knows them under
IMAGE_OPTIONS = ("max_soft_tokens", "max_images")


def add_gemma4_options(parser: ArgumentParser) -> None:
    """Adds the options to optimum-neuron's parser of `export neuron`."""
    group = parser.add_argument_group("Gemma 4 (optimum_gemma4)")
    for flag, keywords in _OPTIONS.items():
        group.add_argument(flag, default=None, **keywords)
    group.add_argument(
        "--verbose", action="store_true", help="Show which attention runs as an NKI kernel in which graph, and why."
    )
    group.add_argument(
        "--debug", action="store_true", help="Show the traceback of an error (also: OPTIMUM_GEMMA4_DEBUG=1)."
    )


def require_instance_type(parser: ArgumentParser) -> None:
    """Ends with a usage error where no device says what to compile for, as optimum-neuron; also simulating."""
    if backend_name() == "simulator":
        parser.error(f"the following arguments are required: --instance_type {{{','.join(SUPPORTED_INSTANCE_TYPES)}}}")


def given_options(args: Namespace) -> dict[str, Any]:
    """The options that the user gave, by the name that `get_neuron_config` knows them under."""
    names = dict.fromkeys(keywords["dest"] for keywords in _OPTIONS.values())
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}


def given_flags(args: Namespace, names: Iterable[str] | None = None) -> list[str]:
    """The flags that `given_options` may come from, for messages; only those of `names` if these are given."""
    given = given_options(args)
    wanted = given if names is None else given.keys() & set(names)
    return [flag for flag, keywords in _OPTIONS.items() if keywords["dest"] in wanted]
