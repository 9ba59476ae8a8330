# SPDX-License-Identifier: Apache-2.0
"""The functions that the model calls: the compiler-native form, the kernel or its twin, and the table that decides."""

import contextlib
import json
import subprocess
import sys

import pytest
import torch
from attention_reference import PrefillCase, error, exact_prefill
from test_decode_attention import DecodeCase, reference

from optimum_gemma4.nki import (
    DISPATCH,
    Call,
    cached_attention,
    choose,
    decode_attention_torch,
    decode_fits,
    dispatch_record,
    entry_points,
    flash_prefill_torch,
    prefill_attention,
)
from optimum_gemma4.nki.decode_attention import decode_attention
from optimum_gemma4.nki.native_attention import native_cached, native_prefill
from optimum_gemma4.simulator.nki_report import nki_profile


@pytest.fixture
def on_device(monkeypatch):
    """Take CPU tensors for those of a device, so that the call goes to the kernel, and report its launches."""
    monkeypatch.setattr(entry_points, "_on_neuron", lambda tensor: True)
    with nki_profile("trn2") as report:
        yield report


@pytest.mark.parametrize("kernel", [True, False])
@pytest.mark.parametrize(("lnc", "cores"), [(1, 1), (2, 2)])
def test_prefill(on_device, kernel, lnc, cores):
    case = PrefillCase(queries=200, heads=2, window=128, images=((5, 90),), padding=3)
    q, k, v = case.inputs()
    output = prefill_attention(
        q, k, v, case.end().long(), window=128, scale=1.0, max_lookahead=85, kernel=kernel, lnc=lnc
    )
    if not kernel:
        assert torch.equal(output, native_prefill(q, k, v, case.end(), window=128, max_lookahead=85))
        assert not on_device.launches
        return
    assert error(output, exact_prefill(case, q, k, v)) < 2e-3
    assert len(on_device.launches) == 1 and len(on_device.cores()) == cores


def test_prefill_that_two_cores_cannot_share_runs_on_one(on_device):
    case = PrefillCase(queries=200)
    q, k, v = case.inputs()
    output = prefill_attention(q, k, v, None, window=0, scale=1.0, lnc=2)
    assert error(output, exact_prefill(case, q, k, v)) < 2e-3
    assert len(on_device.cores()) == 1


@pytest.mark.parametrize("kernel", [True, False])
@pytest.mark.parametrize(
    ("case", "cores"),
    [
        (DecodeCase(slots=200, heads=4, kv_heads=2, window=50), 2),
        (DecodeCase(512, 8, 1, 256, rotated=128), 2),
        (DecodeCase(slots=201), 1),
    ],
    ids=["heads", "slots in two parts", "odd slots"],
)
def test_cached(on_device, kernel, case, cores):
    inputs = case.inputs()
    output = cached_attention(
        inputs["q"], inputs["k"], inputs["v"], inputs["age"].long(), q_rot=inputs.get("q_rot"),
        window=case.window, scale=case.scale, kernel=kernel, lnc=2,
    )  # fmt: skip
    assert output.dtype == torch.bfloat16
    if not kernel:
        assert torch.equal(output, native_cached(**inputs, **case.options()))
        assert not on_device.launches
        return
    assert error(output, reference(case, inputs, torch.float64)) < 2e-3
    assert len(on_device.launches) == 1 and len(on_device.cores()) == cores


def test_off_the_device_the_twin_runs():
    prefill, decode = PrefillCase(queries=20).inputs(), DecodeCase(512, 8, 1, 256, rotated=128)
    inputs = decode.inputs()
    with nki_profile() as report:
        first = prefill_attention(*prefill, None, window=0, scale=1.0, kernel=True, lnc=2)
        second = cached_attention(**inputs, **decode.options(), kernel=True, lnc=2)
    assert not report.launches
    assert torch.equal(first, flash_prefill_torch.flash_prefill(*prefill))
    assert torch.equal(second, decode_attention_torch.decode_attention(**inputs))


