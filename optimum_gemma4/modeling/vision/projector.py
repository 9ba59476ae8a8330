# SPDX-License-Identifier: Apache-2.0
"""From the vision encoder's width to the text model's, mirrors transformers 5.23 `Gemma4MultimodalEmbedder`.

A norm without a weight, then one projection. What comes out enters the text model in place of token embeddings, and is
not multiplied by the embedding scale. [n, cells, C] -> [n, cells, D].
"""

import torch
from torch import nn

from ..text.rms_norm import Gemma4RMSNorm
from .spec import VisionSpec


__all__ = ["Gemma4MultimodalEmbedder"]


class Gemma4MultimodalEmbedder(nn.Module):
    """Norm and projection.

    Args:
        spec: geometry of the encoder.
        dtype: of the weights.
    """

    def __init__(self, spec: VisionSpec, dtype: torch.dtype):
        super().__init__()
        self.embedding_projection = nn.Linear(spec.hidden_size, spec.text_hidden_size, bias=False, dtype=dtype)
        self.embedding_pre_projection_norm = Gemma4RMSNorm(spec.hidden_size, spec.eps, with_scale=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.embedding_projection(self.embedding_pre_projection_norm(features))
