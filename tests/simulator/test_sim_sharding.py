# SPDX-License-Identifier: Apache-2.0
"""shard_checkpoint: by the parameters' attributes, with what the SDK drops, skips and casts."""

import logging

import pytest
import torch
from neuronx_distributed.parallel_layers.layers import ColumnParallelLinear, ParallelEmbedding, SPMDRank
from safetensors.torch import load_file
from sim_bundles import Instance, Perceptron, builder, perceptron_weights
from torch import nn


def shard(make, weights, tmp_path, tp=2, **options):
    return builder(tmp_path, tp, weights).add("m", Instance(make, []), []).shard_checkpoint(**options)


def test_each_layer_is_cut_along_its_own_dimension_and_written_for_each_rank(tmp_path):
    weights = perceptron_weights()
    ranks = shard(Perceptron, weights, tmp_path, serialize_path=str(tmp_path / "out"))
    for rank, found in enumerate(ranks):
        assert torch.equal(found["up.weight"], weights["up.weight"].chunk(2, 0)[rank])
        assert torch.equal(found["down.weight"], weights["down.weight"].chunk(2, 1)[rank])
        assert torch.equal(found["down.bias"], weights["down.bias"])
        stored = load_file(tmp_path / "out" / f"tp{rank}_sharded_checkpoint.safetensors")
        assert stored.keys() == found.keys() and all(torch.equal(stored[name], found[name]) for name in stored)


def test_unknown_keys_are_dropped_with_a_warning(tmp_path):
    with pytest.warns(UserWarning, match=r"Removing redundant keys from checkpoint: \['gate.weight'\]"):
        ranks = shard(Perceptron, {**perceptron_weights(), "gate.weight": torch.zeros(1)}, tmp_path)
    assert "gate.weight" not in ranks[0]


def test_missing_keys_are_skipped_without_a_word(tmp_path, caplog):
    weights = perceptron_weights()
    del weights["up.weight"]
    with caplog.at_level(logging.INFO):
        ranks = shard(Perceptron, weights, tmp_path)
    assert "up.weight" not in ranks[0] and "up.weight" not in caplog.text


def test_any_other_dtype_is_cast_integers_included(tmp_path, caplog):
    weights = perceptron_weights()
    weights["up.weight"] = torch.arange(32).reshape(8, 4)
    weights["down.bias"] = weights["down.bias"].half()
    with caplog.at_level(logging.WARNING):
        ranks = shard(Perceptron, weights, tmp_path)
    assert ranks[0]["up.weight"].dtype == ranks[0]["down.bias"].dtype == torch.float32
    assert "casting up.weight from torch.int64 to torch.float32" in caplog.text


def test_a_shard_of_another_shape_is_an_error(tmp_path):
    weights = perceptron_weights()
    weights["up.weight"] = torch.zeros(10, 4)
    with pytest.raises(RuntimeError, match=r"expected shape torch.Size\(\[4, 4\]\) for up.weight"):
        shard(Perceptron, weights, tmp_path)


class Special(nn.Module):
    """A padded head, a fused QKV projection, strided rows and a rank."""

    def __init__(self):
        super().__init__()
        self.rank_util = SPMDRank(2)
        self.head = ColumnParallelLinear(4, 5, bias=False, pad=True)
        self.strided = ColumnParallelLinear(1, 8, bias=False, stride=2)
        self.qkv = ColumnParallelLinear(1, 8, bias=False)
        for name, value in (
            ("fused_qkv", True),
            ("num_attention_heads", 4),
            ("num_key_value_heads", 2),
            ("head_dim", 1),
        ):
            setattr(self.qkv.weight, name, value)
        self.ordered = ParallelEmbedding(4, 1, rank_ordering=[1, 0])
        self.norm = nn.LayerNorm(4)


def test_padding_strides_fused_projections_rank_order_and_replicated_weights(tmp_path):
    column = torch.arange(8.0)[:, None]
    weights = {
        "rank_util.rank": torch.arange(2, dtype=torch.int32),
        "head.weight": torch.ones(5, 4),
        "strided.weight": column,
        "qkv.weight": column,
        "ordered.weight": column[:4],
        "norm.weight": torch.arange(4.0),
        "norm.bias": torch.zeros(4),
    }
    first, second = shard(Special, weights, tmp_path)
    assert (first["rank_util.rank"].item(), second["rank_util.rank"].item()) == (0, 1)
    assert first["head.weight"].sum() == 12 and second["head.weight"].sum() == 8
    assert first["strided.weight"].flatten().tolist() == [0, 1, 4, 5]
    assert second["qkv.weight"].flatten().tolist() == [2, 3, 5, 7]
    assert first["ordered.weight"].flatten().tolist() == [2, 3]
    assert torch.equal(first["norm.weight"], second["norm.weight"])
