# SPDX-License-Identifier: Apache-2.0
"""Programs: states are written in place where that is safe and nowhere else, and a stored graph is the same graph."""

import math
from collections.abc import Callable

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from optimum_gemma4.simulator.engine.run import graph_format
from optimum_gemma4.simulator.engine.run.program import Program
from optimum_gemma4.simulator.engine.trace.simplify import simplify


aten = torch.ops.aten
INDEX = torch.tensor([1, 3])
DUS = torch.ops.optimum_gemma4_simulator.dynamic_update_slice


def graph_of(function: Callable, *tensors: torch.Tensor):
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fakes = [mode.from_tensor(tensor) for tensor in tensors]
    graph_module = make_fx(torch.func.functionalize(function), tracing_mode="fake")(*fakes)
    simplify(graph_module.graph)
    return graph_module


def operators(program: Program) -> list[str]:
    return [str(node.target) for node in program._step.__self__.graph.nodes if node.op == "call_function"]


def run(function: Callable, state: torch.Tensor, x: torch.Tensor, steps: int = 3) -> Program:
    """Runs `function(state, x) -> (output, new state)` for some steps and checks each against eager torch."""
    program = Program(graph_of(function, state, x), 0, 1)
    program.bind([])
    states, expected = [state.clone()], state.clone()
    for _ in range(steps):
        (found,) = program(states, [x])
        wanted, expected = function(expected, x)
        wanted = wanted.clone()
        torch.testing.assert_close(found, wanted)
        torch.testing.assert_close(states[0], expected)
        assert states[0].is_contiguous()
    return program


UPDATES = {
    "index_copy": (lambda s, x: s.index_copy(0, INDEX, x), "aten.index_copy_.default"),
    "scatter": (lambda s, x: s.scatter(0, INDEX[:, None].expand(2, 3), x), "aten.scatter_.src"),
    "index_put": (lambda s, x: s.index_put((INDEX,), x), "aten.index_put_.default"),
    "slice_scatter": (lambda s, x: s.slice_scatter(x, 0, 1, 3), "aten.copy_.default"),
    "select_scatter": (lambda s, x: s.select_scatter(x[0], 0, 2), "aten.copy_.default"),
    "masked_fill": (lambda s, x: s.masked_fill(x.sum() > 0, 2.0), "aten.masked_fill_.Scalar"),
    "update_slice": (
        lambda s, x: DUS(s, x, [torch.tensor(2, dtype=torch.int32), torch.tensor(0, dtype=torch.int32)]),
        "optimum_gemma4_simulator.dynamic_update_slice_.default",
    ),
    "twice": (lambda s, x: s.index_copy(0, INDEX, x).index_copy(0, INDEX + 1, x * 2), "aten.index_copy_.default"),
}


def assigned(s, x):
    new = s.clone()
    new[1:3] = x
    new[0].copy_(x[1])
    return new


@pytest.mark.parametrize("name", UPDATES)
def test_an_update_is_in_place_when_the_old_state_is_not_read_again(name):
    update, operator = UPDATES[name]

    def step(s, x):
        return s.sum(0) + x.sum(), update(s, x)

    found = operators(run(step, torch.randn(5, 3), torch.randn(2, 3)))
    assert operator in found
    assert not any("clone" in target or f"aten.{name}.default" == target for target in found)


@pytest.mark.parametrize("name", UPDATES)
def test_an_update_is_not_in_place_when_the_old_state_is_read_later_or_returned(name):
    update, _ = UPDATES[name]

    def reads(s, x):
        view = s[1:].t()
        new = update(s, x)
        return new.sum(0) - view.sum(1), new

    run(reads, torch.randn(5, 3), torch.randn(2, 3))
    run(lambda s, x: (s, update(s, x)), torch.randn(5, 3), torch.randn(2, 3))
    run(lambda s, x: (s[1:], update(s, x)), torch.randn(5, 3), torch.randn(2, 3))


@pytest.mark.parametrize("name", UPDATES)
def test_an_output_may_show_the_new_state(name):
    update, _ = UPDATES[name]

    def shows(s, x):
        new = update(s, x)
        return new[1:], new

    run(shows, torch.randn(5, 3), torch.randn(2, 3))


