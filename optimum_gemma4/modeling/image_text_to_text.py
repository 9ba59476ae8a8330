# SPDX-License-Identifier: Apache-2.0
"""Gemma 4 for images and text: the class that `NeuronModelForImageTextToText` finds for "gemma4".

The text model with a second bundle: images are encoded one after the other by the vision graphs, and their soft tokens
enter the prefill in place of embeddings. Generation is that of the text model, since an image leaves nothing but the
prompt's KV cache. Mirrors transformers 5.23 `Gemma4ForConditionalGeneration` with its names; frames of videos are
images with placeholders of their own.
"""

from collections.abc import Sequence
from typing import Any

import torch
from optimum.neuron.models.inference.backend.graph_builder import NxDGraphBuilder
from transformers import PretrainedConfig
from transformers.modeling_outputs import CausalLMOutput

from ..exporters.bundles import vision_graph_builders
from ..exporters.export_config import Gemma4NeuronExportConfig
from ..exporters.neuron_config import Gemma4NeuronConfig
from .auto_image_text_to_text import NeuronModelForImageTextToText
from .causal_lm import Gemma4NxDModelForCausalLM
from .geometry import TextGeometry
from .image_blocks import block_ends, check_lookahead
from .image_inputs import NO_FEATURE, ImageInputs
from .image_matching import IMAGE, VIDEO, PlaceholderIds, match_images
from .prompts import checked_prompt_positions, pack_prompts
from .vision.spec import VisionSpec
from .vision_graphs import VisionGraphs


__all__ = ["Gemma4NeuronModelForImageTextToText"]

DEFAULT_SOFT_TOKENS = 280


