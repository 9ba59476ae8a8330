# SPDX-License-Identifier: Apache-2.0
"""Prefill attention as an NKI kernel, head dims 128, 256 and 512; the same as `flash_prefill_torch.flash_prefill`.

The loop nest is a static plan (`prefill_plan`): keys of a group in SBUF, chunks of queries, heads, tiles. K and V are
loaded once for all query heads of their group. Cores of a logical NeuronCore share key heads, else the query heads of
a key head, else alternate tiles of queries; nothing is exchanged between them.
Shapes: q [B, N, H, S], k [B, K, H, T], v [B, K, T, H], end [B, S] -> [B, N, S, H]; Q and K have head dim first, so
that neither is transposed on chip.
"""

from . import compat
from .compat import nl
from .schedules.blocks import CHUNK, HEAD_DIMS, TILE, check_prefill, masked_before
from .schedules.prefill_plan import Shape, plan_prefill
from .tiles.prefill_bounds import (
    CAP,
    FILL,
    Bounds,
    load_bounds,
    lower_bound,
    make_masks,
    mask_columns,
    mask_slots,
    query_rows,
)
from .tiles.prefill_memory import load_keys, load_queries, store_tile
from .tiles.prefill_streamed import Softmax, streamed_head
from .tiles.prefill_tile import negated_peak, score_tile, weigh_values


