# SPDX-License-Identifier: Apache-2.0
"""The traced graphs: operators that XLA takes, nothing of the example inputs baked in, all states rewritten."""

import pytest
import torch
from text_models import TEXT_CONFIGS, random_tokens
from text_runner import TextRunner
from torch.fx.experimental.proxy_tensor import make_fx

from optimum_gemma4.simulator.engine.ranks import tensor_parallel


# What torch_xla 2.8 lowers, of what a decoder may need (codegen/xla_native_functions.yaml), and views, which its
# functionalization takes away. Not among them: nonzero, masked_select, item, sort and boolean indices, which depend on
# values; gather and scatter, which move one value an index where index_select and index_copy move rows; pow.
XLA_OPERATORS = """
    _to_copy add amax any arange bitwise_and bmm cat clamp clone cos div embedding eq exp ge gelu gt index_copy
    index_select le lift_fresh_copy lt mean mm mul remainder rsqrt scalar_tensor sin sub sum tanh where
    zeros_like
    _unsafe_view alias expand permute select slice split_with_sizes t transpose unsqueeze view
""".split()
BUCKET, ROWS = 48, 3


def inputs(name: str, length: int, images: bool, seed: int) -> list[torch.Tensor]:
    """Random conversations: prompts of random lengths, or tokens at random positions; one row is unused."""
    generator = torch.Generator().manual_seed(seed)
    tokens = random_tokens(name)[:, :length]
    lengths = torch.randint(1, length + 1, (ROWS, 1), generator=generator)
    positions = torch.arange(length).expand(ROWS, length)
    positions = torch.where(positions < lengths, positions, -1)
    if length == 1:
        positions = torch.randint(0, 90, (ROWS, 1), generator=generator)
    positions[seed % ROWS] = -1
    seq_ids = torch.randperm(ROWS, generator=generator)
    arguments = [tokens.roll(seed, 0), positions, seq_ids]
    floats = [torch.ones(ROWS, 3)]
    if images:
        features = torch.randn(11, TEXT_CONFIGS[name]["hidden_size"], generator=generator)
        index = torch.randint(-1, 11, (ROWS, length), generator=generator)
        end = torch.where(positions >= 0, (positions + 5).clamp(max=length - 1), -1)
        return [tensor.int() for tensor in arguments] + floats + [features, index.int(), end.int()]
    return [tensor.int() for tensor in arguments] + floats


def call(run: TextRunner, state: dict, arguments: list[torch.Tensor]) -> list[torch.Tensor]:
    with tensor_parallel(1), torch.no_grad():
        return torch.func.functional_call(run.model, state, tuple(arguments))


@pytest.mark.parametrize("images", [False, True])
@pytest.mark.parametrize("length", [BUCKET, 1])
@pytest.mark.parametrize("name", ["one_global_head", "own_v_proj"])
def test_graph(name, length, images):
    run = TextRunner(name, rows=ROWS, max_soft_tokens=[8])
    state = run.ranks[0]
    graph = make_fx(lambda state, *arguments: call(run, state, arguments))(
        state, *inputs(name, length, images, seed=0)
    )
    operators = {
        node.target.__name__.split(".")[0]
        for node in graph.graph.nodes
        if node.op == "call_function" and isinstance(node.target, torch._ops.OpOverload)
    }
    assert operators <= set(XLA_OPERATORS)
    for seed in (1, 2, 3):
        arguments = inputs(name, length, images, seed)
        for traced, eager in zip(graph(state, *arguments), call(run, state, arguments), strict=True):
            assert traced.isfinite().all()
            torch.testing.assert_close(traced, eager, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("length", [BUCKET, 1])
def test_every_state_is_an_output_of_its_own(length):
    """Aliased outputs follow the first output in state order, with the state's shape and dtype, none unchanged."""
    run = TextRunner("like_31b", rows=ROWS, dtype=torch.bfloat16)
    outputs = call(run, run.ranks[0], inputs("like_31b", length, False, seed=1))
    states = [run.ranks[0][name] for name in run.state_names]
    assert len(outputs) == 1 + len(states)
    for output, state in zip(outputs[1:], states):
        assert (output.shape, output.dtype) == (state.shape, state.dtype)
        assert output.data_ptr() != state.data_ptr()