class Gemma4NeuronModelForImageTextToText(Gemma4NxDModelForCausalLM, NeuronModelForImageTextToText):
    """A compiled Gemma 4 with its vision encoder.

    Args:
        config: the whole model's configuration.
        neuron_config: what was compiled.
        bundles: the traced bundles, "vision" and "text".
        graph_builders: of the text bundle.
    """

    task = "image-text-to-text"
    main_input_name = "input_ids"
    _MEDIA = (
        "pixel_values",
        "image_position_ids",
        "pixel_values_videos",
        "video_position_ids",
        "num_frames_per_video",
    )
    _MODEL_ARGUMENTS = (*Gemma4NxDModelForCausalLM._MODEL_ARGUMENTS, *_MEDIA, "mm_token_type_ids")

    def __init__(
        self,
        config: PretrainedConfig,
        neuron_config: Gemma4NeuronConfig,
        bundles: dict[str, torch.jit.ScriptModule],
        graph_builders: dict[str, NxDGraphBuilder],
    ):
        super().__init__(config, neuron_config, bundles["text"], graph_builders)
        self._bundles = bundles
        graphs = Gemma4NeuronExportConfig(self.config, self.task, neuron_config).vision_graphs()
        spec = VisionSpec.from_config(config.vision_config, self.text_config.hidden_size)
        self.vision_encoder = VisionGraphs(bundles["vision"], graphs, spec)
        self._placeholders = PlaceholderIds(config.image_token_id, config.video_token_id, config.audio_token_id)
        self._bidirectional_vision = TextGeometry.from_config(config).bidirectional_vision
        self._no_features = torch.zeros(0, self.text_config.hidden_size, dtype=neuron_config.torch_dtype)

    @classmethod
    def create_bundles(
        cls, config: PretrainedConfig, neuron_config: Gemma4NeuronConfig
    ) -> dict[str, dict[str, NxDGraphBuilder]]:
        """Two bundles, "vision" and "text"."""
        return {
            "vision": vision_graph_builders(config, neuron_config, cls.task),
            "text": cls.create_graph_builders(config, neuron_config),
        }

    @classmethod
    def _from_bundles(
        cls, config: PretrainedConfig, neuron_config: Gemma4NeuronConfig, bundles: dict[str, torch.jit.ScriptModule]
    ) -> "Gemma4NeuronModelForImageTextToText":
        return cls(config, neuron_config, bundles, cls.create_graph_builders(config, neuron_config))

    @classmethod
    def _model_config(cls, config: PretrainedConfig) -> PretrainedConfig:
        if getattr(config, "vision_config", None) is None:
            raise ValueError(
                f"This {config.model_type} model has no vision_config: export it for text-generation (--task)."
            )
        return config

    @classmethod
    def _check_neuron_config(cls, neuron_config: Gemma4NeuronConfig) -> None:
        if neuron_config.max_soft_tokens is None:
            raise ValueError(
                "max_soft_tokens is None: image-text-to-text needs the image budgets to compile. Give max_soft_tokens, "
                "or take the configuration from NeuronModelForImageTextToText.get_neuron_config."
            )

    @classmethod
    def _class_of(cls, neuron_config: Gemma4NeuronConfig) -> type:
        return cls

    @classmethod
    def _default_options(cls, config: PretrainedConfig) -> dict[str, Any]:
        vision_default = getattr(config.vision_config, "default_output_length", DEFAULT_SOFT_TOKENS)
        return {"max_soft_tokens": [getattr(config, "vision_soft_tokens_per_image", vision_default)]}

    def get_image_features(
        self, pixel_values: torch.Tensor, image_position_ids: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Encode images.

        Args:
            pixel_values: [images, P, 768] in 0..1.
            image_position_ids: [images, P, 2] as (x, y), -1 at padding.

        Returns:
            The soft tokens of each image, [n, D] in the model's dtype.

        Raises:
            ValueError: the images are not what the processor returns, or larger than what was compiled.
        """
        self.vision_encoder.soft_tokens(pixel_values, image_position_ids, "image")
        return tuple(map(self.vision_encoder, pixel_values, image_position_ids))

    def forward(
        self,
        input_ids: torch.LongTensor,
        position_ids: torch.LongTensor,
        seq_ids: torch.LongTensor | None = None,
        sampling_params: torch.FloatTensor | None = None,
        pixel_values: torch.FloatTensor | None = None,
        image_position_ids: torch.LongTensor | None = None,
        mm_token_type_ids: torch.LongTensor | None = None,
        pixel_values_videos: torch.FloatTensor | None = None,
        video_position_ids: torch.LongTensor | None = None,
        image_features: Sequence[torch.Tensor] | None = None,
        return_dict: bool | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor] | CausalLMOutput:
        """Run one text graph, after the vision graphs if there are images.

        Args:
            input_ids, position_ids, seq_ids, sampling_params, return_dict: as for `Gemma4NxDModelForCausalLM`.
            pixel_values, image_position_ids: the images of all prompts in order, as for `get_image_features`.
            mm_token_type_ids: `[n, S]`, 1 for image tokens and 2 for video tokens; from the placeholders when absent.
            pixel_values_videos, video_position_ids: likewise the frames of videos.
            image_features: instead of pixels, the soft tokens of each prompt, in order: n tensors `[m, D]`.

        Returns:
            As the text model's.

        Raises:
            ValueError: placeholders and images do not fit, or the graphs cannot take an argument.
        """
        media = {
            IMAGE: (pixel_values, image_position_ids),
            VIDEO: (pixel_values_videos, video_position_ids),
        }
        is_prompt = input_ids.shape[1] > 1
        if is_prompt:
            position_ids = checked_prompt_positions(position_ids)
        kinds = torch.zeros_like(input_ids)
        if is_prompt:
            kinds = self._placeholders.kinds(input_ids, position_ids)
            if image_features is None:
                image_features = self._features_of_prompts(kinds, media)
        images = self._image_inputs(kinds, position_ids, mm_token_type_ids, image_features)
        input_ids = self._placeholders.replaced(input_ids, self.pad_token_id)
        return self._run_graph(input_ids, position_ids, seq_ids, sampling_params, images, return_dict)

    def _features_of_prompts(
        self, kinds: torch.Tensor, media: dict[int, tuple[torch.Tensor | None, torch.Tensor | None]]
    ) -> tuple[torch.Tensor, ...]:
        """Soft tokens of each prompt, [m, D]: everything is checked and matched before the first image is encoded."""
        names = {IMAGE: "image", VIDEO: "video frame"}
        counts = {kind: [] for kind in media}
        for kind, (pixels, positions) in media.items():
            if pixels is not None or positions is not None:
                counts[kind] = self.vision_encoder.soft_tokens(pixels, positions, names[kind])
        prompts = match_images(kinds, counts)
        limit = self.neuron_config.max_images
        for number, images in enumerate(prompts):
            if limit is not None and len(images) > limit:
                raise ValueError(
                    f"Prompt {number} has {len(images)} images and the artifact was compiled for {limit}: pass fewer, or "
                    f"export with --max_images {len(images)}."
                )
        return tuple(
            torch.cat(
                [self._no_features]
                + [self.vision_encoder(*(tensor[index] for tensor in media[kind])) for kind, index in images]
            )
            for images in prompts
        )

    def _image_inputs(
        self,
        kinds: torch.Tensor,
        position_ids: torch.Tensor,
        token_types: torch.Tensor | None,
        features: Sequence[torch.Tensor] | None,
    ) -> ImageInputs:
        is_placeholder = kinds > 0
        features = [self._no_features] * len(kinds) if features is None else features
        wanted, given = is_placeholder.sum(1).tolist(), [len(soft_tokens) for soft_tokens in features]
        if wanted != given:
            raise ValueError(f"The prompts have {wanted} image tokens and their image_features {given} rows.")
        end = position_ids
        if self._bidirectional_vision and is_placeholder.any():
            end = block_ends(kinds if token_types is None else token_types, position_ids)
            check_lookahead(end, position_ids, max(self.neuron_config.max_soft_tokens))
        index = torch.where(is_placeholder, is_placeholder.cumsum(1) - 1, NO_FEATURE)
        return ImageInputs(tuple(features), index, end)

    def _prepare_images(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, copies: int, arguments: dict[str, Any]
    ) -> dict[str, Any]:
        packed = pack_prompts(attention_mask)
        kinds = self._placeholders.kinds(packed.pack(input_ids, self.pad_token_id), packed.position_ids)
        media = {name: arguments.pop(name, None) for name in self._MEDIA}
        features = self._features_of_prompts(
            kinds,
            {
                IMAGE: (media["pixel_values"], media["image_position_ids"]),
                VIDEO: (media["pixel_values_videos"], media["video_position_ids"]),
            },
        )
        # transformers repeats tensors for num_return_sequences, and leaves this tuple alone.
        return {**arguments, "image_features": tuple(row for row in features for _ in range(copies))}

    def prepare_inputs_for_generation(
        self,
        input_ids: torch.LongTensor,
        attention_mask: torch.LongTensor | None = None,
        seq_ids: torch.LongTensor | None = None,
        next_position: torch.LongTensor | None = None,
        mm_token_type_ids: torch.LongTensor | None = None,
        image_features: tuple[torch.Tensor, ...] | None = None,
        **loop_arguments: Any,
    ) -> dict[str, Any]:
        """As the text model's; images are part of the first call alone."""
        inputs = super().prepare_inputs_for_generation(
            input_ids, attention_mask, seq_ids, next_position, **loop_arguments
        )
        if next_position is not None:
            return inputs
        if mm_token_type_ids is not None:
            mm_token_type_ids = pack_prompts(attention_mask).pack(mm_token_type_ids, 0)
        return {**inputs, "mm_token_type_ids": mm_token_type_ids, "image_features": image_features}
