# SPDX-License-Identifier: Apache-2.0
"""Removes what costs a call and computes nothing from a lowered graph.

Lowering leaves many views behind: of views, to the shape that is there already, and the same one several times. A step
of a small model is dominated by the number of operators, so they are worth removing.
"""

import operator

import torch
from torch import fx

from ..run.aliasing import is_view


aten = torch.ops.aten
_RESHAPES = (aten.view.default, aten._unsafe_view.default)
_RANDOM = (aten.rand.default, aten.rand_like.default, aten.randn.default, aten.bernoulli.default)


def simplify(graph: fx.Graph) -> None:
    """Simplifies a functional graph whose nodes carry their fake results in `meta["val"]`."""
    seen: dict[tuple, fx.Node] = {}
    for node in list(graph.nodes):
        if node.op != "call_function":
            continue
        _collapse_reshape(node)
        same = _identity(node) or seen.setdefault(_key(node), node)
        if same is not node:
            node.replace_all_uses_with(same)
            graph.erase_node(node)
    graph.eliminate_dead_code()


def _collapse_reshape(node: fx.Node) -> None:
    """A reshape of a reshape is a reshape of the first one's argument."""
    if node.target in _RESHAPES and node.args[0].target in _RESHAPES:
        base = node.args[0].args[0]
        if base.meta["val"].is_contiguous():
            node.target = aten.view.default
            node.args = (base, node.args[1])


def _identity(node: fx.Node) -> fx.Node | None:
    """The argument, if the node is a view that shows all of it as it is."""
    if node.target is operator.getitem or not is_view(node):
        return None
    old, new = node.args[0].meta.get("val"), node.meta.get("val")
    if not isinstance(old, torch.Tensor) or not isinstance(new, torch.Tensor):
        return None
    same = old.shape == new.shape and old.stride() == new.stride() and old.dtype == new.dtype
    return node.args[0] if same and old.storage_offset() == new.storage_offset() else None


def _key(node: fx.Node) -> tuple:
    """Equal for nodes that compute the same; a node that draws random numbers equals itself only."""
    if node.target in _RANDOM:
        return (node,)
    return node.target, _hashable(node.args), _hashable(node.kwargs)


def _hashable(value):
    if isinstance(value, (list, tuple)):
        return tuple(_hashable(item) for item in value)
    if isinstance(value, dict):
        return tuple(sorted((key, _hashable(item)) for key, item in value.items()))
    return type(value), value if not isinstance(value, float) else repr(value)
