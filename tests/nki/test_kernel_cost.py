# SPDX-License-Identifier: Apache-2.0
"""Simulated cost of the kernels at the 31B's share of a rank (tp 4), by counts: PE cycles, DMA bytes, engine balance.

One key head with its query heads is run and scaled: the program of the others is the same.
"""

import functools

import pytest
import torch

from optimum_gemma4.nki.decode_attention import decode_attention
from optimum_gemma4.nki.flash_prefill import flash_prefill
from optimum_gemma4.simulator.nki_report import core_grid, nki_profile


MIB = 2**20
DMA_BYTES_PER_NS = {"trn1": 272, "trn2": 368}  # of one core, SDK 2.29 nki-dma-bandwidth-guide
SLIDING = (2, 1, 256, 1024)  # query heads, key heads, head dim, window: a fourth of a rank's
GLOBAL = (2, 1, 512, 0)  # a fourth of a rank's query heads


@functools.cache
def prefill(shape, queries: int = 4096, lookahead: int = 0, end: bool = False, lnc: int = 1, target: str = "trn2"):
    heads, kv_heads, head_dim, window = shape
    q = torch.zeros(1, heads, head_dim, queries, dtype=torch.bfloat16)
    k = torch.zeros(1, kv_heads, head_dim, queries, dtype=torch.bfloat16)
    limits = torch.arange(queries, dtype=torch.int32)[None] if end else None
    kernel = flash_prefill[core_grid(lnc)] if lnc > 1 else flash_prefill
    with nki_profile(target) as report:
        kernel(q, k, k.mT.contiguous(), limits, window, 1.0, 0, lookahead)
    return report.cores()


def engines_behind_pe(core, target: str = "trn2") -> None:
    busy = core.engine_ns(target)
    assert all(busy[engine] <= busy["pe"] for engine in ("vector", "scalar", "gpsimd")), busy
    assert sum(core.dma_bytes.values()) / DMA_BYTES_PER_NS[target] <= busy["pe"]


@pytest.mark.parametrize("end", [False, True], ids=["text", "with padding"])
@pytest.mark.parametrize("target", ["trn2", "trn1"])
def test_sliding_prefill(end, target):
    """At most 1.35 M PE cycles for the rank's 8 heads; on NeuronCore-v3 the floor itself, 1,290,240."""
    (core,) = prefill(SLIDING, end=end, target=target)
    assert 4 * core.cycles("pe") <= 1_350_000
    assert target == "trn1" or 4 * core.cycles("pe") == 1_032_192 + 258_048
    assert 4 * core.bytes_of("k", "v") == 16 * MIB
    assert core.bytes_of("q") == core.bytes_of("output0") == 4 * MIB
    engines_behind_pe(core, target)


def test_global_prefill():
    """At most 5.0 M PE cycles for the rank's 8 heads, and the floor itself; K and V are read once for all of them."""
    (core,) = prefill(GLOBAL, end=True)
    assert 4 * core.cycles("pe") == 4_325_376 + 540_672
    assert core.bytes_of("k", "v") == 8 * MIB
    engines_behind_pe(core)


def test_two_cores_halve_the_work():
    (one,) = prefill((2, 2, 256, 1024), 1024)
    for core in prefill((2, 2, 256, 1024), 1024, lnc=2):
        assert 2 * core.cycles("pe") == one.cycles("pe") and 2 * core.bytes_of("k", "v") == one.bytes_of("k", "v")


def test_images_cost_only_where_they_may_be():
    (text,), (images,) = prefill((1, 1, 256, 1024), 2048), prefill((1, 1, 256, 1024), 2048, 279, True)
    extra = images.cycles("pe") / text.cycles("pe")
    assert 1.2 < extra < 1.45, "the 280 keys ahead of every tile, and nothing else"


@pytest.mark.parametrize("lookahead", [279, 1119])
@pytest.mark.parametrize("target", ["trn2", "trn1"])
def test_masks_of_images_hide_behind_the_pe(lookahead, target):
    """Blocks that an image may reach are masked at run time: by Vector's own copy on v3, by the PE on v2."""
    (core,) = prefill((1, 1, 256, 1024), 2048, lookahead, True, target=target)
    engines_behind_pe(core, target)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [SLIDING, GLOBAL], ids=["sliding", "global, streamed"])
def test_engines_hide_behind_the_pe_at_8192(shape):
    (core,) = prefill(shape, 8192)
    engines_behind_pe(core)
    assert core.total_ns() <= 1.12 * core.engine_ns()["pe"]


@pytest.mark.parametrize(("shape", "ordered"), [(SLIDING, 1.25), (GLOBAL, 1.05)], ids=["sliding", "global"])
def test_a_tile_is_scored_while_the_one_before_is_weighed(shape, ordered):
    """Engines that keep the order of the program take little longer than those of a reordering compiler."""
    (core,) = prefill(shape, end=shape is GLOBAL)
    assert core.total_ns() <= 1.12 * core.engine_ns()["pe"]
    assert core.total_ns(reorder=False) <= ordered * core.total_ns()


