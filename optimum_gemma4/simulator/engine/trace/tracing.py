# SPDX-License-Identifier: Apache-2.0
"""Builds a bundle from model instances: records, checks that the graphs fit together, and lowers each.

The graphs of a bundle share one set of weights and one set of states, and the runtime tells them apart by the shapes
of their inputs alone. What the SDK would mix up silently for two graphs that differ there is an error here.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import fx, nn

from ..errors import GraphError
from ..run.bundle import Bundle, BundleGraph, TensorSpec
from .lowering import lower
from .recorder import module_state, record


logger = logging.getLogger(__name__)


@dataclass
class RankGraph:
    """The recorded graph of one rank, with what its placeholders and outputs are; a bucket of `model`."""

    model: str
    key: str
    weights: dict[str, TensorSpec]
    states: dict[str, TensorSpec]
    inputs: list[TensorSpec]
    graph_module: fx.GraphModule


def record_graph(
    model: str,
    bucket: int,
    module: nn.Module,
    aliases: dict[torch.Tensor, int],
    examples: tuple[torch.Tensor, ...],
    world_size: int,
    order: list[str] | None,
) -> RankGraph:
    """Records one graph; outputs are reordered so that those of the states come last, in the order of the states.

    Args:
        model: key of the model in its builder.
        bucket: index of the example inputs.
        aliases: the model instance's input_output_aliases: which flat output is the new value of which parameter.
        order: names of weights and states of the bundle's first graph, whose order the others take over.

    Raises:
        GraphError: the model or its aliases cannot be compiled.
    """
    key = f"{model}_{bucket}"
    for example in examples:
        if not isinstance(example, torch.Tensor):
            raise GraphError(f"{key}: example inputs must be tensors, got a {type(example).__name__}")
    state = module_state(module)
    scalars = [name for name, tensor in state.items() if tensor.dim() == 0]
    if scalars:
        raise GraphError(
            f"{key}: {', '.join(scalars[:3])} without an axis: torch_xla makes one input of the graph of all "
            "parameters without an axis that are equal while tracing, and they share what is loaded later. Give them "
            "shape [1]."
        )
    if order is not None and set(order) == set(state):
        state = {name: state[name] for name in order}
    names = {tensor: name for name, tensor in state.items()}
    unknown = [tuple(tensor.shape) for tensor in aliases if tensor not in names]
    if unknown:
        raise GraphError(f"{key}: input_output_aliases has tensors that are no parameters of the model: {unknown}")
    aliased = {names[tensor]: index for tensor, index in sorted(aliases.items(), key=lambda item: item[1])}
    ordered = {n: t for n, t in state.items() if n not in aliased} | {n: state[n] for n in aliased}
    graph_module, num_outputs = record(module, ordered, examples, key, world_size)
    specs = {n: TensorSpec.of(n, t, getattr(t, "tensor_model_parallel", False)) for n, t in ordered.items()}
    _move_states_last(key, graph_module, [specs[name] for name in aliased], list(aliased.values()), num_outputs)
    return RankGraph(
        model,
        key,
        {name: spec for name, spec in specs.items() if name not in aliased},
        {name: TensorSpec(name, specs[name].shape, specs[name].dtype, True) for name in aliased},
        [TensorSpec.of(str(i), example) for i, example in enumerate(examples)],
        graph_module,
    )


def _move_states_last(
    key: str, graph_module: fx.GraphModule, states: list[TensorSpec], positions: list[int], num_outputs: int
) -> None:
    output = next(iter(reversed(graph_module.graph.nodes)))
    values = output.args[0]
    for spec, position in zip(states, positions, strict=True):
        if not 0 <= position < num_outputs:
            raise GraphError(f"{key}: {spec.name} is aliased to output {position} of {num_outputs}")
        new = TensorSpec.of(spec.name, values[position].meta["val"], spec.sharded)
        if new != spec:
            raise GraphError(
                f"{key}: the state {spec.name} is {spec.dtype} {list(spec.shape)}, and output {position}, its new "
                f"value, is {new.dtype} {list(new.shape)}"
            )
    others = [value for index, value in enumerate(values) if index not in set(positions)]
    output.args = (others + [values[position] for position in positions],)
    graph_module.recompile()


def build_bundle(rank_graphs: Iterable[RankGraph], world_size: int, properties: dict[str, str]) -> tuple[Bundle, int]:
    """Lowers recorded graphs into a bundle.

    Returns:
        The bundle and the number of outputs of its graphs, states aside.

    Raises:
        ValueError: the graphs do not fit together.
    """
    bundle, first, num_outputs, routes, unused = None, None, 0, {}, {}
    for graph in rank_graphs:
        outputs = len(next(iter(reversed(graph.graph_module.graph.nodes))).args[0]) - len(graph.states)
        if bundle is None:
            weights, states = list(graph.weights.values()), list(graph.states.values())
            bundle, first, num_outputs = Bundle(world_size, weights, states, [], properties), graph, outputs
        _check_fit(first, graph, num_outputs, outputs)
        shapes = tuple(spec.shape for spec in graph.inputs)
        if shapes in routes:
            raise ValueError(
                f"The graphs {routes[shapes]} and {graph.key} take inputs of equal shapes {shapes}: graphs are told "
                "apart by these alone. Give one of them another shape, or trace it into a bundle of its own."
            )
        routes[shapes] = graph.key
        placeholders = [*graph.weights.values(), *graph.states.values(), *graph.inputs]
        lowered = lower(
            graph.graph_module,
            [(spec.shape, spec.torch_dtype) for spec in placeholders],
            [spec.sharded for spec in placeholders],
            world_size,
        )
        _check_unused_inputs(graph, lowered.graph, unused)
        if world_size > 1:
            keep_rank_zero(lowered.graph, num_outputs)
        bundle.graphs.append(BundleGraph(graph.key, graph.inputs, lowered))
    if bundle is None:
        raise ValueError("There is nothing to trace: add a model first.")
    return bundle, num_outputs


def _check_unused_inputs(graph: RankGraph, lowered: fx.Graph, unused: dict[str, tuple[str, list[int]]]) -> None:
    """The SDK drops the inputs that a model's first bucket does not use from the calls of all its buckets."""
    inputs = lowered.find_nodes(op="placeholder")[len(graph.weights) + len(graph.states) :]
    found = [index for index, node in enumerate(inputs) if not node.users]
    first, expected = unused.setdefault(graph.model, (graph.key, found))
    if found != expected:
        raise GraphError(
            f"{graph.key} does not use its inputs {found}, and {first}, a graph of the same model, {expected}: the "
            "SDK drops those of the first from every call. Use the same inputs in both, or add them as two models."
        )


