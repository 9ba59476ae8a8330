# SPDX-License-Identifier: Apache-2.0
"""The three image inputs of a text graph: soft tokens, where each goes, and how far each position looks ahead.

A text graph takes the soft tokens of all its rows in one tensor [M, D], each row in a section of its own, and gathers
them by an index per position; prompts without images leave their section empty. Per token the values are those of
`Gemma4TextModel.forward`: `feature_index` [n, S] and `end` [n, S].
"""

from dataclasses import dataclass

import torch

from ...exporters.export_config import TensorSpec
from ..prompts import PADDING_POSITION


__all__ = ["NO_FEATURE", "ImageInputs"]

NO_FEATURE = -1


@dataclass(frozen=True)
class ImageInputs:
    """Image inputs of a call with n rows.

    Attributes:
        features: soft tokens of each row, in their order, n tensors [m, D].
        feature_index: [n, S], which of its row's soft tokens stands at a position, or `NO_FEATURE`.
        end: [n, S], of `blocks.block_ends`.
    """

    features: tuple[torch.Tensor, ...]
    feature_index: torch.Tensor
    end: torch.Tensor

    def row(self, row: int) -> "ImageInputs":
        """A call with one of the rows."""
        return ImageInputs(self.features[row : row + 1], self.feature_index[row : row + 1], self.end[row : row + 1])

    def padded(self, columns: int) -> "ImageInputs":
        """With `columns` more columns of padding, or that many less."""

        def pad(values: torch.Tensor, fill: int) -> torch.Tensor:
            return torch.nn.functional.pad(values, (0, columns), value=fill)

        return ImageInputs(self.features, pad(self.feature_index, NO_FEATURE), pad(self.end, PADDING_POSITION))

    def placed(self, rows: torch.Tensor, batch: int) -> "ImageInputs":
        """A call with `batch` rows that has these at `rows` and nothing elsewhere."""

        def place(values: torch.Tensor, fill: int) -> torch.Tensor:
            placed = values.new_full((batch, values.shape[1]), fill)
            placed[rows] = values
            return placed

        features = [self.features[0][:0]] * batch
        for row, soft_tokens in zip(rows.tolist(), self.features):
            features[row] = soft_tokens
        return ImageInputs(tuple(features), place(self.feature_index, NO_FEATURE), place(self.end, PADDING_POSITION))

    def tensors(self, spec: TensorSpec) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What the graph takes: (image_features, feature_index, end).

        Args:
            spec: of the graph's `image_features`.

        Raises:
            ValueError: a row has more soft tokens than its section holds.
        """
        section = spec.shape[0] // len(self.features)
        image_features = torch.zeros(spec.shape, dtype=spec.dtype)
        for row, soft_tokens in enumerate(self.features):
            if len(soft_tokens) > section:
                raise ValueError(
                    f"A prompt has {len(soft_tokens)} image tokens and the artifact was compiled for {section}: pass "
                    "fewer images, or export with a larger --max_images."
                )
            image_features[row * section : row * section + len(soft_tokens)] = soft_tokens
        starts = section * torch.arange(len(self.features))[:, None]
        index = torch.where(self.feature_index >= 0, self.feature_index + starts, NO_FEATURE)
        return image_features, index.int(), self.end.int()
