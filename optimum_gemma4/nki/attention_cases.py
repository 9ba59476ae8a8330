# SPDX-License-Identifier: Apache-2.0
"""Prefill attention problems for the cost tools, the fp64 answer, and how each known kernel wants to be called.

A convention turns q [N, S, H], k and v [K, S, H] (bf16, scale 1 already in q) into a kernel's own layout and its
result back into [N, S, H]. Third-party kernels are never part of this package: `compare` loads them from a path.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from optimum_gemma4.simulator.nki_report import output_argument_kernel


@dataclass(frozen=True)
class Problem:
    """Shape of a causal prefill, for one rank.

    Attributes:
        heads: Query heads.
        kv_heads: Key heads.
        head_dim: 128, 256 or 512.
        seq: Queries and keys.
        window: Keys a query sees including itself; 0 is no limit.
        lnc: Physical cores of a logical NeuronCore.
    """

    heads: int
    kv_heads: int
    head_dim: int
    seq: int
    window: int = 0
    lnc: int = 1

    def inputs(self, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Random bf16 q, k, v with scores of unit variance."""
        generator = torch.Generator().manual_seed(seed)
        q = torch.randn(self.heads, self.seq, self.head_dim, generator=generator) * self.head_dim**-0.5
        k = torch.randn(self.kv_heads, self.seq, self.head_dim, generator=generator)
        v = torch.randn(self.kv_heads, self.seq, self.head_dim, generator=generator)
        return q.bfloat16(), k.bfloat16(), v.bfloat16()

    def reference(self, q, k, v, dtype=torch.float64) -> torch.Tensor:
        """Attention computed by torch in a type, a head at a time: [N, S, H]."""
        position = torch.arange(self.seq)
        hidden = position[None, :] > position[:, None]
        if self.window:
            hidden |= position[:, None] - position[None, :] >= self.window
        group, heads = self.heads // self.kv_heads, []
        for head in range(self.heads):
            scores = q[head].to(dtype) @ k[head // group].to(dtype).T
            weights = scores.masked_fill(hidden, float("-inf")).softmax(-1)
            heads.append(weights @ v[head // group].to(dtype))
        return torch.stack(heads)


@dataclass(frozen=True)
class Convention:
    """How a kernel is called.

    Attributes:
        run: (kernel, problem, grid, q, k, v) -> [N, S, H].
        tensors: Table heading -> the kernel's tensor names.
        relaxed: Simulator rules that the kernel is known to break.
    """

    run: Callable
    tensors: dict[str, tuple[str, ...]]
    relaxed: tuple[str, ...] = ()


def _ours(kernel, problem, grid, q, k, v):
    kernel = kernel[grid] if grid else kernel
    out = kernel(q.mT[None].contiguous(), k.mT[None].contiguous(), v[None], window=problem.window)
    return out[0]


def _optimum_neuron(kernel, problem, grid, q, k, v):
    # Its caller repeats K and V for every query head, passes [BH, d, S] and a preallocated output.
    group = problem.heads // problem.kv_heads
    k, v = k.repeat_interleave(group, 0), v.repeat_interleave(group, 0)
    out = torch.zeros(problem.heads, problem.head_dim, problem.seq, dtype=q.dtype)
    kernel = output_argument_kernel(kernel)
    kernel = kernel[grid] if grid else kernel
    options = {"use_causal_mask": True, "sliding_window": problem.window}
    kernel(q.mT.contiguous(), k.mT.contiguous(), v.contiguous(), 1.0, out, **options)
    return out.mT


def _contrib(kernel, problem, grid, q, k, v):
    # One program a key head, whatever the number of cores.
    return kernel[problem.kv_heads](q, k, v, 1.0, True, problem.window).mT


CONVENTIONS = {
    "flash_prefill": Convention(_ours, {"K+V": ("k", "v"), "Q": ("q",), "O": ("output0",)}),
    "flash_fwd_large_d": Convention(_optimum_neuron, {"K+V": ("k", "v"), "Q": ("q",), "O": ("output",)}),
    "flash_attn_large_d": Convention(
        _contrib, {"K+V": ("k", "v"), "Q": ("q",), "O": ("output0",)}, ("traced_bool", "gpsimd_psum")
    ),
}
