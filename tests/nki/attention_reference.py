# SPDX-License-Identifier: Apache-2.0
"""The formula of attention in fp64, torch's own bf16 attention, and inputs, for the tests of the kernels."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention


@dataclass(frozen=True)
class PrefillCase:
    """One prefill problem; `images` are (first, last) positions, `padding` is a number of trailing padding rows."""

    head_dim: int = 128
    heads: int = 1
    kv_heads: int = 1
    queries: int = 128
    window: int = 0
    offset: int = 0
    extra_keys: int = 0
    images: tuple[tuple[int, int], ...] = ()
    padding: int = 0
    scale: float = 1.0
    batch: int = 1
    magnitude: float = 1.0

    @property
    def max_lookahead(self) -> int:
        """Longest image minus one."""
        return max((last - first for first, last in self.images), default=0)

    def __str__(self) -> str:
        parts = [f"d{self.head_dim}", f"n{self.heads}k{self.kv_heads}", f"s{self.queries}", f"w{self.window}"]
        parts += [f"{name}{value}" for name, value in (("o", self.offset), ("e", self.extra_keys)) if value]
        parts += [f"i{len(self.images)}"] if self.images else []
        parts += [f"p{self.padding}"] if self.padding else []
        parts += [f"b{self.batch}"] if self.batch > 1 else []
        parts += [f"x{self.magnitude:g}"] if self.magnitude != 1 else []
        parts += [f"c{self.scale:g}"] if self.scale != 1 else []
        return "-".join(parts)

    def end(self) -> torch.Tensor:
        """[B, S] int32: the last position each query sees; the first sequence alone has images and padding."""
        end = torch.arange(self.offset, self.offset + self.queries, dtype=torch.int32).repeat(self.batch, 1)
        for first, last in self.images:
            end[0, first - self.offset : last + 1 - self.offset] = last
        if self.padding:
            end[0, self.queries - self.padding :] = -1
        return end

    def rows(self) -> torch.Tensor:
        """Queries to compare: all of a short prompt, else 320 of them, with the edges of tiles, passes and images."""
        if self.queries <= 2048:
            return torch.arange(self.queries)
        edges = {0, self.queries - self.padding, *(edge - self.offset for image in self.images for edge in image)}
        edges |= set(range(1024, self.queries, 1024 * max(1, self.queries // 16384)))
        near = {edge + step for edge in edges for step in (-1, 0, 1)} | {self.queries - 1}
        spread = torch.linspace(0, self.queries - 1, max(2, 320 - len(near))).long().tolist()
        return torch.tensor(sorted(row for row in near | set(spread) if 0 <= row < self.queries))

    def needs_end(self) -> bool:
        """Whether the mask is anything but causal."""
        return bool(self.images or self.padding)

    def inputs(self, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """q [B, N, H, S], k [B, K, H, T], v [B, K, T, H] in bf16, logits of a few units times `magnitude`."""
        generator = torch.Generator().manual_seed(seed)
        keys = self.offset + self.queries + self.extra_keys

        def draw(*shape: int) -> torch.Tensor:
            return torch.randn(shape, generator=generator)

        q = draw(self.batch, self.heads, self.head_dim, self.queries) * self.magnitude * 2 / self.head_dim**0.5
        k = draw(self.batch, self.kv_heads, self.head_dim, keys)
        v = draw(self.batch, self.kv_heads, keys, self.head_dim)
        return q.bfloat16(), k.bfloat16(), v.bfloat16()


def allowed(case: PrefillCase) -> torch.Tensor:
    """[B, rows, T] bool: key j is seen by query i iff i - window < j <= end(i); for the rows to compare."""
    rows = case.rows()
    i = (case.offset + rows)[None, :, None]
    j = torch.arange(case.offset + case.queries + case.extra_keys)[None, None, :]
    mask = j <= case.end()[:, rows, None]
    return mask & (j > i - case.window) if case.window else mask


def exact_prefill(case: PrefillCase, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """[B, N, rows, H] in fp64, zeros where a query sees nothing."""
    group = case.heads // case.kv_heads
    k, v = k.double().repeat_interleave(group, 1), v.double().repeat_interleave(group, 1)
    mask = allowed(case)[:, None]
    scores = (q[..., case.rows()].double().transpose(2, 3) @ k * case.scale).masked_fill(~mask, -torch.inf)
    return torch.nan_to_num(scores.softmax(-1)) @ v


def torch_bf16_prefill(case: PrefillCase, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> list[torch.Tensor]:
    """The forms of torch's attention in bf16 for the rows to compare, zeros where a query sees nothing.

    Returns:
        Eager as in transformers (scores and weights rounded to bf16), the fused CPU kernel (weights rounded), and the
        one that computes everything in fp32 and rounds the result.
    """
    group = case.heads // case.kv_heads
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    return attention_forms(q[..., case.rows()].mT, k.mT, v, allowed(case)[:, None], case.scale)


def attention_forms(q, k, v, mask: torch.Tensor, scale: float) -> list[torch.Tensor]:
    """Eager, fused and fp32-inside attention of q [B, N, S, H] over k, v [B, N, T, H] with mask [B, 1, S, T]."""
    scores = (q @ k.mT * scale).masked_fill(~mask, torch.finfo(q.dtype).min)
    forms = [scores.softmax(-1, dtype=torch.float32).to(q.dtype) @ v]
    for backend in (SDPBackend.FLASH_ATTENTION, SDPBackend.MATH):
        with sdpa_kernel(backend):
            forms.append(scaled_dot_product_attention(q.contiguous(), k.contiguous(), v, mask, scale=scale))
    return [torch.where(mask.any(-1, keepdim=True), form, 0) for form in forms]


def assert_as_near_as_torch(output: torch.Tensor, exact: torch.Tensor, torch_forms: Sequence[torch.Tensor]) -> None:
    """At most 1.1 x the error of the best of torch's bf16 forms, and 1.03 x what fp32 and one rounding allow.

    The narrower bound sees small mistakes. Scores of 1e4 are wrong by 1e-3 in fp32 whoever adds them up, therefore the
    larger of the rounding of the exact result and of torch's fp32 form.
    """
    assert output.dtype == torch.bfloat16 and torch.isfinite(output).all()
    errors = [error(form, exact) for form in torch_forms]
    assert error(output, exact) <= 1.1 * min(errors)
    assert error(output, exact) <= 1.03 * max(errors[-1], error(exact.to(output.dtype), exact))


def error(output: torch.Tensor, exact: torch.Tensor) -> float:
    """Root mean square error over all outputs.

    A ratio of two largest errors would compare two single elements, each the tail of a distribution of roundings: it
    varies by tens of percent from seed to seed where this varies by less than one.
    """
    return (output.double() - exact).square().mean().sqrt().item()
