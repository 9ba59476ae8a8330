# SPDX-License-Identifier: Apache-2.0
"""Values of simulated NKI instructions: rounding, promotion, activation and arithmetic against numpy and torch."""

import neuronxcc.nki.isa as nisa
import neuronxcc.nki.language as nl
import numpy as np
import pytest
import torch
from neuronxcc.nki._machine import dtypes
from nki_runs import run


RNG = np.random.default_rng(0)
F32, BF16 = nl.float32, nl.bfloat16


def normal(*shape):
    return RNG.standard_normal(shape, dtype=np.float32)


@pytest.mark.parametrize("dtype", [dtypes.BFLOAT16, dtypes.FLOAT16, dtypes.FLOAT8_E4M3, dtypes.FLOAT8_E5M2])
def test_rounding_is_that_of_ml_dtypes(dtype):
    values = np.concatenate([normal(5000) * 10.0**e for e in (-6, -2, 0, 2, 4)]).astype(np.float32)
    values = np.concatenate([values, np.float32([0, -0.0, np.inf, -np.inf, 1.00390625, 1.01171875, 3.3895e38])])
    with np.errstate(over="ignore"):
        expected = values.astype(dtype).astype(np.float32)
        np.testing.assert_array_equal(dtypes.rounded(values, dtype), expected)
        assert np.isnan(dtypes.rounded(np.float32([np.nan]), dtype)).all()


def test_tfloat32_keeps_ten_mantissa_bits():
    assert dtypes.rounded(np.float32([1 + 2**-10, 1 + 2**-12]), dtypes.TFLOAT32).tolist() == [1 + 2**-10, 1.0]


def test_float_to_integer_rounds_to_even_and_saturates():
    rounded = dtypes.rounded(np.float32([0.5, 1.5, -300, 300]), np.dtype(np.int8))
    assert rounded.tolist() == [0, 2, -128, 127]


@pytest.mark.parametrize(
    "first, second, result",
    [
        (np.int32, np.float16, np.float16),
        (np.float32, nl.bfloat16, np.float32),
        (np.float16, nl.bfloat16, np.float32),
        (nl.float8_e4m3, nl.bfloat16, nl.bfloat16),
        (nl.float8_e4m3, nl.float8_e5m2, nl.bfloat16),
        (np.int8, np.uint8, np.int16),
        (np.int8, np.uint16, np.int32),
        (np.int32, np.uint32, np.float32),
        (np.uint16, nl.tfloat32, nl.tfloat32),
    ],
)
def test_promotion_table(first, second, result):
    first, second = dtypes.canonical(first), dtypes.canonical(second)
    assert dtypes.promote(first, second) == dtypes.promote(second, first) == dtypes.canonical(result)


def test_weak_scalars_widen_but_isa_keeps_the_input_type():
    seen = {}

    def kernel(x, out):
        tile = nl.load(x)
        seen["nl"] = (tile * 1.0).dtype
        seen["typed"] = nl.multiply(tile, 1.0, dtype=BF16).dtype
        seen["isa"] = nisa.tensor_scalar(tile, np.multiply, 1.0).dtype
        nl.store(out, tile)

    run(kernel, torch.ones(128, 8).bfloat16(), torch.zeros(128, 8).bfloat16())
    assert seen == {"nl": dtypes.FLOAT32, "typed": BF16, "isa": BF16}


UNARY = {
    "exp": np.exp, "square": np.square, "tanh": np.tanh, "abs": np.abs, "sign": np.sign,
    "relu": lambda x: np.maximum(x, 0), "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "silu": lambda x: x / (1 + np.exp(-x)), "gelu_apprx_tanh": lambda x: torch.nn.functional.gelu(
        torch.from_numpy(x), approximate="tanh").numpy(), "gelu": lambda x: torch.nn.functional.gelu(
        torch.from_numpy(x)).numpy(), "softplus": lambda x: np.log1p(np.exp(x)), "erf": lambda x: torch.erf(
        torch.from_numpy(x)).numpy(),
}  # fmt: skip


@pytest.mark.parametrize("name", UNARY)
def test_activation_functions(name):
    def kernel(x, out):
        nl.store(out, getattr(nl, name)(nl.load(x)))

    x = normal(128, 64)
    np.testing.assert_allclose(run(kernel, x, np.zeros_like(x)), UNARY[name](x), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("vector_scale", [False, True])
def test_activation_scales_then_adds_the_bias(vector_scale):
    def kernel(x, bias, scale, out):
        factor = nl.load(scale) if vector_scale else -0.5
        nl.store(out, nisa.activation(nl.exp, nl.load(x), bias=nl.load(bias), scale=factor))

    x, bias, scale = normal(128, 16), normal(128, 1), normal(128, 1)
    expected = np.exp(x * (scale if vector_scale else np.float32(-0.5)) + bias)
    np.testing.assert_allclose(run(kernel, x, bias, scale, np.zeros_like(x)), expected, rtol=1e-6)


def test_affine_iterations_may_write_interleaved_columns():
    def kernel(x, out):
        tile = nl.ndarray((128, 16), dtype=F32)
        for i in nl.affine_range(2):
            tile[:, i:16:2] = nl.load(x[:, i:16:2])
        nl.store(out, tile)

    x = normal(128, 16)
    np.testing.assert_array_equal(run(kernel, x, np.zeros_like(x)), x)


BINARY = ("add", "subtract", "multiply", "divide", "maximum", "minimum")


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("other", [(128, 64), (128, 1), (1, 64), None], ids=str)
def test_binary_functions_broadcast(name, other):
    y = normal(*other) if other else np.float32(2.5)

    def kernel(x, y_or_out, out=None):
        right = nl.load(y_or_out) if out is not None else 2.5
        nl.store(out if out is not None else y_or_out, getattr(nl, name)(nl.load(x), right))

    x = normal(128, 64)
    arrays = (x, y, np.zeros_like(x)) if other else (x, np.zeros_like(x))
    np.testing.assert_allclose(run(kernel, *arrays), getattr(np, name)(x, y), rtol=1e-6)


def test_reversed_scalars_and_two_operators():
    def kernel(x, out):
        tile = nl.load(x)
        nl.store(out, (1.0 - nisa.tensor_scalar(tile, np.multiply, 2.0, op1=np.subtract, operand1=3.0, reverse1=True)))

    x = normal(128, 16)
    np.testing.assert_allclose(run(kernel, x, np.zeros_like(x)), 1 - (3 - 2 * x), rtol=1e-5, atol=1e-6)
