# SPDX-License-Identifier: Apache-2.0
"""A graph of torch operators as JSON, and back.

A node is [operator, arguments, keyword arguments] and is named by its position; tensors that the graph holds as
constants are kept apart, by name. Only data is stored: no code, no pickle, no weights.
"""

import operator

import torch
from torch import fx


_TAGGED = {
    "dtype": (torch.dtype, lambda v: str(v).removeprefix("torch.")),
    "layout": (torch.layout, lambda v: str(v).removeprefix("torch.")),
    "memory_format": (torch.memory_format, lambda v: str(v).removeprefix("torch.")),
}
_GETITEM = "getitem"


def _encode_value(value, position: dict[fx.Node, int]):
    if isinstance(value, fx.Node):
        return {"node": position[value]}
    if isinstance(value, (list, tuple)):
        return [_encode_value(item, position) for item in value]
    for tag, (kind, name) in _TAGGED.items():
        if isinstance(value, kind):
            return {tag: name(value)}
    if isinstance(value, torch.device):
        return {"device": str(value)}
    if isinstance(value, float):
        return {"float": repr(value)}  # inf and nan have no JSON
    if value is None or isinstance(value, (bool, int, str)):
        return value
    raise TypeError(f"{type(value).__name__} {value!r} has no place in a stored graph")


def _decode_value(value, nodes: list[fx.Node]):
    if isinstance(value, list):
        return [_decode_value(item, nodes) for item in value]
    if not isinstance(value, dict):
        return value
    ((tag, content),) = value.items()
    if tag == "node":
        return nodes[content]
    if tag == "float":
        return float(content)
    if tag == "device":
        return torch.device(content)
    return getattr(torch, content)


def _target_name(target) -> str:
    if target is operator.getitem:
        return _GETITEM
    return f"{target._schema.name}.{target._overloadname}"


def _target(name: str):
    if name == _GETITEM:
        return operator.getitem
    namespace, _, rest = name.partition("::")
    packet, _, overload = rest.partition(".")
    return getattr(getattr(getattr(torch.ops, namespace), packet), overload)


def encode(graph_module: fx.GraphModule) -> tuple[dict, dict[str, torch.Tensor]]:
    """Returns the graph as JSON data, and its constants by name."""
    nodes, position, constants = [], {}, {}
    outputs: list = []
    for node in graph_module.graph.nodes:
        if node.op == "output":
            outputs = _encode_value(node.args[0], position)
            break
        position[node] = len(nodes)
        if node.op == "placeholder":
            nodes.append(["placeholder"])
        elif node.op == "get_attr":
            constants[node.target] = getattr(graph_module, node.target).detach()
            nodes.append(["constant", node.target])
        else:
            keywords = {key: _encode_value(value, position) for key, value in node.kwargs.items()}
            nodes.append([_target_name(node.target), _encode_value(node.args, position), keywords])
    return {"nodes": nodes, "outputs": outputs}, constants


def decode(data: dict, constants: dict[str, torch.Tensor]) -> fx.GraphModule:
    """Rebuilds the graph that `encode` stored."""
    graph, nodes = fx.Graph(), []
    for index, (target, *rest) in enumerate(data["nodes"]):
        if target == "placeholder":
            nodes.append(graph.placeholder(f"arg_{index}"))
        elif target == "constant":
            nodes.append(graph.get_attr(rest[0]))
        else:
            arguments, keywords = rest
            keywords = {key: _decode_value(value, nodes) for key, value in keywords.items()}
            nodes.append(graph.call_function(_target(target), tuple(_decode_value(arguments, nodes)), keywords))
    graph.output(_decode_value(data["outputs"], nodes))
    return fx.GraphModule(constants, graph)
