# SPDX-License-Identifier: Apache-2.0
"""Softmax weights as the kernels round them, shared by the torch twins.

Rounding weights to bf16 before the product with V, as torch's fused attention does, costs up to 1.4 x the error of
rounding the result once. The PE multiplies fp16 by bf16 at the same rate, and fp16's three more bits of mantissa make
that error vanish. What fp16 lacks is range: weights are WEIGHT_SCALE times as large, and so is the sum they are
divided by.
"""

import torch

from .schedules.blocks import WEIGHT_SCALE


# Finite, so that a row without any key stays finite; far below any logit and far above the fp32 minimum.
MASKED = -1e30
FLOOR = -1e29


def softmax_weights(scores: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Unnormalised weights of the last axis.

    Args:
        scores: [..., keys] fp32 (or fp64), MASKED where a key is not seen.
        dtype: Of the values; the weights of fp32 and fp64 values are not rounded.

    Returns:
        (weights as they are multiplied, their sum [..., 1] before rounding, the peak [..., 1]).
    """
    peak = scores.amax(-1, keepdim=True).clamp(min=FLOOR)
    weights = torch.exp(scores - peak) * WEIGHT_SCALE
    total = weights.sum(-1, keepdim=True)
    if dtype in (torch.float32, torch.float64):
        return weights, total, peak
    return weights.to(torch.float16).to(weights.dtype), total, peak
