# SPDX-License-Identifier: Apache-2.0
"""Prefill attention in torch: what the kernel `flash_prefill` computes, with the same signature and roundings.

Query i sees key j iff i - window < j <= end(i). Blocks of queries read only the keys of their band, so the work of a
sliding layer grows with S x window. Scores and softmax are fp32, the weights of bf16 values are rounded to fp16 before
the second product, the sum that normalises them is not. Static shapes, no branch on a value: it traces and vmaps.
Shapes: q [B, N, H, S], k [B, K, H, T], v [B, K, T, H], end [B, S] -> [B, N, S, H].
"""

import torch

from .schedules.blocks import check_prefill, key_range
from .softmax_torch import MASKED, softmax_weights


MIN_BLOCK, MAX_BLOCK = 128, 512


def flash_prefill(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    end: torch.Tensor | None = None,
    window: int = 0,
    scale: float = 1.0,
    offset: int = 0,
    max_lookahead: int = 0,
) -> torch.Tensor:
    """Attention of S queries over T keys under the one mask rule.

    Args:
        q: [B, N, H, S] queries; query s has position offset + s.
        k: [B, K, H, T] keys; key t has position t. T >= offset + S.
        v: [B, K, T, H] values.
        end: [B, S] integer; the last position each query sees: its own position, up to `max_lookahead` more inside
            an image, or -1 for a padding row. None means its own position.
        window: Keys a query sees including itself; 0 is no limit.
        scale: Factor of the scores.
        offset: Position of the first query (keys before it are an existing cache).
        max_lookahead: Bound of end(i) - i; 0 for causal text.

    Returns:
        [B, N, S, H] in q's dtype; zeros in padding rows.

    Raises:
        ValueError: On shapes that do not fit together.
    """
    check_prefill(q.shape, k.shape, v.shape, window, offset, max_lookahead)
    batch, heads, head_dim, queries = q.shape
    kv_heads, num_keys = k.shape[1], k.shape[3]
    group = heads // kv_heads
    compute = torch.float64 if q.dtype == torch.float64 else torch.float32
    # [B, N, H, S] -> [B, K, G, S, H]
    rows = q.transpose(2, 3).reshape(batch, kv_heads, group, queries, head_dim)
    block = min(MAX_BLOCK, max(MIN_BLOCK, window)) if window else MAX_BLOCK
    outputs = []
    for first in range(0, queries, block):
        last = min(first + block, queries) - 1
        low, high = key_range(offset + first, offset + last, window, max_lookahead, num_keys)
        size = last + 1 - first
        # [B, K, G, size, H] -> [B, K, G * size, H]: the heads of a group share the keys, which are not repeated
        band = rows[:, :, :, first : last + 1].reshape(batch, kv_heads, group * size, head_dim)
        scores = torch.matmul(band.to(compute), k[..., low:high].to(compute)) * scale
        scores = scores.reshape(batch, kv_heads, group, size, high - low)
        position = torch.arange(offset + first, offset + last + 1, device=q.device)
        key = torch.arange(low, high, device=q.device)
        limit = position[None] if end is None else end[:, first : last + 1].to(position.dtype)
        allowed = key <= limit[..., None]  # [B or 1, size, keys]
        if window:
            allowed = allowed & (key > position[:, None] - window)
        scores = torch.where(allowed[:, None, None], scores, MASKED)
        weights, total, _ = softmax_weights(scores, v.dtype)
        weights = weights.reshape(batch, kv_heads, group * size, high - low)
        values = torch.matmul(weights, v[:, :, low:high].to(compute)).reshape(batch, kv_heads, group, size, head_dim)
        # A padding row sums to zero: the floor of the divisor leaves zeros there and changes no other row.
        outputs.append((values / total.clamp(min=1e-30)).to(q.dtype))
    # [B, K, G, S, H] -> [B, N, S, H]
    return torch.cat(outputs, 3).reshape(batch, heads, queries, head_dim)