@pytest.mark.parametrize(
    "step",
    [
        lambda s, x: (x + 1, s),
        lambda s, x: (x + 1, s + x.sum()),
        lambda s, x: (x + 1, s.flip(0).t().contiguous().t()),
        lambda s, x: (x + 1, assigned(s, x)),
        lambda s, x: (x + 1, x.sum().expand(5, 3)),
        lambda s, x: (x + 1, s.t().reshape(5, 3)),
        lambda s, x: (x, torch.where(s > 0, s, x.sum())),
    ],
    ids=["unchanged", "new", "transposed", "assigned", "expanded", "reshaped", "where"],
)
def test_other_new_states_are_right_and_own_their_memory(step):
    run(step, torch.randn(5, 3), torch.randn(2, 3))


def test_two_states_may_get_the_same_value_or_each_other_s():
    def step(a, b, x):
        return x + 1, b, a

    program = Program(graph_of(step, torch.zeros(2), torch.zeros(2), torch.zeros(2)), 0, 2)
    program.bind([])
    states = [torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])]
    for _ in range(3):
        before = [state.clone() for state in states]
        program(states, [torch.zeros(2)])
        assert torch.equal(states[0], before[1]) and torch.equal(states[1], before[0])
        states[0].add_(1)  # a write to one must not reach the other
        assert torch.equal(states[1], before[0])


def test_what_depends_on_weights_alone_is_computed_once_if_it_is_small_or_a_view():
    def step(weight, scale, x):
        return x @ weight.t() * (1 + scale) + torch.arange(4.0), weight.float().double().sum()

    weight, scale = torch.randn(4, 100_000), torch.randn(4)
    program = Program(graph_of(step, weight, scale, torch.randn(2, 100_000)), 2, 0)
    program.bind([weight, scale])
    assert operators(program) == [
        "aten.mm.default",
        "aten.mul.Tensor",
        "aten.add.Tensor",
        "aten._to_copy.default",
        "aten.sum.default",
    ]
    x = torch.randn(2, 100_000)
    torch.testing.assert_close(program([], [x])[0], step(weight, scale, x)[0])


def test_random_numbers_are_drawn_on_every_call():
    program = Program(graph_of(lambda x: (torch.rand(3) + torch.rand(3) * x,), torch.zeros(3)), 0, 0)
    program.bind([])
    torch.manual_seed(0)
    first, second = program([], [torch.ones(3)])[0], program([], [torch.ones(3)])[0]
    torch.manual_seed(0)
    assert torch.equal(first, torch.rand(3) + torch.rand(3)) and not torch.equal(first, second)


def test_a_stored_graph_is_the_same_graph():
    def everything(x, i):
        parts = x.split(2, dim=1)
        y = torch.where(parts[0] > math.inf, -math.inf, parts[1].to(torch.bfloat16).float())
        z = torch.full((2, 2), float("nan")).nan_to_num(1.5) + torch.tensor([[0.25], [0.5]])
        top = torch.topk(x, 2, dim=-1)
        return (
            y + z,
            top[1] + i,
            x.clone(memory_format=torch.contiguous_format).index_select(1, i),
            x.any(),
            x[:, None],
        )

    x, i = torch.randn(2, 4), torch.tensor([1, 0])
    graph_module = graph_of(everything, x, i)
    data, constants = graph_format.encode(graph_module)
    import json

    again = graph_format.decode(json.loads(json.dumps(data)), constants)
    for found, wanted in zip(again(x, i), everything(x, i), strict=True):
        assert torch.equal(found, wanted) and found.dtype == wanted.dtype
    assert [str(n.target) for n in again.graph.nodes if n.op == "call_function"] == [
        str(n.target) for n in graph_module.graph.nodes if n.op == "call_function"
    ]


def test_a_value_without_a_place_in_a_stored_graph_is_an_error():
    graph_module = graph_of(lambda x: (x + 1,), torch.zeros(1))
    next(n for n in graph_module.graph.nodes if n.op == "call_function").args += (1j,)
    with pytest.raises(TypeError, match="complex 1j has no place"):
        graph_format.encode(graph_module)


def test_idle_views_and_repeated_work_are_removed():
    def wasteful(x):
        a = x.view(4, 2).view(8).view(2, 4) + 1
        b = x.view(8).view(2, 4) + 1
        return (a.expand(2, 4) + b[:, :] + x.reshape(2, 4),)

    graph_module = graph_of(wasteful, torch.randn(2, 4))
    found = [str(n.target) for n in graph_module.graph.nodes if n.op == "call_function"]
    assert found == ["aten.add.Tensor"] * 3
