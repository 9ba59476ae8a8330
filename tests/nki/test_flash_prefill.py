# SPDX-License-Identifier: Apache-2.0
"""The prefill kernel on the NKI simulator: against the formula in fp64, and against its torch twin."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from attention_reference import PrefillCase, assert_as_near_as_torch, error, exact_prefill, torch_bf16_prefill

from optimum_gemma4.nki import flash_prefill_torch
from optimum_gemma4.nki.flash_prefill import flash_prefill
from optimum_gemma4.nki.tiles import prefill_bounds, prefill_tile
from optimum_gemma4.simulator.nki_report import core_grid, nki_profile


CASES = [
    PrefillCase(queries=1),
    PrefillCase(queries=127, window=128, heads=2),
    PrefillCase(queries=128, head_dim=256, heads=2, kv_heads=2),
    PrefillCase(queries=129, head_dim=512, heads=8),
    PrefillCase(queries=1023, window=1024, heads=2),
    PrefillCase(queries=1024, window=128, head_dim=256),
    PrefillCase(queries=1025, head_dim=512),
    PrefillCase(queries=1300, window=1024, head_dim=256, heads=2),
    PrefillCase(queries=640, window=100, heads=2),
    PrefillCase(queries=700, window=128, head_dim=256, images=((5, 100), (101, 380))),
    PrefillCase(queries=400, images=((0, 299), (310, 399)), head_dim=512, heads=2),
    PrefillCase(queries=300, offset=1000, window=128, extra_keys=40),
    PrefillCase(queries=200, offset=333, extra_keys=1, head_dim=512),
    PrefillCase(queries=256, padding=100, batch=2, window=128, head_dim=256),
    PrefillCase(queries=300, padding=299, batch=2, kv_heads=2, heads=4),
    PrefillCase(queries=300, magnitude=1e4, window=128, padding=20),
    PrefillCase(queries=200, scale=0.0625, magnitude=16, images=((10, 90),), window=128),
    PrefillCase(queries=150, scale=8.0, padding=30),
    PrefillCase(queries=600, window=128, magnitude=0.25, head_dim=256),
]
# Longer than what stays in SBUF: keys in passes, softmax carried from pass to pass.
STREAMED = [
    PrefillCase(queries=130, offset=4300, head_dim=512, heads=2),
    PrefillCase(queries=200, offset=4250, head_dim=512, padding=40, images=((4260, 4330),), extra_keys=70),
    PrefillCase(queries=128, offset=9000, window=5000, scale=4.0),
]


def run(case: PrefillCase, q, k, v, target: str = "trn2", lnc: int = 1) -> torch.Tensor:
    end = case.end() if case.needs_end() else None
    kernel = flash_prefill[core_grid(lnc)] if lnc > 1 else flash_prefill
    with nki_profile(target):
        return kernel(q, k, v, end, case.window, case.scale, case.offset, case.max_lookahead)


def check(case: PrefillCase, target: str = "trn2", lnc: int = 1) -> None:
    """As near to fp64 as it must be, and the same as the twin up to the order of fp32 sums."""
    q, k, v = case.inputs()
    output = run(case, q, k, v, target, lnc)
    exact, rows = exact_prefill(case, q, k, v), case.rows()
    assert_as_near_as_torch(output[:, :, rows], exact, torch_bf16_prefill(case, q, k, v))
    if case.padding:
        assert (output[0, :, case.queries - case.padding :] == 0).all()
    if case.queries > 8192:
        return
    end = case.end() if case.needs_end() else None
    twin = flash_prefill_torch.flash_prefill(q, k, v, end, case.window, case.scale, case.offset, case.max_lookahead)
    # A weight or a result may be rounded to the other side, and passes round weights relative to another peak.
    torch.testing.assert_close(output, twin, atol=2**-6, rtol=2**-7)
    assert error(output[:, :, rows], twin[:, :, rows].double()) <= error(exact.bfloat16(), exact)


@pytest.mark.parametrize("case", CASES + STREAMED, ids=str)
def test_equals_the_formula_and_the_twin(case):
    check(case)


@pytest.mark.parametrize("case", [CASES[3], CASES[8], CASES[9], CASES[11], CASES[13], CASES[15], STREAMED[1]], ids=str)
def test_neuroncore_v2_masks_by_the_pe(case):
    check(case, "trn1")


@pytest.mark.parametrize(
    "case",
    [
        PrefillCase(queries=200, heads=4, kv_heads=2, window=128, padding=11),
        PrefillCase(queries=200, heads=4, kv_heads=1, images=((4, 77),)),
        PrefillCase(queries=768, heads=1, window=128, images=((100, 300),), padding=200, batch=2),
        PrefillCase(queries=256, heads=1, head_dim=512, offset=4200),
    ],
    ids=["key heads", "query heads", "tiles", "tiles of a streamed group"],
)
def test_two_cores_share(case):
    check(case, lnc=2)


@pytest.mark.parametrize("magnitude", [1e6, 3e7, 1e9, 1e12])
@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_no_logit_overflows_the_weights(magnitude, scale):
    """Beyond 1e7 the exponent of the largest score is rounded by more than fp16's limit leaves room for."""
    case = PrefillCase(queries=130, magnitude=magnitude, scale=scale, head_dim=256)
    output = run(case, *case.inputs())
    assert torch.isfinite(output).all() and output.abs().amax() < 6


