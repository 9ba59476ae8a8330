# SPDX-License-Identifier: Apache-2.0
"""Geometry: the 31B's table of layers, sharding at every tp, and refusal of what is not supported."""

import dataclasses

import pytest
from config_31b import CONFIG_31B

from optimum_gemma4.modeling.configuration import Gemma4Config, Gemma4TextConfig
from optimum_gemma4.modeling.geometry import LayerShard, RopeSpec, TextGeometry, supported_tp


@pytest.fixture(scope="module")
def config_31b() -> Gemma4TextConfig:
    return Gemma4TextConfig(**CONFIG_31B)


def test_31b_layers(config_31b):
    geometry = TextGeometry.from_config(Gemma4Config(text_config=config_31b))
    assert [spec.index for spec in geometry.layers if spec.kind == "global"] == list(range(5, 60, 6))
    sliding, glob = geometry.layers[0], geometry.layers[5]
    assert (sliding.num_heads, sliding.num_kv_heads, sliding.head_dim, sliding.window) == (32, 16, 256, 1024)
    assert sliding.rope == RopeSpec(theta=10_000.0, head_dim=256, num_rotated_angles=128)
    assert not sliding.k_eq_v
    assert (glob.num_heads, glob.num_kv_heads, glob.head_dim, glob.window) == (32, 4, 512, None)
    assert glob.rope == RopeSpec(theta=1_000_000.0, head_dim=512, num_rotated_angles=64)
    assert glob.k_eq_v
    assert (geometry.softcap, geometry.bidirectional_vision, geometry.vocab_size) == (30.0, True, 262_144)
    with pytest.raises(dataclasses.FrozenInstanceError):
        glob.window = 5


def test_31b_supported_tp(config_31b):
    assert supported_tp(config_31b) == [1, 2, 4, 8, 16, 32]


@pytest.mark.parametrize(
    "tp, sliding, glob",
    [
        (1, (32, 16, 1), (32, 4, 1)),
        (4, (8, 4, 1), (8, 1, 1)),
        (8, (4, 2, 1), (4, 1, 2)),
        (16, (2, 1, 1), (2, 1, 4)),
        (32, (1, 1, 2), (1, 1, 8)),
    ],
)
def test_31b_sharding_replicates_only_below_one_head(config_31b, tp, sliding, glob):
    geometry = TextGeometry.from_config(config_31b)
    assert geometry.layers[0].shard(tp) == LayerShard(*sliding)
    assert geometry.layers[5].shard(tp) == LayerShard(*glob)


@pytest.mark.parametrize("tp", [1, 2, 4, 8, 16, 32])
def test_every_rank_holds_the_kv_heads_of_its_own_queries(config_31b, tp):
    for spec in (TextGeometry.from_config(config_31b).layers[i] for i in (0, 5)):
        shard = spec.shard(tp)
        for rank in range(tp):
            queries = range(rank * shard.num_heads, (rank + 1) * shard.num_heads)
            wanted = sorted({query // (spec.num_heads // spec.num_kv_heads) for query in queries})
            first = rank // shard.kv_replication * shard.num_kv_heads
            assert wanted == list(range(first, first + shard.num_kv_heads))


def test_unsupported_tp_names_the_argument_and_the_valid_values(config_31b):
    geometry = TextGeometry.from_config(config_31b)
    with pytest.raises(ValueError, match=r"--tensor_parallel_size 64.*\[1, 2, 4, 8, 16, 32\]"):
        geometry.check_tp(64)
    with pytest.raises(ValueError, match=r"--tensor_parallel_size 3 .*layer 5"):
        geometry.layers[5].shard(3)
    geometry.check_tp(32)


def test_cache_slots(config_31b):
    sliding, glob = (TextGeometry.from_config(config_31b).layers[i] for i in (0, 5))
    assert [sliding.cache_slots(n) for n in (512, 1024, 8192)] == [512, 1024, 1024]
    assert [glob.cache_slots(n) for n in (512, 8192)] == [512, 8192]


def test_kv_heads_of_global_layers_count_only_with_k_eq_v():
    config = Gemma4TextConfig(**{**CONFIG_31B, "attention_k_eq_v": False})
    spec = TextGeometry.from_config(config).layers[5]
    assert (spec.num_kv_heads, spec.k_eq_v) == (16, False)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"enable_moe_block": True}, "enable_moe_block"),
        ({"hidden_size_per_layer_input": 256}, "hidden_size_per_layer_input"),
        ({"num_kv_shared_layers": 2}, "num_kv_shared_layers"),
        ({"attention_bias": True}, "attention_bias"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings"),
        ({"use_bidirectional_attention": "all"}, "use_bidirectional_attention"),
        ({"is_causal": False}, "is_causal"),
        ({"pad_token_id": None}, "pad_token_id"),
        ({"hidden_activation": "silu"}, "silu"),
        ({"rope_parameters": {"rope_theta": 1e4, "rope_type": "default"}}, "sliding_attention"),
        ({"rope_parameters": {"sliding_attention": {"rope_type": "default"}}}, "rope_theta"),
        ({"rope_parameters": {"sliding_attention": {"rope_type": "yarn", "rope_theta": 1e4}}}, "yarn"),
        ({"num_key_value_heads": 5}, "multiple"),
    ],
)
def test_unsupported_configurations_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        TextGeometry.from_config(Gemma4TextConfig(**{**CONFIG_31B, **changes}))


def test_an_output_head_of_its_own_is_refused_where_the_whole_model_says_so():
    config = Gemma4Config(text_config=CONFIG_31B, tie_word_embeddings=False)
    with pytest.raises(ValueError, match="tie_word_embeddings"):
        TextGeometry.from_config(config.get_text_config())


def test_proportional_factor_divides_the_frequencies():
    rope = {
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        "full_attention": {"rope_type": "proportional", "rope_theta": 1e6, "factor": 4.0},
    }
    spec = TextGeometry.from_config(Gemma4TextConfig(**{**CONFIG_31B, "rope_parameters": rope})).layers[5]
    assert spec.rope == RopeSpec(1e6, 512, 256, 4.0)
