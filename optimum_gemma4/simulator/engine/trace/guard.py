# SPDX-License-Identifier: Apache-2.0
"""Stops a traced model from reading a tensor's value on the host.

A compiled graph cannot branch on a value: the SDK's tracer would run the graph so far on the example inputs and bake
the branch in, silently. There is exactly one such read in optimum-neuron's own graphs, in its sampler
(`if torch.any(temperature != 1.0)`); it gets that same semantic here: its value for the example inputs.
"""

import sys
from collections.abc import Callable
from contextlib import ExitStack

import torch
from torch import fx
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing, get_proxy_mode, get_proxy_slot
from torch.overrides import TorchFunctionMode

from ..errors import GraphError


_SAMPLER = "optimum.neuron.models.inference.backend.modules.generation.sampling"
_READS = {
    getattr(torch.Tensor, name): name
    for name in (
        "__bool__",
        "__complex__",
        "__contains__",
        "__float__",
        "__index__",
        "__int__",
        "allclose",
        "equal",
        "is_nonzero",
        "item",
        "numpy",
        "tolist",
    )
} | {torch.allclose: "allclose", torch.equal: "equal", torch.is_nonzero: "is_nonzero"}


def caller_of_torch() -> str:
    """Module, file and line of the innermost frame that is neither torch's nor the simulator's engine."""
    frame = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if not module.startswith(("torch.", "optimum_gemma4.simulator.engine.")) and module != "torch":
            return f"{module} ({frame.f_code.co_filename}:{frame.f_lineno})"
        frame = frame.f_back
    return "unknown"


class HostReadGuard(TorchFunctionMode):
    """Active while a graph is recorded.

    Args:
        examples: the example inputs, which are the graph's last placeholders.
    """

    def __init__(self, examples: tuple[torch.Tensor, ...]):
        super().__init__()
        self._examples = examples

    def __torch_function__(self, func: Callable, types, args=(), kwargs=None):
        name = _READS.get(func)
        if name is None:
            return func(*args, **(kwargs or {}))
        caller = caller_of_torch()
        if name == "__bool__" and caller.startswith(_SAMPLER + " "):
            return bool(self._example_value(args[0], caller))
        try:
            return func(*args, **(kwargs or {}))  # constants may be read
        except Exception as error:
            raise _host_read(f"Tensor.{name}", caller) from error

    def _example_value(self, tensor: torch.Tensor, caller: str) -> torch.Tensor:
        mode = get_proxy_mode()
        node = get_proxy_slot(tensor, mode.tracer).proxy.node
        placeholders = [n for n in node.graph.nodes if n.op == "placeholder"]
        known = dict(zip(reversed(placeholders), reversed(self._examples)))
        with ExitStack() as stack:
            stack.enter_context(unset_fake_temporarily())
            stack.enter_context(disable_proxy_modes_tracing())
            stack.enter_context(torch._C.DisableTorchFunction())
            return self._evaluate(node, mode.tracer.root, known, caller)

    def _evaluate(self, node: fx.Node, root: torch.nn.Module, known: dict, caller: str) -> torch.Tensor:
        if node in known:
            return known[node]
        if node.op == "placeholder":
            raise _host_read("a branch on a weight or a state", caller)
        if node.op == "get_attr":
            value = getattr(root, node.target)
        else:
            arguments = fx.map_arg((node.args, node.kwargs), lambda n: self._evaluate(n, root, known, caller))
            value = node.target(*arguments[0], **arguments[1])
        known[node] = value
        return value


def _host_read(what: str, caller: str) -> GraphError:
    return GraphError(
        f"{what} reads a tensor's value on the host, in {caller}: a compiled graph cannot do that. Use operations on "
        "tensors (torch.where, a mask, torch.gather), or pass the value as an input."
    )
