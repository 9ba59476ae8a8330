# SPDX-License-Identifier: Apache-2.0
"""Simulated NKI kernels as a whole: matmul, softmax, selection, masks, indexing, grids and calling conventions."""

import ml_dtypes
import neuronxcc.nki as nki
import neuronxcc.nki.isa as nisa
import neuronxcc.nki.language as nl
import neuronxcc.nki.typing as nt
import numpy as np
import pytest
import torch
from neuronxcc.nki.language import par_dim
from nki_runs import run


RNG = np.random.default_rng(0)
F32, BF16 = nl.float32, nl.bfloat16


def normal(*shape):
    return RNG.standard_normal(shape, dtype=np.float32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("transpose_x", [True, False])
def test_tiled_matmul(dtype, transpose_x):
    @nki.jit
    def matmul(a, b):
        k_size, n = b.shape
        m = a.shape[1] if transpose_x else a.shape[0]
        out = nl.ndarray((m, n), dtype=nl.float32, buffer=nl.shared_hbm)
        for i in nl.affine_range(m // 128):
            for j in nl.affine_range(n // 512):
                total = nl.zeros((128, 512), dtype=nl.float32, buffer=nl.psum)
                for k in nl.affine_range(k_size // 128):
                    ks, ms = nl.ds(k * 128, 128), nl.ds(i * 128, 128)
                    x = nl.load(a[ks, ms] if transpose_x else a[ms, ks])
                    total += nl.matmul(x, nl.load(b[ks, nl.ds(j * 512, 512)]), transpose_x=transpose_x)
                nl.store(out[nl.ds(i * 128, 128), nl.ds(j * 512, 512)], nl.copy(total))
        return out

    a, b = torch.from_numpy(normal(384, 256)).to(dtype), torch.from_numpy(normal(384, 1024)).to(dtype)
    out = matmul(a if transpose_x else a.T.contiguous(), b)
    torch.testing.assert_close(out, a.float().T @ b.float(), atol=2e-4, rtol=0)


def test_softmax_with_running_sum():
    @nki.jit
    def softmax(x):
        out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
        for i in range(x.shape[0] // 128):
            tile = nl.load(x[nl.ds(i * 128, 128), :])
            peak = nisa.tensor_reduce(np.max, tile, axis=(1,), dtype=F32, negate=True)
            total = nl.ndarray((128, 1), dtype=F32)
            powers = nisa.activation_reduce(np.exp, tile, bias=peak, reduce_op=np.add, reduce_res=total, dtype=F32)
            nl.store(out[nl.ds(i * 128, 128), :], nl.multiply(powers, nl.reciprocal(total), dtype=x.dtype))
        return out

    x = torch.from_numpy(normal(256, 700) * 5)
    torch.testing.assert_close(softmax(x), x.softmax(-1), atol=1e-6, rtol=1e-5)
    low = x.bfloat16()
    result = softmax(low)
    assert result.dtype == torch.bfloat16
    assert torch.equal(result, softmax(low.float()).bfloat16())


def test_affine_select_is_the_causal_mask():
    def kernel(x, out):
        i, j = nl.mgrid[0:128, 0:256]
        nl.store(out, nisa.affine_select(i + 64 >= j, nl.load(x), -7.0))

    x = normal(128, 256)
    keep = np.arange(128)[:, None] + 64 >= np.arange(256)
    np.testing.assert_array_equal(run(kernel, x, np.zeros_like(x)), np.where(keep, x, -7))


def test_range_select_and_its_chained_maximum():
    def kernel(x, bounds, peaks, out):
        low, high = nl.load(bounds[0:128, 0:1]), nl.load(bounds[0:128, 1:2])
        peak = nl.ndarray((128, 1), dtype=F32)
        for part in nl.static_range(2):
            command = nisa.reduce_cmd.reduce if part else nisa.reduce_cmd.reset_reduce
            tile = nisa.range_select(
                on_true_tile=nl.load(x[:, nl.ds(part * 64, 64)]), comp_op0=np.greater_equal, comp_op1=np.less,
                bound0=low, bound1=high, reduce_cmd=command, reduce_res=peak if part else None, range_start=part * 64,
            )  # fmt: skip
            nl.store(out[:, nl.ds(part * 64, 64)], tile)
        nl.store(peaks, peak)

    x = normal(128, 128)
    bounds = np.stack([np.arange(128) // 2, np.arange(128) // 2 + 20], 1).astype(np.float32)
    peaks, out = np.zeros((128, 1), np.float32), np.zeros_like(x)
    run(kernel, x, bounds, peaks, out)
    j = np.arange(128)
    expected = np.where((j >= bounds[:, :1]) & (j < bounds[:, 1:]), x, np.finfo(np.float32).min)
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(peaks, expected.max(1, keepdims=True))


def test_masked_edges_of_a_loop():
    @nki.jit
    def exp(x):
        rows, columns = x.shape
        out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
        j = nl.arange(columns)[None, :]
        for p in nl.affine_range((rows + 127) // 128):
            i = p * 128 + nl.arange(128)[:, None]
            tile = nl.load(x[i, j], mask=i < rows)
            nl.store(out[i, j], nl.exp(tile, mask=i < rows), mask=i < rows)
        return out

    x = normal(300, 40)
    np.testing.assert_allclose(exp(x), np.exp(x), rtol=1e-6)


def test_undefined_rows_stay_out_of_a_masked_store():
    def kernel(x, out):
        i, j = nl.arange(128)[:, None], nl.arange(16)[None, :]
        tile = nl.sqrt(nl.load(x[i, j], mask=i < 100))
        nl.store(out[i, j], tile + 1.0, mask=i < 100)

    x = np.abs(normal(100, 16))
    np.testing.assert_allclose(run(kernel, x, np.zeros_like(x)), np.sqrt(x) + 1, rtol=1e-6)


def test_vectors_load_and_store_one_element_a_partition():
    def kernel(x, out):
        for c in nl.affine_range(4):
            nl.store(out[:, c], nl.load(x[:, c]))

    x = normal(128, 4)
    np.testing.assert_array_equal(run(kernel, x, np.zeros_like(x)), x)


def test_matmul_of_a_transposed_tile_copies_it_out_of_psum():
    def kernel(x, out):
        nl.store(out, nl.matmul(nl.load(x), nl.transpose(nl.load(x)), transpose_x=True))

    x = normal(64, 64)
    np.testing.assert_allclose(run(kernel, x, np.zeros_like(x)), x.T @ x.T, rtol=1e-4, atol=1e-4)


def test_indexing_styles_agree():
    def kernel(x, out):
        tile = nl.load(x)
        blocks = nl.ndarray((2, par_dim(64), 32), dtype=F32)
        for b in nl.affine_range(2):
            blocks[b] = nl.copy(tile[0:64, nl.ds(b * 32, 32)])
        i, j = nl.arange(64)[:, None], nl.arange(32)[None, :]
        nl.store(out[:, 0:32], tile[i, 2 * j + 1])
        nl.store(out[:, 32:64], tile[:, 1:64:2])
        nl.store(out[:, 64:96], blocks[1, :, :])
        nl.store(out[:, 96:97], tile[:, 5])

    x = normal(64, 64)
    out = run(kernel, x, np.zeros((64, 97), np.float32))
    np.testing.assert_array_equal(out, np.concatenate([x[:, 1::2], x[:, 1::2], x[:, 32:], x[:, 5:6]], 1))


def test_indirect_load_and_store():
    def kernel(x, rows, out):
        index = nl.load(rows)
        i, j = nl.arange(64)[:, None], nl.arange(32)[None, :]
        nl.store(out[index[i, 0], j], nl.load(x[index[i, 0], j]))

    x, rows = normal(100, 32), RNG.permutation(100)[:64].astype(np.int32)[:, None]
    out = run(kernel, x, rows, np.zeros((100, 32), np.float32))
    np.testing.assert_array_equal(out[rows[:, 0]], x[rows[:, 0]])


@pytest.mark.parametrize("grid", [2, (2,), (nl.nc(2),), nl.nc(2)], ids=str)
def test_programs_of_a_grid_share_the_output(grid):
    def kernel(x, out):
        half = nl.ds(nl.program_id(0) * 64, 64)
        assert nl.num_programs(0) == 2 and nl.program_ndim() == 1
        nl.store(out[half, :], nl.load(x[half, :]))

    x = normal(128, 16)
    np.testing.assert_array_equal(run(kernel, x, np.zeros_like(x), grid=grid), x)


def test_if_statements_on_traced_indices_select_iterations():
    def kernel(x, out):
        for i in nl.affine_range(4):
            tile = nl.ndarray((32, 16), dtype=F32)
            if (i > 0) & (i < 3):
                tile[...] = nl.load(x[nl.ds(i * 32, 32), :])
            else:
                tile[...] = 0.0
            nl.store(out[nl.ds(i * 32, 32), :], tile)

    x = normal(128, 16)
    out = run(kernel, x, np.zeros_like(x))
    expected = x.copy()
    expected[:32] = expected[96:] = 0
    np.testing.assert_array_equal(out, expected)


def test_preallocated_output_argument_and_locations_it_leaves_out():
    def kernel(x, out):
        nl.store(out[0:64, :], nl.load(x[0:64, :]))

    x, out = torch.ones(128, 4).bfloat16(), torch.full((128, 4), 3.0).bfloat16()
    run(kernel, x, out)
    assert torch.equal(out[:64], x[:64]) and out[64:].isnan().all(), "what is not stored does not keep old values"


def test_mutable_parameter_is_updated_in_place():
    @nki.jit
    def increment(x: nt.mutable_tensor):
        nl.store(x, nl.load(x) + 1)
        return x

    x = np.zeros((128, 8), np.float32)
    assert increment(x) is x and (x == 1).all()


def test_transposing_an_infinity_spreads_on_v2_only():
    def kernel(x, out):
        nl.store(out, nl.copy(nisa.nc_transpose(nl.load(x), engine=nisa.tensor_engine)))

    x = normal(64, 64)
    x[3, 5] = np.inf
    np.testing.assert_array_equal(run(kernel, x, np.zeros_like(x)), x.T)
    assert np.isnan(run(kernel, x, np.zeros_like(x), target="trn1")).sum() == 63


def test_sub_kernels_are_inlined_and_simulate_kernel_takes_numpy():
    @nki.jit(mode="trace")
    def double(dst, src):
        dst[...] = nl.add(src, src)

    @nki.jit
    def kernel(x):
        out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
        tile = nl.ndarray(x.shape, dtype=x.dtype)
        double(tile, nl.load(x))
        nl.store(out, tile)
        return out

    x = normal(32, 8).astype(ml_dtypes.bfloat16)
    result = nki.simulate_kernel(kernel, x)
    assert result.dtype == x.dtype
    np.testing.assert_array_equal(result, x + x)
