# SPDX-License-Identifier: Apache-2.0
"""From pixels to the encoder's input, mirrors transformers 5.23 `Gemma4VisionPatchEmbedder`.

Unlike SigLIP in Gemma 3 there is one learned position row per column and one per row of the image, added up, so that
any aspect ratio has positions. The processor leaves pixels in 0..1; they become -1..1 here and only here.
pixel_values [n, P, 768], image_position_ids [n, P, 2] -> [n, P, C].
"""

import torch
from torch import nn

from .spec import VisionSpec


__all__ = ["Gemma4VisionPatchEmbedder", "valid_patches"]


def valid_patches(image_position_ids: torch.Tensor) -> torch.Tensor:
    """Which patches are part of an image: [n, P, 2] -> bool [n, P]. Padding has position -1."""
    return image_position_ids[..., 0] >= 0


class Gemma4VisionPatchEmbedder(nn.Module):
    """Projection of patches plus the sum of their x and y position rows.

    Args:
        spec: geometry of the encoder.
        dtype: of the weights.
    """

    def __init__(self, spec: VisionSpec, dtype: torch.dtype):
        super().__init__()
        self.input_proj = nn.Linear(spec.pixels_per_patch, spec.hidden_size, bias=False, dtype=dtype)
        table = torch.zeros(2, spec.position_embedding_size, spec.hidden_size, dtype=dtype)
        self.position_embedding_table = nn.Parameter(table, requires_grad=False)  # [axis (x, y), position, C]

    def forward(self, pixel_values: torch.Tensor, image_position_ids: torch.Tensor) -> torch.Tensor:
        # Scaled in fp32 before the one rounding: `2 * (pixel_values - 0.5)` of `Gemma4VisionPatchEmbedder.forward`.
        scaled = (2.0 * (pixel_values.float() - 0.5)).to(self.input_proj.weight.dtype)
        hidden = self.input_proj(scaled)
        # Clamped at both ends: whatever comes in, the lookup stays inside the table.
        index = image_position_ids.clamp(0, self.position_embedding_table.shape[1] - 1)
        x_rows = nn.functional.embedding(index[..., 0], self.position_embedding_table[0])
        y_rows = nn.functional.embedding(index[..., 1], self.position_embedding_table[1])
        # Padding patches have no position; what the projection leaves there is masked in attention and in pooling.
        is_valid = valid_patches(image_position_ids)[..., None]
        return hidden + torch.where(is_valid, x_rows + y_rows, torch.zeros_like(x_rows))
