# SPDX-License-Identifier: Apache-2.0
"""RMS norm of Gemma 4, mirrors transformers 5.23 `Gemma4RMSNorm`.

Differs from Gemma 1-3: the weight multiplies as stored, there is no `1 + weight`. One class serves the residual norms
(over D), the per-head query and key norms (over H) and the value norm, which has no weight.
[.., dim] -> [.., dim], same dtype.
"""

import torch
from torch import nn


__all__ = ["Gemma4RMSNorm"]


class Gemma4RMSNorm(nn.Module):
    """`x * (mean(x ** 2) + eps) ** -0.5 * weight`.

    Args:
        dim: size of the last dimension.
        eps: added to the mean square, inside the root.
        with_scale: whether there is a weight.
    """

    def __init__(self, dim: int, eps: float = 1e-6, with_scale: bool = True):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim), requires_grad=False) if with_scale else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # fp32 throughout and one cast back, as `Gemma4RMSNorm.forward`: the weight too is applied before rounding.
        x32 = x.float()
        normed = x32 * torch.rsqrt((x32 * x32).mean(-1, keepdim=True) + self.eps)
        if self.weight is not None:
            normed = normed * self.weight.float()
        return normed.to(x.dtype)
