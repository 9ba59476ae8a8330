# SPDX-License-Identifier: Apache-2.0
"""The graph of the vision bundle: pixels of n images to their soft tokens.

Mirrors transformers 5.23 `Gemma4Model.get_image_features`: the vision tower, then the projector. Parameter names are
the checkpoint's below `model.`. Shapes are static and nothing branches on a value: an image of any aspect ratio, an
all-black one and a slot of padding only go through the same graph.
pixel_values [n, P, 768] float32, image_position_ids [n, P, 2] int -> [n, P / 9, D].
"""

import torch
from torch import nn

from .encoder import Gemma4VisionEncoder
from .patches import Gemma4VisionPatchEmbedder
from .pooler import pool_cells, standardize
from .projector import Gemma4MultimodalEmbedder
from .spec import VisionSpec


__all__ = ["Gemma4ImageEncoder"]


class Gemma4VisionTower(nn.Module):
    """Patch embedder, encoder, pooling and standardisation: [n, P, 768] -> [n, P / 9, C].

    Args:
        spec: geometry of the encoder.
        dtype: of the weights.
    """

    def __init__(self, spec: VisionSpec, dtype: torch.dtype):
        super().__init__()
        self.spec = spec
        self.patch_embedder = Gemma4VisionPatchEmbedder(spec, dtype)
        self.encoder = Gemma4VisionEncoder(spec, dtype)
        if spec.standardize:
            # Buffers in transformers; as parameters they are weights of the bundle, not constants of its graph.
            self.std_bias = nn.Parameter(torch.zeros(spec.hidden_size, dtype=dtype), requires_grad=False)
            self.std_scale = nn.Parameter(torch.ones(spec.hidden_size, dtype=dtype), requires_grad=False)

    def forward(self, pixel_values: torch.Tensor, image_position_ids: torch.Tensor) -> torch.Tensor:
        hidden = self.patch_embedder(pixel_values, image_position_ids)
        hidden = self.encoder(hidden, image_position_ids)
        pooled = pool_cells(hidden, image_position_ids, self.spec.pooling_kernel_size)
        if self.spec.standardize:
            pooled = standardize(pooled, self.std_bias, self.std_scale)
        return pooled.to(hidden.dtype)


class Gemma4ImageEncoder(nn.Module):
    """Vision tower and projector; build it where the parallel layers know the number of ranks.

    Args:
        spec: geometry of the encoder.
        dtype: of the weights and of the soft tokens.
    """

    def __init__(self, spec: VisionSpec, dtype: torch.dtype):
        super().__init__()
        self.vision_tower = Gemma4VisionTower(spec, dtype)
        self.embed_vision = Gemma4MultimodalEmbedder(spec, dtype)

    def forward(self, pixel_values: torch.Tensor, image_position_ids: torch.Tensor) -> torch.Tensor:
        """Encode images.

        Args:
            pixel_values: float32 [n, P, 768] in 0..1, P a multiple of the patches of a cell.
            image_position_ids: int [n, P, 2] as (x, y), -1 at padding, which follows the image's own patches.

        Returns:
            [n, P / 9, D]; the first `soft_token_counts(image_position_ids)[i]` rows of image i are its soft tokens.
        """
        return self.embed_vision(self.vision_tower(pixel_values, image_position_ids))
