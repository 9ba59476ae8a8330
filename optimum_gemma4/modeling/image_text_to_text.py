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
from .images.matching import IMAGE, VIDEO
from .images.prompt_images import PromptImages, check_token_types
from .images.vision_graphs import VisionGraphs
from .prompts import PADDING_POSITION, checked_prompt_positions, pack_prompts
from .vision.spec import VisionSpec


__all__ = ["Gemma4NeuronModelForImageTextToText"]

DEFAULT_SOFT_TOKENS = 280


class Gemma4NeuronModelForImageTextToText(Gemma4NxDModelForCausalLM, NeuronModelForImageTextToText):
    """A compiled Gemma 4 with its vision encoder.

    `generate(**processor(...))` takes what the text model takes, and of the processor's outputs `pixel_values`
    [images, P, 768], `image_position_ids` [images, P, 2] and `mm_token_type_ids` [B, W]; for videos
    `pixel_values_videos`, `video_position_ids` and `num_frames_per_video`. Images are those of all prompts, in order.

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
        self._images = PromptImages(self.vision_encoder, config, neuron_config)
        self._placeholders = self._images.placeholders

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
                "max_soft_tokens is None: image-text-to-text needs the image budgets to compile. Give "
                "max_soft_tokens, or take the configuration from NeuronModelForImageTextToText.get_neuron_config."
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
        media = {IMAGE: (pixel_values, image_position_ids), VIDEO: (pixel_values_videos, video_position_ids)}
        has_pixels = any(tensor is not None for pair in media.values() for tensor in pair)
        if has_pixels and image_features is not None:
            raise ValueError(
                "Both pixels and image_features were given: pass the images, or their soft tokens instead."
            )
        has_images = has_pixels or any(len(soft_tokens) for soft_tokens in image_features or ())
        if input_ids.shape[1] == 1 and has_images:
            # A prompt of one image token: the decode graph takes no images, a second column makes it a prefill.
            input_ids, position_ids, mm_token_type_ids = (
                None if values is None else torch.nn.functional.pad(values, (0, 1), value=fill)
                for values, fill in ((input_ids, 0), (position_ids, PADDING_POSITION), (mm_token_type_ids, 0))
            )
        if input_ids.shape[1] == 1:
            images = self._images.no_inputs(position_ids)
        else:
            position_ids = checked_prompt_positions(position_ids)
            kinds = self._placeholders.kinds(input_ids, position_ids)
            prompts = None if image_features is not None else self._images.match(kinds, media)
            end = self._images.ends(kinds, position_ids, mm_token_type_ids)
            if prompts is not None:
                image_features = self._images.encode(prompts, media)
            images = self._images.inputs(kinds, end, image_features)
        input_ids = self._placeholders.replaced(input_ids, self.pad_token_id)
        return self._run_graph(input_ids, position_ids, seq_ids, sampling_params, images, return_dict)

    def _prepare_images(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, copies: int, arguments: dict[str, Any]
    ) -> dict[str, Any]:
        packed = pack_prompts(attention_mask)
        kinds = self._placeholders.kinds(packed.pack(input_ids, self.pad_token_id), packed.position_ids)
        pixels, positions, frames, frame_positions, frames_of_videos = (
            arguments.pop(name, None) for name in self._MEDIA
        )
        _check_frames(frames, frames_of_videos)
        media = {IMAGE: (pixels, positions), VIDEO: (frames, frame_positions)}
        prompts = self._images.match(kinds, media)
        types = arguments.get("mm_token_type_ids")
        if types is not None:
            check_token_types(types, input_ids.shape)
            types = packed.pack(types, 0)
        self._images.ends(kinds, packed.position_ids, types)
        features = self._images.encode(prompts, media)
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


def _check_frames(frames: torch.Tensor | None, frames_of_videos: torch.Tensor | Sequence[int] | None) -> None:
    """Every frame is an image here, so the frames of each video only have to add up."""
    given = 0 if frames is None else len(frames)
    if frames_of_videos is not None and int(torch.as_tensor(frames_of_videos).sum()) != given:
        raise ValueError(
            f"num_frames_per_video is {torch.as_tensor(frames_of_videos).tolist()} and there are {given} frames in "
            "pixel_values_videos: they must add up."
        )
