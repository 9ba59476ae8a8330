# SPDX-License-Identifier: Apache-2.0
"""How much memory an export needs, told before anything is compiled, and refused when a core cannot hold it.

Weights are counted from the key table and the KV cache from the model's own cache tensors, per NeuronCore and exactly.
What the compiler adds (activations, collectives, code) is not known before it has run: a tenth of the core is kept for
it. Host memory is what the export and a load take besides the interpreter.
"""

from dataclasses import dataclass
from math import prod

import torch
from transformers import PretrainedConfig

from ..modeling.geometry import TextGeometry, supported_tp
from ..modeling.text.kv_cache import Gemma4KVCache
from ..modeling.vision.spec import VisionSpec
from .key_table import text_specs, vision_specs
from .neuron_config import Gemma4NeuronConfig


GIB, MIB = 2**30, 2**20
# Device memory by logical core, for the compilation targets of optimum-neuron: 32 GiB for the two cores of a trn1 or
# inf2 device; 96 GiB for the eight physical cores of a trn2 device, used in pairs.
CORE_BYTES = {"trn1": 16 * GIB, "trn2": 24 * GIB}
USABLE = 0.9
# Prefill and decode each have a module of their own while they are traced (`bundles.py`)
TRACED_MODULES = 2


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes per core, at one tensor-parallel size, and bytes of host memory."""

    target: str
    bundles: tuple[str, ...]
    tp_degree: int
    weight_bytes: int
    kv_bytes: int

    @property
    def core_bytes(self) -> int:
        """Weights and KV cache on one core."""
        return self.weight_bytes + self.kv_bytes

    @property
    def checkpoint_bytes(self) -> int:
        """Rank files on disk, and what loading them takes on the host."""
        return self.weight_bytes * self.tp_degree

    @property
    def host_export_bytes(self) -> int:
        """One rank's weights and caches for every module that is traced; the conversion streams."""
        return TRACED_MODULES * self.core_bytes

    def fits(self) -> bool:
        """Whether a core of the target holds it."""
        return self.core_bytes <= USABLE * CORE_BYTES[self.target]

    def describe(self) -> str:
        """One line for the log."""
        return (
            f"Memory per NeuronCore ({self.target}, {CORE_BYTES[self.target] / GIB:.0f} GiB, "
            f"{self.tp_degree} cores): weights {_size(self.weight_bytes)}, KV cache {_size(self.kv_bytes)}. "
            f"Host: {_size(self.host_export_bytes)} to export, {_size(self.checkpoint_bytes)} to load."
        )

    def check(self, config: PretrainedConfig, neuron_config: Gemma4NeuronConfig) -> None:
        """Refuses what no core of the target can hold.

        Raises:
            ValueError: it does not fit; names the arguments to change, and the tensor-parallel sizes that fit.
        """
        if self.fits():
            return
        fitting = [
            tp for tp in supported_tp(config) if tp > self.tp_degree and self._fits_at(config, neuron_config, tp)
        ]
        advice = f"--tensor_parallel_size {fitting[0]} fits" if fitting else "no --tensor_parallel_size fits"
        raise ValueError(
            f"weights ({_size(self.weight_bytes)}) and KV cache ({_size(self.kv_bytes)}) take {_size(self.core_bytes)} of a "
            f"{self.target} core's {CORE_BYTES[self.target] / GIB:.0f} GiB, and a tenth is kept for the compiler: "
            f"{advice}; or lower --sequence_length {neuron_config.sequence_length} or "
            f"--batch_size {neuron_config.batch_size}"
        )

    def _fits_at(self, config: PretrainedConfig, neuron_config: Gemma4NeuronConfig, tp_degree: int) -> bool:
        try:
            return plan_memory(config, neuron_config, self.bundles, tp_degree).fits()
        except ValueError:
            return False  # the vision encoder cannot be split so


def plan_memory(
    config: PretrainedConfig,
    neuron_config: Gemma4NeuronConfig,
    bundles: tuple[str, ...],
    tp_degree: int | None = None,
) -> MemoryPlan:
    """Counts an export's memory without allocating any of it.

    Args:
        config: Configuration that is compiled.
        neuron_config: Shapes, dtype and target.
        bundles: What is exported: "text", "vision".
        tp_degree: Instead of the one in `neuron_config`.

    Raises:
        ValueError: the model cannot be split so.
    """
    geometry = TextGeometry.from_config(config)
    tp = neuron_config.tp_degree if tp_degree is None else tp_degree
    geometry.check_tp(tp)
    dtype = neuron_config.torch_dtype
    specs = list(text_specs(geometry, ""))
    if "vision" in bundles:
        vision = VisionSpec.from_config(config.vision_config, geometry.hidden_size)
        vision.check_tp(tp)
        specs += vision_specs(vision, "")
    values = sum(prod(target.rank_shape(tp)) for spec in specs for target in spec.targets)
    with torch.device("meta"):
        cache = Gemma4KVCache(geometry, tp, neuron_config.batch_size, neuron_config.sequence_length, dtype)
    return MemoryPlan(neuron_config.target, bundles, tp, values * dtype.itemsize, cache.num_bytes())


def _size(count: int) -> str:
    return f"{count / GIB:.2f} GiB" if count >= GIB / 10 else f"{count / MIB:.2f} MiB"
