# SPDX-License-Identifier: Apache-2.0
"""From patches to cells, mirrors transformers 5.23 `Gemma4VisionPooler` and the standardisation after it.

Every cell is the mean of its 3 x 3 patches. Which patches those are depends on each image's own row length, so the
mean is one matrix product with weights made from the position ids: one graph serves every aspect ratio. Output rows
beyond an image's own cells hold nothing of it; the host knows how many rows are its own (`soft_token_counts`).
[n, P, C] -> [n, P / 9, C].
"""

import torch

from .patches import valid_patches


__all__ = ["pool_cells", "standardize"]


def cell_index(image_position_ids: torch.Tensor, kernel_size: int) -> torch.Tensor:
    """Row-major cell that each patch belongs to, by its image's own row length: [n, P, 2] -> [n, P]."""
    positions = image_position_ids.clamp(min=0)
    cells = torch.div(positions, kernel_size, rounding_mode="floor")
    patches_per_row = positions[..., 0].amax(dim=1, keepdim=True) + 1
    cells_per_row = torch.div(patches_per_row, kernel_size, rounding_mode="floor")
    return cells[..., 0] + cells_per_row * cells[..., 1]


def pool_cells(hidden: torch.Tensor, image_position_ids: torch.Tensor, kernel_size: int) -> torch.Tensor:
    """Averages patches and scales by sqrt(C).

    Args:
        hidden: output of the encoder [n, P, C].
        image_position_ids: [n, P, 2] as (x, y), -1 at padding.
        kernel_size: side of a cell, in patches.

    Returns:
        float32 [n, P / kernel_size ** 2, C].
    """
    num_cells = hidden.shape[1] // kernel_size**2
    cells = torch.arange(num_cells, device=hidden.device, dtype=image_position_ids.dtype)
    is_member = cell_index(image_position_ids, kernel_size)[..., None] == cells  # [n, P] -> [n, P, cells]
    is_member = is_member & valid_patches(image_position_ids)[..., None]
    # fp32 as `Gemma4VisionPooler._avg_pool_by_positions`, which rounds the mean to the model's dtype and goes on in
    # fp32: the scaled values may exceed fp16, and the subtraction that follows cancels large ones.
    weights = is_member.float() / kernel_size**2
    mean = torch.matmul(weights.transpose(1, 2), hidden.float()).to(hidden.dtype)
    return mean.float() * hidden.shape[-1] ** 0.5


def standardize(pooled: torch.Tensor, bias: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """`(pooled - bias) * scale` in fp32 (`Gemma4VisionModel.forward`); bias and scale [C] in the model's dtype."""
    return (pooled - bias.float()) * scale.float()
