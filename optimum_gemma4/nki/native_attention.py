# SPDX-License-Identifier: Apache-2.0
"""Attention without a kernel, as the compiler is to see it: products in the tensors' own dtype, softmax in fp32.

For a bf16 model the matrix unit then multiplies bf16 by bf16 and accumulates in fp32, and a bf16 cache is read as it
is; the kernels' torch twins, which upcast, would make fp32 products of it (four PE passes each with --auto-cast=none,
and a cast of the whole cache). The roundings are those of transformers' and optimum-neuron's own attention: scores to
the dtype, normalised weights to the dtype. In fp32 there are none. Signatures as the twins', without `key_parts`.
"""

import torch

from .bands import bands
from .schedules.blocks import check_prefill
from .schedules.decode_cuts import check_decode
from .softmax_torch import FLOOR, MASKED


def native_prefill(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    end: torch.Tensor | None = None,
    window: int = 0,
    scale: float = 1.0,
    offset: int = 0,
    max_lookahead: int = 0,
) -> torch.Tensor:
    """Attention of S queries over T keys; see `flash_prefill_torch.flash_prefill`.

    Args:
        q: [B, N, H, S].
        k: [B, K, H, T].
        v: [B, K, T, H].
        end: [B, S] integer or None.
        window: keys a query sees including itself; 0 is no limit.
        scale: factor of the scores.
        offset: position of the first query.
        max_lookahead: bound of end(i) - i.

    Returns:
        [B, N, S, H] in q's dtype; zeros in padding rows.

    Raises:
        ValueError: on shapes that do not fit together.
    """
    check_prefill(q.shape, k.shape, v.shape, window, offset, max_lookahead)
    batch, heads, head_dim, queries = q.shape
    kv_heads, num_keys = k.shape[1], k.shape[3]
    group = heads // kv_heads
    # [B, N, H, S] -> [B, K, G, S, H]
    rows = q.transpose(2, 3).reshape(batch, kv_heads, group, queries, head_dim)
    outputs = []
    for band in bands(queries, num_keys, end, window, offset, max_lookahead, q.device):
        # [B, K, G, size, H] -> [B, K, G * size, H]: the heads of a group share the keys, which are not repeated
        own = rows[:, :, :, band.queries].flatten(2, 3)
        scores = torch.matmul(own, k[..., band.keys]).unflatten(2, (group, -1))  # [B, K, G, size, keys]
        weights = _weights(scores, band.allowed[:, None, None], scale).flatten(2, 3)
        outputs.append(torch.matmul(weights, v[:, :, band.keys]).unflatten(2, (group, -1)))
    # [B, K, G, S, H] -> [B, N, S, H]
    return torch.cat(outputs, 3).flatten(1, 2)


def native_cached(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    age: torch.Tensor,
    q_rot: torch.Tensor | None = None,
    window: int = 0,
    scale: float = 1.0,
) -> torch.Tensor:
    """Attention of one new token per sequence over its cache; see `decode_attention_torch.decode_attention`.

    Args:
        q: [B, N, H].
        k: [B, K, T, H], or [B, K, T, R] in the K = V form.
        v: [B, K, T, H].
        age: [B, T] integer, negative for an empty slot.
        q_rot: [B, N, R] in the K = V form.
        window: keys the query sees including itself; 0 is no limit.
        scale: factor of the scores.

    Returns:
        [B, N, H] in q's dtype, zeros where no slot counts.

    Raises:
        ValueError: on shapes that do not fit together.
    """
    check_decode(q.shape, k.shape, v.shape, age.shape, None if q_rot is None else q_rot.shape, 1)
    group = q.shape[1] // v.shape[1]

    def scores(query: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        return torch.matmul(query.unflatten(1, (-1, group)), keys.transpose(2, 3))  # [B, K, G, T]

    both = scores(q, k) if q_rot is None else _precise(scores(q, v)) + _precise(scores(q_rot, k))
    allowed = age >= 0
    if window:
        allowed = allowed & (age < window)
    weights = _weights(both, allowed[:, None, None], scale, v.dtype)
    return torch.matmul(weights, v).flatten(1, 2)  # [B, K, G, H] -> [B, N, H]


def _weights(
    scores: torch.Tensor, allowed: torch.Tensor, scale: float, dtype: torch.dtype | None = None
) -> torch.Tensor:
    """Softmax over the last axis in fp32, in `dtype` (that of the scores if None); zeros where nothing is allowed."""
    dtype = dtype or scores.dtype
    scores = torch.where(allowed, _precise(scores) * scale, MASKED)
    weights = torch.exp(scores - scores.amax(-1, keepdim=True).clamp(min=FLOOR))
    # The floor of the divisor leaves zeros in a row without keys and changes no other row, whose sum is at least 1.
    return (weights / weights.sum(-1, keepdim=True).clamp(min=1e-30)).to(dtype)


def _precise(tensor: torch.Tensor) -> torch.Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()
