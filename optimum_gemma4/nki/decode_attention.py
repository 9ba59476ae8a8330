# SPDX-License-Identifier: Apache-2.0
"""Decode attention as an NKI kernel; the same as `decode_attention_torch.decode_attention`.

The cache is read once, at its own layout (tokens before head dim), in contiguous pieces of up to 16 KiB a partition.
K, or in the K = V form the unrotated dims of V and the rotated dims of K, is transposed on chip, since one copy of V
serves both products. Both products keep the cache stationary and move the few query heads: 64 PE cycles a 128 x 128
block. Sections of the cache are independent (peak, sum, output each) and joined at the end, so nothing waits for the
whole cache. Cores share key heads, else sequences, else slots (`key_parts`, joined by `merge_parts` outside).
Shapes: as the twin.
"""

from . import compat
from .compat import nl
from .decode_schedule import check_decode, sections, unrotated_columns
from .decode_section import join_sections, load_queries, read_section, store_output
from .schedule import HEAD_DIMS, TILE


@compat.jit
def decode_attention(q, k, v, age, q_rot=None, window=0, scale=1.0, key_parts=1):
    """Attention of one new token per sequence over its cache.

    Dimensions:
        B sequences, N query heads, K key heads, H head dim, R rotated dims, T slots.

    Args:
        q: [B, N, H] in HBM; see the twin for its content in the K = V form.
        k: [B, K, T, H], or [B, K, T, R] in the K = V form (R a multiple of 32, up to 128).
        v: [B, K, T, H].
        age: [B, T] int32.
        q_rot: [B, N, R] in the K = V form.
        window: Keys the query sees including itself; 0 is no limit.
        scale: Factor of the scores.
        key_parts: 1, or the number of cores in the launch grid to give each an equal part of the slots.

    Returns:
        [B, N, H] in q's dtype; with key_parts > 1, values [P, B, N, H] and (peak, sum) [P, B, N, 2], both fp32.

    Raises:
        ValueError: On shapes that do not fit together, another head dim, or cores that cannot share the work.

    Pseudocode:
        for each sequence, key head, section: load K, V -> transpose -> S^T = K q -> peak -> P^T -> O^T = V^T P^T
        join the sections -> transpose O -> store
    """
    check_decode(q.shape, k.shape, v.shape, age.shape, None if q_rot is None else q_rot.shape, key_parts)
    batch, heads, head_dim = q.shape
    kv_heads, slots = v.shape[1], v.shape[2]
    if head_dim not in HEAD_DIMS:
        raise ValueError(f"head dim {head_dim}: expected one of {HEAD_DIMS}; run this layer without kernels.")
    group = heads // kv_heads
    cores, core = compat.programs()
    by_key, by_sequence = 1, 1
    if key_parts == 1 and cores > 1:
        by_key = cores if kv_heads % cores == 0 else 1
        by_sequence = cores if by_key == 1 and batch % cores == 0 else 1
    if by_key * by_sequence * key_parts != cores:
        raise ValueError(
            f"{cores} cores for {kv_heads} key heads and {batch} sequences with key_parts={key_parts}: expected heads "
            f"or sequences to be a multiple of the cores; use key_parts={cores} or launch on one core."
        )
    first_key = core * (kv_heads // by_key) if by_key > 1 else 0
    first_sequence = core * (batch // by_sequence) if by_sequence > 1 else 0
    first_slot = core * (slots // key_parts) if key_parts > 1 else 0
    part = core if key_parts > 1 else 0

    if key_parts == 1:
        out = nl.ndarray((batch, heads, head_dim), dtype=q.dtype, buffer=nl.shared_hbm)
        stats = None
    else:
        out = nl.ndarray((key_parts, batch, heads, head_dim), dtype=nl.float32, buffer=nl.shared_hbm)
        stats = nl.ndarray((key_parts, batch, heads, 2), dtype=nl.float32, buffer=nl.shared_hbm)
    columns = unrotated_columns(head_dim, 0 if q_rot is None else k.shape[3])
    plan = sections(slots // key_parts)
    identity = nl.shared_identity_matrix(TILE, dtype=q.dtype)
    identity_fp32 = nl.shared_identity_matrix(TILE, dtype=nl.float32)
    return out, stats, columns, plan, identity, identity_fp32, first_key, first_sequence, first_slot, part