def test_weights_in_bf16_are_as_near_as_torchs_fused_attention(monkeypatch):
    """Where a compiler would not multiply fp16 by bf16: the one constant, and what it costs."""
    monkeypatch.setattr(prefill_tile.compat, "WEIGHTS", prefill_tile.compat.nl.bfloat16)
    case = PrefillCase(queries=520, magnitude=0.25)
    q, k, v = case.inputs()
    exact, (_, fused, _) = exact_prefill(case, q, k, v), torch_bf16_prefill(case, q, k, v)
    ours = error(run(case, q, k, v), exact)
    assert 1.1 * error(exact.bfloat16(), exact) < ours <= 1.03 * error(fused, exact)


def test_an_end_at_every_position_changes_nothing():
    case = PrefillCase(queries=300, window=128, head_dim=256)
    q, k, v = case.inputs()
    causal = flash_prefill(q, k, v, None, 128)
    assert torch.equal(causal, flash_prefill(q, k, v, case.end(), 128))
    assert torch.equal(causal, flash_prefill(q, k, v, case.end(), 128, 1.0, 0, 200))


BROKEN = {
    "window one too wide": lambda case: dataclasses.replace(case, window=case.window + 1),
    "window one too narrow": lambda case: dataclasses.replace(case, window=case.window - 1),
    "end ignored": lambda case: dataclasses.replace(case, images=()),
    "image one too short": lambda case: dataclasses.replace(case, images=((30, 94),)),
    "padding ignored": lambda case: dataclasses.replace(case, padding=0),
    "scale ignored": lambda case: dataclasses.replace(case, scale=1.0),
}


@pytest.mark.parametrize("name", BROKEN)
def test_the_bounds_see_a_wrong_call(name):
    """What a kernel with this mistake would return is not near enough."""
    case = PrefillCase(queries=200, window=64, images=((30, 95),), padding=9, scale=0.5)
    q, k, v = case.inputs()
    output = run(BROKEN[name](case), q, k, v)
    with pytest.raises(AssertionError):
        assert_as_near_as_torch(output, exact_prefill(case, q, k, v), torch_bf16_prefill(case, q, k, v))


def _no_select(dst, src, peak, upper, lower, start):
    prefill_tile.compat.copy_with_peak(dst, src, peak)


def _late_lower(lower, row, window):
    prefill_bounds.compat.with_scalars(lower, row, np.subtract, float(window) - 1)


