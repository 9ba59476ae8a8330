# SPDX-License-Identifier: Apache-2.0
"""One call of an NKI kernel in a traced model: which kernel, its launch grid and its constant arguments.

The SDK compiles a kernel when the model is traced and leaves a custom call in the graph; its tensors are the call's
operands and everything else is a constant of it. Here the constants are JSON, so that a stored graph stays data: the
kernel is found again by module and name. What runs is the kernel on the NKI simulator, or its torch twin, the function
of the same name and signature in the module `<module>_torch`, if there is one.
"""

import importlib
import importlib.util
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache

import torch
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing

from .errors import GraphError
from .fabric import use_fabric


_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class NkiCall:
    """A call without its tensors.

    Attributes:
        kernel: `module:name`.
        grid: launch grid, encoded; None without one.
        target: platform that the model is traced for.
        positional: encoded arguments; a tensor is `{"tensor": index}`.
        keywords: the same by name.
        stored: indices of the tensors that the kernel stores to (the convention of `nki_jit`); None if it returns its
            results.
    """

    kernel: str
    grid: list | None
    target: str
    positional: list
    keywords: dict
    stored: list[int] | None = None

    @classmethod
    def of(cls, kernel, grid, target: str, args: tuple, kwargs: dict) -> tuple["NkiCall", list[torch.Tensor]]:
        """Describe a call of a `Kernel`.

        Returns:
            The call and its tensors, in the order of the arguments.

        Raises:
            GraphError: an argument is neither a tensor nor a constant, or the kernel cannot be found by its name.
        """
        tensors: list[torch.Tensor] = []
        name = f"{kernel.__module__}:{kernel.__name__}"
        if getattr(_found(name), "function", _found(name)) is not kernel.function:
            raise GraphError(
                f"NKI kernel {name}: a traced model finds its kernels again by module and name; define this one at "
                "the top level of a module that can be imported."
            )
        positional = [_encode(value, tensors, name) for value in args]
        keywords = {key: _encode(value, tensors, name) for key, value in kwargs.items()}
        axes = (
            None if grid is None else [_encode_axis(axis) for axis in (grid if isinstance(grid, tuple) else (grid,))]
        )
        call = cls(name, axes, target, positional, keywords)
        if kernel.outputs_are_arguments:
            call = replace(call, stored=[])
            call = replace(call, stored=list(_dry_run(call.to_json(), _specs(tensors))[1]))
        return call, tensors

    def to_json(self) -> str:
        """The call as text."""
        return json.dumps(asdict(self), sort_keys=True)

    def outputs(self, tensors: Sequence[torch.Tensor], simulate: bool) -> list[torch.Tensor]:
        """Empty results for operands of these shapes.

        Args:
            tensors: fake operands.
            simulate: run the kernel once, on zeros, as the SDK compiles it once; so does a kernel without a twin.

        Raises:
            NkiError: the kernel does what the hardware or the compiler refuses.
        """
        if simulate or self.twin() is None:
            specs = _dry_run(self.to_json(), _specs(tensors))[0]
        else:
            specs = _specs(self.run_twin(tensors))
        return [torch.empty(shape, dtype=dtype) for shape, dtype in specs]

    def twin(self) -> Callable | None:
        """The torch twin, if the kernel has one and returns its results, as twins do."""
        return None if self.stored is not None else _twin(self.kernel)

    def run_twin(self, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Results of the torch twin."""
        result = self.twin()(*self._positional(tensors), **self._keywords(tensors))
        return [part.contiguous() for part in (result if isinstance(result, (tuple, list)) else [result])]

    def run_simulated(self, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Results of the kernel on the NKI simulator: what it stored to arguments, then what it returned."""
        return self._launch(tensors)[0]

    def _launch(self, tensors: Sequence[torch.Tensor]) -> tuple[list[torch.Tensor], list[int]]:
        from neuronxcc.nki._frontend.launch import Kernel, simulate

        launches: list = []
        # A kernel stores to copies: what is an operand of the graph stays as it is.
        tensors = [tensor.clone() for tensor in tensors] if self.stored is not None else list(tensors)
        kernel = Kernel(_found(self.kernel), self.target, outputs_are_arguments=self.stored is not None)
        # One at a time, because observers are the process's; and not a call of the graph that may be being recorded.
        with _one_at_a_time, simulate(observer=launches.append), use_fabric(None):
            grid = None if self.grid is None else tuple(_decode_axis(axis) for axis in self.grid)
            result = kernel.launch(grid, self._positional(tensors), self._keywords(tensors))
        returned = [] if result is None else list(result) if isinstance(result, tuple) else [result]
        written = [i for i, tensor in enumerate(tensors) if any(tensor is each for each in launches[-1].stored)]
        return [*(tensors[i] for i in written), *returned], written

    def _positional(self, tensors: Sequence[torch.Tensor]) -> tuple:
        return tuple(_decode(value, tensors) for value in self.positional)

    def _keywords(self, tensors: Sequence[torch.Tensor]) -> dict:
        return {key: _decode(value, tensors) for key, value in self.keywords.items()}


@lru_cache(maxsize=1024)
def parse_call(text: str) -> NkiCall:
    """The call that `NkiCall.to_json` wrote."""
    return NkiCall(**json.loads(text))


@lru_cache(maxsize=256)
def _dry_run(text: str, specs: tuple) -> tuple[tuple, tuple[int, ...]]:
    """Specs of the results, and the stored arguments, of the kernel on zeros."""
    with unset_fake_temporarily(), disable_proxy_modes_tracing(), torch._C.DisableTorchFunction():
        zeros = [torch.zeros(shape, dtype=dtype) for shape, dtype in specs]
        results, stored = parse_call(text)._launch(zeros)
    return _specs(results), tuple(stored)


def _specs(tensors: Sequence[torch.Tensor]) -> tuple[tuple[tuple[int, ...], torch.dtype], ...]:
    return tuple((tuple(tensor.shape), tensor.dtype) for tensor in tensors)


def _found(name: str):
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute, None)


@lru_cache(maxsize=256)
def _twin(name: str) -> Callable | None:
    module, _, attribute = name.partition(":")
    if importlib.util.find_spec(f"{module}_torch") is None:
        return None
    return _found(f"{module}_torch:{attribute}")


def _encode(value, tensors: list[torch.Tensor], kernel: str):
    if isinstance(value, torch.Tensor):
        tensors.append(value)
        return {"tensor": len(tensors) - 1}
    if isinstance(value, (list, tuple)):
        return {type(value).__name__: [_encode(item, tensors, kernel) for item in value]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise GraphError(
        f"NKI kernel {kernel}: a {type(value).__name__} is an argument; in a traced model the simulator takes "
        "tensors, numbers, strings, None, and lists and tuples of these."
    )


def _decode(value, tensors: Sequence[torch.Tensor]):
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    items = [_decode(item, tensors) for item in content]
    return tuple(items) if kind == "tuple" else items


def _encode_axis(axis):
    """A grid axis: an integer, or how it spreads over cores."""
    if isinstance(axis, int):
        return axis
    parts = getattr(axis, "parts", None)
    return {"cores": axis.size} if parts is None else {"parts": [_encode_axis(part) for part in parts]}


def _decode_axis(axis):
    from neuronxcc.nki._frontend.grid import CoreDim, SpmdDim

    if isinstance(axis, int):
        return axis
    return CoreDim(axis["cores"]) if "cores" in axis else SpmdDim(*(_decode_axis(part) for part in axis["parts"]))
