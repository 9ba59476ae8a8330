# SPDX-License-Identifier: Apache-2.0
"""Costs of simulated kernels: documented formulas (SDK 2.26 nki.isa stubs), bytes, life of tiles and timelines."""

import neuronxcc.nki as nki
import neuronxcc.nki.isa as nisa
import neuronxcc.nki.language as nl
import numpy as np
import pytest
from neuronxcc.nki._machine.hardware import TRN2
from neuronxcc.nki._profile.schedule import dma_time
from neuronxcc.nki._profile.trace import Transfer
from nki_runs import profile, psum, sbuf

from optimum_gemma4.simulator.nki_report import core_grid, draw_timeline, nki_profile


F32, BF16 = nl.float32, nl.bfloat16


# (instruction, engine, cycles, cycles with v3's performance modes, instruction's call)
FORMULAS = [
    ("nc_matmul", "pe", 512, 512, lambda: nisa.nc_matmul(sbuf((128, 128), BF16), sbuf((128, 512), BF16))),
    ("nc_matmul", "pe", 64, 64, lambda: nisa.nc_matmul(sbuf((128, 128), BF16), sbuf((128, 8), BF16))),
    ("nc_matmul", "pe", 32, 32, lambda: nisa.nc_matmul(sbuf((128, 32), BF16), sbuf((128, 8), BF16))),
    ("nc_matmul", "pe", 2048, 2048, lambda: nisa.nc_matmul(sbuf((128, 128)), sbuf((128, 512)))),
    ("nc_matmul", "pe", 1024, 1024, lambda: nisa.nc_matmul(
        sbuf((128, 128)), sbuf((128, 512)), is_stationary_onezero=True)),
    ("nc_transpose", "pe", 128, 128, lambda: nisa.nc_transpose(sbuf((128, 128), BF16))),
    ("nc_transpose", "pe", 64, 64, lambda: nisa.nc_transpose(sbuf((32, 128), BF16))),
    ("nc_transpose", "vector", 64, 64, lambda: nisa.nc_transpose(sbuf((32, 32)), engine=nisa.vector_engine)),
    ("activation", "scalar", 512, 512, lambda: nisa.activation(nl.exp, sbuf((128, 512)))),
    ("activation", "scalar", 64, 64, lambda: nisa.activation(nl.exp, sbuf((128, 8)))),
    ("activation_reduce", "scalar", 576, 576, lambda: nisa.activation_reduce(
        nl.exp, sbuf((128, 512)), reduce_op=nl.add, reduce_res=sbuf((128, 1)))),
    ("tensor_reduce", "vector", 512, 512, lambda: nisa.tensor_reduce(nl.max, sbuf((128, 512)), axis=1)),
    ("tensor_reduce", "vector", 256, 256, lambda: nisa.tensor_reduce(nl.max, sbuf((128, 512), BF16), axis=1)),
    ("tensor_scalar", "vector", 512, 512, lambda: nisa.tensor_scalar(sbuf((128, 512)), nl.add, 1.0)),
    ("tensor_scalar", "vector", 512, 128, lambda: nisa.tensor_scalar(sbuf((128, 512), BF16), nl.add, 1.0)),
    ("tensor_scalar", "gpsimd", 662, 662, lambda: nisa.tensor_scalar(sbuf((128, 512)), nl.rsqrt, 0.0)),
    ("tensor_scalar_reduce", "vector", 576, 576, lambda: nisa.tensor_scalar_reduce(
        data=sbuf((128, 512)), op0=nl.add, operand0=0.0, reduce_op=nl.max, reduce_res=sbuf((128, 1)))),
    ("tensor_tensor", "vector", 1024, 1024, lambda: nisa.tensor_tensor(sbuf((128, 512)), sbuf((128, 512)), nl.add)),
    ("tensor_tensor", "vector", 512, 512, lambda: nisa.tensor_tensor(sbuf((128, 512)), psum(512), nl.add)),
    ("tensor_tensor", "vector", 512, 512, lambda: nisa.tensor_tensor(
        sbuf((128, 512), BF16), sbuf((128, 512), BF16), nl.add)),
    ("tensor_tensor", "vector", 1024, 512, lambda: nisa.tensor_tensor(
        sbuf((128, 512), BF16), sbuf((128, 512), BF16), nl.maximum)),
    ("scalar_tensor_tensor", "vector", 1024, 1024, lambda: nisa.scalar_tensor_tensor(
        data=sbuf((128, 512)), op0=nl.add, operand0=1.0, op1=nl.add, operand1=sbuf((128, 512)))),
    ("scalar_tensor_tensor", "vector", 512, 512, lambda: nisa.scalar_tensor_tensor(
        data=sbuf((128, 512), BF16), op0=nl.subtract, operand0=1.0, op1=nl.multiply,
        operand1=sbuf((128, 512), BF16))),
    ("tensor_copy", "vector", 512, 512, lambda: nisa.tensor_copy(psum(512), dtype=BF16)),
    ("tensor_copy", "scalar", 512, 512, lambda: nisa.tensor_copy(psum(512), engine=nisa.scalar_engine)),
    ("affine_select", "gpsimd", 662, 662, lambda: nisa.affine_select(
        nl.arange(128)[:, None] >= nl.arange(512)[None, :], sbuf((128, 512)), 0.0)),
    ("iota", "gpsimd", 662, 662, lambda: nisa.iota(nl.arange(512)[None, :], nl.int32)),
    ("reciprocal", "vector", 4096, 4096, lambda: nisa.reciprocal(sbuf((128, 512)))),
    ("memset", "vector", 512, 512, lambda: nisa.memset((128, 512), 0, F32)),
    ("memset", "vector", 256, 256, lambda: nisa.memset((128, 512), 0, BF16)),
    ("max8", "vector", 512, 512, lambda: nisa.max8(src=sbuf((128, 512)))),
]  # fmt: skip


