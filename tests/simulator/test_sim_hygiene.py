# SPDX-License-Identifier: Apache-2.0
"""A trace refuses what the SDK's tracer or compiler could not take, and names it."""

import pytest
import torch
from neuronx_distributed.parallel_layers import mappings
from sim_bundles import Instance, builder, trace_module
from torch import nn

from optimum_gemma4.simulator.engine.errors import GraphError


X = torch.zeros(4, 4)


class Calls(nn.Module):
    """Calls a function of the input and of a weight."""

    def __init__(self, function):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4, 4))
        self.function = function

    def forward(self, x):
        return self.function(x + self.weight)


def trace(function, tmp_path, tp=1):
    return trace_module(lambda: Calls(function), X, folder=tmp_path, tp=tp)


HOST_READS = {
    "__bool__": lambda x: x if (x > 0).any() else -x,
    "item": lambda x: x * x.sum().item(),
    "__int__": lambda x: x[: int(x.sum())],
    "__float__": lambda x: x * float(x[0, 0]),
    "__index__": lambda x: x[0, [0, 1][x[0, 0].long()] :],
    "numpy": lambda x: x + torch.from_numpy(x.numpy()),
    "equal": lambda x: x if torch.equal(x, -x) else -x,
    "allclose": lambda x: x if torch.allclose(x, -x) else -x,
    "item ": lambda x: x + x.tolist()[0][0],
    "__contains__": lambda x: x if 3 in x else -x,
}


@pytest.mark.parametrize("name", HOST_READS)
def test_a_read_on_the_host_is_refused_by_name_and_place(tmp_path, name):
    with pytest.raises(
        GraphError, match=rf"Tensor\.{name.strip()} reads a tensor's value on the host.*test_sim_hygiene"
    ):
        trace(HOST_READS[name], tmp_path)


DYNAMIC_SHAPES = {
    "nonzero": lambda x: x.nonzero().float(),
    "where": lambda x: torch.where(x > 0)[0],
    "masked_select": lambda x: torch.masked_select(x, x > 0),
    "unique": lambda x: torch.unique(x),
    "repeat_interleave": lambda x: x.repeat_interleave(x[0].long(), dim=0),
    "bincount": lambda x: torch.bincount(x[0].long()),
    "mask_index": lambda x: x[x > 0],
}


@pytest.mark.parametrize("name", DYNAMIC_SHAPES)
def test_a_shape_that_depends_on_values_is_refused(tmp_path, name):
    with pytest.raises(GraphError, match=r"aten\.\w+.* cannot be compiled for Neuron.*test_sim_hygiene|boolean mask"):
        trace(DYNAMIC_SHAPES[name], tmp_path)


def write_at_mask(x, value):
    y = x.clone()
    y[x > 0] = value
    return y


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_writing_at_a_boolean_mask_is_refused(tmp_path, value):
    with pytest.raises(GraphError, match=r"aten\.index_put.* with a boolean mask"):
        trace(lambda x: write_at_mask(x, value), tmp_path)


NO_LOWERING = {
    "bucketize": lambda x: torch.bucketize(x, torch.arange(3.0, device=x.device)),
    "searchsorted": lambda x: torch.searchsorted(torch.arange(3.0, device=x.device), x),
    "median": lambda x: x.median(dim=1).values,
    "multinomial": lambda x: torch.multinomial(x.softmax(-1), 1),
    "_fft": lambda x: torch.fft.rfft(x).real,
    "histc": lambda x: torch.histc(x),
    "round": lambda x: x.round(decimals=2),
    "exp2": lambda x: x.exp2(),
    "isin": lambda x: torch.isin(x, torch.arange(2.0, device=x.device)).float(),
    "unfold": lambda x: x.unfold(1, 2, 1),
    "aminmax": lambda x: x.aminmax(dim=1)[0],
}


@pytest.mark.parametrize("name", NO_LOWERING)
def test_an_operator_without_a_lowering_is_refused(tmp_path, name):
    with pytest.raises(GraphError, match=rf"aten\.{name}\S* cannot be compiled for Neuron: it has no XLA lowering"):
        trace(NO_LOWERING[name], tmp_path)


def test_rounding_to_integers_is_allowed(tmp_path):
    assert trace(lambda x: x.round(), tmp_path) is not None


def test_a_dtype_without_hardware_support_is_refused(tmp_path):
    with pytest.raises(GraphError, match="makes a torch.float64 tensor, which Neuron does not support"):
        trace(lambda x: (x.double() * 3).float(), tmp_path)


INTEGERS = {
    "mm": lambda x: x.int() @ x.int(),
    "bmm": lambda x: torch.bmm(x.long()[None], x.long()[None]),
    "topk": lambda x: x.int().topk(2).values,
    "scatter_add": lambda x: x.int().scatter_add(0, x.long(), x.int()),
    "index_add": lambda x: x.int().index_add(0, torch.arange(4, device=x.device), x.int()),
    "index_put": lambda x: x.int().index_put((torch.arange(4),), x.int(), accumulate=True),
    "all_reduce": lambda x: mappings.reduce_from_tensor_model_parallel_region(x.int()),
}


