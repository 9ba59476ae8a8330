# SPDX-License-Identifier: Apache-2.0
"""The SDK's operators as optimum-neuron uses them: distributed sampling, HLO built by hand, private kernels."""

import math

import pytest
import torch
from neuronx_distributed.operators.argmax import argmax
from neuronx_distributed.operators.topk import topk
from neuronx_distributed.parallel_layers.layers import SPMDRank
from neuronxcc.nki._private_kernels.attention import attention_isa_kernel
from neuronxcc.nki._private_kernels.cumsum import cumsum
from torch import nn
from torch_neuronx.utils import get_platform_target
from torch_neuronx.xla_impl.ops import RmsNorm, nki_jit, xla_hlo_call

from optimum_gemma4.simulator.engine.ranks import run_on_ranks, tensor_parallel


class OnShards(nn.Module):
    """Calls an operator on the rank's part of a tensor."""

    def __init__(self, function, tp):
        super().__init__()
        self.rank_util = SPMDRank(tp)
        self.part = nn.Parameter(torch.zeros(1))
        self.function = function

    def forward(self):
        return self.function(self.part)


def on_shards(function, x, tp, dim=-1):
    with tensor_parallel(tp):
        ranks = [
            {"part": part, "rank_util.rank": torch.tensor([rank], dtype=torch.int32)}
            for rank, part in enumerate(x.chunk(tp, dim))
        ]
        return run_on_ranks(OnShards(function, tp), ranks)


@pytest.mark.parametrize("tp", [1, 2, 4])
def test_argmax_and_topk_over_shards_are_those_of_the_whole(tp):
    x = torch.randn(3, 40, generator=torch.Generator().manual_seed(0))
    x[0, 30] = x[0, 3] = 9.0  # the lower position wins
    found = on_shards(lambda part: argmax(part, dim=1, gather_dim=1), x, tp)
    assert torch.equal(found, x.argmax(1).expand(tp, 3))
    kept = on_shards(lambda part: argmax(part, dim=1, gather_dim=1, keepdim=True), x, tp)
    assert torch.equal(kept[0, :, 0], x.argmax(1))
    values, positions = on_shards(lambda part: topk(part, 10, dim=1, gather_dim=1), x, tp)
    assert torch.equal(values[-1], x.topk(10).values) and torch.equal(x.gather(1, positions[-1]), values[-1])


def test_topk_stages_are_those_of_the_hardware(monkeypatch):
    monkeypatch.setenv("NEURON_PLATFORM_TARGET_OVERRIDE", "trn2")
    with pytest.raises(AssertionError, match="tp degree other than 64 is not supported got 2"):
        on_shards(lambda part: topk(part, 2, dim=1, gather_dim=1, stages=3), torch.randn(1, 8), 2)
    with pytest.raises(TypeError):
        topk(torch.zeros(2), 1, 0, 0, sorted=True)


def test_topk_of_more_than_a_rank_has_is_refused():
    """SDK 2.26 asks each rank for all k; 2.29 for what there is."""
    with pytest.raises(RuntimeError, match="k.*range"):
        on_shards(lambda part: topk(part, 5, dim=1, gather_dim=1), torch.randn(1, 8), 2)


def test_rms_norm_is_its_formula():
    x, weight = torch.randn(2, 8), torch.randn(8)
    wanted = x / torch.sqrt((x**2).mean(1, keepdim=True) + 1e-6) * weight
    torch.testing.assert_close(RmsNorm.apply(x, weight, 1e-6, 1), wanted)


def test_hlo_instructions():
    @xla_hlo_call
    def write(tensor, update):
        start = [tensor.scribe.u32.Constant(constant_value=1), tensor.scribe.u32.Constant(constant_value=0)]
        return tensor.dtype[tensor.sizes].DynamicUpdateSlice(tensor, update, *start)

    x = torch.zeros(4, 2)
    assert write(x, torch.ones(2, 2)).sum(1).tolist() == [0, 2, 2, 0] and x.sum() == 0

    @xla_hlo_call
    def uniform(tensor, distribution=1):
        low, high = tensor.dtype.Constant(constant_value=2), tensor.dtype.Constant(constant_value=4)
        return tensor.dtype[tensor.sizes].Rng(low, high, distribution=distribution)

    drawn = uniform(torch.zeros(1000))
    assert 2 <= drawn.min() and drawn.max() < 4 and abs(drawn.mean() - 3) < 0.1
    with pytest.raises(NotImplementedError, match="distribution 2"):
        uniform(torch.zeros(1), distribution=2)
    with pytest.raises(AttributeError, match="no 'f8'"):
        xla_hlo_call(lambda t: t.scribe.f8)(torch.zeros(1))


def test_layer_boundary_markers_pass_through():
    from optimum.neuron.models.inference.backend.utils.layer_boundary_marker import (
        ModuleMarkerEndWrapper,
        ModuleMarkerStartWrapper,
    )

    x, y = torch.randn(2), torch.randn(3)
    start = ModuleMarkerStartWrapper()(x, y)
    assert torch.equal(start[0], x) and torch.equal(start[1], y)
    assert torch.equal(ModuleMarkerEndWrapper()(x), x)


def test_private_kernels_write_into_their_output():
    x, out = torch.randn(2, 5), torch.zeros(2, 5)
    nki_jit()(cumsum)(x, out, axis=1)
    torch.testing.assert_close(out, x.cumsum(1))
    q, k, v = (torch.randn(3, 6, 4) for _ in range(3))
    found = torch.zeros(3, 4, 6)
    for name, causal in (("CausalAttentionMMSoftmaxMMWithoutSwap", True), ("AttentionMMSoftmaxMMWithoutSwap", False)):
        nki_jit()(attention_isa_kernel)[2](q.mT, k.mT, v, 0.5, found, kernel_name=name)
        wanted = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=0.5)
        torch.testing.assert_close(found.mT, wanted)
    with pytest.raises(ValueError, match="attention kernel 'Other' is not simulated"):
        attention_isa_kernel(q.mT, k.mT, v, 1.0, found, kernel_name="Other")
    assert math.isfinite(found.sum())


def test_the_platform_target(monkeypatch):
    monkeypatch.delenv("NEURON_PLATFORM_TARGET_OVERRIDE", raising=False)
    assert get_platform_target() == "trn2"
    monkeypatch.setenv("NEURON_PLATFORM_TARGET_OVERRIDE", "inf2")
    assert get_platform_target() == "inf2"
    assert get_platform_target("-O1 --target=trn1") == get_platform_target(["--target trn1"]) == "trn1"


def test_training_and_experts_can_be_named_but_not_used():
    from neuronx_distributed.modules.moe.routing import RouterTopK
    from torch_neuronx import DataParallel

    for name in (RouterTopK, DataParallel):
        with pytest.raises(NotImplementedError):
            name()
