# SPDX-License-Identifier: Apache-2.0
"""Rotary embeddings: frequencies by an independent formula, rotation against transformers at the 31B's sizes."""

import numpy as np
import pytest
import torch
from text_models import ROPE_HEAD_DIMS, ROPE_POSITIONS, golden, rope_heads

from optimum_gemma4.modeling.geometry import RopeSpec
from optimum_gemma4.modeling.text.rope import (
    apply_rotary,
    inverse_frequencies,
    rotary_tables,
    rotated_dims,
    without_rotated_dims,
)


SPECS = {"sliding": RopeSpec(10_000.0, 256, 128), "global": RopeSpec(1_000_000.0, 512, 64)}


def turned(kind: str, dtype: torch.dtype) -> torch.Tensor:
    positions = torch.tensor([ROPE_POSITIONS], dtype=torch.int32)
    tables = rotary_tables(inverse_frequencies(SPECS[kind]).tolist(), positions, dtype)
    return apply_rotary(rope_heads(kind).to(dtype), *tables)


@pytest.mark.parametrize("kind", SPECS)
@pytest.mark.parametrize("key, dtype", [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_equals_transformers(kind, key, dtype):
    """Bit for bit, up to position 262143 and in bf16 too: the roundings are at the same places."""
    assert turned(kind, dtype).float().equal(golden("rope")[f"{kind}.{key}"])


@pytest.mark.parametrize("kind", SPECS)
def test_rotation_of_complex_numbers(kind):
    spec = SPECS[kind]
    half, angles = spec.head_dim // 2, spec.num_rotated_angles
    frequencies = np.zeros(half)
    frequencies[:angles] = spec.theta ** (-2.0 * np.arange(angles) / spec.head_dim)
    heads = rope_heads(kind).double().numpy()
    turns = np.exp(1j * np.outer(ROPE_POSITIONS[:4], frequencies))[None, :, None]
    expected = (heads[:, :4, :, :half] + 1j * heads[:, :4, :, half:]) * turns
    expected = np.concatenate([expected.real, expected.imag], -1)
    np.testing.assert_allclose(turned(kind, torch.float32).numpy()[:, :4], expected, atol=2e-3)


def test_d3_proportional_rope_of_the_31b():
    """The last of 64 angles has exponent 126 / 512 (not 126 / 128), and pairs dim 63 with dim 319 (not 127)."""
    frequencies = inverse_frequencies(SPECS["global"])
    assert len(frequencies) == 64
    assert frequencies[63].item() == pytest.approx(1e6 ** (-126 / 512), rel=1e-6)
    assert frequencies[63].item() == pytest.approx(3.34e-2, rel=1e-2)
    before, after = rope_heads("global"), turned("global", torch.float32)
    moved = (before != after)[0, 1:].flatten(0, 1).any(0).nonzero().flatten().tolist()
    assert moved == [*range(64), *range(256, 320)]


def test_factor_divides_the_frequencies():
    plain, divided = RopeSpec(1e6, 64, 8), RopeSpec(1e6, 64, 8, factor=4.0)
    assert inverse_frequencies(divided).mul(4).equal(inverse_frequencies(plain))


def test_position_zero_turns_nothing():
    assert turned("sliding", torch.float32)[:, 0].equal(rope_heads("sliding")[:, 0])


def test_rotated_dims_and_the_rest_make_up_the_head():
    heads = torch.arange(1.0, 33.0).expand(2, 3, 32)
    assert rotated_dims(heads, 4)[0, 0].tolist() == [1, 2, 3, 4, 17, 18, 19, 20]
    rest = without_rotated_dims(heads, 4)[0, 0]
    assert rest.nonzero().flatten().tolist() == [*range(4, 16), *range(20, 32)]
    assert rest[rest > 0].equal(heads[0, 0][rest > 0])
    assert ROPE_HEAD_DIMS["global"] - rotated_dims(rope_heads("global"), 64).shape[-1] == 384
