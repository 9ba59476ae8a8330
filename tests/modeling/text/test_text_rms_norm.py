# SPDX-License-Identifier: Apache-2.0
"""RMS norm against an independent formula, transformers' output, and the mistakes that others made."""

import pytest
import torch
from text_models import TEXT_CONFIGS, golden, random_weights

from optimum_gemma4.modeling.text.rms_norm import Gemma4RMSNorm


def norm(dim: int, weight: torch.Tensor | None = None, eps: float = 1e-6) -> Gemma4RMSNorm:
    module = Gemma4RMSNorm(dim, eps, with_scale=weight is not None)
    if weight is not None:
        module.weight.copy_(weight)
    return module


@pytest.mark.parametrize("shape", [(3, 5, 96), (2, 4, 8, 512), (1, 1, 16)])
def test_against_cosine_normalisation(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 30
    weight = torch.linspace(-2, 3, shape[-1])
    expected = torch.nn.functional.normalize(x.double(), dim=-1) * shape[-1] ** 0.5 * weight.double()
    torch.testing.assert_close(norm(shape[-1], weight, eps=0.0)(x).double(), expected, atol=1e-5, rtol=1e-5)


def test_eps_is_inside_the_root():
    x = torch.full((1, 4), 1e-3)
    assert norm(4)(x).allclose(torch.full((1, 4), 1e-3 / (1e-6 + 1e-6) ** 0.5))
    assert norm(4)(torch.zeros(1, 4)).eq(0).all()


@pytest.mark.parametrize("name", TEXT_CONFIGS)
def test_equals_transformers(name):
    reference, weights = golden(name), random_weights(name)
    keys = [key[:-3] for key in reference if key.endswith("norm.in")]
    assert len(keys) == 6
    for key in keys:
        x = reference[f"{key}.in"]
        weight = None if key.endswith("v_norm") else weights[f"layers.{key}.weight"]
        torch.testing.assert_close(norm(x.shape[-1], weight)(x), reference[f"{key}.out"], atol=1e-5, rtol=1e-5)


def test_d19_weight_multiplies_as_stored():
    """Gemma 1-3 multiply by 1 + weight, Gemma 4 does not."""
    x = torch.randn(2, 8, generator=torch.Generator().manual_seed(2))
    assert norm(8, torch.zeros(8))(x).eq(0).all()
    assert norm(8, torch.ones(8))(x).equal(norm(8)(x))


def test_rounds_once():
    """In bf16 the weight is applied before the cast back: rounding twice gives other values for these inputs."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(64, 256, generator=generator).bfloat16()
    weight = torch.randn(256, generator=generator).bfloat16()
    module = norm(256, weight.float()).to(torch.bfloat16)
    exact = norm(256, weight.double()).double()
    once = exact(x.double()).bfloat16()
    twice = norm(256)(x) * weight
    assert (module(x) == once).float().mean() > 0.999
    assert (twice == once).float().mean() < 0.9
