# SPDX-License-Identifier: Apache-2.0
"""ModelBuilder and what it returns: routing by shapes, aliased states, several bundles, and the errors."""

import gc
import os
import weakref

import pytest
import torch
from neuronx_distributed.trace.model_builder import ModelBuilder, append_default_compiler_flags
from sim_bundles import Instance, Memory, Perceptron, builder, perceptron, perceptron_weights, trace_module
from torch import nn

from optimum_gemma4.simulator.engine.errors import GraphError
from optimum_gemma4.simulator.engine.run.runtime import loaded


WEIGHTS = perceptron_weights()
NO_RANK = torch.tensor([0], dtype=torch.int32)
X = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))


def memory(folder, tp=1):
    examples = (torch.zeros(1, 4), torch.zeros(1, dtype=torch.int64))
    return builder(folder, tp, WEIGHTS).add("memory", Instance(Memory, ["ring", "log"]), [examples]).trace()


def play(model, steps: int) -> list[torch.Tensor]:
    return [model(X[:1] * step, torch.tensor([step])) for step in range(steps)]


@pytest.mark.parametrize("tp", [1, 2, 4])
def test_a_graph_is_chosen_by_the_shapes_of_the_inputs(tmp_path, tp):
    examples = [(torch.zeros(1, 4),), (torch.zeros(3, 4),)]
    model = builder(tmp_path, tp, WEIGHTS).add("p", Instance(Perceptron, []), examples).trace()
    for x in (X, X[1:2]):
        torch.testing.assert_close(model(x), perceptron(WEIGHTS, x))
    with pytest.raises(RuntimeError, match=r"Input shape \[\[2, 4\]\] not found in input_shape_map: .*\[\[1, 4\]\]"):
        model(X[:2])
    with pytest.raises(RuntimeError, match="Input 0 is torch.float64, and the graph was traced with torch.float32"):
        model(X.double())


@pytest.mark.parametrize("tp", [1, 2])
def test_states_of_different_shapes_live_on_and_are_cleared_by_initialize(tmp_path, tp):
    model = memory(tmp_path, tp)
    ring, log, expected = torch.zeros(2, 4), torch.zeros(5, 4), []
    for step in range(5):
        ring[step % 2] = log[step] = perceptron(WEIGHTS, X[0] * step)
        expected.append(ring.sum(0) + 10 * log.sum(0))
    for found, wanted in zip(play(model, 5), expected, strict=True):
        torch.testing.assert_close(found, wanted)
    states = loaded(model.nxd_model.blob).states
    for name, wanted in (("ring", ring), ("log", log)):
        torch.testing.assert_close(states[name], wanted if tp == 1 else wanted.expand(tp, *wanted.shape))
    weights = builder(tmp_path, tp, WEIGHTS).add("m", Instance(Memory, ["ring", "log"]), []).shard_checkpoint()
    model.nxd_model.initialize(weights, NO_RANK)
    for found, wanted in zip(play(model, 5), expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_bundles_and_copies_of_one_bundle_do_not_meet(tmp_path):
    model, other = memory(tmp_path), builder(tmp_path, 2, WEIGHTS)
    other = other.add("p", Instance(Perceptron, []), [(X,)]).trace()
    torch.jit.save(model, tmp_path / "model.pt")
    copy = torch.jit.load(tmp_path / "model.pt")
    with pytest.raises(RuntimeError, match="not initialized"):
        copy(X[:1], torch.tensor([0]))
    copy.nxd_model.initialize([WEIGHTS], NO_RANK)
    first = play(model, 3)
    torch.testing.assert_close(other(X), perceptron(WEIGHTS, X))
    for a, b in zip(first, play(copy, 3), strict=True):
        assert torch.equal(a, b)


def test_several_outputs_come_as_a_list_and_own_their_memory(tmp_path):
    class Many(nn.Module):
        def __init__(self):
            super().__init__()
            self.state = nn.Parameter(torch.zeros(4), requires_grad=False)

        def forward(self, x, flags):
            new = self.state + x
            return [self.state, x, flags.any(-1), new]

    model = builder(tmp_path, 1, {}).add(
        "many", Instance(Many, ["state"], first=3), [(torch.zeros(4), torch.zeros(2, 2, dtype=torch.bool))]
    )
    model = model.trace()
    x, flags = torch.ones(4), torch.tensor([[True, False], [False, False]])
    state, same, any_flag = model(x, flags)
    assert state.tolist() == [0] * 4 and same.data_ptr() != x.data_ptr() and any_flag.tolist() == [True, False]
    assert model(x, flags)[0].tolist() == [1] * 4 and state.tolist() == [0] * 4


def test_what_is_loaded_goes_with_the_module(tmp_path):
    model = memory(tmp_path)
    bundle = weakref.ref(loaded(model.nxd_model.blob))
    assert bundle() is not None
    del model
    gc.collect()
    assert bundle() is None


def test_the_artifact_holds_no_weights(tmp_path):
    class Large(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1000, 1000))

        def forward(self, x):
            return x @ self.weight

    torch.jit.save(trace_module(Large, torch.zeros(1, 1000), folder=tmp_path), tmp_path / "model.pt")
    assert os.path.getsize(tmp_path / "model.pt") < 20_000