@pytest.mark.parametrize("name", INTEGERS)
def test_integers_where_the_device_computes_in_floating_point_are_refused(tmp_path, name):
    with pytest.raises(GraphError, match=rf"{name}\S* of torch.int\d+ cannot be compiled.*integers would lose bits"):
        trace(INTEGERS[name], tmp_path, tp=2)


def test_integers_may_be_moved_and_summed(tmp_path):
    def allowed(x):
        ids = x.long()
        moved = ids.index_copy(0, torch.arange(4, device=x.device), ids).index_select(0, ids[0].clamp(0, 3))
        return mappings._gather_along_dim(moved.sum(0, keepdim=True) * 3, 1)

    assert trace(allowed, tmp_path, tp=2) is not None


def test_constants_may_be_read_and_in_place_writes_made(tmp_path):
    def allowed(x):
        limit = int(torch.tensor(3).item())
        y = torch.zeros(4, 4, device=x.device)
        y[:limit].copy_(x[:limit])
        y.masked_fill_(x > 0, 1.0)
        return y.index_fill_(0, torch.tensor([0], device=x.device), 2.0)

    assert trace(allowed, tmp_path) is not None


def test_an_output_that_is_no_tensor_is_refused(tmp_path):
    with pytest.raises(GraphError, match="the model returns a int"):
        trace(lambda x: (x, 3), tmp_path)


def test_an_output_that_is_returned_twice_is_refused(tmp_path):
    def twice(x):
        y = x * 2
        return [y, y]

    with pytest.raises(GraphError, match="graph_0: the model returns one tensor twice"):
        trace(twice, tmp_path)
    assert trace(lambda x: [x * 2, (x * 2).clone()], tmp_path) is not None


def test_a_parameter_without_an_axis_is_refused(tmp_path):
    """torch_xla 2.8.1 makes one input of the graph of two such parameters that are equal while tracing."""

    class Clamp(nn.Module):
        def __init__(self, shape):
            super().__init__()
            self.low, self.high = (nn.Parameter(torch.zeros(shape)) for _ in range(2))

        def forward(self, x):
            return torch.minimum(torch.maximum(x, self.low), self.high)

    with pytest.raises(GraphError, match=r"graph_0: low, high without an axis.*Give them shape \[1\]"):
        trace_module(lambda: Clamp(()), X, folder=tmp_path)
    assert trace_module(lambda: Clamp((1,)), X, folder=tmp_path) is not None


def test_buckets_of_a_model_that_use_other_inputs_are_refused(tmp_path):
    class Longer(nn.Module):
        def forward(self, x, shift):
            return x + shift if len(x) > 2 else x * 2

    examples = [(torch.zeros(length, 4), torch.zeros(4)) for length in (2, 3)]
    with pytest.raises(GraphError, match=r"p_1 does not use its inputs \[\], and p_0.*\[1\]"):
        builder(tmp_path, 1).add("p", Instance(Longer, []), examples).trace(initialize_model_weights=False)
    two_models = builder(tmp_path, 1)
    for index, example in enumerate(examples):
        two_models.add(f"p{index}", Instance(Longer, []), [example])
    assert two_models.trace(initialize_model_weights=False) is not None


def test_reducing_a_view_is_refused(tmp_path):
    reduce = mappings.reduce_from_tensor_model_parallel_region
    for view in (lambda x: x[:2], lambda x: x.t(), lambda x: x.view(16), lambda x: x.expand(2, 4, 4)):
        with pytest.raises(RuntimeError, match="all-reduce of a view.*clone"):
            trace(lambda x, view=view: reduce(view(x)), tmp_path, tp=2)
    assert trace(lambda x: reduce(x[:2].clone()), tmp_path, tp=2) is not None


def test_using_a_tensor_after_it_was_reduced_is_refused(tmp_path):
    reduce = mappings.reduce_from_tensor_model_parallel_region
    with pytest.raises(GraphError, match="aten.mul.Tensor uses a tensor after its all-reduce"):
        trace(lambda x: reduce(x) + x * 2, tmp_path, tp=2)
    assert trace(lambda x: x * 2 + reduce(x.clone()), tmp_path, tp=2) is not None


def test_reading_a_weight_in_the_sampler_is_refused_too(tmp_path):
    """Upstream's sampler may branch on the example inputs; on nothing else."""
    from optimum.neuron.models.inference.backend.modules.generation import sampling

    source = "def branch(x):\n    return x if torch.any(x != 1.0) else -x"
    scope = {"torch": torch, "__name__": sampling.__name__}
    exec(source, scope)
    with pytest.raises(GraphError, match="a branch on a weight or a state"):
        trace(scope["branch"], tmp_path)

    class OnInput(nn.Module):
        def forward(self, x):
            return scope["branch"](x)

    model = trace_module(OnInput, torch.zeros(2), folder=tmp_path)
    model.nxd_model.initialize([{}], torch.tensor([0]))
    assert model(torch.ones(2)).tolist() == [1, 1]  # the branch of the example inputs, zeros, is baked in
