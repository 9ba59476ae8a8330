# SPDX-License-Identifier: Apache-2.0
"""Refuses to mix tensors of the host with those of the graph, as torch_xla does.

The SDK traces on an XLA device: parameters, buffers and inputs are there, and a tensor that the model makes without
`device=`, or keeps as a plain attribute, is on the host. Here both are on the CPU, so that such a tensor would pass
unnoticed. What is computed from host tensors alone stays on the host; which operators take both was tried with
torch_xla 2.8.1. The SDK's own functions, here the simulator's, may do as they like.
"""

from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.overrides import TorchFunctionMode, resolve_name

from ..errors import GraphError
from .guard import caller_of_torch


_FACTORIES = {
    getattr(torch, name)
    for name in (
        "arange",
        "empty",
        "eye",
        "from_numpy",
        "full",
        "linspace",
        "ones",
        "rand",
        "randn",
        "scalar_tensor",
        "tensor",
        "zeros",
    )
}
_SDK = ("optimum_gemma4.simulator.", "torch_neuronx", "neuronx_distributed", "neuronxcc")
_TAKE_BOTH = """
    __add__ __and__ __getitem__ __mul__ __or__ __pow__ __radd__ __rmul__ __rsub__ __setitem__ __sub__ __truediv__ add
    add_ bitwise_and bitwise_or copy_ div div_ index_put index_put_ layer_norm logical_and logical_or mul mul_ pow
    scaled_dot_product_attention sub sub_
""".split()
_SHAPE_OF_THE_OTHER = ("expand_as", "reshape_as", "view_as")
_WRITES = ("__setitem__", "__iadd__", "__imul__", "__isub__", "__itruediv__")


class HostTensors(TorchFunctionMode):
    """Active while a graph is recorded.

    Args:
        module: what is recorded; its buffers are tensors of the graph.
        where: what is recorded, for messages.
    """

    def __init__(self, module: nn.Module, where: str):
        super().__init__()
        # By id, with the tensors, so that no id is used again: fake ones on the host, and others in the graph.
        self._host: dict[int, torch.Tensor] = {}
        self._in_graph = {id(buffer): buffer for buffer in module.buffers()}
        self._where = where

    def __torch_function__(self, func: Callable, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        leaves = list(_leaves((args, *kwargs.values())))
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        on_host = [self._is_on_host(tensor) for tensor in tensors]
        if not tensors:
            made_here = func in _FACTORIES and kwargs.get("device") is None
            stays = made_here and not caller_of_torch().startswith(_SDK)
        elif any(isinstance(leaf, torch.device) for leaf in leaves):
            stays = False
        elif all(on_host):
            stays = True
        elif any(on_host):
            stays = self._mixed(func, on_host)
        else:
            stays = False
        for leaf in _leaves(result):
            if not isinstance(leaf, torch.Tensor):
                continue
            if stays:
                self._host[id(leaf)] = leaf
            elif isinstance(leaf, FakeTensor):
                self._host.pop(id(leaf), None)  # `to` returns its argument where nothing has to move, as here
            else:
                self._in_graph[id(leaf)] = leaf
        return result

    def _is_on_host(self, tensor: torch.Tensor) -> bool:
        if isinstance(tensor, FakeTensor):
            return id(tensor) in self._host
        return id(tensor) not in self._in_graph

    def _mixed(self, func: Callable, on_host: list[bool]) -> bool:
        """Whether the result is on the host; an error where the device would refuse, or read what it has not run."""
        name = (resolve_name(func) or getattr(func, "__name__", str(func))).rpartition(".")[2]
        if name in _SHAPE_OF_THE_OTHER:
            return on_host[0]
        if name in ("to", "type_as") and on_host[0]:
            return False
        writes_to_host = on_host[0] and (name in _WRITES or (name.endswith("_") and not name.endswith("__")))
        caller = caller_of_torch()
        if (name not in _TAKE_BOTH or writes_to_host) and not caller.startswith(_SDK):
            raise GraphError(
                f"{name} mixes a tensor that was made on the host with one of the graph, in {caller} ({self._where}): "
                "the graph is recorded on an XLA device. Make the tensor with device=x.device, or register it as a "
                "buffer."
            )
        return False


def _leaves(value) -> Iterator:
    """What lists and tuples hold, at any depth; every call of torch goes through here, and pytree is slower."""
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _leaves(item)
    else:
        yield value
