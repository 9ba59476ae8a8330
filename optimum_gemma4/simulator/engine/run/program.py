# SPDX-License-Identifier: Apache-2.0
"""One graph of a bundle, made ready to run: constants and views of weights computed once, states written in place.

The stored graph is a function of all weights, states and inputs. Whatever depends on weights and constants alone, and
is a view or small, becomes part of a prelude that runs when the weights arrive; the rest is the step.
"""

import operator
from collections.abc import Sequence

import torch
from torch import fx

from .aliasing import is_view, own_outputs, write_states_in_place


_FOLDED_ELEMENTS = 1 << 16
_RANDOM = {torch.ops.aten.rand.default, torch.ops.aten.rand_like.default, torch.ops.aten.bernoulli.default}


class Program:
    """A runnable graph.

    Args:
        graph_module: the lowered graph; its placeholders are weights, then states, then inputs.
        num_weights: how many of them are weights.
        num_states: how many of them are states; the last outputs are their new values.
    """

    def __init__(self, graph_module: fx.GraphModule, num_weights: int, num_states: int):
        self._graph_module = graph_module
        placeholders = [node for node in graph_module.graph.nodes if node.op == "placeholder"]
        self._weights = placeholders[:num_weights]
        states = placeholders[num_weights : num_weights + num_states]
        write_states_in_place(graph_module.graph, states)
        outputs = next(iter(reversed(graph_module.graph.nodes))).args[0]
        self.num_outputs = len(outputs) - num_states
        self._replaced = own_outputs(graph_module.graph, states, self.num_outputs)
        self._step = None
        self._bound: list[torch.Tensor] = []

    def bind(self, weights: Sequence[torch.Tensor]) -> None:
        """Takes the weights: runs the prelude and builds the step."""
        known = dict(zip(self._weights, weights, strict=True))
        self._fold(known)
        step, self._bound = self._remaining(known)
        self._step = fx.GraphModule(torch.nn.Module(), step).forward

    def __call__(self, states: list[torch.Tensor], inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Runs one step, replaces the entries of `states` by their new values, and returns the outputs."""
        results = self._step(*self._bound, *states, *inputs)
        for index, (new, replaced) in enumerate(zip(results[self.num_outputs :], self._replaced, strict=True)):
            if replaced:
                states[index] = new.contiguous()
        return results[: self.num_outputs]

    def _fold(self, known: dict[fx.Node, torch.Tensor]) -> None:
        constant: set[fx.Node] = set()
        for node in self._graph_module.graph.nodes:
            if node.op == "get_attr":
                known[node] = getattr(self._graph_module, node.target)
                constant.add(node)
            if node.op != "call_function" or node.target in _RANDOM:
                continue
            if not all(argument in known for argument in node.all_input_nodes):
                continue
            arguments, keywords = fx.map_arg((node.args, node.kwargs), known.__getitem__)
            value = node.target(*arguments, **keywords)
            if is_view(node) or node.target is operator.getitem or _is_small(value):
                known[node] = value

    def _remaining(self, known: dict[fx.Node, torch.Tensor]) -> tuple[fx.Graph, list[torch.Tensor]]:
        """The graph without the nodes that are known, and the values of those that it still needs."""
        source = self._graph_module.graph
        needed = [node for node in source.nodes if node in known and any(user not in known for user in node.users)]
        step, copies = fx.Graph(), {}
        for index, node in enumerate(needed):
            copies[node] = step.placeholder(f"bound_{index}")
        for node in source.nodes:
            if node not in known:
                copies[node] = step.node_copy(node, copies.__getitem__)
        return step, [known[node] for node in needed]


def _is_small(value) -> bool:
    tensors = value if isinstance(value, (list, tuple)) else [value]
    return sum(t.numel() for t in tensors if isinstance(t, torch.Tensor)) <= _FOLDED_ELEMENTS
