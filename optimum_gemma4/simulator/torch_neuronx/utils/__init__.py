# SPDX-License-Identifier: Apache-2.0
"""Stand-in for torch_neuronx.utils: which compiler target is in force."""

import re

from optimum_gemma4.simulator.platform import instance_family


_TARGET_OF_FAMILY = {"trn1": "trn1", "trn1n": "trn1", "inf2": "inf2", "trn2": "trn2"}


def get_platform_target(compiler_args: str | list[str] | None = None) -> str:
    """Returns the compiler target: `--target` of the arguments, else NEURON_PLATFORM_TARGET_OVERRIDE, else trn2."""
    text = " ".join(compiler_args) if isinstance(compiler_args, list) else (compiler_args or "")
    match = re.search(r"--target[= ](\S+)", text)
    if match:
        return match.group(1)
    family = instance_family()
    return _TARGET_OF_FAMILY.get(family, family)
