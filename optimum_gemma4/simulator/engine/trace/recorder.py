# SPDX-License-Identifier: Apache-2.0
"""Records the graph of one rank from a module, as the SDK's tracer does, without allocating a weight.

The module's parameters are on the meta device (`meta_parameters`); the call is traced with fake tensors in their
place. Rank 0 is traced, collectives are single nodes, and nothing is vmapped yet, so that a model may do here whatever
it may do under the SDK's tracer, in-place writes included.
"""

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import fx, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    UnsupportedOperatorException,
)
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.utils import _pytree as pytree

from ..errors import GraphError
from ..fabric import TracingFabric, use_fabric
from .guard import HostReadGuard
from .host_tensors import HostTensors
from .hygiene import check_graph


@contextmanager
def meta_parameters() -> Iterator[None]:
    """Modules made in this context have their parameters on the meta device; buffers stay real.

    The SDK does the same where it shards a checkpoint. A parameter keeps its attributes (how it is sharded), and one
    that is registered twice stays one.
    """

    def to_meta(module: nn.Module, name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
        if parameter is None or parameter.device.type == "meta":
            return None
        moved = nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)
        moved.__dict__.update(parameter.__dict__)
        return moved

    handle = register_module_parameter_registration_hook(to_meta)
    try:
        yield
    finally:
        handle.remove()


def module_state(module: nn.Module) -> dict[str, torch.Tensor]:
    """What a checkpoint must hold for the module, by name: parameters (each once) and persistent buffers."""
    state = dict(module.named_parameters())
    persistent = module.state_dict(keep_vars=True)
    state.update((name, buffer) for name, buffer in module.named_buffers() if name in persistent)
    return state


def record(
    module: nn.Module, state: dict[str, torch.Tensor], examples: tuple[torch.Tensor, ...], where: str, world_size: int
) -> tuple[fx.GraphModule, int]:
    """Traces `module(*examples)` on rank 0.

    Args:
        state: the tensors that become inputs of the graph, by name, before the examples.
        where: what is traced, for messages.

    Returns:
        The graph module, whose placeholders are `state` then `examples`, and the number of its flat outputs.

    Raises:
        GraphError: the model does what a compiled graph cannot.
    """
    names = list(state)

    def program(*flat: torch.Tensor):
        values = dict(zip(names, flat[: len(names)], strict=True))
        result = torch.func.functional_call(module, values, tuple(flat[len(names) :]))
        outputs = pytree.tree_leaves(result)
        if len({id(output) for output in outputs}) < len(outputs):
            raise GraphError(
                f"{where}: the model returns one tensor twice, and the SDK counts it once: the outputs after it, "
                "states among them, would be taken for others. Return a clone."
            )
        for output in outputs:
            if not isinstance(output, torch.Tensor):
                raise GraphError(f"{where}: the model returns a {type(output).__name__}; only tensors can be outputs")
        return outputs

    fake_mode = FakeTensorMode(allow_non_fake_inputs=True)
    with fake_mode:
        fakes = [torch.empty(t.shape, dtype=t.dtype) for t in (*state.values(), *examples)]
    with use_fabric(TracingFabric(world_size)), torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        graph_module = _traced(program, fakes, HostReadGuard(examples), HostTensors(module, where), where)
    check_graph(graph_module.graph, where)
    outputs = next(node for node in graph_module.graph.nodes if node.op == "output").args[0]
    return graph_module, len(outputs)


def _traced(
    program: Callable, fakes: list[torch.Tensor], reads: HostReadGuard, host_tensors: HostTensors, where: str
) -> fx.GraphModule:
    def guarded(*flat):
        with host_tensors, reads:
            return program(*flat)

    try:
        return make_fx(guarded, tracing_mode="fake")(*fakes)
    except (DataDependentOutputException, DynamicOutputShapeException) as error:
        reason = "its result depends on a tensor's value, and so would the shape or the course of the graph"
        raise GraphError(f"{error.func} cannot be compiled for Neuron: {reason} ({_origin(error, where)})") from error
    except UnsupportedOperatorException as error:
        raise GraphError(f"{error.func} cannot be traced ({_origin(error, where)})") from error


def _origin(error: BaseException, where: str) -> str:
    own = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "/torch/" not in frame.filename and "/simulator/engine/" not in frame.filename
    ]
    return f"{where}, {own[-1].filename}:{own[-1].lineno}" if own else where