@pytest.mark.parametrize("name, engine, cycles, fast, call", FORMULAS, ids=lambda v: v if isinstance(v, str) else "")
def test_documented_cycles(name, engine, cycles, fast, call):
    def kernel(x, out):
        call()
        nl.store(out, nl.load(x))

    report = profile(kernel)
    found = [i for i in report.launches[0].programs[0][2].instructions if i.name == name][-1]
    assert (found.engine, found.cycles, found.fast_cycles) == (engine, cycles, fast)


def test_assignment_is_free_for_the_producing_engine_and_a_copy_otherwise():
    def kernel(x, out):
        tile, late = nl.ndarray((128, 512), dtype=BF16), nl.ndarray((128, 512), dtype=F32)
        tile[...] = nisa.activation(nl.exp, nl.load(x))
        late[...] = nisa.nc_matmul(sbuf((128, 128), BF16), tile)
        nl.store(out, late)

    core = profile(kernel).core
    assert core.count("tensor_copy") == 1, "PE cannot write SBUF: its result is copied, the activation's is not"
    assert core.count("activation") == 1


def test_psum_accumulation_costs_matmuls_alone():
    def kernel(x, out):
        total = nl.zeros((128, 512), dtype=F32, buffer=nl.psum)
        for i in nl.affine_range(4):
            total += nisa.nc_matmul(sbuf((128, 128), BF16), sbuf((128, 512), BF16))
        nl.store(out, total)

    core = profile(kernel).core
    assert core.counts["pe"] == {"nc_matmul": 4}
    assert core.counts["vector"] == {"memset": 8, "tensor_copy": 1}
    assert core.peak_psum == 1


def test_accumulation_in_sbuf_is_a_vector_instruction():
    def kernel(x, out):
        total = sbuf((128, 512))
        for i in nl.affine_range(3):
            total += nl.load(x)
        nl.store(out, total)

    assert profile(kernel).core.counts["vector"] == {"memset": 1, "tensor_tensor": 3}