def test_the_working_directory_is_made_anew(tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    (work / "old").write_text("")
    memory(tmp_path)
    assert not (work / "old").exists()
    assert "index_copy" in (work / "memory" / "_tp0_bk0" / "model" / "graph.txt").read_text()


@pytest.mark.parametrize("tp", [1, 3])
def test_a_model_may_have_nothing_that_is_sharded(tmp_path, tp):
    model = builder(tmp_path, tp, {"weight": X.T}).add(
        "l", Instance(lambda: nn.Linear(3, 4, bias=False), []), [(X.T,)]
    )
    torch.testing.assert_close(model.trace()(X.T), X.T @ X)


def test_a_dry_run_traces_and_returns_nothing(tmp_path):
    assert builder(tmp_path, 1).add("p", Instance(Perceptron, []), [(X,)]).trace(dry_run=True) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ranks: ranks.pop(), "traced for 2 ranks"),
        (lambda ranks: ranks[1].pop("up.weight"), "rank 1 has no up.weight"),
        (lambda ranks: ranks[1].update({"up.weight": torch.zeros(8, 4)}), r"float32 \[4, 4\].*float32 \[8, 4\]"),
        (lambda ranks: ranks[0].update({"up.weight": torch.zeros(4, 4).half()}), "has float16"),
        (lambda ranks: ranks[1].update({"down.bias": torch.ones(4)}), "down.bias is not sharded, and yet"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(tmp_path, change, message):
    traced = builder(tmp_path, 2, WEIGHTS).add("p", Instance(Perceptron, []), [(X,)])
    model, ranks = traced.trace(initialize_model_weights=False), traced.shard_checkpoint()
    change(ranks)
    with pytest.raises(RuntimeError, match=message):
        model.nxd_model.initialize(ranks, NO_RANK)
    with pytest.raises(RuntimeError, match="traced for 2 ranks"):
        model.nxd_model.initialize(traced.shard_checkpoint(), torch.tensor([2], dtype=torch.int32))


class Wider(Perceptron):
    def __init__(self):
        super().__init__()
        self.more = nn.Parameter(torch.zeros(2))

    def forward(self, x):
        return super().forward(x) + self.more.sum()


class TwoOutputs(Perceptron):
    def forward(self, x):
        return super().forward(x), x + 1


class TwoInputs(Perceptron):
    def forward(self, x, y):
        return super().forward(x) + y


@pytest.mark.parametrize(
    ("other", "examples", "message"),
    [
        (Perceptron, (X,), "p_0 and q_0 take inputs of equal shapes"),
        (Wider, (X[:1],), "weights of the graphs p_0 and q_0 differ, in more first"),
        (TwoOutputs, (X[:1],), "p_0 has 1 outputs and q_0 has 2"),
        (TwoInputs, (X[:1], X[:1]), "p_0 has 1 inputs and q_0 has 2"),
    ],
)
def test_graphs_that_do_not_fit_together_are_refused(tmp_path, other, examples, message):
    two = builder(tmp_path, 1).add("p", Instance(Perceptron, []), [(X,)]).add("q", Instance(other, []), [examples])
    with pytest.raises(ValueError, match=message):
        two.trace(initialize_model_weights=False)


def test_aliases_that_do_not_fit_are_refused(tmp_path):
    examples = (torch.zeros(1, 4), torch.zeros(1, dtype=torch.int64))
    for states, first, message in (
        (["ring", "log"], 2, r"the state ring is float32 \[2, 4\], and output 2, its new value, is float32 \[5, 4\]"),
        (["log"], 3, r"log is aliased to output 3 of 3"),
        (["log", "ring"], 1, r"the state log is float32 \[5, 4\], and output 1, its new value, is float32 \[2, 4\]"),
    ):
        with pytest.raises(GraphError, match=message):
            trace_module(Memory, *examples, folder=tmp_path, states=states, first=first)

    class Foreign(Instance):
        def get(self, bucket_rank, **kwargs):
            return self.module, {torch.zeros(7): 1}

    with pytest.raises(GraphError, match=r"no parameters of the model: \[\(7,\)\]"):
        builder(tmp_path, 1).add("m", Foreign(Memory, []), [examples]).trace(initialize_model_weights=False)


def test_builder_arguments(tmp_path):
    with pytest.raises(ValueError, match="local_ranks_size"):
        ModelBuilder(None, 2, None, world_size=2)
    with pytest.raises(TypeError):
        ModelBuilder(None, 2, None, num_ranks=2)
    with pytest.raises(ValueError, match="nothing to trace"):
        builder(tmp_path, 1).trace()
    with pytest.raises(GraphError, match="example inputs must be tensors, got a list"):
        builder(tmp_path, 1).add("p", Instance(Perceptron, []), [([X],)]).trace(initialize_model_weights=False)
    flags = append_default_compiler_flags("--lnc=2")
    assert "--lnc=2" in flags and "--auto-cast=none" in flags and "-O1" in flags
    assert "-O1" not in append_default_compiler_flags("-O2")
