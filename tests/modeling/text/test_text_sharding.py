# SPDX-License-Identifier: Apache-2.0
"""The full 31B decoder on the meta device: what each rank holds, at every tensor parallel size that splits it."""

import pytest
import torch
from config_31b import CONFIG_31B

from optimum_gemma4.exporters.neuron_config import Gemma4NeuronConfig
from optimum_gemma4.modeling.configuration import Gemma4TextConfig
from optimum_gemma4.modeling.text.decoder import Gemma4TextModel
from optimum_gemma4.simulator.engine.ranks import tensor_parallel


SEQUENCE_LENGTH = 8192


def meta_model(tp: int) -> Gemma4TextModel:
    neuron_config = Gemma4NeuronConfig(
        batch_size=2, sequence_length=SEQUENCE_LENGTH, tp_degree=tp, torch_dtype=torch.bfloat16, target="trn2"
    )
    with tensor_parallel(tp), torch.device("meta"):
        return Gemma4TextModel(Gemma4TextConfig(**CONFIG_31B), neuron_config)


def expected_layer(is_global: bool, tp: int) -> dict[str, tuple[int, ...]]:
    head_dim, kv_heads = (512, 4) if is_global else (256, 16)
    queries, kv = 32 // tp * head_dim, max(1, kv_heads // tp) * head_dim
    shapes = {
        "self_attn.q_proj.weight": (queries, 5376),
        "self_attn.k_proj.weight": (kv, 5376),
        "self_attn.o_proj.weight": (5376, queries),
        "self_attn.q_norm.weight": (head_dim,),
        "self_attn.k_norm.weight": (head_dim,),
        "mlp.gate_proj.weight": (21504 // tp, 5376),
        "mlp.up_proj.weight": (21504 // tp, 5376),
        "mlp.down_proj.weight": (5376, 21504 // tp),
        "layer_scalar": (1,),
    }
    if not is_global:
        shapes["self_attn.v_proj.weight"] = (kv, 5376)
    for norm in ("input", "post_attention", "pre_feedforward", "post_feedforward"):
        shapes[f"{norm}_layernorm.weight"] = (5376,)
    return shapes


@pytest.mark.parametrize("tp", [1, 4, 8, 16, 32])
def test_every_shape_on_a_rank(tp):
    expected = {
        "embed_tokens.weight": (262_144, 5376 // tp),
        "lm_head.weight": (262_144 // tp, 5376),
        "norm.weight": (5376,),
        "rank_util.rank": (1,),
    }
    for index in range(60):
        is_global = index % 6 == 5
        expected |= {f"layers.{index}.{name}": shape for name, shape in expected_layer(is_global, tp).items()}
        kv_heads = max(1, (4 if is_global else 16) // tp)
        slots, key_dims, value_dims = (SEQUENCE_LENGTH, 128, 512) if is_global else (1024, 256, 256)
        expected[f"kv_mgr.past_key_values.{2 * index}"] = (2, kv_heads, slots, key_dims)
        expected[f"kv_mgr.past_key_values.{2 * index + 1}"] = (2, kv_heads, slots, value_dims)
    model = meta_model(tp)
    assert {name: tuple(parameter.shape) for name, parameter in model.named_parameters()} == expected
    assert not dict(model.named_buffers())
    assert all(parameter.is_meta for parameter in model.parameters())


def test_a_rank_of_tp_4_holds_a_quarter_of_the_31b():
    model = meta_model(4)
    weights = sum(p.numel() for name, p in model.named_parameters() if not name.startswith("kv_mgr."))
    embedding = 262_144 * 5376
    # The head is a copy of the embedding, and norms are whole on every rank.
    assert 4 * weights == pytest.approx(30_697_345_340 + embedding, rel=2e-4)


def test_a_size_that_does_not_divide_is_refused_before_anything_is_built():
    with pytest.raises(ValueError, match=r"--tensor_parallel_size 64 .*\[1, 2, 4, 8, 16, 32\]"):
        meta_model(64)