def test_bytes_by_tensor_and_short_rows():
    def kernel(x, out):
        for i in nl.affine_range(8):
            nl.store(out[:, nl.ds(i * 64, 64)], nl.load(x[:, nl.ds(i * 64, 64)]))
        nl.load(x, dtype=BF16)

    core = profile(kernel, np.zeros((128, 512), np.float32), np.zeros((128, 512), np.float16)).core
    assert core.dma_bytes == {("x", "read"): 2 * 128 * 512 * 4, ("out", "write"): 128 * 512 * 2}
    assert core.bytes_of("x", "out") == 128 * 512 * 10
    # 64 float16 are 128 bytes a row, 64 float32 are 256.
    assert core.small_row_bytes == 128 * 512 * 2


def test_a_row_is_the_shorter_contiguous_run_of_both_sides():
    def kernel(x, out):
        tile = nl.ndarray((128, 4, 128), dtype=F32)
        nisa.dma_copy(dst=tile, src=x.reshape((128, 4, 128)))
        nl.store(out, tile[:, :, 0:128].reshape((128, 512)))

    rows = [i.dma.row_bytes for i in profile(kernel).launches[0].programs[0][2].instructions if i.dma]
    # Rows of x follow each other in HBM, but a partition's run is one row of 2 KiB.
    assert rows == [2048, 2048]


def test_short_rows_waste_bandwidth():
    full, short = Transfer(2**20, 2048, "x", "read"), Transfer(2**20, 128, "x", "read")
    assert dma_time(full, TRN2) == pytest.approx(2**20 / 368)
    assert dma_time(short, TRN2) == pytest.approx(4 * 2**20 / 368)


def test_cores_of_a_logical_core_are_reported_separately(tmp_path):
    def kernel(x, out):
        half = nl.ds(nl.program_id(0) * 64, 64)
        nl.store(out[half, :], nl.exp(nl.load(x[half, :])))

    report = profile(kernel, grid=core_grid(2))
    cores = report.cores()
    assert [c.core for c in cores] == [0, 1]
    assert all(c.bytes_of("x") == 64 * 512 * 4 for c in cores)
    serial = profile(kernel, grid=2).core
    assert serial.bytes_of("x") == 128 * 512 * 4 and serial.total_ns() == pytest.approx(2 * cores[0].total_ns())
    for name in ("t.svg", "t.png"):
        draw_timeline(report.core, tmp_path / name, title="exp <test>")
        assert (tmp_path / name).stat().st_size > 500
    assert "&lt;test>" in (tmp_path / "t.svg").read_text()
    with pytest.raises(ValueError, match="svg or .png"):
        draw_timeline(report.core, tmp_path / "t.gif")


def test_relaxed_rules_are_counted():
    def kernel(x, out):
        i, j = nl.mgrid[0:128, 0:128]
        nl.store(out[:, 0:128], nisa.affine_select(i >= j, psum(), 0.0))

    arrays = (np.zeros((128, 512), np.float32), np.zeros((128, 512), np.float32))
    with nki_profile("trn2", relaxed=("gpsimd_psum",)) as report:
        nki.trace(kernel)(*arrays)
    assert report.core.relaxed == {"gpsimd_psum": 1}
    assert report.core.count("tensor_copy") == 1, "the copy that the compiler would insert is paid for"
    with pytest.raises(ValueError, match="unknown relaxations"), nki_profile("trn2", relaxed=("everything",)):
        nki.trace(kernel)(*arrays)


def test_unwritten_parts_of_a_result_are_reported():
    @nki.jit
    def kernel(x):
        out = nl.ndarray((128, 512), dtype=F32, buffer=nl.shared_hbm)
        nl.store(out[:, 0:500], nl.load(x[:, 0:500]))
        return out

    with nki_profile("trn2") as report:
        result = kernel(np.zeros((128, 512), np.float32))
    assert np.isnan(result[:, 500:]).all()
    assert report.core.unwritten == {"output0": 128 * 12}


def test_report_without_a_launch():
    with nki_profile("trn2") as report:
        pass
    with pytest.raises(ValueError, match="no kernel was launched"):
        report.cores()
    with pytest.raises(ValueError, match="trn9"), nki_profile("trn9"):
        pass