@compat.jit
def flash_prefill(q, k, v, end=None, window=0, scale=1.0, offset=0, max_lookahead=0):
    """Attention of S queries over T keys under the one mask rule.

    Dimensions:
        B batch, N query heads, K key heads, H head dim, S queries, T keys.

    Args:
        q: [B, N, H, S] in HBM.
        k: [B, K, H, T].
        v: [B, K, T, H].
        end: [B, S] int32, or None for the query's own position; see the torch twin.
        window: Keys a query sees including itself; 0 is no limit.
        scale: Factor of the scores.
        offset: Position of the first query.
        max_lookahead: Bound of end(i) - i.

    Returns:
        [B, N, S, H] in q's dtype.

    Raises:
        ValueError: On shapes that do not fit together, or another head dim.

    Pseudocode:
        for each group of the plan, key head: load K, V
            for each chunk, query head: load Q
                for each tile: S = QK (+ mask) -> peak -> P = exp(S - peak), sum -> O = P^T V / sum -> store
    """
    check_prefill(q.shape, k.shape, v.shape, window, offset, max_lookahead)
    batch, heads, head_dim, queries = q.shape
    kv_heads, num_keys = k.shape[1], k.shape[3]
    if head_dim not in HEAD_DIMS:
        raise ValueError(f"head dim {head_dim}: expected one of {HEAD_DIMS}; run this layer without kernels.")
    group = heads // kv_heads
    cores, core = compat.programs()
    # How the cores share the work: key heads, query heads of a key head, or tiles of queries.
    by_key = cores if kv_heads % cores == 0 else 1
    by_query = cores if by_key < cores and group % cores == 0 else 1
    lanes = cores if by_key < cores and by_query < cores else 1
    own_keys, own_queries = kv_heads // by_key, group // by_query
    first_key = core * own_keys if by_key > 1 else 0
    first_query = core * own_queries if by_query > 1 else 0
    lane = core if lanes > 1 else 0
    plan = plan_prefill(Shape(queries, num_keys, head_dim, own_queries, window, offset, max_lookahead, lanes))

    out = nl.ndarray((batch, heads, queries, head_dim), dtype=q.dtype, buffer=nl.shared_hbm)
    row = nl.ndarray((TILE, 1), dtype=nl.float32, buffer=nl.sbuf)
    query_rows(row, lane)
    lower = nl.ndarray((TILE, 1), dtype=nl.float32, buffer=nl.sbuf)
    lower_bound(lower, row, window)
    by_select = compat.has_range_select()
    identity = nl.ndarray((TILE, 1 if by_select else TILE), dtype=nl.bfloat16, buffer=nl.sbuf)
    columns = nl.ndarray((TILE, 1 if by_select else TILE), dtype=nl.float32, buffer=nl.sbuf)
    if not by_select:
        compat.identity(identity)
        compat.with_scalars(identity, identity, nl.multiply, FILL)
        mask_columns(columns, row, lane)
    tiles = -(-queries // (TILE * lanes)) if end is not None else 1
    for b in nl.affine_range(batch):
        upper = nl.ndarray((TILE, tiles), dtype=nl.float32, buffer=nl.sbuf)
        cap = nl.ndarray((TILE, tiles), dtype=nl.float32, buffer=nl.sbuf)
        if end is None:
            compat.copy(upper, row, compat.VECTOR)
            compat.fill(cap, CAP)
        else:
            load_bounds(upper, cap, end, b, row, lane, lanes, queries, offset)
        by_pe = (None, None) if by_select else (identity, columns)
        bounds = Bounds(upper, cap, lower, *by_pe, window, end is not None)
        for h in nl.affine_range(own_keys):
            kv_head = first_key + h
            head = kv_head * group + first_query
            for g in nl.static_range(len(plan)):
                if plan[g].streamed:
                    _streamed_group(out, q, k, v, b, kv_head, head, own_queries, lane, lanes, plan[g], bounds, scale)
                else:
                    _resident_group(out, q, k, v, b, kv_head, head, own_queries, lane, lanes, plan[g], bounds, scale)
    return out


@compat.subkernel
def _resident_group(out, q, k, v, b, kv_head, head, own_queries, lane, lanes, group, bounds, scale):
    """Queries whose keys are in SBUF together: a row of scores is complete, one softmax, no rescaling."""
    upper, cap, lower, identity, _, window, has_end = bounds
    steps, head_dim = k.shape[2] // TILE, k.shape[2]
    held = group.passes[0]
    keys = nl.ndarray((TILE, steps, held.keys), dtype=k.dtype, buffer=nl.sbuf)
    values = nl.ndarray((TILE, -(-held.keys // TILE), head_dim), dtype=v.dtype, buffer=nl.sbuf)
    load_keys(keys, values, k, v, b, kv_head, held.start, held.keys)
    for c in nl.static_range(len(held.chunks)):
        chunk = held.chunks[c]
        for r in nl.affine_range(chunk.repeat):
            first = chunk.first + r * CHUNK
            shift = r * CHUNK
            bound = chunk.first // (TILE * lanes) + r * (CHUNK // (TILE * lanes))
            slots = () if identity is None else mask_slots(chunk.tiles, window)
            masks = nl.ndarray((TILE, max(len(slots), 1), TILE), dtype=nl.bfloat16, buffer=nl.sbuf)
            make_masks(masks, slots, bounds, bound if has_end else None)
            for n in nl.affine_range(own_queries):
                queries = nl.ndarray((TILE, steps, chunk.queries // lanes), dtype=q.dtype, buffer=nl.sbuf)
                load_queries(queries, q, b, head + n, first, chunk, lane, lanes)
                count = len(chunk.tiles)
                weights = nl.ndarray((TILE, 2, chunk.width), dtype=compat.WEIGHTS, buffer=nl.sbuf)
                total = nl.ndarray((TILE, 2, 1), dtype=nl.float32, buffer=nl.sbuf)
                # Tile t is scored before tile t - 1 is multiplied by V: the PE does not wait for the softmax.
                for t in nl.static_range(count + 1):
                    tile = chunk.tiles[min(t, count - 1)]
                    scores = nl.ndarray((tile.rows, tile.width), dtype=nl.float32, buffer=nl.sbuf)
                    negative = nl.ndarray((tile.rows, 1), dtype=nl.float32, buffer=nl.sbuf)
                    if t < count:
                        column = bound + t if has_end else 0
                        peaks = nl.ndarray((tile.rows, len(tile.banks)), dtype=nl.float32, buffer=nl.sbuf)
                        score_tile(
                            scores, peaks, queries, tile.row // lanes, keys, shift, tile, masks,
                            masked_before(chunk.tiles, t), identity, upper[:, nl.ds(column, 1)], lower,
                        )  # fmt: skip
                        negated_peak(negative, peaks, scale, cap[nl.ds(0, tile.rows), nl.ds(column, 1)])
                    done, last = chunk.tiles[max(t - 1, 0)], (t - 1) % 2
                    rows = nl.ds(0, done.rows)
                    output = nl.zeros((done.rows, head_dim), dtype=nl.float32, buffer=nl.psum)
                    if t > 0:
                        block = done.banks[0].column // TILE + r * (CHUNK // TILE)
                        weigh_values(output, weights[rows, last, nl.ds(0, done.width)], values, block, done)
                    if t < count:
                        own = nl.ds(0, tile.rows)
                        compat.exponential_with_sum(
                            weights[own, t % 2, nl.ds(0, tile.width)], scores, negative, scale, total[own, t % 2, :]
                        )  # fmt: skip
                    if t > 0:
                        start = first + done.row + TILE * lane
                        store_tile(out, b, head + n, start, done.rows, output, total[rows, last, :], has_end)


@compat.subkernel
def _streamed_group(out, q, k, v, b, kv_head, head, own_queries, lane, lanes, group, bounds, scale):
    """Queries that see more keys than fit: keys in passes, softmax carried from pass to pass for all heads."""
    upper, cap, lower, identity, _, window, has_end = bounds
    steps, head_dim = k.shape[2] // TILE, k.shape[2]
    chunk = group.passes[0].chunks[0]
    count, bound = len(chunk.tiles), chunk.first // (TILE * lanes)
    queries = nl.ndarray((TILE, own_queries, steps, chunk.queries // lanes), dtype=q.dtype, buffer=nl.sbuf)
    for n in nl.affine_range(own_queries):
        load_queries(queries[:, n], q, b, head + n, chunk.first, chunk, lane, lanes)
    # The softmax so far, of every (head, tile): negated peak, sum and unnormalised output.
    negative = nl.full((TILE, own_queries * count, 1), CAP, dtype=nl.float32, buffer=nl.sbuf)
    total = nl.zeros((TILE, own_queries * count, 1), dtype=nl.float32, buffer=nl.sbuf)
    output = nl.zeros((TILE, own_queries * count, head_dim), dtype=nl.float32, buffer=nl.sbuf)
    for p in nl.static_range(len(group.passes)):
        held = group.passes[p]
        tiles = held.chunks[0].tiles
        slots = () if identity is None else mask_slots(tiles, window)
        masks = nl.ndarray((TILE, max(len(slots), 1), TILE), dtype=nl.bfloat16, buffer=nl.sbuf)
        make_masks(masks, slots, bounds, bound if has_end else None)
        for r in nl.sequential_range(held.repeat):
            keys = nl.ndarray((TILE, steps, held.keys), dtype=k.dtype, buffer=nl.sbuf)
            values = nl.ndarray((TILE, -(-held.keys // TILE), head_dim), dtype=v.dtype, buffer=nl.sbuf)
            load_keys(keys, values, k, v, b, kv_head, held.start + r * held.keys, held.keys)
            for n in nl.affine_range(own_queries):
                state = Softmax(negative, total, output, n * count)
                column = bound if has_end else None
                streamed_head(state, queries[:, n], keys, values, tiles, lanes, masks, column, bounds, scale)
    for n in nl.affine_range(own_queries):
        for t in nl.static_range(count):
            tile, state = chunk.tiles[t], n * count + t
            rows = nl.ds(0, tile.rows)
            start = chunk.first + tile.row + TILE * lane
            store_tile(
                out, b, head + n, start, tile.rows, output[rows, state, :], total[rows, state, :], has_end
            )  # fmt: skip