def test_fp32_inputs_keep_their_dtype(on_device):
    """Off bf16 the kernel's inputs are cast and its result is cast back; the graph around it does not change."""
    q, k, v = (tensor.float() for tensor in PrefillCase(queries=20).inputs())
    assert prefill_attention(q, k, v, None, window=0, scale=1.0).dtype == torch.float32
    assert on_device.launches


def test_kernels_are_imported_when_they_are_called():
    """The package and its twins do not need `neuronxcc.nki`, whose only door is `compat`."""
    code = (
        "import sys, optimum_gemma4.nki, optimum_gemma4.nki.flash_prefill_torch\n"
        "import optimum_gemma4.nki.decode_attention_torch\n"
        "assert 'optimum_gemma4.nki.compat' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("call", "runs"),
    [
        (("prefill", 256, 4096, 1, "trn2"), "nki"),
        (("prefill", 512, 1024, 2, "trn2"), "nki"),
        (("prefill", 512, 1023, 2, "trn2"), "compiler"),
        (("prefill", 72, 4096, 1, "trn2"), "compiler"),
        (("prefill", 256, 4096, 1, "inf2"), "nki"),
        (("prefill", 256, 4096, 2, "inf2"), "compiler"),
        (("prefill", 256, 4096, 1, "trn3"), "compiler"),
        (("decode", 256, 1024, 2, "trn2"), "nki"),
        (("decode", 512, 262144, 2, "trn2"), "compiler"),
        (("decode", 32, 1024, 1, "trn2"), "compiler"),
    ],
)
def test_the_table_decides(call, runs):
    assert choose(*call).choice == runs


@pytest.mark.parametrize(
    ("head_dim", "rotated", "heads", "kv_heads"),
    [
        (128, 0, 32, 1),
        (128, 0, 33, 1),
        (128, 0, 128, 8),
        (128, 0, 136, 8),
        (256, 64, 4, 2),
        (256, 128, 4, 2),
        (512, 0, 8, 1),
        (512, 64, 8, 1),
        (512, 128, 8, 1),
        (512, 192, 8, 1),
    ],
)
def test_the_table_knows_what_the_decode_kernel_takes(head_dim, rotated, heads, kv_heads):
    case = DecodeCase(head_dim, heads, kv_heads, slots=128, rotated=rotated)
    fits = decode_fits(head_dim, rotated, heads, heads // kv_heads)
    assert choose("decode", head_dim, 1024, fits=fits).choice == ("nki" if fits else "compiler")
    with contextlib.nullcontext() if fits else pytest.raises(ValueError, match="run this layer without kernels"):
        decode_attention(**case.inputs(), **case.options())


def test_every_row_of_the_table_can_decide():
    reached = {
        id(choose(phase, head_dim, length, lnc, platform, fits))
        for phase in ("prefill", "decode")
        for head_dim in (64, 256)
        for length in (1, 2048, 200000)
        for lnc in (1, 2)
        for platform in ("trn1", "trn2")
        for fits in (True, False)
    }
    assert reached == {id(rule) for rule in DISPATCH}


def test_unknown_phase_is_refused():
    with pytest.raises(ValueError, match="'chunk'"):
        choose("chunk", 256, 1024)


def test_record_gathers_the_layers_of_a_call_and_is_json():
    calls = [
        Call("a", 0, "prefill", 256, 2048),
        Call("a", 1, "prefill", 512, 2048),
        Call("a", 2, "prefill", 256, 2048),
    ]
    calls += [Call("b", 0, "prefill", 256, 2048), Call("b", 1, "decode", 32, 2048)]
    record = dispatch_record(calls, 1, "trn2")
    assert json.loads(json.dumps(record)) == record
    assert [(entry["graph"], entry["head_dim"], entry["layers"], entry["runs"]) for entry in record] == [
        ("a", 256, [0, 2], "nki"),
        ("a", 512, [1], "nki"),
        ("b", 256, [0], "nki"),
        ("b", 32, [1], "compiler"),
    ]
    off = dispatch_record(calls, 1, "trn2", off="because")
    assert all((entry["runs"], entry["reason"]) == ("compiler", "because") for entry in off)
