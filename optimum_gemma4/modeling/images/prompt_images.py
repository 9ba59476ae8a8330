# SPDX-License-Identifier: Apache-2.0
"""From a batch of prompts and its images to the image inputs of the text graphs: match, encode, place.

Everything that can be wrong is looked at before the first image is encoded: the images themselves, their number, that
each run of placeholders has its images, and how far their tokens look ahead. Mirrors what transformers 5.23
`Gemma4Model.forward` does between its inputs and the language model; `Media` maps a kind of placeholder to its
(pixels, positions).
"""

from collections.abc import Sequence

import torch
from transformers import PretrainedConfig

from ...exporters.neuron_config import Gemma4NeuronConfig
from ..geometry import TextGeometry
from .blocks import block_ends, check_lookahead
from .inputs import NO_FEATURE, ImageInputs
from .matching import KIND_NAMES, PlaceholderIds, match_images
from .vision_graphs import VisionGraphs


__all__ = ["Media", "PromptImages", "check_token_types"]

Media = dict[int, tuple[torch.Tensor | None, torch.Tensor | None]]
TOKEN_TYPES = range(4)  # of mm_token_type_ids: text, image, video, audio


class PromptImages:
    """The image side of a compiled model.

    Args:
        encoder: the vision graphs.
        config: the whole model's configuration.
        neuron_config: what was compiled.
    """

    def __init__(self, encoder: VisionGraphs, config: PretrainedConfig, neuron_config: Gemma4NeuronConfig):
        geometry = TextGeometry.from_config(config)
        self._encoder = encoder
        self._looks_ahead = geometry.bidirectional_vision
        self._longest_block = max(neuron_config.max_soft_tokens)
        self._max_images = neuron_config.max_images
        self._nothing = torch.zeros(0, geometry.hidden_size, dtype=neuron_config.torch_dtype)
        self.placeholders = PlaceholderIds(config.image_token_id, config.video_token_id, config.audio_token_id)

    def match(self, kinds: torch.Tensor, media: Media) -> list[list[tuple[int, int]]]:
        """Check the images and deal them out to the prompts.

        Args:
            kinds: [B, S], of `PlaceholderIds.kinds`.
            media: pixels [images, P, 768] and positions [images, P, 2] of all prompts in order, or `None` twice.

        Returns:
            For each prompt its images, as (kind, index in the list of that kind).

        Raises:
            ValueError: images and placeholders do not fit, or an image or their number cannot be taken.
        """
        counts = {}
        for kind, (pixels, positions) in media.items():
            is_given = pixels is not None or positions is not None
            counts[kind] = self._encoder.soft_tokens(pixels, positions, KIND_NAMES[kind]) if is_given else []
        prompts = match_images(kinds, counts)
        for number, images in enumerate(prompts):
            if self._max_images is not None and len(images) > self._max_images:
                raise ValueError(
                    f"Prompt {number} has {len(images)} images and the artifact was compiled for {self._max_images}: "
                    f"pass fewer, or export with --max_images {len(images)}."
                )
        return prompts

    def encode(self, prompts: list[list[tuple[int, int]]], media: Media) -> tuple[torch.Tensor, ...]:
        """Soft tokens of each prompt, in the order of its placeholders.

        Args:
            prompts: of `match`.
            media: as for `match`.

        Returns:
            B tensors [m, D]; empty for a prompt without images.
        """
        return tuple(
            torch.cat([self._nothing, *(self._soft_tokens(media, *image) for image in row)]) for row in prompts
        )

    def _soft_tokens(self, media: Media, kind: int, index: int) -> torch.Tensor:
        pixels, positions = media[kind]
        return self._encoder(pixels[index], positions[index])

    def ends(self, kinds: torch.Tensor, position_ids: torch.Tensor, token_types: torch.Tensor | None) -> torch.Tensor:
        """How far each token of the prompts looks ahead on sliding layers, [B, S].

        Args:
            kinds: [B, S].
            position_ids: [B, S], -1 for padding.
            token_types: [B, S] `mm_token_type_ids`, or `None` to take them from the placeholders.

        Raises:
            ValueError: the token types do not fit the prompts, or a block is longer than what was compiled.
        """
        if token_types is not None:
            check_token_types(token_types, kinds.shape)
        if not self._looks_ahead:
            return position_ids
        end = block_ends(kinds if token_types is None else token_types, position_ids)
        check_lookahead(end, position_ids, self._longest_block)
        return end

    def inputs(self, kinds: torch.Tensor, end: torch.Tensor, features: Sequence[torch.Tensor]) -> ImageInputs:
        """Image inputs of a prefill.

        Args:
            kinds: [B, S].
            end: of `ends`.
            features: of `encode`.

        Raises:
            ValueError: there are not as many soft tokens as placeholders.
        """
        is_placeholder = kinds > 0
        wanted, given = is_placeholder.sum(1).tolist(), [len(soft_tokens) for soft_tokens in features]
        if wanted != given:
            raise ValueError(
                f"The prompts have {wanted} image tokens and their image_features {given} rows: they must be as many."
            )
        index = torch.where(is_placeholder, is_placeholder.cumsum(1) - 1, NO_FEATURE)
        return ImageInputs(tuple(features), index, end)

    def no_inputs(self, position_ids: torch.Tensor) -> ImageInputs:
        """Image inputs of a decode step [n, 1]: generated tokens are text."""
        nothing = (self._nothing,) * len(position_ids)
        return ImageInputs(nothing, torch.full_like(position_ids, NO_FEATURE), position_ids)


def check_token_types(token_types: torch.Tensor, shape: torch.Size) -> None:
    """Refuse `mm_token_type_ids` that are not one of four types for each token.

    Raises:
        ValueError: another shape than `shape`, or another value.
    """
    if token_types.shape != shape or not torch.isin(token_types, torch.tensor(TOKEN_TYPES)).all():
        raise ValueError(
            f"mm_token_type_ids has the shape {tuple(token_types.shape)} and the values "
            f"{token_types.unique().tolist()[:8]}: expected the shape of input_ids, {tuple(shape)}, and 0 (text), 1 "
            "(image), 2 (video) or 3 (audio)."
        )