@pytest.mark.parametrize(
    ("module", "name", "replacement"),
    [
        (prefill_tile.compat, "select_with_peak", _no_select),
        (prefill_bounds, "CAP", -1e29),
        (prefill_tile, "masked_blocks", lambda banks: 0),
        ("flash_prefill", "lower_bound", _late_lower),
    ],
    ids=["no mask", "wrong cap", "wrong mask tile", "window edge off by one"],
)
def test_the_bounds_see_a_broken_kernel(monkeypatch, module, name, replacement):
    if module == "flash_prefill":
        import importlib

        module = importlib.import_module("optimum_gemma4.nki.flash_prefill")
    monkeypatch.setattr(module, name, replacement)
    with pytest.raises(AssertionError):
        check(PrefillCase(queries=700, window=600, padding=9), "trn1" if name == "masked_blocks" else "trn2")


@pytest.mark.parametrize("head_dim", [64, 192])
def test_refuses_other_head_dims(head_dim):
    q = torch.zeros(1, 1, head_dim, 8, dtype=torch.bfloat16)
    with pytest.raises(ValueError, match=f"head dim {head_dim}"):
        flash_prefill(q, q, q.mT.contiguous())


SWEEP = [
    PrefillCase(head_dim, heads, 1, queries, window)
    for head_dim, heads, queries, window in itertools.product(
        (128, 256, 512), (1, 2, 8), (1, 127, 128, 129, 1023, 1024, 1025), (0, 128, 1024)
    )
]
LONG = [
    PrefillCase(256, 2, 1, 8192, 1024),
    PrefillCase(512, 1, 1, 8192, 0),
    PrefillCase(128, 1, 1, 5000, 128, images=((700, 1800), (3000, 3279)), padding=100),
    PrefillCase(256, 2, 1, 4097, 1024, images=((100, 1219),)),
]
# 32,768 keys: whole prompts, keys streamed and not, and chunks against a cache.
LONGEST = [
    PrefillCase(256, 1, 1, 32768, 1024),
    PrefillCase(256, 2, 1, 200, 1024, offset=32568, padding=20, images=((32600, 32700),)),
    PrefillCase(128, 1, 1, 32768),
    PrefillCase(512, 1, 1, 32768),
    PrefillCase(512, 2, 1, 130, offset=32638),
    PrefillCase(512, 1, 1, 640, offset=32000, extra_keys=128, padding=10),
]


@pytest.mark.slow
@pytest.mark.parametrize("case", SWEEP + LONG + LONGEST, ids=str)
def test_sweep(case):
    check(case)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_random_problems(seed):
    """Random shapes, images, offsets and padding, on either generation and one or two cores."""
    draw = np.random.default_rng(seed)
    queries, offset = int(draw.integers(1, 1300)), int(draw.choice([0, draw.integers(1, 1500)]))
    images, start = [], offset
    while draw.random() < 0.6:
        first = start + int(draw.integers(0, 200))
        last = first + int(draw.integers(0, 400))
        if last >= offset + queries:
            break
        images.append((first, last))
        start = last + 1
    kv_heads = int(draw.choice([1, 2]))
    case = PrefillCase(
        head_dim=int(draw.choice([128, 256, 512])), heads=kv_heads * int(draw.choice([1, 2])), kv_heads=kv_heads,
        queries=queries, window=int(draw.choice([0, 128, 1024, draw.integers(1, 1200)])), offset=offset,
        extra_keys=int(draw.choice([0, draw.integers(0, 200)])), images=tuple(images),
        padding=int(draw.choice([0, draw.integers(0, queries + offset + 1 - start)])),
        batch=int(draw.choice([1, 2])), magnitude=float(draw.choice([1, 100])),
    )  # fmt: skip
    target = str(draw.choice(["trn1", "trn2"]))
    lnc = int(draw.choice([1, 2])) if target == "trn2" and (case.heads > 1 or queries % 256 == 0) else 1
    check(case, target, lnc)
