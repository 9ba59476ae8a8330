# SPDX-License-Identifier: Apache-2.0
"""One traced graph serves every image, and its parts keep fp32 where transformers does."""

import pytest
import torch

from optimum_gemma4.modeling.configuration import Gemma4VisionConfig
from optimum_gemma4.modeling.vision.model import Gemma4ImageEncoder
from optimum_gemma4.modeling.vision.pooler import pool_cells, standardize
from optimum_gemma4.modeling.vision.spec import VisionSpec
from optimum_gemma4.simulator.engine.ranks import tensor_parallel
from tests.config_31b import CONFIG_31B, VISION_CONFIG_31B
from tests.modeling.vision.helpers import inputs, make_encoder, run, shard, spec_of, torch_weights
from tests.modeling.vision.toy_vision import weight_shapes


DATA_DEPENDENT = ("nonzero", "aten.item", "_local_scalar_dense", "masked_select", "unique", "is_nonzero")


def full_spec(**changes) -> VisionSpec:
    return VisionSpec.from_config(Gemma4VisionConfig(**VISION_CONFIG_31B | changes), CONFIG_31B["hidden_size"])


@pytest.mark.parametrize("name", ["standardized", "clipped"])
def test_d10_one_graph_for_every_aspect_ratio(name):
    """PEERS.md D10: traced once with zeros; padded, square, strip, black and empty images go through that."""
    encode = make_encoder(name)
    example = torch.zeros(1, 630, 768), torch.zeros(1, 630, 2, dtype=torch.int32)
    with tensor_parallel(1), torch.no_grad():
        graph = torch.export.export(encode, example, strict=False)
    operators = {str(node.target) for node in graph.graph.nodes if node.op == "call_function"}
    assert not [each for each in operators if any(word in each for word in DATA_DEPENDENT)]
    # a boolean index would make a shape depend on values; embedding is the only lookup
    assert not [each for each in operators if "aten.index" in each]
    pixels, positions = inputs(70)
    images = [(pixels[i : i + 1], positions[i : i + 1]) for i in range(5)]
    images += [(torch.zeros_like(pixels[:1]), positions[:1]), (pixels[:1], torch.full_like(positions[:1], -1))]
    for image in images:
        with torch.no_grad():
            assert torch.allclose(graph.module()(*image), run(encode, *image), atol=1e-5)


def test_d11_pixels_are_scaled_in_fp32_and_once():
    """PEERS.md D11: rounding to bf16 before the scaling would cost half the bits of dark pixels."""
    embed = make_encoder("standardized", torch.bfloat16).vision_tower.patch_embedder
    seen = []
    embed.input_proj.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    pixels, positions = inputs(70)
    embed(pixels, positions)
    assert torch.equal(seen[0], (2 * (pixels.double() - 0.5)).to(torch.bfloat16))
    assert seen[0].min() >= -1 and seen[0].max() <= 1
    rounded_first = 2 * (pixels.to(torch.bfloat16) - 0.5)
    assert not torch.equal(seen[0], rounded_first)


def test_d12_pooling_and_standardising_keep_fp32():
    """PEERS.md D12: one rounding after the mean and one at the end, as in transformers; bf16 throughout differs."""
    random = torch.Generator().manual_seed(3)
    positions = torch.cartesian_prod(torch.arange(6), torch.arange(9)).flip(-1)[None]  # 6 rows of 9 patches: (x, y)
    hidden = (4 + torch.randn(1, 54, 64, generator=random)).to(torch.bfloat16)
    bias = (32 + torch.randn(64, generator=random)).to(torch.bfloat16)
    scale = torch.rand(64, generator=random).to(torch.bfloat16)
    grid = hidden[0].double().reshape(2, 3, 3, 3, 64).mean(dim=(1, 3)).reshape(6, 64)
    mean = grid.to(torch.bfloat16).double()
    wanted = (mean * 8 - bias.double()) * scale.double()
    outputs = standardize(pool_cells(hidden, positions, 3), bias, scale)
    assert outputs.dtype == torch.float32
    assert torch.allclose(outputs[0].double(), wanted, atol=1e-5)
    in_bf16 = ((mean.to(torch.bfloat16) * 8 - bias) * scale).double()
    assert (in_bf16 - wanted).abs().max() > 0.01


