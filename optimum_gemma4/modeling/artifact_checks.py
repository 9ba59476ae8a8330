# SPDX-License-Identifier: Apache-2.0
"""What makes exporting or loading impossible before anything is read: unknown arguments, another machine.

optimum-neuron warns about arguments that it does not know and goes on without them, which hides misspellings; here
they are refused.
"""

from typing import Any

from optimum.neuron.utils.instance import current_instance_type
from optimum.neuron.utils.system import get_available_cores

from ..exporters.neuron_config import Gemma4NeuronConfig


__all__ = ["check_instance", "refuse_arguments"]

# What pipelines hand on to every model: the commit of the configuration, and a consent to code that no artifact holds
_WITHOUT_MEANING = ("_commit_hash", "trust_remote_code")


def refuse_arguments(kwargs: dict[str, Any], subfolder: str = "") -> None:
    """Refuse what `export()`, `from_pretrained()` and `save_pretrained()` have no use for.

    Raises:
        ValueError: an argument has a value, by name.
    """
    unknown = sorted(name for name, value in kwargs.items() if value is not None and name not in _WITHOUT_MEANING)
    if subfolder:
        unknown.append("subfolder")
    if unknown:
        raise ValueError(f"Arguments {unknown} are not supported for Gemma 4: leave them out.")


def check_instance(neuron_config: Gemma4NeuronConfig) -> None:
    """Refuse an artifact that was compiled for another instance type, or for more cores than there are.

    Raises:
        ValueError: with what the artifact needs, and what is there.
    """
    current = current_instance_type()
    if neuron_config.target != current:
        raise ValueError(
            f"The artifact was compiled for {neuron_config.target} and this is a {current} instance: use that "
            f"instance type, or export again with --instance_type {current}."
        )
    cores = get_available_cores()
    if cores < neuron_config.tp_degree:
        raise ValueError(
            f"The artifact needs {neuron_config.tp_degree} Neuron cores and {cores} are available: use a larger "
            f"instance, or export again with --tensor_parallel_size {cores}."
        )
