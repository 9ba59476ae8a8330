# SPDX-License-Identifier: Apache-2.0
"""The key table against the published 31B, and against the parameters of the model that is compiled from it."""

import pytest
import torch
from checkpoints import CONFIG_31B, small_config, text_shapes, vision_shapes
from torch.overrides import TorchFunctionMode

from optimum_gemma4 import Gemma4Config, Gemma4NeuronConfig
from optimum_gemma4.exporters.key_table import (
    TEXT_TABLE,
    VISION_TABLE,
    Shard,
    Target,
    matches,
    text_specs,
    vision_specs,
)
from optimum_gemma4.modeling.geometry import TextGeometry
from optimum_gemma4.modeling.text.decoder import Gemma4TextModel
from optimum_gemma4.modeling.vision.model import Gemma4ImageEncoder
from optimum_gemma4.modeling.vision.spec import VisionSpec
from optimum_gemma4.simulator.engine.ranks import tensor_parallel


TEXT_PREFIX = "model.language_model."
TP_31B = (1, 4, 8, 16, 32)


@pytest.fixture(scope="module")
def geometry_31b() -> TextGeometry:
    return TextGeometry.from_config(Gemma4Config.from_dict(CONFIG_31B))


def _rank_shapes(config: Gemma4Config, tp: int) -> dict[str, tuple[int, ...]]:
    specs = text_specs(TextGeometry.from_config(config), TEXT_PREFIX)
    return {target.name: target.rank_shape(tp) for spec in specs for target in spec.targets}


def test_the_31b_has_1188_tensors_and_every_one_has_a_row(geometry_31b):
    text, vision = text_shapes(CONFIG_31B), vision_shapes(CONFIG_31B)
    assert len(text) + len(vision) == 1188
    assert {spec.source: spec.shape for spec in text_specs(geometry_31b, TEXT_PREFIX)} == text
    assert all(matches(name, VISION_TABLE, "model.") for name in vision)


def test_no_text_tensor_is_taken_for_a_vision_tensor():
    assert not any(matches(name, VISION_TABLE, "model.") for name in text_shapes(CONFIG_31B))
    assert not any(matches(name, TEXT_TABLE, TEXT_PREFIX) for name in vision_shapes(CONFIG_31B))


@pytest.mark.parametrize(
    "name",
    [
        "model.vision_tower.encoder.layers.3.self_attn.q_proj.weight",
        "model.vision_tower.encoder.layers.x.input_layernorm.weight",
        "model.vision_tower.encoder.layers.3.self_attn.v_norm.weight",
        "model.vision_tower.std_biasx",
        "model.audio_tower.std_bias",
    ],
)
def test_names_that_the_checkpoint_does_not_have_match_no_row(name):
    assert not matches(name, VISION_TABLE, "model.")