@pytest.mark.parametrize(("window", "lookahead"), [(0, 0), (1024, 0), (1024, 279)], ids=["causal", "window", "images"])
def test_head_dim_128_is_bound_by_the_softmax(window, lookahead):
    """The PE's work shrinks with the head dim, a score's exponential and copies do not: both engines share them."""
    (core,) = prefill((1, 1, 128, window), 2048, lookahead, lookahead > 0)
    busy = core.engine_ns()
    assert busy["pe"] < busy["vector"] <= 1.4 * busy["pe"]
    assert abs(busy["vector"] - busy["scalar"]) <= 0.15 * busy["vector"]


def test_longer_than_sbuf_is_streamed_once_for_all_heads():
    """5120 keys at head dim 512: the first 4096 queries are resident, the others stream their keys in passes."""
    (core,) = prefill((2, 1, 512, 0), 5120)
    blocks = 40 * 41 // 2
    assert core.cycles("pe") == 2 * blocks * 128 * (4 + 4 + 1)
    assert core.bytes_of("k", "v") <= 3.1 * 5120 * 512 * 2 * 2
    engines_behind_pe(core)


@functools.cache
def decode(heads, kv_heads, head_dim, slots, rotated=0, window=0, batch=1, lnc=1, key_parts=1, target="trn2"):
    q = torch.zeros(batch, heads, head_dim, dtype=torch.bfloat16)
    k = torch.zeros(batch, kv_heads, slots, rotated or head_dim, dtype=torch.bfloat16)
    v = torch.zeros(batch, kv_heads, slots, head_dim, dtype=torch.bfloat16)
    q_rot = torch.zeros(batch, heads, rotated, dtype=torch.bfloat16) if rotated else None
    kernel = decode_attention[core_grid(lnc)] if lnc > 1 else decode_attention
    with nki_profile(target) as report:
        kernel(q, k, v, torch.zeros(batch, slots, dtype=torch.int32), q_rot, window, 1.0, key_parts)
    return report.cores()


def after_the_last_byte(core, target: str) -> float:
    """Longest chain of instructions that depend on the last read to arrive, ns: what no schedule can hide."""
    (timeline,) = core.timelines(target)
    instructions = core.traces[0].instructions
    reads = [i for i, one in enumerate(instructions) if one.dma and one.dma.direction == "read"]
    chain = {max(reads, key=lambda i: timeline.ends[i]): 0.0}
    for i, one in enumerate(instructions):
        before = [chain[j] for j in one.depends if j in chain]
        if before and i not in chain:
            chain[i] = max(before) + timeline.ends[i] - timeline.starts[i]
    return max(chain.values())


# Arguments, MiB of the cache, and ns by which the timeline may exceed latency + DMA + last chain, on 1, on 2 cores.
DECODE = {
    "sliding": ({"heads": 8, "kv_heads": 4, "head_dim": 256, "slots": 1024, "window": 1024}, 4, 200, 200),
    "global K = V": ({"heads": 8, "kv_heads": 1, "head_dim": 512, "slots": 4096, "rotated": 128}, 5, 1750, 2400),
    "global plain": ({"heads": 8, "kv_heads": 1, "head_dim": 512, "slots": 4096}, 8, 500, 1200),
}
FIRST_DMA_NS = {"trn2": 1300, "trn1": 2000}
SHARES = [
    (1, 1, "trn2"),
    (1, 1, "trn1"),
    (3, 1, "trn2"),
    (1, 2, "trn2"),
    pytest.param(16, 1, "trn2", marks=pytest.mark.slow),
    pytest.param(16, 2, "trn2", marks=pytest.mark.slow),
    pytest.param(16, 1, "trn1", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("batch", "lnc", "target"), SHARES)
@pytest.mark.parametrize("layer", DECODE)
def test_decode_is_hidden_behind_the_cache(layer, batch, lnc, target):
    """Bytes at most 1.05 x the cache, no engine busier than the DMA, the timeline as long as the DMA and its ends."""
    arguments, mib, on_one, on_two = DECODE[layer]
    key_parts = lnc if arguments["kv_heads"] % lnc and batch % lnc else 1
    for core in decode(**arguments, batch=batch, lnc=lnc, key_parts=key_parts, target=target):
        assert sum(core.dma_bytes.values()) <= 1.05 * mib * MIB * batch / lnc
        busy, dma = core.engine_ns(target), core.busy_ns("dma", target)
        assert all(busy[engine] <= dma for engine in ("pe", "vector", "scalar", "gpsimd")), busy
        hidden = FIRST_DMA_NS[target] + dma + after_the_last_byte(core, target)
        assert core.total_ns(target) <= hidden + (on_one if key_parts == 1 else on_two)
        # Engines that keep the order of the program lose little: the kernel does not count on a reordering compiler.
        assert core.total_ns(target, reorder=False) <= 1.06 * core.total_ns(target)