def keep_rank_zero(graph: fx.Graph, num_outputs: int) -> None:
    """Outputs of a graph of all ranks are those of rank 0; states keep their rank axis."""
    output = next(iter(reversed(graph.nodes)))
    values = list(output.args[0])
    with graph.inserting_before(output):
        for index in range(num_outputs):
            value = values[index]
            if value.target is torch.ops.aten.expand.default and value.args[0].meta["val"].dim() < len(value.args[1]):
                values[index] = value.args[0]  # replicated: there is no rank axis to remove
            else:
                values[index] = graph.call_function(torch.ops.aten.select.int, (value, 0, 0))
    output.args = (values,)
    graph.eliminate_dead_code()


def _check_fit(first: RankGraph, graph: RankGraph, first_outputs: int, outputs: int) -> None:
    for kind, expected, found in (
        ("weights", first.weights, graph.weights),
        ("states", first.states, graph.states),
    ):
        different = sorted(set(expected.items()) ^ set(found.items()))
        if different:
            name = different[0][0]
            raise ValueError(
                f"The {kind} of the graphs {first.key} and {graph.key} differ, in {name} first: "
                f"{expected.get(name)} and {found.get(name)}. All graphs of a bundle share one weight layout."
            )
    if len(first.inputs) != len(graph.inputs):
        raise ValueError(
            f"The graph {first.key} has {len(first.inputs)} inputs and {graph.key} has {len(graph.inputs)}: the "
            "traced model is called with one number of inputs. Pad with unused ones, or trace another bundle."
        )
    if first_outputs != outputs:
        raise ValueError(f"The graph {first.key} has {first_outputs} outputs and {graph.key} has {outputs}")
