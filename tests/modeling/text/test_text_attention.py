# SPDX-License-Identifier: Apache-2.0
"""Attention of one layer: parity in prefill and in decode, one projection for K and V, how its work grows."""

import pytest
import torch
from text_layer import LayerRunner
from text_models import TEXT_CONFIGS, golden, weight_shapes
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from optimum_gemma4.modeling.text import attention
from optimum_gemma4.modeling.text.rope import apply_rotary, rotary_tables


LAYERS = [
    (name, key[: -len(".self_attn.in")]) for name in TEXT_CONFIGS for key in golden(name) if "self_attn.in" in key
]
SLIDING, GLOBAL = 0, 5


@pytest.mark.parametrize("tp", [1, 2, 8])
@pytest.mark.parametrize("name, layer", LAYERS)
def test_prefill_equals_transformers(name, layer, tp):
    reference = golden(name)
    hidden, expected = reference[f"{layer}.self_attn.in"], reference[f"{layer}.self_attn.out"]
    output = LayerRunner(name, int(layer), tp)(hidden, range(hidden.shape[1]))
    torch.testing.assert_close(output, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("tp", [1, 8])
@pytest.mark.parametrize("name, layer", LAYERS)
@pytest.mark.parametrize("prompt", [0, 2, 30])
def test_decode_equals_transformers(name, layer, tp, prompt):
    """Token by token from the cache, across the window; on K = V layers with the scores formed from V."""
    reference = golden(name)
    hidden, expected = reference[f"{layer}.self_attn.in"], reference[f"{layer}.self_attn.out"]
    run = LayerRunner(name, int(layer), tp)
    if prompt:
        run(hidden[:, :prompt], range(prompt))
    for position in range(prompt, hidden.shape[1]):
        output = run(hidden[:, position : position + 1], [position])
        torch.testing.assert_close(output, expected[:, position : position + 1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name, layer", [pair for pair in LAYERS if pair[0] == "like_31b"])
def test_whole_layer_equals_transformers(name, layer):
    """Four norms, two residuals, and `layer_scalar` over the whole stream."""
    reference = golden(name)
    hidden, expected = reference[f"{layer}.layer.in"], reference[f"{layer}.layer.out"]
    output = LayerRunner(name, int(layer), attention_only=False)(hidden, range(hidden.shape[1]))
    torch.testing.assert_close(output, expected, atol=1e-5, rtol=1e-5)


class MatmulCounter(TorchDispatchMode):
    """Number of products with a weight."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("index, products", [(SLIDING, 4), (GLOBAL, 3)])
def test_d17_one_projection_where_k_is_v(index, products):
    run = LayerRunner("like_31b", index)
    assert ("layer.self_attn.v_proj.weight" in run.ranks[0]) == (index == SLIDING)
    for hidden in (torch.randn(1, 20, 96), torch.randn(1, 1, 96)):
        with MatmulCounter() as counter:
            run(hidden, range(hidden.shape[1]))
        assert counter.count == products


def test_value_of_a_k_eq_v_layer_is_taken_before_the_key_norm():
    """Scaling the key's norm weight must leave the values in the cache alone."""
    hidden = torch.randn(1, 20, 96, generator=torch.Generator().manual_seed(5))
    caches = []
    for factor in (1.0, 3.0):
        run = LayerRunner("like_31b", GLOBAL)
        run.ranks[0]["layer.self_attn.k_norm.weight"] = run.ranks[0]["layer.self_attn.k_norm.weight"] * factor
        run(hidden, range(20))
        caches.append([run.ranks[0][f"kv_mgr.past_key_values.{2 * GLOBAL + i}"][:, :, :20] for i in (0, 1)])
    assert caches[0][1].equal(caches[1][1])
    assert (caches[0][0] * 3).allclose(caches[1][0])
    rms = caches[0][1].pow(2).mean(-1)
    assert rms.allclose(torch.ones_like(rms), atol=1e-3)  # V is normed, without a weight


@pytest.mark.parametrize("index", [SLIDING, GLOBAL])
def test_d7_scale_is_an_argument_and_the_query_is_not_scaled(monkeypatch, index):
    """sqrt(head_dim) folded into the bf16 weight of q_norm would round it: 0.14 % on average at 512."""
    seen = {}

    def spy(query, *args, **kwargs):
        seen.update(query=query, scale=kwargs["scale"])
        return original(query, *args, **kwargs)

    original = attention.prefill_attention
    monkeypatch.setattr(attention, "prefill_attention", spy)
    run = LayerRunner("like_31b", index, dtype=torch.bfloat16)
    hidden = torch.randn(1, 20, 96, generator=torch.Generator().manual_seed(6)).bfloat16()
    run(hidden, range(20))
    weights = {key.removeprefix("layer.self_attn."): value for key, value in run.ranks[0].items()}
    query = (hidden @ weights["q_proj.weight"].T).unflatten(-1, (8, -1))
    wide = query.float()
    normed = wide * (wide.pow(2).mean(-1, keepdim=True) + 1e-6).pow(-0.5) * weights["q_norm.weight"].float()
    rotary = rotary_tables(run.module.frequencies, torch.arange(20)[None], torch.bfloat16)
    expected = apply_rotary(normed.bfloat16(), *rotary).permute(0, 2, 3, 1)
    assert seen["scale"] == 1.0
    # Equal but for one-ulp differences between two ways to a root.
    assert (seen["query"] == expected).float().mean() > 0.99


def attention_flops(index: int, length: int) -> int:
    run = LayerRunner("like_31b", index, sequence_length=4096)
    spec = run.module.spec
    query = torch.zeros(1, length, spec.num_heads, spec.head_dim)
    key = torch.zeros(1, length, spec.num_kv_heads, spec.head_dim)
    step = attention.TextStep(torch.arange(length, dtype=torch.int32)[None], torch.zeros(1, dtype=torch.int32))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run.module.layer.self_attn._attend_prompt(query, key, key, step)
    return counter.get_total_flops()


def test_sliding_prefill_work_grows_with_the_window_not_with_the_square():
    lengths = (512, 1024, 2048, 4096)
    sliding = [attention_flops(SLIDING, length) for length in lengths]
    dense = [2 * 2 * 8 * 16 * length**2 for length in lengths]  # two products, N heads of H dims, S x S
    for shorter, longer in zip(sliding, sliding[1:]):
        assert 1.9 < longer / shorter < 2.1
    assert sliding[-1] < dense[-1] / 12  # blocks of 128 queries read 143 keys
    glob = [attention_flops(GLOBAL, length) for length in lengths]
    assert glob[-1] / glob[-2] > 3.3


def test_kernels_are_asked_for_where_the_table_says(monkeypatch):
    """By queries in prefill and by slots in decode, for the exported instance; never for other dtypes than bf16."""
    asked = []
    for name in ("prefill_attention", "cached_attention"):
        original = getattr(attention, name)

        def spy(*args, original=original, **kwargs):
            asked.append((kwargs["kernel"], kwargs["lnc"]))
            return original(*args, **kwargs)

        monkeypatch.setattr(attention, name, spy)
    wide = {**TEXT_CONFIGS["like_31b"], "head_dim": 128, "sliding_window": 1024}
    weights = {name: torch.zeros(shape) for name, shape in weight_shapes(wide).items()}
    for dtype, enabled, expected in (
        (torch.bfloat16, True, True),
        (torch.bfloat16, False, False),
        (torch.float32, True, False),
    ):
        options = {"config": wide, "weights": weights, "dtype": dtype, "sequence_length": 2048, "nki_kernels": enabled}
        run = LayerRunner("like_31b", SLIDING, **options)
        asked.clear()
        run(torch.zeros(1, 1024, 96, dtype=dtype), range(1024))
        run(torch.zeros(1, 64, 96, dtype=dtype), range(64))
        run(torch.zeros(1, 1, 96, dtype=dtype), [64])
        assert asked == [(expected, 2), (False, 2), (expected, 2)]
