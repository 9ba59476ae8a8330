# SPDX-License-Identifier: Apache-2.0
"""Attention as the compiler gets it: the formula, transformers' roundings, and no fp32 product in a bf16 graph."""

import pytest
import torch
from attention_reference import PrefillCase, error, exact_prefill, torch_bf16_prefill
from test_decode_attention import DecodeCase, reference, torch_bf16_decode
from test_flash_prefill_torch import CASES as PREFILL_CASES
from torch.fx.experimental.proxy_tensor import make_fx

from optimum_gemma4.nki.native_attention import native_cached, native_prefill


DECODE_CASES = [
    DecodeCase(slots=1, heads=1),
    DecodeCase(slots=300, heads=4, kv_heads=2, window=128, batch=3),
    DecodeCase(512, 8, 1, 256, rotated=128, batch=2),
    DecodeCase(512, 4, 2, 200, rotated=64, empty_rows=1, batch=2),
    DecodeCase(128, slots=256, window=100, magnitude=100.0),
    DecodeCase(256, slots=128, scale=0.0625, magnitude=16.0),
]


def prefill(case: PrefillCase, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    end = case.end() if case.needs_end() else None
    return native_prefill(q, k, v, end, case.window, case.scale, case.offset, case.max_lookahead)


def matmul_dtypes(function, *inputs) -> set[torch.dtype]:
    """Dtypes of what is multiplied by matrix units in the graph."""
    graph = make_fx(function)(*inputs).graph
    products = [node for node in graph.nodes if "mm" in str(node.target)]
    assert products
    return {argument.meta["val"].dtype for node in products for argument in node.all_input_nodes}


@pytest.mark.parametrize("case", PREFILL_CASES, ids=str)
def test_prefill_equals_the_formula(case):
    q, k, v = (tensor.double() for tensor in case.inputs())
    torch.testing.assert_close(prefill(case, q, k, v), exact_prefill(case, q, k, v), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("case", PREFILL_CASES, ids=str)
def test_bf16_prefill_is_as_near_as_eager_attention(case):
    q, k, v = case.inputs()
    exact = exact_prefill(case, q, k, v)
    eager = torch_bf16_prefill(case, q, k, v)[0]
    assert error(prefill(case, q, k, v), exact) <= 1.02 * error(eager, exact)


@pytest.mark.parametrize("case", DECODE_CASES, ids=str)
def test_decode_equals_the_formula(case):
    inputs = {name: t.double() if t.is_floating_point() else t for name, t in case.inputs().items()}
    found = native_cached(**inputs, **case.options())
    torch.testing.assert_close(found, reference(case, inputs, torch.float64), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("case", DECODE_CASES, ids=str)
def test_bf16_decode_is_as_near_as_eager_attention(case):
    """In the K = V form a score is the sum of two that were rounded: 1.2 x is what the whole model is allowed."""
    exact, ours, eager = 0.0, 0.0, 0.0
    for seed in range(4):
        inputs = case.inputs(seed)
        exact = reference(case, inputs, torch.float64)
        ours += error(native_cached(**inputs, **case.options()), exact) ** 2
        eager += error(torch_bf16_decode(case, inputs)[0], exact) ** 2
    assert ours**0.5 <= (1.2 if case.rotated else 1.02) * eager**0.5


def test_padding_rows_and_empty_caches_are_zero():
    case = PrefillCase(queries=300, padding=50, window=128)
    output = prefill(case, *case.inputs())
    assert (output[0, :, 250:] == 0).all() and (output[0, :, :250] != 0).all()
    case = DecodeCase(batch=2, empty_rows=1)
    output = native_cached(**case.inputs(), **case.options())
    assert (output[0] == 0).all() and (output[1] != 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_products_are_in_the_models_dtype(dtype):
    """fp32 products take four passes of the PE each, and a bf16 cache would be cast as a whole."""
    case = PrefillCase(queries=600, heads=2, window=128, head_dim=256)
    inputs = [tensor.to(dtype) for tensor in case.inputs()]
    assert matmul_dtypes(lambda *x: prefill(case, *x), *inputs) == {dtype}
    case = DecodeCase(512, 4, 2, 300, rotated=128)
    values = case.inputs()
    names = [name for name in values if name != "age"]
    tensors = [values[name].to(dtype) for name in names]
    assert matmul_dtypes(lambda *x: native_cached(**dict(zip(names, x)), age=values["age"]), *tensors) == {dtype}


def test_a_cache_is_read_in_its_own_dtype():
    """Nothing of a cache's size is cast."""
    case = DecodeCase(256, 2, 1, 4096)
    inputs = case.inputs()
    graph = make_fx(lambda q, k, v, age: native_cached(q, k, v, age))(*inputs.values()).graph
    casts = [node.meta["val"].numel() for node in graph.nodes if "_to_copy" in str(node.target)]
    assert casts and max(casts) <= 2 * 4096  # the scores
