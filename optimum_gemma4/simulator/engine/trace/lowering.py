# SPDX-License-Identifier: Apache-2.0
"""Turns the recorded graph of one rank into a functional graph of all ranks.

The graph is functionalised (no in-place writes are left) and, for more than one rank, vmapped over a leading rank
axis: sharded weights and states carry it, [ranks, ...], while inputs and replicated weights do not, and neither does
anything that is computed from these alone or that an all-reduce has made equal again. Work on such values is therefore
done once, not once a rank.
"""

from collections.abc import Callable

import torch
from torch import fx
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from ..errors import GraphError
from .simplify import simplify


def lower(
    rank_graph: fx.GraphModule, specs: list[tuple[tuple[int, ...], torch.dtype]], sharded: list[bool], world_size: int
) -> fx.GraphModule:
    """Lowers the graph of one rank to all ranks.

    Args:
        specs: shape on one rank, and dtype, of every placeholder.
        sharded: for every placeholder, whether it differs between ranks.

    Returns:
        A graph with the same placeholders and outputs. With more than one rank, sharded placeholders and every output
        have a leading rank axis.

    Raises:
        GraphError: a replicated value is reduce-scattered.
    """
    program = torch.func.functionalize(rank_graph)
    shapes = [shape for shape, _ in specs]
    if world_size > 1:
        _index_instead_of_embedding(rank_graph)
        shapes = [(world_size, *shape) if flag else shape for shape, flag in zip(shapes, sharded, strict=True)]
        program = _on_all_ranks(program, sharded, world_size)
    with FakeTensorMode(allow_non_fake_inputs=True):
        fakes = [torch.empty(shape, dtype=dtype) for shape, (_, dtype) in zip(shapes, specs, strict=True)]
    with torch.no_grad():
        lowered = make_fx(program, tracing_mode="fake")(*fakes)
    for node in lowered.graph.nodes:
        if node.target is torch.ops.optimum_gemma4_simulator.reduce_scatter.default:
            raise GraphError("reduce_scatter of a value that is the same on every rank: scatter it instead")
    simplify(lowered.graph)
    return lowered


def _on_all_ranks(program: Callable, sharded: list[bool], world_size: int) -> Callable:
    in_dims = (0, *(0 if flag else None for flag in sharded))
    # vmap needs an argument with the axis, and a model may have nothing that differs between ranks.
    axis = torch.empty(world_size, 0)
    vmapped = torch.vmap(lambda _, *flat: program(*flat), in_dims=in_dims, out_dims=0, randomness="same")
    return lambda *flat: vmapped(axis, *flat)


def _index_instead_of_embedding(graph_module: fx.GraphModule) -> None:
    """vmap's rule for `embedding` copies the whole table on every call; that for `index` does not."""
    aten = torch.ops.aten
    for node in graph_module.graph.find_nodes(op="call_function", target=aten.embedding.default):
        table, ids = node.args[:2]
        node.target, node.args, node.kwargs = aten.index.Tensor, (table, [ids]), {}
    graph_module.recompile()
