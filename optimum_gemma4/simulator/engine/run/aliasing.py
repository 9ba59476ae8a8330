# SPDX-License-Identifier: Apache-2.0
"""What shares memory with what in a functional graph, and writing states in place where that is safe.

A functional graph updates a KV cache by copying all of it. Where nothing reads the old cache after an update, the
update is replaced by its in-place form, which is what aliasing a state means on the device.
"""

import operator

import torch
from torch import fx


aten = torch.ops.aten
_IN_PLACE = {
    aten.scatter.src: aten.scatter_.src,
    aten.scatter.value: aten.scatter_.value,
    aten.index_put.default: aten.index_put_.default,
    aten.index_copy.default: aten.index_copy_.default,
    aten.masked_fill.Scalar: aten.masked_fill_.Scalar,
    aten.masked_fill.Tensor: aten.masked_fill_.Tensor,
    aten.copy.default: aten.copy_.default,
    torch.ops.optimum_gemma4_simulator.dynamic_update_slice.default: (
        torch.ops.optimum_gemma4_simulator.dynamic_update_slice_.default
    ),
}
_WINDOW = {aten.slice_scatter.default: aten.slice.Tensor, aten.select_scatter.default: aten.select.int}


def is_view(node: fx.Node) -> bool:
    """Whether the node's result shares memory with its first argument."""
    if node.op != "call_function":
        return False
    if node.target is operator.getitem:
        return is_view(node.args[0])
    if node.target is aten._unsafe_view.default:
        return True
    return any(result.alias_info is not None for result in node.target._schema.returns)


def root(node: fx.Node) -> fx.Node:
    """The node whose memory this one shows."""
    while is_view(node):
        node = node.args[0]
    return node


def _last_uses(graph: fx.Graph, order: dict[fx.Node, int]) -> dict[fx.Node, int]:
    """Position of the last node that reads the memory of each root, through views or not."""
    last: dict[fx.Node, int] = {}
    for node in graph.nodes:
        for argument in node.all_input_nodes:
            memory = root(argument)
            last[memory] = max(last.get(memory, -1), order[node])
    return last


def write_states_in_place(graph: fx.Graph, states: list[fx.Node]) -> None:
    """Replaces updates of the state placeholders by their in-place forms, where no later node reads the old value."""
    order = {node: index for index, node in enumerate(graph.nodes)}
    last_use = _last_uses(graph, order)
    owned = set(states)
    output = next(iter(reversed(graph.nodes)))
    for node in list(graph.nodes):
        if node.op != "call_function" or not node.args or node.args[0] not in owned:
            continue
        if node.target not in _IN_PLACE and node.target not in _WINDOW:
            continue
        old = node.args[0]
        # An old value that is itself an output is read at the very end.
        if last_use[old] > order[node] or old in output.all_input_nodes:
            continue
        with graph.inserting_before(node):
            if node.target in _IN_PLACE:
                new = graph.call_function(_IN_PLACE[node.target], node.args, node.kwargs)
            else:
                _, source, *window = node.args
                view = graph.call_function(_WINDOW[node.target], (old, *window), node.kwargs)
                new = graph.call_function(aten.copy_.default, (view, source))
        order[new] = order[node]
        later = last_use.get(node, -1)
        node.replace_all_uses_with(old)
        graph.erase_node(node)
        last_use[old] = max(order[new], later)


def own_outputs(graph: fx.Graph, states: list[fx.Node], first_state_output: int) -> list[bool]:
    """Makes outputs own their memory, and says which states come back as new tensors.

    Args:
        states: the state placeholders; their outputs are the last ones, in the same order.
        first_state_output: number of outputs before them.

    Returns:
        For each state, whether its output is a new tensor (False: it was written in place, or left alone).
    """
    output = next(iter(reversed(graph.nodes)))
    values = list(output.args[0])
    replaced = []
    taken: set[fx.Node] = set()
    with graph.inserting_before(output):
        for index, state in enumerate(states, start=first_state_output):
            value = values[index]
            if value is not state and (is_view(value) or value.op != "call_function" or value in taken):
                value = graph.call_function(aten.clone.default, (value,), {"memory_format": torch.contiguous_format})
            taken.add(value)
            values[index] = value
            replaced.append(value is not state)
        for index, value in enumerate(values[:first_state_output]):
            if root(value).op == "placeholder" or root(value) in taken:
                values[index] = graph.call_function(aten.clone.default, (value,))
    output.args = (values,)
    return replaced