def test_std_are_parameters_not_buffers():
    """PEERS.md D12: a buffer is at risk of becoming a constant of the compiled graph. So are the clip bounds.

    A parameter without an axis too: torch_xla makes one input of the graph of all that are equal in the trace.
    """
    for name in ("standardized", "clipped"):
        encode = make_encoder(name)
        assert not list(encode.buffers())
        assert all(parameter.dim() for parameter in encode.parameters())
        assert set(dict(encode.named_parameters())) == set(torch_weights(name))


def test_mean_of_each_cell_by_its_own_row_length():
    """Two images of one batch: 3 x 9 and 9 x 3 patches, every patch worth its cell's number."""
    positions = torch.full((2, 36, 2), -1)
    hidden = torch.full((2, 36, 4), 99.0)
    for index, (rows, columns) in enumerate([(3, 9), (9, 3)]):
        grid = torch.cartesian_prod(torch.arange(rows), torch.arange(columns))
        positions[index, :27] = grid.flip(-1)
        hidden[index, :27] = (grid[:, :1] // 3 * (columns // 3) + grid[:, 1:] // 3).float()
    pooled = pool_cells(hidden, positions, 3) / 2  # sqrt(4)
    assert torch.equal(pooled[..., 0], torch.tensor([[0.0, 1, 2, 0]] * 2))


@pytest.mark.parametrize("tp", [1, 2, 4, 8, 16])
def test_31b_has_the_checkpoint_names_and_rank_shapes(tp):
    shapes = weight_shapes(VISION_CONFIG_31B, CONFIG_31B["hidden_size"])
    assert len(shapes) == 356
    with tensor_parallel(tp), torch.device("meta"):
        spec = full_spec()
        spec.check_tp(tp)
        encode = Gemma4ImageEncoder(spec, torch.bfloat16)
    weights = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    wanted = {name: weight.shape for name, weight in shard(weights, tp)[0].items()}
    assert {name: parameter.shape for name, parameter in encode.state_dict().items()} == wanted


def test_spec_of_the_31b():
    spec = full_spec()
    assert (spec.pixels_per_patch, spec.patches_per_cell, spec.head_dim) == (768, 9, 72)
    assert (spec.rope.head_dim, spec.rope.num_rotated_angles, spec.rope.theta) == (36, 18, 100.0)
    assert spec == full_spec(rope_parameters={"rope_type": "axial", "rope_theta": 100.0})


@pytest.mark.parametrize("tp", [3, 5, 32])
def test_tp_that_does_not_divide_is_refused(tp):
    with pytest.raises(ValueError, match=rf"--tensor_parallel_size {tp} .*16 heads.*\[1, 2, 4, 8, 16\]"):
        full_spec().check_tp(tp)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_key_value_heads": 8}, "16 heads and 8 key/value"),
        ({"hidden_activation": "gelu"}, "'gelu'"),
        ({"attention_bias": True}, "attention_bias True"),
        ({"rope_parameters": {"rope_type": "default"}}, "rope_theta"),
        ({"rope_parameters": {"rope_type": "linear", "rope_theta": 1.0}}, "linear"),
        ({"head_dim": 70}, "70"),
    ],
)
def test_other_encoders_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        full_spec(**changes)


def test_bf16_is_near_fp32():
    """Every soft token points where it does in fp32."""
    arguments = inputs(70)
    exact = run(make_encoder("standardized"), *arguments)
    rounded = run(make_encoder("standardized", torch.bfloat16), *arguments)
    assert rounded.dtype == torch.bfloat16
    cosines = torch.nn.functional.cosine_similarity(exact, rounded.float(), dim=-1)
    assert cosines.min() > 0.99
    assert spec_of("standardized").standardize
