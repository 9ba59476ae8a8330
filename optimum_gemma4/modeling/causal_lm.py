# SPDX-License-Identifier: Apache-2.0
"""Gemma 4 for text generation: the class that `NeuronModelForCausalLM` finds for "gemma4" and "gemma4_text".

Extends optimum-neuron's `NxDModelForCausalLM`. `forward` has its signature and results (float32 logits `[B, 1, V]`, or
token ids `[B]` with on-device sampling), but the graph is chosen by the shape of `input_ids` alone: `[B, S > 1]` is a
prefill, `[B, 1]` a decode step, which at position 0 is also the prefill of a prompt of one token. Padding positions
are -1 (0 is accepted after the first column).
"""

from pathlib import Path
from typing import Any

import torch
from optimum.neuron.models.auto_model import get_neuron_model_class
from optimum.neuron.models.inference.backend.graph_builder import NxDGraphBuilder
from optimum.neuron.models.inference.backend.modules.decoder.modeling_decoder import NxDModelForCausalLM
from optimum.neuron.models.inference.backend.modules.generation.sampling import validate_sampling_params
from transformers import AutoConfig, PretrainedConfig
from transformers.modeling_outputs import CausalLMOutput

from ..exporters.bundles import text_graph_builders
from ..exporters.export_config import Gemma4NeuronExportConfig
from ..exporters.neuron_config import Gemma4NeuronConfig
from .artifact_model import Gemma4ArtifactMixin
from .generation import Gemma4GenerationMixin
from .images.inputs import ImageInputs
from .prompts import check_token_ids, checked_prompt_positions
from .text_graphs import DecodeGraph, PrefillGraphs


__all__ = ["Gemma4NeuronModelForCausalLM", "Gemma4NxDModelForCausalLM"]

NO_TOP_K = -1  # the sampler's spelling of "no top_k filter"


