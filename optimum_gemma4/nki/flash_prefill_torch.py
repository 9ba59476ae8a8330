# SPDX-License-Identifier: Apache-2.0
"""Prefill attention in torch: what the kernel `flash_prefill` computes, with the same signature and roundings.

Query i sees key j iff i - window < j <= end(i) (`bands`). Scores and softmax are fp32, the weights of bf16 values are
rounded to fp16 before the second product, the sum that normalises them is not.
Shapes: q [B, N, H, S], k [B, K, H, T], v [B, K, T, H], end [B, S] -> [B, N, S, H].
"""

import torch

from .bands import bands
from .schedules.blocks import check_prefill
from .softmax_torch import MASKED, softmax_weights


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
    outputs = []
    for band in bands(queries, num_keys, end, window, offset, max_lookahead, q.device):
        # [B, K, G, size, H] -> [B, K, G * size, H]: the heads of a group share the keys, which are not repeated
        own = rows[:, :, :, band.queries].flatten(2, 3)
        scores = torch.matmul(own.to(compute), k[..., band.keys].to(compute)) * scale
        scores = torch.where(band.allowed[:, None, None], scores.unflatten(2, (group, -1)), MASKED)
        weights, total, _ = softmax_weights(scores, v.dtype)
        values = torch.matmul(weights.flatten(2, 3), v[:, :, band.keys].to(compute)).unflatten(2, (group, -1))
        # A padding row sums to zero: the floor of the divisor leaves zeros there and changes no other row.
        outputs.append((values / total.clamp(min=1e-30)).to(q.dtype))
    # [B, K, G, S, H] -> [B, N, S, H]
    return torch.cat(outputs, 3).flatten(1, 2)
