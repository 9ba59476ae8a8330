# SPDX-License-Identifier: Apache-2.0
"""Linear layers of the vision encoder, mirrors transformers 5.23 `Gemma4ClippableLinear`.

The checkpoint keeps the weight one level down (`q_proj.linear.weight`). E2B and E4B also store four scalars beside it:
the input is clamped to the first two, the output to the last two. The bounds are parameters where transformers has
buffers, because a buffer may become a constant of the compiled graph, and have one axis, because torch_xla shares
scalars: bounds without an axis that are equal while tracing become one input of the graph, whatever is loaded later.
[.., in] -> [.., out], split over the ranks like the layer inside.
"""

import torch
from torch import nn


__all__ = ["ClippableLinear"]


class ClippableLinear(nn.Module):
    """A (parallel) linear layer, with clamps if asked for.

    Args:
        linear: the layer, made by `parallel.column_parallel` or `parallel.row_parallel`.
        clipped: whether there are bounds.
        dtype: of the bounds.
    """

    def __init__(self, linear: nn.Module, clipped: bool, dtype: torch.dtype):
        super().__init__()
        self.linear = linear
        self.clipped = clipped
        if clipped:
            self.input_min, self.output_min = (_bound(-float("inf"), dtype) for _ in range(2))
            self.input_max, self.output_max = (_bound(float("inf"), dtype) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.clipped:
            return self.linear(x)
        x = self.linear(_clamp(x, self.input_min, self.input_max))
        return _clamp(x, self.output_min, self.output_max)


def _bound(value: float, dtype: torch.dtype) -> nn.Parameter:
    return nn.Parameter(torch.full((1,), value, dtype=dtype), requires_grad=False)


def _clamp(x: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    return torch.minimum(torch.maximum(x, low), high)
