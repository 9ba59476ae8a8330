# SPDX-License-Identifier: Apache-2.0
"""Small attention kernels with the calling conventions of third-party ones, for the tests of the compare tool."""

import neuronxcc.nki.isa as nisa
import neuronxcc.nki.language as nl
from neuronxcc import nki


@nki.jit(mode="trace")
def attend(out, q, k, v, head, kv_head, tile, window):
    """Store O^T of 128 queries; q [BH, d, S], k [BH, d, S], v [BH, S, d], S <= 512."""
    head_dim, seq = q.shape[1], q.shape[2]
    chunks, rows = head_dim // 128, nl.ds(tile * 128, 128)
    scores = nl.zeros((128, seq), dtype=nl.float32, buffer=nl.psum)
    for c in nl.affine_range(chunks):
        dims = nl.ds(c * 128, 128)
        scores += nl.matmul(nl.load(q[head, dims, rows]), nl.load(k[kv_head, dims, :]), transpose_x=True)
    i, j = nl.mgrid[0:128, 0:seq]
    position = tile * 128 + i
    masked = nisa.affine_select(position >= j, nl.copy(scores), -9984.0)
    if window:
        masked = nisa.affine_select(position - j < window, masked, -9984.0)
    peak = nisa.tensor_reduce(nl.max, masked, axis=1, negate=True)
    total = nl.ndarray((128, 1), dtype=nl.float32)
    weights = nisa.activation_reduce(nl.exp, masked, bias=peak, reduce_op=nl.add, reduce_res=total, dtype=nl.bfloat16)
    values = nl.zeros((128, head_dim), dtype=nl.float32, buffer=nl.psum)
    for b in nl.affine_range(seq // 128):
        part = nl.ds(b * 128, 128)
        turned = nl.copy(nisa.nc_transpose(weights[:, part]))
        values += nl.matmul(turned, nl.load(v[kv_head, part, :]), transpose_x=True)
    result = nl.multiply(values, nl.reciprocal(total), dtype=nl.bfloat16)
    for c in nl.affine_range(chunks):
        nl.store(out[head, nl.ds(c * 128, 128), rows], nisa.nc_transpose(result[:, nl.ds(c * 128, 128)]))


@nki.jit
def flash_fwd_large_d(q, k, v, softmax_scale=1.0, output=None, use_causal_mask=True, sliding_window=0):
    """Preallocated output [BH, d, S] as an argument."""
    for head in nl.affine_range(q.shape[0]):
        for tile in nl.affine_range(q.shape[2] // 128):
            attend(output, q, k, v, head, head, tile, sliding_window)


@nki.jit
def without_window(q, k, v, softmax_scale=1.0, output=None, use_causal_mask=True, sliding_window=0):
    """The same, wrong: the window is ignored."""
    for head in nl.affine_range(q.shape[0]):
        for tile in nl.affine_range(q.shape[2] // 128):
            attend(output, q, k, v, head, head, tile, 0)


@nki.jit
def reads_scores_from_psum(q, k, v, scale=1.0, use_causal_mask=True, sliding_window=0):
    """One program a key head, q [BH, S, d] in and [BH, d, S] out; breaks the rules that its convention relaxes."""
    heads, seq, head_dim = q.shape
    out = nl.ndarray((heads, head_dim, seq), dtype=q.dtype, buffer=nl.shared_hbm)
    group, kv_head = heads // k.shape[0], nl.program_id(0)
    for h in nl.affine_range(group):
        for tile in nl.affine_range(seq // 128):
            if not tile < 0 or False:
                turned = nl.copy(nisa.nc_transpose(nl.load(q[kv_head * group + h, nl.ds(tile * 128, 128), 0:128])))
                scores = nl.matmul(
                    turned, nl.copy(nisa.nc_transpose(nl.load(k[kv_head, 0:128, 0:128]))), transpose_x=True
                )
                i, j = nl.mgrid[0:128, 0:128]
                masked = nisa.affine_select(i >= j, scores, -9984.0)
                peak = nisa.tensor_reduce(nl.max, masked, axis=1, negate=True)
                total = nl.ndarray((128, 1), dtype=nl.float32)
                weights = nisa.activation_reduce(
                    nl.exp, masked, bias=peak, reduce_op=nl.add, reduce_res=total, dtype=nl.bfloat16
                )
                values = nl.matmul(
                    nl.copy(nisa.nc_transpose(weights)), nl.load(v[kv_head, 0:128, :]), transpose_x=True
                )
                result = nl.multiply(values, nl.reciprocal(total), dtype=nl.bfloat16)
                nl.store(out[kv_head * group + h, :, nl.ds(tile * 128, 128)], nisa.nc_transpose(result))
    return out


@nki.jit
def too_many_partitions(q, k, v, softmax_scale=1.0, output=None, use_causal_mask=True, sliding_window=0):
    """Breaks a rule: 256 partitions."""
    nl.store(output[0], nl.load(q[0]))


@nki.jit
def wants_other_shapes(q, k, v, softmax_scale=1.0, output=None, use_causal_mask=True, sliding_window=0):
    """Refuses its inputs as published kernels do."""
    assert q.shape[2] % 2048 == 0, f"seqlen {q.shape[2]} must be divisible by 2048"
