# SPDX-License-Identifier: Apache-2.0
"""Decode attention as an NKI kernel; the same as `decode_attention_torch.decode_attention`.

The cache is read once, at its own layout (tokens before head dim). K, or in the K = V form the unrotated dims of V and
the rotated dims of K, is transposed on chip, since one copy of V serves both products. Both products keep the cache
stationary and move the few query heads: 64 PE cycles a 128 x 128 block. Sections of the cache have a peak, sum and
output of their own, which are joined as they come, so that only the last and shortest section is not hidden behind the
DMA. Cores share key heads, else sequences, else slots (`key_parts`, joined by `merge_parts` outside).
Shapes: as the twin.
"""

import math

from . import compat
from .compat import nl
from .schedules.blocks import BANK, HEAD_DIMS, TILE, WEIGHT_SCALE
from .schedules.decode_cuts import ROWS, check_decode, plan_decode, unrotated_columns
from .tiles.decode_join import Result, join_section, normalise, start_join, store_output, store_part
from .tiles.decode_section import (
    load_bias,
    load_columns,
    load_queries,
    multiply_values,
    score_blocks,
    weigh_section,
)


SLOTS = 3  # sections in SBUF: one being read, one scored, one multiplied
# In the K = V form scores need both: blocks of K that are read before their V, fewer before the PE has any work.
LOAD_BLOCKS, FIRST_BLOCKS = 8, 2


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
        ValueError: On shapes that do not fit together, another head dim, rotated dims that do not fit the PE, or cores
            that cannot share the work.

    Pseudocode:
        for each sequence, key heads that fit together, section:
            load K, V -> transpose -> S^T = K q -> peak -> P^T -> O^T = V^T P^T -> join to the sections before
            after the last one: transpose O -> store
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
    own_heads, own_sequences, own_slots = kv_heads // by_key, batch // by_sequence, slots // key_parts
    first_key = core * own_heads if by_key > 1 else 0
    first_sequence = core * own_sequences if by_sequence > 1 else 0
    first_slot = core * own_slots if key_parts > 1 else 0
    part = core if key_parts > 1 else 0

    shape = (batch, heads, head_dim) if key_parts == 1 else (key_parts, batch, heads, head_dim + 2)
    out = nl.ndarray(shape, dtype=q.dtype if key_parts == 1 else nl.float32, buffer=nl.shared_hbm)
    columns = unrotated_columns(head_dim, rotated)
    contractions = len(columns) + (1 if rotated else 0)
    _check_fit(head_dim, rotated, contractions, group, heads)
    key_dim, steps = k.shape[3], head_dim // TILE
    plan = plan_decode(own_sequences, own_heads, group, own_slots, (key_dim + head_dim) * compat.BYTES)
    rows, widest, full, rest = plan.heads * group, plan.blocks, own_slots // TILE, own_slots % TILE

    ones = nl.ndarray((TILE, TILE), dtype=nl.float32, buffer=nl.sbuf)
    compat.fill(ones, 1.0)
    no_bias = nl.ndarray((TILE, 1), dtype=nl.float32, buffer=nl.sbuf)
    compat.fill(no_bias, 0.0)
    log_scale = nl.ndarray((TILE, 1), dtype=nl.float32, buffer=nl.sbuf)
    compat.fill(log_scale, math.log(WEIGHT_SCALE))
    # Tiles of three sections and of two sequences: the next one is loaded and scored while this one is multiplied.
    keys = nl.ndarray((TILE, SLOTS, plan.heads, widest * key_dim), dtype=k.dtype, buffer=nl.sbuf)
    values = nl.ndarray((TILE, SLOTS, plan.heads, widest * head_dim), dtype=v.dtype, buffer=nl.sbuf)
    weights = nl.ndarray((TILE, SLOTS, rows, widest), dtype=compat.WEIGHTS, buffer=nl.sbuf)
    negatives = nl.ndarray((TILE, SLOTS, rows, 1), dtype=nl.float32, buffer=nl.sbuf)
    sums = nl.ndarray((TILE, SLOTS, rows), dtype=nl.float32, buffer=nl.sbuf)
    queries = nl.ndarray((TILE, 2, contractions, own_heads * group), dtype=q.dtype, buffer=nl.sbuf)
    bias = nl.ndarray((TILE, 2, 1, full + 1), dtype=nl.float32, buffer=nl.sbuf)
    # The result so far of one sequence and its heads, before and after a section: `Result`.
    peak = nl.ndarray((TILE, 2, rows), dtype=nl.float32, buffer=nl.sbuf)
    total = nl.ndarray((TILE, 2, 1, rows), dtype=nl.float32, buffer=nl.sbuf)
    output = nl.ndarray((TILE, 2, steps, rows), dtype=nl.float32, buffer=nl.sbuf)
    k_flat = k.reshape((batch, kv_heads, slots * key_dim))
    v_flat = v.reshape((batch, kv_heads, slots * head_dim))
    normalised = nl.ndarray((TILE, steps, rows), dtype=q.dtype, buffer=nl.sbuf)
    count = len(plan.steps)
    for i in nl.static_range(count + 2):
        # Section i is scored before section i - 1 is multiplied by V, and that before the result of section i - 2 is
        # stored if it was the last of its heads: no engine waits for the softmax, whatever the compiler reorders.
        finished = i >= 2 and plan.steps[i - 2].last
        complete = Result(peak[:, (i - 1) % 2], total[:, (i - 1) % 2, 0], output[:, (i - 1) % 2])
        cut = plan.steps[min(i, count - 1)].section
        scores = nl.zeros((cut.partitions, rows, cut.blocks), dtype=nl.float32, buffer=nl.psum)
        if i < count:
            step, slot = plan.steps[i], i % SLOTS
            sequence, parity, held = first_sequence + step.sequence, step.sequence % 2, nl.ds(0, cut.partitions)
            if step.head == 0 and step.first:
                load_queries(queries[:, parity], q, q_rot, sequence, first_key * group, columns)
                if full > 0:
                    load_bias(bias[:, parity, :, nl.ds(0, full)], age, sequence, first_slot, window)
                if rest > 0:
                    tail = bias[nl.ds(0, rest), parity, :, nl.ds(full, 1)]
                    load_bias(tail, age, sequence, first_slot + full * TILE, window)
            # The slots that fill no column are one a partition.
            whole = cut.partitions == TILE
            origin = first_slot + (0 if whole else full * TILE)
            stride, first = (full, cut.first) if whole else (1, 0)
            ahead = cut.blocks if rotated == 0 else LOAD_BLOCKS if i > 0 else FIRST_BLOCKS
            for h in nl.static_range(plan.heads):
                head = first_key + step.head + h
                for start in nl.static_range(0, cut.blocks, ahead):
                    blocks = min(ahead, cut.blocks - start)
                    into = keys[held, slot, h, nl.ds(start * key_dim, blocks * key_dim)]
                    load_columns(into, k_flat, sequence, head, origin, stride, first + start, key_dim)
                    if rotated > 0:
                        into = values[held, slot, h, nl.ds(start * head_dim, blocks * head_dim)]
                        load_columns(into, v_flat, sequence, head, origin, stride, first + start, head_dim)
            if rotated == 0:
                for h in nl.static_range(plan.heads):
                    head = first_key + step.head + h
                    into = values[held, slot, h, nl.ds(0, cut.blocks * head_dim)]
                    load_columns(into, v_flat, sequence, head, origin, stride, first, head_dim)
            for h in nl.static_range(plan.heads):
                score_blocks(
                    scores[:, nl.ds(h * group, group), :],
                    queries[:, parity, :, nl.ds((step.head + h) * group, group)],
                    keys[held, slot, h, nl.ds(0, cut.blocks * key_dim)],
                    values[held, slot, h, nl.ds(0, cut.blocks * head_dim)],
                    columns, rotated,
                )  # fmt: skip
        if finished and key_parts == 1:
            normalise(normalised, complete, ones)
        if i < count:
            weigh_section(
                weights[held, slot, :, nl.ds(0, cut.blocks)], negatives[:, slot], sums[held, slot, :], scores,
                bias[held, parity, :, nl.ds(cut.first, cut.blocks)], scale, log_scale,
            )  # fmt: skip
        if 0 < i <= count:
            step, cut, slot = plan.steps[i - 1], plan.steps[i - 1].section, (i - 1) % SLOTS
            held = nl.ds(0, cut.partitions)
            product = nl.zeros((TILE, steps, rows), dtype=nl.float32, buffer=nl.psum)
            for h in nl.static_range(plan.heads):
                own = nl.ds(h * group, group)
                multiply_values(
                    product[:, :, own], weights[held, slot, own, nl.ds(0, cut.blocks)],
                    values[held, slot, h, nl.ds(0, cut.blocks * head_dim)],
                )  # fmt: skip
            after, before = i % 2, (i - 1) % 2
            joined = Result(peak[:, after], total[:, after, 0], output[:, after])
            section = Result(negatives[:, slot, :, 0], sums[held, slot, :], product)
            if step.first:
                start_join(joined, section)
            else:
                earlier = Result(peak[:, before], total[:, before, 0], output[:, before])
                join_section(joined, earlier, section, no_bias, scale, compat.VECTOR if step.last else compat.GPSIMD)
        if finished:
            step = plan.steps[i - 2]
            index = (first_sequence + step.sequence, nl.ds((first_key + step.head) * group, rows))
            if key_parts == 1:
                store_output(out, index, normalised)
            else:
                store_part(out, (part, *index), complete, ones, scale)
    return out


def _check_fit(head_dim: int, rotated: int, steps: int, group: int, heads: int) -> None:
    """Refuse what would need more than one PSUM bank a block, or Vector transposes of more than 32."""
    if rotated > TILE or steps > BANK // TILE:
        raise ValueError(
            f"head dim {head_dim} with {rotated} rotated dims takes {steps} contraction steps: expected at most "
            f"{BANK // TILE} and {TILE} rotated dims, what one PSUM bank holds; run this layer without kernels."
        )
    if group > ROWS or heads > TILE:
        raise ValueError(
            f"{heads} query heads, {group} for each key head: expected at most {TILE} and {ROWS}; use a higher "
            "tensor parallel degree or run this layer without kernels."
        )
