# SPDX-License-Identifier: Apache-2.0
"""How much memory an export needs, told before anything is compiled, and refused when a core cannot hold it.

Weights are counted from the key table, the KV cache from the model's own cache tensors and the image features from the
declared inputs of the prefill graphs, per NeuronCore and exactly. Of the activations, only those of the vision encoder
are estimated, since its attention over all patches grows with the square of the image budget. What the compiler adds
(other activations, collectives, code) is not known before it has run: a tenth of the core is kept for it. Host memory
is what the export and a load take besides the interpreter.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

import torch
from transformers import PretrainedConfig

from ..modeling.geometry import TextGeometry, supported_tp
from ..modeling.text.kv_cache import Gemma4KVCache
from ..modeling.vision.attention import QUERY_BLOCK
from ..modeling.vision.spec import VisionSpec
from .export_config import Gemma4NeuronExportConfig
from .key_table import TensorSpec, text_specs, vision_specs
from .neuron_config import Gemma4NeuronConfig
from .tasks import IMAGE_TASK
from .wording import GIB, size


# Device memory by logical core, for the compilation targets of optimum-neuron: 32 GiB for the two cores of a trn1 or
# inf2 device; 96 GiB for the eight physical cores of a trn2 device, used in pairs.
CORE_BYTES = {"trn1": 16 * GIB, "trn2": 24 * GIB}
USABLE = 0.9
# Prefill and decode each have a module of their own while they are traced (`bundles.py`)
TRACED_MODULES = 2


@dataclass(frozen=True)
class ImageMemory:
    """Bytes per core that an artifact takes for images.

    Attributes:
        weight_bytes: Of the vision encoder; part of the plan's weights.
        budget: Soft tokens of the largest vision graph.
        activation_bytes: Inputs, attention scores and hidden states of that graph, an estimate.
        feature_bytes: The soft tokens that each prefill graph takes, by prompt length.
    """

    weight_bytes: int
    budget: int
    activation_bytes: int
    feature_bytes: dict[int, int]

    @property
    def run_bytes(self) -> int:
        """What a call adds to the weights: images are encoded before the prompt, so the larger of the two."""
        return max(self.activation_bytes, *self.feature_bytes.values())

    def describe(self) -> str:
        """Part of the plan's line."""
        features = ", ".join(f"{length}: {size(count)}" for length, count in self.feature_bytes.items())
        return (
            f", vision activations about {size(self.activation_bytes)} at {self.budget} soft tokens, "
            f"image features by prefill graph ({features})"
        )


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes per core, at one tensor-parallel size, and bytes of host memory."""

    target: str
    bundles: tuple[str, ...]
    tp_degree: int
    weight_bytes: int
    kv_bytes: int
    images: ImageMemory | None = None

    @property
    def core_bytes(self) -> int:
        """Weights, KV cache and what images add, on one core."""
        return self.weight_bytes + self.kv_bytes + (self.images.run_bytes if self.images else 0)

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
        vision = f" ({size(self.images.weight_bytes)} of them vision)" if self.images else ""
        images = self.images.describe() if self.images else ""
        return (
            f"Memory per NeuronCore ({self.target}, {CORE_BYTES[self.target] / GIB:.0f} GiB, "
            f"{self.tp_degree} cores): weights {size(self.weight_bytes)}{vision}, "
            f"KV cache {size(self.kv_bytes)}{images}. Host: {size(self.host_export_bytes)} to export, "
            f"{size(self.checkpoint_bytes)} to load."
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
        images = f", images ({size(self.images.run_bytes)})" if self.images else ""
        raise ValueError(
            f"weights ({size(self.weight_bytes)}), KV cache ({size(self.kv_bytes)}){images} take "
            f"{size(self.core_bytes)} of a {self.target} core's {CORE_BYTES[self.target] / GIB:.0f} GiB, and a tenth "
            f"is kept for the compiler: {advice}; or lower --sequence_length {neuron_config.sequence_length} or "
            f"--batch_size {neuron_config.batch_size}{self._image_advice(neuron_config)}"
        )

    def _image_advice(self, neuron_config: Gemma4NeuronConfig) -> str:
        """The image options whose part of the memory is what does not fit."""
        if self.images is None or self.weight_bytes + self.kv_bytes > USABLE * CORE_BYTES[self.target]:
            return ""
        budgets = ",".join(map(str, neuron_config.max_soft_tokens))
        if self.images.activation_bytes >= self.images.run_bytes:
            return f" or --max_soft_tokens {budgets}"
        given = neuron_config.max_images
        return f" or --max_images {given}" if given else " or limit the images of a prompt with --max_images"

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
    weights = _weight_bytes(text_specs(geometry, ""), tp, dtype)
    images = None
    if "vision" in bundles:
        vision = VisionSpec.from_config(config.vision_config, geometry.hidden_size)
        vision.check_tp(tp)
        images = _image_memory(config, neuron_config, vision, tp)
        weights += images.weight_bytes
    with torch.device("meta"):
        cache = Gemma4KVCache(geometry, tp, neuron_config.batch_size, neuron_config.sequence_length, dtype)
    return MemoryPlan(neuron_config.target, bundles, tp, weights, cache.num_bytes(), images)


def _image_memory(
    config: PretrainedConfig, neuron_config: Gemma4NeuronConfig, vision: VisionSpec, tp: int
) -> ImageMemory:
    dtype, budget = neuron_config.torch_dtype, max(neuron_config.max_soft_tokens)
    graphs = Gemma4NeuronExportConfig(config, IMAGE_TASK, neuron_config).prefill_graphs()
    features = {}
    for length, graph in zip(neuron_config.prefill_buckets, graphs, strict=True):
        (spec,) = (spec for spec in graph.inputs if spec.name == "image_features")
        features[length] = prod(spec.shape) * spec.dtype.itemsize
    return ImageMemory(
        _weight_bytes(vision_specs(vision, ""), tp, dtype),
        budget,
        _activation_bytes(vision, budget, tp, dtype),
        features,
    )


def _activation_bytes(vision: VisionSpec, budget: int, tp: int, dtype: torch.dtype) -> int:
    """Pixels, residual, and the larger half of a layer: attention scores of one block of queries, or the MLP."""
    patches = budget * vision.patches_per_cell
    pixels = patches * vision.pixels_per_patch * torch.float32.itemsize
    residual = patches * vision.hidden_size * dtype.itemsize
    # Softmax runs in fp32 and its result is cast: both exist at once
    scores = vision.num_heads // tp * min(patches, QUERY_BLOCK) * patches * (torch.float32.itemsize + dtype.itemsize)
    mlp = 2 * patches * vision.intermediate_size // tp * dtype.itemsize
    return pixels + residual + max(scores, mlp)


def _weight_bytes(specs: Iterable[TensorSpec], tp: int, dtype: torch.dtype) -> int:
    return sum(prod(target.rank_shape(tp)) for spec in specs for target in spec.targets) * dtype.itemsize
