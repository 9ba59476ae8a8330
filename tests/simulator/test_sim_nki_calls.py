# SPDX-License-Identifier: Apache-2.0
"""NKI kernels in traced models: both calling conventions, one node in the graph, kernel or twin when it runs."""

import neuronxcc.nki as nki
import neuronxcc.nki.language as nl
import pytest
import torch
from neuronx_distributed.parallel_layers.layers import ColumnParallelLinear, RowParallelLinear
from neuronxcc.nki._machine.errors import NkiError
from sim_bundles import Instance, builder, run_module, trace_module
from torch import nn
from torch_neuronx.xla_impl.ops import nki_jit

from optimum_gemma4.nki.flash_prefill import flash_prefill
from optimum_gemma4.nki.flash_prefill_torch import flash_prefill as flash_prefill_twin
from optimum_gemma4.simulator.engine.errors import GraphError
from optimum_gemma4.simulator.engine.nki_operator import NKI_KERNEL
from optimum_gemma4.simulator.engine.run.bundle import Bundle
from optimum_gemma4.simulator.nki_report import nki_profile


@nki.jit
def scaled(x, factor=2.0):
    """Returns x * factor; with cores, each writes its half of the rows."""
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    cores = nl.num_programs(axes=0) if nl.program_ndim() else 1
    rows = nl.ds((nl.program_id(axis=0) if cores > 1 else 0) * (x.shape[0] // cores), x.shape[0] // cores)
    nl.store(out[rows, :], nl.multiply(nl.load(x[rows, :]), factor))
    return out


def sum_and_difference(first, second, total, difference):
    """Written for `nki_jit`: both results are arguments."""
    first, second = nl.load(first), nl.load(second)
    nl.store(total, nl.add(first, second))
    nl.store(difference, nl.subtract(first, second))


@nki.jit
def too_many_partitions(x):
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    nl.store(out, nl.load(x))
    return out


@nki.jit
def takes_options(x, options):
    return scaled(x)


class Calls(nn.Module):
    """A module that is one function of its inputs."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


class Projected(nn.Module):
    """A kernel on what differs between ranks and one on what does not, [2, 4] -> [2, 4]."""

    def __init__(self):
        super().__init__()
        self.up = ColumnParallelLinear(4, 8, bias=False, gather_output=False)
        self.down = RowParallelLinear(8, 4, bias=False, input_is_parallel=True)

    def forward(self, x):
        return scaled(self.down(scaled(self.up(x))), 3.0)


def run(function, *inputs, folder):
    return run_module(lambda: Calls(function), {}, *inputs, folder=folder)


X = torch.arange(12.0).view(4, 3)


def test_a_kernel_that_returns_its_result(tmp_path):
    torch.testing.assert_close(run(lambda x: scaled(x, factor=3.0) + 1, X, folder=tmp_path), 3 * X + 1)


@pytest.mark.parametrize(("grid", "cores"), [(nl.nc(2), 2), ((nl.nc(2),), 2), (1, 1)])
def test_the_launch_grid_is_kept(tmp_path, grid, cores):
    traced = trace_module(lambda: Calls(lambda x: scaled[grid](x)), X, folder=tmp_path)
    traced.nxd_model.initialize([{}], torch.tensor([0], dtype=torch.int32))
    with nki_profile("trn1") as report:  # what is modelled is the platform of the trace
        torch.testing.assert_close(traced(X), 2 * X)
    assert len(report.cores()) == cores and report.launches[0].target == "trn2"


@pytest.mark.parametrize("kernel", [sum_and_difference, nki.jit(sum_and_difference)], ids=["function", "nki.jit"])
def test_a_kernel_that_stores_to_its_arguments(tmp_path, kernel):
    def program(first, second):
        total, difference = torch.zeros_like(first), torch.full_like(first, 7.0)
        returned = nki_jit()(kernel)[1](first, second, total, difference=difference)
        return [total * 10 + difference, returned[0] - returned[1]]

    found = run(program, X, X + 1, folder=tmp_path)
    torch.testing.assert_close(found, [10 * (2 * X + 1) - 1, 2 * X + 2])


def test_what_was_not_stored_to_keeps_its_value(tmp_path):
    def program(x):
        total, difference = torch.zeros_like(x), torch.zeros_like(x)
        nki_jit()(sum_and_difference)(x, x, total, difference)
        return x + total

    torch.testing.assert_close(run(program, X, folder=tmp_path), 3 * X)


@pytest.mark.parametrize("tp", [1, 2, 4])
def test_every_rank_runs_its_own_kernel(tmp_path, tp):
    weights = {"up.weight": torch.randn(8, 4), "down.weight": torch.randn(4, 8)}
    x = torch.randn(2, 4)
    model = builder(tmp_path, tp, weights).add("graph", Instance(Projected, []), [(x,)]).trace()
    with nki_profile() as report:
        torch.testing.assert_close(model(x), 6 * x @ weights["up.weight"].T @ weights["down.weight"].T)
    assert len(report.launches) == tp + 1  # what is the same on all ranks is computed once


def attention_inputs():
    torch.manual_seed(0)
    q = (torch.randn(1, 2, 128, 200) * 128**-0.5).bfloat16()
    return q, torch.randn(1, 1, 128, 200).bfloat16(), torch.randn(1, 1, 200, 128).bfloat16()


@pytest.mark.parametrize(("mode", "launches"), [(None, 0), ("twin", 0), ("simulate", 1)])
def test_a_kernel_with_a_twin_runs_as_the_variable_says(tmp_path, monkeypatch, mode, launches):
    monkeypatch.delenv("OPTIMUM_GEMMA4_NKI", raising=False)
    inputs = attention_inputs()
    traced = trace_module(lambda: Calls(lambda *x: flash_prefill(*x, None, window=64)), *inputs, folder=tmp_path)
    traced.nxd_model.initialize([{}], torch.tensor([0], dtype=torch.int32))
    if mode:
        monkeypatch.setenv("OPTIMUM_GEMMA4_NKI", mode)
    with nki_profile() as report:
        found = traced(*inputs)
    assert len(report.launches) == launches
    expected = (flash_prefill if mode == "simulate" else flash_prefill_twin)(*inputs, None, window=64)
    assert torch.equal(found, expected)


@pytest.mark.parametrize(("family", "target"), [("trn1", "trn1"), ("inf2", "trn1"), ("trn2", "trn2")])
def test_the_platform_of_the_trace_is_simulated(tmp_path, monkeypatch, family, target):
    """NeuronCore-v2 masks in another way; which one it is was settled when the model was traced."""
    inputs = attention_inputs()
    monkeypatch.setenv("NEURON_PLATFORM_TARGET_OVERRIDE", family)
    traced = trace_module(lambda: Calls(lambda *x: flash_prefill(*x, None, window=64)), *inputs, folder=tmp_path)
    traced.nxd_model.initialize([{}], torch.tensor([0], dtype=torch.int32))
    monkeypatch.delenv("NEURON_PLATFORM_TARGET_OVERRIDE")
    monkeypatch.setenv("OPTIMUM_GEMMA4_NKI", "simulate")
    with nki_profile() as report:
        found = traced(*inputs)
    assert [launch.target for launch in report.launches] == [target]
    torch.testing.assert_close(found, flash_prefill_twin(*inputs, None, window=64), atol=2**-8, rtol=2**-7)


def test_an_unknown_mode_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("OPTIMUM_GEMMA4_NKI", "fast")
    with pytest.raises(ValueError, match="OPTIMUM_GEMMA4_NKI='fast': set it to twin"):
        run(lambda x: scaled(x), X, folder=tmp_path)


def test_the_graph_holds_one_node_that_is_data(tmp_path):
    traced = trace_module(lambda: Calls(lambda x: scaled(x, 3.0).sum()), X, folder=tmp_path)
    bundle = Bundle.from_bytes(traced.nxd_model.blob.numpy().tobytes())
    calls = [node for node in bundle.graphs[0].graph_module.graph.nodes if node.target is NKI_KERNEL]
    assert len(calls) == 1 and f'"kernel": "{__name__}:scaled"' in calls[0].args[0]


def test_what_the_compiler_refuses_ends_the_trace(tmp_path):
    with pytest.raises(NkiError, match="partition"):
        trace_module(lambda: Calls(too_many_partitions), torch.zeros(200, 4), folder=tmp_path)


def test_a_kernel_with_a_twin_is_compiled_while_tracing_if_it_is_to_be_simulated(tmp_path, monkeypatch):
    monkeypatch.setenv("OPTIMUM_GEMMA4_NKI", "simulate")
    with nki_profile() as report:
        trace_module(lambda: Calls(lambda *x: flash_prefill(*x)), *attention_inputs(), folder=tmp_path)
    assert len(report.launches) == 1


def test_a_kernel_that_cannot_be_found_again_is_refused(tmp_path):
    @nki.jit
    def local(x):
        return scaled(x)

    with pytest.raises(GraphError, match="define this one at the top level"):
        trace_module(lambda: Calls(local), X, folder=tmp_path)


def test_an_argument_that_is_no_constant_is_refused(tmp_path):
    with pytest.raises(GraphError, match="takes_options: a object is an argument"):
        trace_module(lambda: Calls(lambda x: takes_options(x, object())), X, folder=tmp_path)


def test_outside_of_a_trace_a_kernel_runs_at_once():
    torch.testing.assert_close(scaled(X), 2 * X)
    total, difference = torch.zeros_like(X), torch.zeros_like(X)
    assert nki_jit()(sum_and_difference)(X, X, total, difference) is None
    torch.testing.assert_close([total, difference], [2 * X, 0 * X])
