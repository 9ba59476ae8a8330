# SPDX-License-Identifier: Apache-2.0
"""Parallel layers: signatures, errors and numbers of neuronx_distributed, where a stand-in is easily laxer."""

import warnings

import pytest
import torch
from neuronx_distributed.parallel_layers import mappings, parallel_state
from neuronx_distributed.parallel_layers.layers import (
    ColumnParallelLinear,
    ParallelEmbedding,
    RowParallelLinear,
    SPMDRank,
)
from neuronx_distributed.parallel_layers.pad import get_number_of_extra_heads
from neuronx_distributed.parallel_layers.utils import divide, get_padding_length, set_tensor_model_parallel_attributes
from neuronx_distributed.utils.utils import hardware
from sim_bundles import run_module
from torch import nn

from optimum_gemma4.simulator.engine.ranks import run_on_ranks, tensor_parallel


LAYERS = {
    ColumnParallelLinear: (4, 8),
    RowParallelLinear: (8, 4),
    ParallelEmbedding: (8, 4),
}


def shards(weight: torch.Tensor, dim: int, tp: int, name: str = "weight", **others) -> list[dict[str, torch.Tensor]]:
    return [{name: part, **others} for part in weight.chunk(tp, dim)]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda c: c.__name__)
def test_an_unknown_keyword_is_a_type_error(layer):
    with tensor_parallel(1), pytest.raises(TypeError, match="unexpected keyword"):
        layer(*LAYERS[layer], lora_rank=3)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda c: c.__name__)
def test_weights_require_gradients_and_say_how_they_are_sharded(layer):
    with tensor_parallel(2):
        weight = layer(*LAYERS[layer]).weight
    assert weight.requires_grad and weight.tensor_model_parallel
    assert (weight.num_partitions, weight.partition_stride) == (2, 1)
    assert weight.partition_dim == (1 if layer is RowParallelLinear else 0)


def test_without_a_parallel_state_a_layer_falls_back_to_one_rank_with_a_warning():
    parallel_state.destroy_model_parallel()
    try:
        with pytest.warns(UserWarning, match="Parallel state is not initialized"):
            layer = ColumnParallelLinear(4, 8)
        assert layer(torch.zeros(1, 4)).shape == (1, 8)
    finally:
        parallel_state.destroy_model_parallel()


def test_a_gathered_column_layer_adds_a_full_size_bias_after_the_gather():
    with tensor_parallel(2):
        layer = ColumnParallelLinear(4, 6, bias=True, gather_output=True).eval()
        assert layer.bias.shape == (6,) and not hasattr(layer.bias, "tensor_model_parallel")
        weight, bias, x = torch.randn(6, 4), torch.randn(6), torch.randn(3, 4)
        out = run_on_ranks(layer, shards(weight, 0, 2, bias=bias), x)
    torch.testing.assert_close(out, (x @ weight.T + bias).expand(2, 3, 6))


def test_a_gathered_column_layer_with_bias_and_padding_cannot_run():
    with tensor_parallel(4):
        layer = ColumnParallelLinear(4, 6, bias=True, gather_output=True, pad=True).eval()
        assert layer.bias.shape == (8,)
        with pytest.raises(RuntimeError, match="must match the size"):
            run_on_ranks(layer, shards(torch.randn(8, 4), 0, 4, bias=layer.bias.detach()), torch.zeros(1, 4))


def test_a_sharded_column_layer_shards_its_bias():
    with tensor_parallel(2):
        layer = ColumnParallelLinear(4, 6, bias=True, gather_output=False)
    assert layer.bias.shape == (3,) and layer.bias.tensor_model_parallel


@pytest.mark.parametrize("layer", LAYERS, ids=lambda c: c.__name__)
def test_padding_is_for_inference_only(layer):
    with tensor_parallel(4):
        module = layer(*LAYERS[layer], pad=True)
        with pytest.raises(RuntimeError, match="only supported for inference"):
            module(torch.zeros(1, 2, dtype=torch.int32))


@pytest.mark.parametrize(
    ("make", "key", "shape"),
    [
        (lambda: ColumnParallelLinear(4, 6, pad=True), "weight", (7, 4)),
        (lambda: RowParallelLinear(6, 4, pad=True), "weight", (4, 7)),
        (lambda: ParallelEmbedding(6, 4, pad=True), "weight", (7, 4)),
        (lambda: ParallelEmbedding(4, 6, pad=True, shard_across_embedding=True), "weight", (4, 7)),
    ],
)
def test_a_preshard_hook_refuses_a_size_it_does_not_expect_and_pads_the_right_one(make, key, shape):
    with tensor_parallel(4):
        layer = make()
        with pytest.raises(RuntimeError, match="unexpected s.* 7, expected 6"):
            layer.preshard_hook({key: torch.ones(shape)}, key)
        right = tuple(6 if size == 7 else size for size in shape)
        checkpoint = {key: torch.ones(right)}
        layer.preshard_hook(checkpoint, key)
    assert checkpoint[key].shape == tuple(8 if size == 6 else size for size in right)
    assert checkpoint[key].sum() == 24


def test_row_layers_reduce_in_their_reduce_dtype():
    weight, x = torch.full((1, 256), 1.0, dtype=torch.bfloat16), torch.full((1, 1, 256), 1.0, dtype=torch.bfloat16)
    weight[0, 0] = 256.0
    with tensor_parallel(2):
        layer = RowParallelLinear(256, 1, bias=False, input_is_parallel=True, dtype=torch.bfloat16).eval()
        parts = [{"weight": part} for part in weight.chunk(2, 1)]
        out = run_on_ranks(layer, parts, x[..., :128])
    exact = weight.float().sum()  # 256 + 255: the halves, 383 and 128, are rounded to bf16 and summed in fp32
    rounded = weight[:, :128].float().sum().bfloat16().float() + 128
    assert out[0].item() == rounded.bfloat16().item() and abs(out[0].item() - exact) <= 2


