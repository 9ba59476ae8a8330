# SPDX-License-Identifier: Apache-2.0
"""Decode attention in torch: what the kernel `decode_attention` computes, with the same signature and roundings.

One query a sequence against a cache of T slots, a ring or a full one alike: which slots count is told by `age`, the
query's position minus the position the slot holds. A slot is seen iff 0 <= age and (window == 0 or age < window), so
an empty slot has a negative age. The new token's key and value are in the cache already.
Two forms. Plain: k [B, K, T, H]. K = V: k holds only the R rotated dims of the keys, [B, K, T, R]; the other dims of a
key are V times a weight that the caller has multiplied into q.
"""

import torch

from .schedules.decode_cuts import check_decode
from .softmax_torch import MASKED, softmax_weights


def decode_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    age: torch.Tensor,
    q_rot: torch.Tensor | None = None,
    window: int = 0,
    scale: float = 1.0,
    key_parts: int = 1,
) -> torch.Tensor:
    """Attention of one new token per sequence over its cache.

    Args:
        q: [B, N, H]. In the K = V form it is dotted with V: the query times the key norm's weight, with zeros in the
            rotated dims, which are 0..R/2-1 and H/2..H/2+R/2-1.
        k: [B, K, T, H] keys, or [B, K, T, R] in the K = V form: their rotated dims.
        v: [B, K, T, H] values.
        age: [B, T] integer; position of the query minus position in the slot; negative for an empty slot.
        q_rot: [B, N, R], given in the K = V form only: the query's rotated dims, dotted with k.
        window: Keys the query sees including itself; 0 is no limit.
        scale: Factor of the scores.
        key_parts: Number of equal parts of the slots whose results stay separate (one per core), for `merge_parts`.

    Returns:
        [B, N, H] in q's dtype, zeros where no slot counts. With key_parts > 1, [P, B, N, H + 2] in fp32: unnormalised
        values, the part's largest score and the sum of its weights (both WEIGHT_SCALE times the plain ones).

    Raises:
        ValueError: On shapes that do not fit together.
    """
    check_decode(q.shape, k.shape, v.shape, age.shape, None if q_rot is None else q_rot.shape, key_parts)
    batch, heads, head_dim = q.shape
    kv_heads, slots = v.shape[1], v.shape[2]
    group = heads // kv_heads
    compute = torch.float64 if q.dtype == torch.float64 else torch.float32

    def dot(query: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        query = query.reshape(batch, kv_heads, group, query.shape[-1])
        return torch.matmul(query.to(compute), keys.to(compute).transpose(2, 3))

    scores = dot(q, k) if q_rot is None else dot(q, v) + dot(q_rot, k)  # [B, K, G, T]
    allowed = age >= 0
    if window:
        allowed = allowed & (age < window)
    scores = torch.where(allowed[:, None, None], scores * scale, MASKED)
    # [B, K, G, T] -> [B, K, G, P, T / P]
    scores = scores.reshape(batch, kv_heads, group, key_parts, slots // key_parts)
    weights, total, peak = softmax_weights(scores, v.dtype)
    parts = v.to(compute).reshape(batch, kv_heads, 1, key_parts, slots // key_parts, head_dim)
    values = torch.matmul(weights[..., None, :], parts)[..., 0, :]  # [B, K, G, P, H]
    if key_parts == 1:
        return (values / total.clamp(min=1e-30)).to(q.dtype).reshape(batch, heads, head_dim)
    parts = torch.cat((values, peak, total), -1).permute(3, 0, 1, 2, 4)  # -> [P, B, K, G, H + 2]
    return parts.reshape(key_parts, batch, heads, head_dim + 2)


def merge_parts(parts: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Join the results of cores that each read a part of the slots.

    Args:
        parts: [P, B, N, H + 2] fp32 from `decode_attention` with key_parts = P.
        dtype: Of the result.

    Returns:
        [B, N, H].
    """
    values, peak, total = parts[..., :-2], parts[..., -2], parts[..., -1]
    factor = torch.exp(peak - peak.amax(0))
    total = (factor * total).sum(0).clamp(min=1e-30)
    return ((factor[..., None] * values).sum(0) / total[..., None]).to(dtype)