class _StorageOnMeta(TorchFunctionMode):
    """Makes what a module allocates a meta tensor; `torch.device("meta")` would catch its host arithmetic as well."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in (torch.empty, torch.zeros, torch.ones):
            kwargs = {**kwargs, "device": "meta"}
        return func(*args, **kwargs)


@pytest.mark.parametrize("tp", TP_31B)
def test_every_parameter_of_the_31b_is_mapped_with_the_shape_it_has_on_a_rank(tp):
    """The full model on the meta device: names and per-rank shapes of the table are those of its parameters."""
    config = Gemma4Config.from_dict(CONFIG_31B)
    neuron_config = Gemma4NeuronConfig(
        batch_size=1, sequence_length=2048, tp_degree=tp, torch_dtype=torch.bfloat16, on_device_sampling=True
    )
    with tensor_parallel(tp), _StorageOnMeta():
        model = Gemma4TextModel(config.get_text_config(), neuron_config)
    states = {id(state) for state in model.kv_mgr.past_key_values}
    parameters = {name: tuple(p.shape) for name, p in model.named_parameters() if id(p) not in states}
    assert parameters == {**_rank_shapes(config, tp), "rank_util.rank": (1,)}


@pytest.mark.parametrize("tp", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("family", [{}, {"use_clipped_linears": True, "standardize": False}], ids=["31B", "E2B"])
def test_every_parameter_of_the_vision_encoder_is_mapped_with_the_shape_it_has_on_a_rank(tp, family):
    config = Gemma4Config.from_dict({**CONFIG_31B, "vision_config": {**CONFIG_31B["vision_config"], **family}})
    spec = VisionSpec.from_config(config.vision_config, 5376)
    with tensor_parallel(tp), _StorageOnMeta():
        model = Gemma4ImageEncoder(spec, torch.bfloat16)
    targets = [target for row in vision_specs(spec, "model.") for target in row.targets]
    parameters = {name: tuple(p.shape) for name, p in model.named_parameters()}
    assert parameters == {target.name: target.rank_shape(tp) for target in targets}


def test_the_31b_vision_tensors_have_their_rows():
    spec = VisionSpec.from_config(Gemma4Config.from_dict(CONFIG_31B).vision_config, 5376)
    assert {row.source: row.shape for row in vision_specs(spec, "model.")} == vision_shapes(CONFIG_31B)


@pytest.mark.parametrize(("tp", "kv_heads"), [(1, (16, 4)), (4, (4, 1)), (8, (2, 1)), (16, (1, 1)), (32, (1, 1))])
def test_kv_heads_are_replicated_only_where_a_rank_would_have_less_than_one(tp, kv_heads):
    shapes = _rank_shapes(Gemma4Config.from_dict(CONFIG_31B), tp)
    sliding, full = kv_heads
    assert shapes["layers.0.self_attn.k_proj.weight"] == (sliding * 256, 5376)
    assert shapes["layers.0.self_attn.v_proj.weight"] == (sliding * 256, 5376)
    assert shapes["layers.5.self_attn.k_proj.weight"] == (full * 512, 5376)
    assert "layers.5.self_attn.v_proj.weight" not in shapes


@pytest.mark.parametrize(("num_heads", "tp"), [(4, 1), (4, 2), (4, 4), (4, 8), (2, 8), (1, 4), (16, 32)])
def test_a_rank_holds_the_kv_heads_that_its_query_heads_read(num_heads, tp):
    query_heads, head_dim = 32, 3
    target = Target("k", (num_heads * head_dim, 5), Shard.KV_ROWS, num_heads)
    for rank in range(tp):
        mine = range(rank * query_heads // tp, (rank + 1) * query_heads // tp)
        read = sorted({head // (query_heads // num_heads) for head in mine})
        rows = target.rank_slices(rank, tp)[0]
        assert (rows.start, rows.stop) == (read[0] * head_dim, (read[-1] + 1) * head_dim)


@pytest.mark.parametrize("shard", [Shard.ROWS, Shard.COLUMNS])
def test_the_ranks_parts_make_the_whole(shard):
    whole = torch.arange(48).view(6, 8)
    target = Target("w", (6, 8), shard)
    parts = [whole[target.rank_slices(rank, 2)] for rank in range(2)]
    assert torch.equal(torch.cat(parts, dim=0 if shard is Shard.ROWS else 1), whole)
    assert parts[0].shape == target.rank_shape(2)


@pytest.mark.parametrize(
    "target",
    [
        Target("w", (6, 8), Shard.ROWS),
        Target("w", (8, 6), Shard.COLUMNS),
        Target("k", (6, 8), Shard.KV_ROWS, 3),
    ],
)
def test_a_size_that_does_not_divide_names_the_tensor_and_the_argument(target):
    with pytest.raises(ValueError, match=rf"{target.name}: .*--tensor_parallel_size"):
        target.rank_shape(4)


def test_v_proj_has_a_row_on_global_layers_when_k_is_not_v():
    config = small_config(attention_k_eq_v=False)
    names = {spec.source for spec in text_specs(TextGeometry.from_config(Gemma4Config.from_dict(config)), "model.")}
    assert "model.layers.2.self_attn.v_proj.weight" in names