class Gemma4NxDModelForCausalLM(Gemma4ArtifactMixin, Gemma4GenerationMixin, NxDModelForCausalLM):
    """A compiled Gemma 4 text decoder.

    Args:
        config: the text configuration.
        neuron_config: what was compiled.
        traced_model: the text bundle.
        graph_builders: its builders.
    """

    def __init__(
        self,
        config: PretrainedConfig,
        neuron_config: Gemma4NeuronConfig,
        traced_model: torch.jit.ScriptModule,
        graph_builders: dict[str, NxDGraphBuilder],
    ):
        super().__init__(config, neuron_config, traced_model, graph_builders)
        self._bundles = {"text": traced_model}
        self.pad_token_id = self.text_config.pad_token_id
        graphs = Gemma4NeuronExportConfig(self.config, self.task, neuron_config)
        self.context_encoding_model = PrefillGraphs(traced_model, graphs.prefill_graphs(), self.pad_token_id)
        self.token_generation_model = DecodeGraph(
            traced_model, graphs.decode_graph(), self.pad_token_id, neuron_config.sequence_length
        )

    @classmethod
    def create_bundles(
        cls, config: PretrainedConfig, neuron_config: Gemma4NeuronConfig
    ) -> dict[str, dict[str, NxDGraphBuilder]]:
        """One bundle, "text"."""
        return {"text": cls.create_graph_builders(config, neuron_config)}

    @classmethod
    def create_graph_builders(
        cls, config: PretrainedConfig, neuron_config: Gemma4NeuronConfig
    ) -> dict[str, NxDGraphBuilder]:
        """The prefill and decode graphs."""
        return text_graph_builders(config, neuron_config, cls.task)

    @classmethod
    def _from_bundles(
        cls, config: PretrainedConfig, neuron_config: Gemma4NeuronConfig, bundles: dict[str, torch.jit.ScriptModule]
    ) -> "Gemma4NxDModelForCausalLM":
        return cls(config, neuron_config, bundles["text"], cls.create_graph_builders(config, neuron_config))

    @classmethod
    def _model_config(cls, config: PretrainedConfig) -> PretrainedConfig:
        return config.get_text_config()

    @classmethod
    def _check_neuron_config(cls, neuron_config: Gemma4NeuronConfig) -> None:
        if neuron_config.max_soft_tokens is not None:
            raise ValueError(
                f"max_soft_tokens is {neuron_config.max_soft_tokens}: text-generation takes no images. Leave it out, "
                "or export for image-text-to-text (--task, NeuronModelForImageTextToText)."
            )

    @classmethod
    def _class_of(cls, neuron_config: Gemma4NeuronConfig) -> type:
        """An artifact that takes images also generates from text: its own class loads it, as in transformers."""
        if neuron_config.max_soft_tokens is None:
            return cls
        return get_neuron_model_class("gemma4", "image-text-to-text", "inference")

    @classmethod
    def _default_options(cls, config: PretrainedConfig) -> dict[str, Any]:
        """Options of `get_neuron_config` that depend on the configuration."""
        return {}

    @classmethod
    def get_neuron_config(
        cls,
        model_name_or_path: str | Path,
        config: PretrainedConfig | None = None,
        token: bool | str | None = None,
        revision: str | None = None,
        instance_type: str | None = None,
        batch_size: int | None = None,
        sequence_length: int | None = None,
        tensor_parallel_size: int | None = None,
        torch_dtype: str | torch.dtype | None = None,
        **options: Any,
    ) -> Gemma4NeuronConfig:
        """What to compile for, with defaults for everything that is not given.

        Args:
            model_name_or_path, config, token, revision, instance_type, batch_size, sequence_length,
            tensor_parallel_size: as in optimum-neuron's `NeuronPreTrainedModel.get_neuron_config`.
            torch_dtype: of the weights and caches; the checkpoint's when absent.
            options: arguments of `Gemma4NeuronConfig` that replace the defaults; `None` keeps one.

        Raises:
            ValueError: a combination that cannot be compiled.
        """
        if config is None:
            config = AutoConfig.from_pretrained(model_name_or_path, revision=revision, token=token)
        config = cls._model_config(config)
        neuron_config = super().get_neuron_config(
            model_name_or_path, config.get_text_config(), token, revision, instance_type, batch_size, sequence_length,
            tensor_parallel_size,
        )  # fmt: skip
        given = {name: value for name, value in {**options, "torch_dtype": torch_dtype}.items() if value is not None}
        changes = {**cls._default_options(config), **given}
        if changes:
            derived = ("prefill_buckets", "max_context_length")
            settings = {name: value for name, value in vars(neuron_config).items() if name not in derived}
            neuron_config = Gemma4NeuronConfig(**{**settings, **changes})
        cls._check_neuron_config(neuron_config)
        return neuron_config

    @classmethod
    def _get_neuron_config(
        cls,
        checkpoint_id: str | None,
        checkpoint_revision: str | None,
        instance_type: str,
        batch_size: int,
        sequence_length: int,
        tensor_parallel_size: int,
        dtype: torch.dtype,
    ) -> Gemma4NeuronConfig:
        return Gemma4NeuronConfig(
            checkpoint_id=checkpoint_id,
            checkpoint_revision=checkpoint_revision,
            target=instance_type,
            batch_size=batch_size,
            sequence_length=sequence_length,
            tp_degree=tensor_parallel_size,
            torch_dtype=dtype,
            on_device_sampling=True,
            continuous_batching=batch_size > 1,
        )

    def forward(
        self,
        input_ids: torch.LongTensor,
        position_ids: torch.LongTensor,
        seq_ids: torch.LongTensor | None = None,
        sampling_params: torch.FloatTensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor] | CausalLMOutput:
        """Run one graph.

        Args:
            input_ids: `[n, S]`; `S > 1` encodes prompts from position 0, `S == 1` appends a token.
            position_ids: `[n, S]`.
            seq_ids: `[n]`, the cache row of each sequence, 0 to n - 1 when absent.
            sampling_params: `[n, 3]` float32: top_k, top_p, temperature (with on-device sampling; greedy when absent).
            return_dict: return a `CausalLMOutput`; needs logits.

        Returns:
            Logits of the last token, `[n, 1, V]` float32; with on-device sampling token ids `[n]`, and the logits
            after them when the artifact was exported with `output_logits`.

        Raises:
            ValueError: an argument that the graphs cannot take.
        """
        if output_attentions or output_hidden_states:
            raise ValueError("output_attentions and output_hidden_states are not among the graphs' outputs.")
        return self._run_graph(input_ids, position_ids, seq_ids, sampling_params, None, return_dict)

    def _run_graph(
        self,
        input_ids: torch.LongTensor,
        position_ids: torch.LongTensor,
        seq_ids: torch.LongTensor | None,
        sampling_params: torch.FloatTensor | None,
        images: ImageInputs | None,
        return_dict: bool | None,
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor] | CausalLMOutput:
        on_device_sampling = self.neuron_config.on_device_sampling
        if return_dict and on_device_sampling:
            raise ValueError(
                "return_dict needs logits: export with --no_on_device_sampling (on_device_sampling=False)."
            )
        check_token_ids(input_ids, self.vocab_size)
        seq_ids = self._checked_seq_ids(seq_ids, input_ids.shape[0])
        if sampling_params is None:
            sampling_params = torch.ones(input_ids.shape[0], 3)
        elif on_device_sampling:
            # The sampler's own reading of -1 draws evenly from the max_topk best tokens, whatever their logits.
            top_k = sampling_params[:, :1]
            top_k = torch.where(top_k == NO_TOP_K, float(self.neuron_config.max_topk), top_k)
            sampling_params = torch.cat([top_k, sampling_params[:, 1:]], dim=1)
            validate_sampling_params(sampling_params, self.neuron_config.max_topk)
        if input_ids.shape[1] == 1:
            outputs = self.token_generation_model(input_ids, position_ids, seq_ids, sampling_params, images)
        else:
            position_ids = checked_prompt_positions(position_ids)
            outputs = self.context_encoding_model(input_ids, position_ids, seq_ids, sampling_params, images)
        return CausalLMOutput(logits=outputs) if return_dict else outputs

    def reset(self) -> None:
        """Nothing to do: a prefill starts its rows anew, whatever they held."""

    def _checked_seq_ids(self, seq_ids: torch.LongTensor | None, rows: int) -> torch.LongTensor:
        batch_size = self.neuron_config.batch_size
        ids = torch.arange(rows) if seq_ids is None else seq_ids.long()
        distinct = set(ids.tolist())
        if len(ids) != rows or len(distinct) != rows or not distinct <= set(range(batch_size)):
            raise ValueError(
                f"seq_ids is {ids.tolist()} for {rows} sequences: expected one different cache row for each, 0 to "
                f"{batch_size - 1} (--batch_size)."
            )
        return ids


class Gemma4NeuronModelForCausalLM(Gemma4NxDModelForCausalLM):
    """Gemma 4 with the NxD backend, as registered with optimum-neuron for "text-generation"."""
