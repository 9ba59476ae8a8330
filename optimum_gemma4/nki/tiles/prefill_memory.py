# SPDX-License-Identifier: Apache-2.0
"""What the prefill kernel moves between HBM and SBUF: keys, values and queries in, outputs of a tile out.

Rows are as long as the tensors allow: K^T and Q^T 2 x columns bytes a partition, V and the output 2 x H.
"""

from .. import compat
from ..compat import nl
from ..schedules.blocks import TILE


@compat.subkernel
def load_keys(keys, values, k, v, b, kv_head, start, size):
    """K^T [128, H / 128, size] and V [128, blocks, H] from HBM; rows of K are 2 x size bytes, rows of V 2 x H."""
    for step in nl.affine_range(keys.shape[1]):
        compat.load(keys[:, step, :], k[b, kv_head, nl.ds(step * TILE, TILE), nl.ds(start, size)])
    full, rest = size // TILE, size % TILE
    if full > 0:
        for block in nl.affine_range(full):
            compat.load(values[:, block, :], v[b, kv_head, nl.ds(start + block * TILE, TILE), :])
    if rest > 0:
        compat.load(values[nl.ds(0, rest), full, :], v[b, kv_head, nl.ds(start + full * TILE, rest), :])


@compat.subkernel
def load_queries(queries, q, b, head, first, chunk, lane, lanes):
    """Q^T [128, H / 128, columns] of this core's tiles of a chunk whose first query is `first`."""
    for step in nl.affine_range(queries.shape[1]):
        dims = nl.ds(step * TILE, TILE)
        if lanes == 1:
            compat.load(queries[:, step, :], q[b, head, dims, nl.ds(first, chunk.queries)])
        else:
            for t in nl.affine_range(len(chunk.tiles)):
                own = first + t * (TILE * lanes) + TILE * lane
                compat.load(queries[:, step, nl.ds(t * TILE, TILE)], q[b, head, dims, nl.ds(own, TILE)])


@compat.subkernel
def store_tile(out, b, head, start, rows, output, total, clamp):
    """out = output / total; `clamp` keeps rows without keys (total 0) at zero."""
    inverse = nl.ndarray((rows, 1), dtype=nl.float32, buffer=nl.sbuf)
    if clamp:
        compat.with_scalars(total, total, nl.maximum, 1e-30)
    compat.reciprocal(inverse, total)
    result = nl.ndarray(output.shape, dtype=out.dtype, buffer=nl.sbuf)
    compat.multiply(result, output, inverse)
    compat.store(out[b, head, nl.ds(start, rows), :], result)