def test_a_row_layer_that_scatters_its_input_is_baked_as_rank_zero(tmp_path):
    """What depends on group.rank() is rank 0's in a trace: every rank multiplies the first half of x."""

    class Scatters(nn.Module):
        def __init__(self):
            super().__init__()
            self.down = RowParallelLinear(8, 4, bias=False, input_is_parallel=False)

        def forward(self, x):
            return self.down(x)

    weight, x = torch.randn(4, 8), torch.randn(2, 8)
    weights = {"down.weight": weight}
    torch.testing.assert_close(run_module(Scatters, weights, x, folder=tmp_path, tp=1), x @ weight.T)
    baked = sum(x[:, :4] @ part.T for part in weight.chunk(2, 1))
    traced = run_module(Scatters, weights, x, folder=tmp_path, tp=2)
    torch.testing.assert_close(traced, baked)
    assert not torch.allclose(traced, x @ weight.T)


@pytest.mark.parametrize("spmd", [False, True])
def test_a_vocabulary_sharded_embedding_needs_the_rank_as_a_parameter(tmp_path, spmd):
    class Embeds(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = ParallelEmbedding(8, 4, use_spmd_rank=spmd)

        def forward(self, ids):
            return self.embed(ids)

    table, ids = torch.randn(8, 4), torch.tensor([[0, 3, 4, 7]])
    weights = {"embed.weight": table}
    with tensor_parallel(2):
        names = dict(Embeds().named_parameters())
    assert ("embed.rank_util.rank" in names) == spmd
    if spmd:
        weights["embed.rank_util.rank"] = torch.arange(2, dtype=torch.int32)
    out = run_module(Embeds, weights, ids, folder=tmp_path, tp=2)
    assert torch.allclose(out, table[ids]) == spmd


def test_a_vocabulary_sharded_fp16_embedding_gives_bf16():
    with tensor_parallel(2):
        layer = ParallelEmbedding(8, 4, dtype=torch.float16).eval()
        out = run_on_ranks(layer, shards(torch.ones(8, 4, dtype=torch.float16), 0, 2), torch.tensor([1]))
    assert out.dtype == torch.bfloat16


def test_scatter_by_the_rank_tensor_is_right_on_every_rank():
    class Scatters(nn.Module):
        def __init__(self):
            super().__init__()
            self.rank_util = SPMDRank(2)

        def forward(self, x):
            return mappings.scatter_to_process_group_spmd(x, 0, self.rank_util.get_rank())

    with tensor_parallel(2):
        ranks = [{"rank_util.rank": torch.tensor([rank], dtype=torch.int32)} for rank in range(2)]
        out = run_on_ranks(Scatters(), ranks, torch.arange(6))
    assert out.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_initialize_model_parallel_checks_the_world():
    with tensor_parallel(6):
        with pytest.raises(RuntimeError, match="not divisible by tensor_model_parallel_size"):
            parallel_state.initialize_model_parallel(tensor_model_parallel_size=4)
        with pytest.raises(NotImplementedError, match="pipeline_model_parallel_size=2"):
            parallel_state.initialize_model_parallel(tensor_model_parallel_size=3, pipeline_model_parallel_size=2)
        # the third position is the context-parallel size, not the expert-parallel one
        with pytest.raises(NotImplementedError, match="context_parallel_size=2"):
            parallel_state.initialize_model_parallel(3, 1, 2)
        with pytest.raises(TypeError):
            parallel_state.initialize_model_parallel(tensor_parallel_size=3)


def test_hardware_generations(monkeypatch):
    assert hardware("inf2") is hardware.TRN1 and hardware("trn1n") is hardware.TRN1
    assert not hasattr(hardware, "INF2")
    with pytest.raises(ValueError, match="trn9"):
        hardware("trn9")
    monkeypatch.setenv("NEURON_PLATFORM_TARGET_OVERRIDE", "trn9")
    assert hardware("trn9") is hardware.CUSTOM


def test_arithmetic_helpers():
    assert divide(6, 3) == 2 and get_padding_length(6, 4) == 2 and get_padding_length(8, 4) == 0
    assert get_number_of_extra_heads(6, 4) == 2 and get_number_of_extra_heads(8, 4) == 0
    with pytest.raises(AssertionError, match="7 is not divisible by 2"):
        divide(7, 2)


def test_sharding_attributes_are_set_once_and_need_every_rank():
    with tensor_parallel(2):
        parameter = nn.Parameter(torch.zeros(4))
        with pytest.raises(ValueError, match="every rank from 0 to 1"):
            set_tensor_model_parallel_attributes(parameter, True, 0, 1, 2, rank_ordering=[0, 0])
        set_tensor_model_parallel_attributes(parameter, True, 0, 1, 2)
        with pytest.raises(AssertionError, match="already set"):
            set_tensor_model_parallel_attributes(parameter, True, 0, 1, 2)


@pytest.mark.parametrize("layer", [ColumnParallelLinear, RowParallelLinear], ids=lambda c: c.__name__)
def test_initial_values_do_not_depend_on_the_degree(layer):
    def make(tp):
        torch.manual_seed(0)
        with tensor_parallel(tp), warnings.catch_warnings():
            return layer(8, 8, bias=False).weight.detach()

    full, first = make(1), make(2)
    assert torch.equal(first, full.chunk(2, 1 if layer is RowParallelLinear else 0)[0])
