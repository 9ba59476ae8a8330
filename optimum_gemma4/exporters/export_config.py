# SPDX-License-Identifier: Apache-2.0
"""The one declaration of every graph's inputs and outputs: names, shapes and dtypes for a neuron configuration.

A bundle is a set of graphs over one set of weights. Text bundle: one prefill graph per prompt length and one decode
graph, `(input_ids, position_ids, seq_ids, sampling_params)` and, in an image-text-to-text artifact, `(image_features,
feature_index, end)` in every graph of it, because the SDK gives a bundle one call signature. Vision bundle: one graph
per image budget, `(pixel_values, image_position_ids) -> features`. The graph builders take their example inputs here.
"""

from dataclasses import dataclass

import torch
from optimum.exporters.neuron.base import NeuronExportConfig
from transformers import PretrainedConfig

from .neuron_config import Gemma4NeuronConfig


__all__ = ["Gemma4NeuronExportConfig", "Gemma4TextNeuronExportConfig", "GraphSpec", "TensorSpec"]

PREFILL = "context_encoding"
DECODE = "token_generation"
VISION = "vision_encoder"
SAMPLING_PARAMETERS = 3  # top_k, top_p, temperature: the order of optimum-neuron's sampler
RGB_CHANNELS = 3


@dataclass(frozen=True)
class TensorSpec:
    """Name, static shape and dtype of one input or output of a graph."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class GraphSpec:
    """Inputs, in call order, and outputs (without the aliased caches) of one compiled graph."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class Gemma4TextNeuronExportConfig(NeuronExportConfig):
    """Graphs of the text decoder, for `task` "text-generation".

    Args:
        config: a Gemma 4 configuration, multimodal or text only.
        task: what the artifact is for.
        neuron_config: the shapes and options to compile for.

    Raises:
        ValueError: the task is not one of `TASKS`.
    """

    TASKS: tuple[str, ...] = ("text-generation",)
    INPUT_ARGS = ("batch_size", "sequence_length", "tensor_parallel_size")

    def __init__(self, config: PretrainedConfig, task: str, neuron_config: Gemma4NeuronConfig):
        if task not in self.TASKS:
            raise ValueError(
                f"task is {task!r}: {config.model_type} is exported for {', '.join(self.TASKS)} (--task)."
            )
        self.config = config
        self.text_config = config.get_text_config()
        self.task = task
        self.neuron_config = neuron_config

    @property
    def inputs(self) -> list[str]:
        """Names of the inputs of every graph of the text bundle, in call order."""
        return [spec.name for spec in self.decode_graph().inputs]

    @property
    def outputs(self) -> list[str]:
        """Names of the outputs of every graph of the text bundle, without the aliased caches."""
        return [spec.name for spec in self.decode_graph().outputs]

    def prefill_graphs(self) -> list[GraphSpec]:
        """One graph per prompt length; with continuous batching a prompt is encoded alone."""
        neuron_config = self.neuron_config
        return [
            self._text_graph(f"{PREFILL}_{length}", neuron_config.ctx_batch_size, length)
            for length in neuron_config.prefill_buckets
        ]

    def decode_graph(self) -> GraphSpec:
        """One new token for every row of the batch."""
        return self._text_graph(DECODE, self.neuron_config.tkg_batch_size, 1)

    def bundles(self) -> dict[str, list[GraphSpec]]:
        """The graphs of each bundle of the artifact, by bundle name."""
        return {"text": [*self.prefill_graphs(), self.decode_graph()]}

    def _text_graph(self, name: str, batch: int, length: int) -> GraphSpec:
        inputs = (
            TensorSpec("input_ids", (batch, length), torch.int32),
            TensorSpec("position_ids", (batch, length), torch.int32),
            TensorSpec("seq_ids", (batch,), torch.int32),
            TensorSpec("sampling_params", (batch, SAMPLING_PARAMETERS), torch.float32),
            *self._image_inputs(batch, length),
        )
        logits = TensorSpec("logits", (batch, 1, self.text_config.vocab_size), torch.float32)
        outputs = (logits,)
        if self.neuron_config.on_device_sampling:
            tokens = TensorSpec("tokens", (batch,), torch.int32)
            outputs = (tokens, logits) if self.neuron_config.output_logits else (tokens,)
        return GraphSpec(name, inputs, outputs)

    def _image_inputs(self, batch: int, length: int) -> tuple[TensorSpec, ...]:
        return ()


class Gemma4NeuronExportConfig(Gemma4TextNeuronExportConfig):
    """Graphs of a multimodal Gemma 4: text alone for "text-generation", text and vision for "image-text-to-text"."""

    TASKS = ("text-generation", "image-text-to-text")

    @property
    def has_images(self) -> bool:
        """Whether the artifact holds a vision bundle."""
        return self.task == "image-text-to-text"

    def vision_graphs(self) -> list[GraphSpec]:
        """One graph per image budget; each call encodes one image of any size within the budget."""
        return [self._vision_graph(budget) for budget in self.neuron_config.max_soft_tokens]

    def bundles(self) -> dict[str, list[GraphSpec]]:
        """The graphs of each bundle of the artifact, by bundle name."""
        return {**super().bundles(), **({"vision": self.vision_graphs()} if self.has_images else {})}

    def _image_inputs(self, batch: int, length: int) -> tuple[TensorSpec, ...]:
        if not self.has_images:
            return ()
        # Decoding takes no image: its graph has the signature of the bundle, at the smallest size.
        rows = 1 if length == 1 else batch * self._soft_tokens_per_prompt(length)
        return (
            TensorSpec("image_features", (rows, self.text_config.hidden_size), self.neuron_config.torch_dtype),
            TensorSpec("feature_index", (batch, length), torch.int32),
            TensorSpec("end", (batch, length), torch.int32),
        )

    def _soft_tokens_per_prompt(self, length: int) -> int:
        """The most that a prompt can hold: it has no more soft tokens than tokens."""
        if self.neuron_config.max_images is None:
            return length
        return min(length, self.neuron_config.max_images * max(self.neuron_config.max_soft_tokens))

    def _vision_graph(self, budget: int) -> GraphSpec:
        vision_config = self.config.vision_config
        patches = budget * vision_config.pooling_kernel_size**2
        pixels = RGB_CHANNELS * vision_config.patch_size**2
        return GraphSpec(
            f"{VISION}_{budget}",
            inputs=(
                TensorSpec("pixel_values", (1, patches, pixels), torch.float32),
                TensorSpec("image_position_ids", (1, patches, 2), torch.int32),
            ),
            outputs=(
                TensorSpec("features", (1, budget, self.text_config.hidden_size), self.neuron_config.torch_dtype),
            ),
        )
