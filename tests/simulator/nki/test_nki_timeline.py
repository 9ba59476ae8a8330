# SPDX-License-Identifier: Apache-2.0
"""Life of tiles and timelines of simulated NKI kernels: peaks, capacity, order, bank pressure, shared ports, DMA."""

import neuronxcc.nki.isa as nisa
import neuronxcc.nki.language as nl
import numpy as np
import pytest
from neuronxcc.nki._machine import errors
from neuronxcc.nki._machine.hardware import TRN1, TRN2
from neuronxcc.nki._profile.liveness import check_capacity, peak
from neuronxcc.nki._profile.reorder import reordered
from neuronxcc.nki._profile.schedule import schedule
from neuronxcc.nki._profile.trace import Allocation, Trace, Transfer
from nki_runs import profile, sbuf


F32, BF16 = nl.float32, nl.bfloat16


def test_tiles_of_a_loop_body_share_space():
    def kernel(x, out):
        kept = sbuf((128, 512))
        for i in nl.affine_range(8):
            tile = nl.load(x)
            nl.store(out[:, nl.ds(i * 64, 64)], nl.add(tile[:, 0:64], kept[:, 0:64]))

    core = profile(kernel).core
    assert core.peak_sbuf == 4 * (512 + 512 + 64), "one iteration's tiles and the tensor that outlives the loop"


def test_life_of_block_tiles_is_counted_by_block():
    def kernel(x, out):
        tiles = nl.ndarray((16, nl.par_dim(128), 512), dtype=F32, buffer=nl.psum)
        for i in nl.affine_range(16):
            tiles[i] = nisa.nc_matmul(sbuf((128, 128), BF16), sbuf((128, 512), BF16))
            nl.store(out[:, nl.ds(i * 32, 32)], nl.copy(tiles[i, :, 0:32]))

    assert profile(kernel).core.peak_psum == 1


def test_peak_and_capacity_name_the_largest_tensors():
    trace = Trace(allocations=[
        Allocation("a", "sbuf", 100 * 1024, 0, 5), Allocation("b", "sbuf", 90 * 1024, 5, 6),
        Allocation("c", "sbuf", 80 * 1024, 6, 7),
    ])  # fmt: skip
    assert peak(trace, "sbuf").size == 190 * 1024
    check_capacity(trace, TRN2, "kernel")
    with pytest.raises(errors.CapacityError, match=r"needs 194560 .* trn1 has 180224; largest: a 102400, b 92160"):
        check_capacity(trace, TRN1, "kernel")


def alternating(tiles, vector=96):
    """A trace of `tiles` independent (PE 240 cycles -> Vector -> PE 240 cycles) chains."""
    trace = Trace()
    for _ in range(tiles):
        first = trace.add("pe", "a", 240, set())
        second = trace.add("vector", "b", vector, {first})
        trace.add("pe", "c", 240, {second})
    return trace


def test_program_order_waits_and_reordering_overlaps():
    trace = alternating(10)
    # Each chain: 100 ns PE, 100 ns Vector, 100 ns PE; in order PE waits for Vector every time.
    in_order, scheduled = schedule(trace, TRN2), reordered(trace, TRN2)
    assert in_order.total == pytest.approx(3000)
    assert scheduled.total == pytest.approx(2000)
    assert in_order.busy == scheduled.busy
    for timeline in (in_order, scheduled):
        for i, instruction in enumerate(trace.instructions):
            assert all(timeline.ends[d] <= timeline.starts[i] + 1e-9 for d in instruction.depends)


@pytest.mark.parametrize("plan", [schedule, reordered])
def test_no_more_psum_banks_than_there_are(plan):
    # The Vector Engine is the slow one: nothing but the banks keeps PE from running far ahead.
    trace = alternating(40, vector=960)
    for i in range(40):
        trace.allocations.append(Allocation(f"t{i}", "psum", 2048, 3 * i, 3 * i + 2, [3 * i, 3 * i + 1, 3 * i + 2]))
    timeline = plan(trace, TRN2)
    marks = sorted(
        event
        for i in range(40)
        for event in ((timeline.starts[3 * i], 1), (max(timeline.ends[3 * i : 3 * i + 3]), -1))
    )
    held = np.cumsum([change for _, change in marks])
    assert held.max() <= 8
    assert held.max() > 1 or plan is schedule


def test_dma_arrives_after_its_latency_and_shares_bandwidth():
    trace = Trace()
    for _ in range(3):
        trace.add("dma", "load", 0, set(), dma=Transfer(368_000, 4096, "x", "read"))
    for plan in (schedule, reordered):
        timeline = plan(trace, TRN2)
        assert timeline.ends == pytest.approx([2300, 3300, 4300])


def test_vector_and_gpsimd_share_a_port_on_v2_only():
    trace = Trace()
    trace.add("vector", "a", 1120, set(), ("sbuf",))
    trace.add("gpsimd", "b", 1400, set(), ("sbuf",))
    for plan in (schedule, reordered):
        assert plan(trace, TRN1).total == pytest.approx(2000)
        assert plan(trace, TRN2).total == pytest.approx(max(1120 / 0.96, 1400 / 1.2))
