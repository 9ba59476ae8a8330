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
from .schedules.blocks import BANK, HEAD_DIMS, TILE
from .schedules.decode_cuts import check_decode, decode_steps, sections, unrotated_columns
from .tiles.decode_join import join_sections, store_output, store_stats
from .tiles.decode_section import (
    QUADRANT,
    load_bias,
    load_blocks,
    load_queries,
    multiply_section,
    score_section,
    weigh_section,
)


SLOTS = 3  # sections in SBUF: one being read, one scored, one multiplied


@compat.jit
def decode_attention(q, k, v, age, q_rot=None, window=0, scale=1.0, key_parts=1):
    """Attention of one new token per sequence over its cache.

    Dimensions:
        B sequences, N query heads, K key heads, H head dim, R rotated dims, T slots.

    Args:
        q: [B, N, H] in HBM; see the twin for its content in the K = V form.
        k: [B, K, T, H], or [B, K, T, R] in the K = V form (R up to 128).
        v: [B, K, T, H].
        age: [B, T] int32.
        q_rot: [B, N, R] in the K = V form.
        window: Keys the query sees including itself; 0 is no limit.
        scale: Factor of the scores.
        key_parts: 1, or the number of cores in the launch grid to give each an equal part of the slots.

    Returns:
        [B, N, H] in q's dtype; with key_parts > 1, [P, B, N, H + 2] in fp32 as the twin's.

    Raises:
        ValueError: On shapes that do not fit together, another head dim, rotated dims that do not fit the PE, or cores that cannot share
            the work.

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
    rotated = 0 if q_rot is None else k.shape[3]
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

    shape = (batch, heads, head_dim) if key_parts == 1 else (key_parts, batch, heads, head_dim + 2)
    out = nl.ndarray(shape, dtype=q.dtype if key_parts == 1 else nl.float32, buffer=nl.shared_hbm)
    columns = unrotated_columns(head_dim, rotated)
    steps = len(columns) + (1 if rotated else 0)
    _check_fit(head_dim, rotated, steps, group, heads)
    cuts = sections(slots // key_parts)
    order = decode_steps(batch // by_sequence, kv_heads // by_key, len(cuts))
    blocks = max(cut.blocks for cut in cuts)

    ones = nl.ndarray((TILE, TILE), dtype=nl.float32, buffer=nl.sbuf)
    ones[...] = 1.0
    no_bias = nl.zeros((TILE, 1), dtype=nl.float32, buffer=nl.sbuf)
    # Tiles of three sections and of two sequences: the next one is loaded and scored while this one is multiplied.
    keys = nl.ndarray((TILE, SLOTS, blocks * k.shape[3]), dtype=k.dtype, buffer=nl.sbuf)
    values = nl.ndarray((TILE, SLOTS, blocks * head_dim), dtype=v.dtype, buffer=nl.sbuf)
    weights = nl.ndarray((TILE, SLOTS, blocks, group), dtype=compat.WEIGHTS, buffer=nl.sbuf)
    queries = nl.ndarray((TILE, 2, steps, heads), dtype=q.dtype, buffer=nl.sbuf)
    bias = nl.ndarray((TILE, 2, len(cuts), 1, blocks), dtype=nl.float32, buffer=nl.sbuf)
    # Of one sequence and key head, for every section: negated peak, sum of each partition, output.
    negatives = nl.ndarray((TILE, 2, group, len(cuts)), dtype=nl.float32, buffer=nl.sbuf)
    sums = nl.zeros((TILE, 2, group, len(cuts)), dtype=nl.float32, buffer=nl.sbuf)
    outputs = nl.ndarray((TILE, 2, head_dim // TILE, group, len(cuts)), dtype=nl.float32, buffer=nl.sbuf)
    k_flat = k.reshape((batch, kv_heads, slots * k.shape[3]))
    v_flat = v.reshape((batch, kv_heads, slots * head_dim))
    for i in nl.static_range(len(order) + 1):
        # Section i is scored before section i - 1 is multiplied by V: the PE has work during either softmax.
        if i < len(order):
            step = order[i]
            cut, slot, parity = cuts[step.section], i % SLOTS, step.sequence % 2
            sequence, held = first_sequence + step.sequence, nl.ds(0, cut.partitions)
            if step.head == 0 and step.section == 0:
                load_queries(queries[:, parity], q, q_rot, sequence, columns)
            if step.head == 0:
                load_bias(
                    bias[held, parity, step.section, :, nl.ds(0, cut.blocks)],
                    age,
                    sequence,
                    first_slot + cut.start,
                    window,
                )
            start, head = first_slot + cut.start, first_key + step.head
            key_columns = nl.ds(0, cut.blocks * k.shape[3])
            load_blocks(keys[held, slot, key_columns], k_flat, sequence, head, start, cut.blocks)
            load_blocks(values[held, slot, nl.ds(0, cut.blocks * head_dim)], v_flat, sequence, head, start, cut.blocks)
            scores = nl.ndarray((cut.partitions, group, cut.blocks), dtype=nl.float32, buffer=nl.sbuf)
            score_section(
                scores, queries[:, parity], head * group, keys[held, slot, key_columns],
                values[held, slot, nl.ds(0, cut.blocks * head_dim)], columns, rotated,
                bias[held, parity, step.section, :, nl.ds(0, cut.blocks)],
            )  # fmt: skip
            of_head = (step.sequence * (kv_heads // by_key) + step.head) % 2
            weigh_section(
                weights[held, slot, nl.ds(0, cut.blocks), :], negatives[:, of_head, :, step.section],
                sums[held, of_head, :, step.section], scores, scale,
            )  # fmt: skip
        if i > 0:
            step = order[i - 1]
            cut, slot = cuts[step.section], (i - 1) % SLOTS
            held = nl.ds(0, cut.partitions)
            of_head = (step.sequence * (kv_heads // by_key) + step.head) % 2
            multiply_section(
                outputs[:, of_head, :, :, step.section], weights[held, slot, nl.ds(0, cut.blocks), :],
                values[held, slot, nl.ds(0, cut.blocks * head_dim)],
            )  # fmt: skip
            if step.section == len(cuts) - 1:
                rows = nl.ds((first_key + step.head) * group, group)
                index = (first_sequence + step.sequence, rows)
                total = nl.ndarray((TILE, group), dtype=nl.float32, buffer=nl.sbuf)
                peak = nl.ndarray((TILE, group, 1), dtype=nl.float32, buffer=nl.sbuf)
                output = nl.ndarray((TILE, head_dim // TILE, group), dtype=nl.float32, buffer=nl.sbuf)
                join_sections(
                    total, output, peak, negatives[:, of_head], sums[:, of_head], outputs[:, of_head], ones, no_bias
                )
                if key_parts == 1:
                    store_output(out, index, output, total)
                else:
                    store_output(out, (part, *index), output, None)
                    store_stats(out, (part, *index), head_dim, peak[:, :, 0], total)
    return out


def _check_fit(head_dim: int, rotated: int, steps: int, group: int, heads: int) -> None:
    """Refuse what would need more than one PSUM bank a block, or Vector transposes of more than 32."""
    if rotated > TILE or steps > BANK // TILE:
        raise ValueError(
            f"head dim {head_dim} with {rotated} rotated dims takes {steps} contraction steps: expected at most "
            f"{BANK // TILE} and {TILE} rotated dims, what one PSUM bank holds; run this layer without kernels."
        )
    if group > QUADRANT or heads > TILE:
        raise ValueError(
            f"{heads} query heads, {group} for each key head: expected at most {TILE} and {QUADRANT}; use a higher "
            "tensor parallel degree or run this layer without kernels."
        )
