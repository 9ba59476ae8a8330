# SPDX-License-Identifier: Apache-2.0
"""Conversion between framework tensors (numpy, torch) and the simulator's float32-backed arrays."""

import inspect
import sys

import numpy as np

from .._machine import dtypes


def is_torch(value) -> bool:
    """Whether a value is a torch tensor, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def is_traced(args, kwargs) -> bool:
    """Whether a call belongs to a torch model that is being traced."""
    if not any(is_torch(value) for value in (*args, *kwargs.values())):
        return False
    from torch_xla.core.xla_model import is_xla_tensor

    return any(is_torch(value) and is_xla_tensor(value) for value in (*args, *kwargs.values()))


def record(kernel, grid, args, kwargs):
    """Put a call into the graph of the model that is being traced; returns the graph's tensors."""
    from optimum_gemma4.simulator.engine.nki_operator import record_kernel

    return record_kernel(kernel, grid, args, kwargs)


def _torch_dtype(tensor):
    return dtypes.canonical(str(tensor.dtype).removeprefix("torch.").replace("float8_e4m3fn", "float8_e4m3"))


def load(value):
    """(stored array, dtype) of a numpy array or torch tensor.

    Raises:
        DtypeError: If NeuronCores have no such type.
    """
    if is_torch(value):
        dtype = _torch_dtype(value)
        value = value.detach()
        value = value.float() if dtypes.is_float(dtype) else value
        return np.ascontiguousarray(value.numpy()), dtype
    dtype = dtypes.canonical(value.dtype)
    return np.ascontiguousarray(value, dtype=dtypes.storage(dtype)), dtype


def bind(function, args, kwargs, make):
    """Replace the array arguments of a call by tensors.

    Args:
        function: The kernel, for parameter names and `nt.mutable_tensor` annotations.
        args: Positional arguments.
        kwargs: Keyword arguments.
        make: Called with (name, original, stored array, dtype, mutable) for each array.

    Returns:
        (args, kwargs) of the traced call.
    """
    bound = inspect.signature(function).bind(*args, **kwargs)
    for name, value in bound.arguments.items():
        annotation = function.__annotations__.get(name)
        mutable = "mutable_tensor" in (
            annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
        )
        parameter = bound.signature.parameters[name]
        if parameter.kind is parameter.VAR_POSITIONAL:
            bound.arguments[name] = tuple(_convert(f"{name}{i}", v, False, make) for i, v in enumerate(value))
        elif parameter.kind is parameter.VAR_KEYWORD:
            bound.arguments[name] = {k: _convert(k, v, False, make) for k, v in value.items()}
        else:
            bound.arguments[name] = _convert(name, value, mutable, make)
    return bound.args, bound.kwargs


def _convert(name, value, mutable, make):
    if isinstance(value, (list, tuple)) and any(isinstance(v, np.ndarray) or is_torch(v) for v in value):
        return type(value)(_convert(f"{name}{i}", v, mutable, make) for i, v in enumerate(value))
    if not (isinstance(value, np.ndarray) or is_torch(value)):
        return value
    stored, dtype = load(value)
    # The caller's memory is only read; stores go to a copy that is written back at the end.
    return make(name, value, stored.copy(), dtype, mutable)


def write_back(buffer, original) -> None:
    """Copy what a kernel stored to a parameter into the caller's array; locations it left out become NaN or 0."""
    values = buffer.data
    if buffer.remaining:
        values = np.where(buffer.written != 0, values, np.nan if dtypes.is_float(buffer.dtype) else 0)
    if is_torch(original):
        original.copy_(sys.modules["torch"].from_numpy(np.ascontiguousarray(values)))
    else:
        original[...] = values.astype(original.dtype)


def export(tensor, parameters, as_torch: bool):
    """The array that a kernel returns for one tensor."""
    for buffer, original in parameters:
        if tensor.buffer is buffer:
            return original
    values = tensor.values("the kernel's result") if not tensor.buffer.remaining else tensor.data
    if not as_torch:
        return values.astype(tensor.dtype) if dtypes.is_float(tensor.dtype) else values.copy()
    torch = sys.modules["torch"]
    result = torch.from_numpy(values.copy())
    names = {"float8_e4m3": "float8_e4m3fn"}
    if not dtypes.is_float(tensor.dtype):
        return result
    return result.to(getattr(torch, names.get(tensor.dtype.name, tensor.dtype.name)))
