# SPDX-License-Identifier: Apache-2.0
"""Scalar Engine (ACT) instructions: activation and activation_reduce.

f(data * scale + bias) in float32, with an optional sum along the free axes into accumulator registers at no cost but
the read-out. Rules: SDK 2.26 `nki.isa.activation` and `nki.errors.rst` (bias and scale types and shapes).
"""

import numpy as np

from .._machine import cost, dtypes, hardware, operators
from .._machine.errors import DtypeError, NkiError, OperatorError, ShapeError
from .._memory.checks import mask_for, operand
from .._memory.context import current
from .._memory.execute import produce
from .._memory.tensor import Tensor
from .constants import reduce_cmd as commands
from .on_vector import check_result, column, output_dtype, reduce_free


_BIAS_DTYPES = (dtypes.FLOAT32, dtypes.FLOAT16, dtypes.BFLOAT16)


def _check_bias_and_scale(op_name, data, bias, scale) -> None:
    if isinstance(scale, Tensor):
        if scale.dtype != dtypes.FLOAT32:
            raise DtypeError(f"activation: scale must be a number or a float32 vector, got {scale!r}")
        if scale.shape[0] != data.shape[0] or cost.free_size(scale.shape) != 1:
            raise ShapeError(f"activation: scale must be a number or a [{data.shape[0]}, 1] vector, got {scale!r}")
    if bias is None:
        return
    if not isinstance(bias, Tensor) or bias.dtype not in _BIAS_DTYPES:
        raise DtypeError(f"activation: bias must be a vector of float32, float16 or bfloat16, got {bias!r}")
    if bias.shape[0] != data.shape[0] or cost.free_size(bias.shape) != 1:
        raise ShapeError(f"activation: bias must be a [{data.shape[0]}, 1] vector, got {bias!r}")
    if op_name == "reciprocal" and current().generation.version == 2:
        raise OperatorError("activation: reciprocal does not support a bias on NeuronCore-v2")


def _check_range(op_name, values, where) -> None:
    limits = operators.VALID_RANGES.get(op_name)
    if limits is None:
        return
    used = values if where is None else values[where]
    if op_name in ("sqrt", "rsqrt"):
        used = used[used != 0]
    # Positions that a mask left undefined are NaN.
    used = used[~np.isnan(used)]
    if used.size and not (used.min() >= limits[0] and used.max() <= limits[1]):
        current().relax(
            "activation_range",
            OperatorError,
            f"activation: inputs of {op_name} span [{used.min()}, {used.max()}], outside its valid range {limits}",
        )


def activation(
    op,
    data,
    *,
    bias=None,
    scale=1.0,
    reduce_op=None,
    reduce_res=None,
    reduce_cmd=commands.idle,
    mask=None,
    dtype=None,
    **kwargs,
):
    """op(data * scale + bias), and its sum along the free axes if a reduce command asks for it."""
    return _activation("activation", op, data, bias, scale, reduce_op, reduce_res, reduce_cmd, mask, dtype)


def activation_reduce(op, data, *, reduce_op, reduce_res, bias=None, scale=1.0, mask=None, dtype=None, **kwargs):
    """activation with `reduce_cmd=reset_reduce`; the sum goes to `reduce_res`."""
    command = commands.reset_reduce
    return _activation("activation_reduce", op, data, bias, scale, reduce_op, reduce_res, command, mask, dtype)


def _activation(name, op, data, bias, scale, reduce_op, reduce_res, command, mask, dtype):
    if not isinstance(data, Tensor):
        raise NkiError(f"{name}: data must be a tile, got {type(data).__name__}")
    where = mask_for(mask, data.shape, name)
    values = operand(data, name, "data", where=where)
    op_name, function = operators.unary(op, name)
    _check_bias_and_scale(op_name, data, bias, scale)
    if values.dtype != np.float32:
        values = values.astype(np.float32)
    reads = [data]
    if isinstance(scale, Tensor):
        values = values * column(scale, data, name, "scale")
        reads.append(scale)
    elif not isinstance(scale, (int, float, np.generic)):
        raise DtypeError(f"{name}: scale must be a number or a float32 vector, got {scale!r}")
    elif scale != 1.0:
        values = values * np.float32(scale)
    if bias is not None:
        values = values + column(bias, data, name, "bias")
        reads.append(bias)
    _check_range(op_name, values, where)
    result = function(values)
    if result is values and op_name == "copy":
        result = values.copy()
    extra = _reduce(name, data, result, where, reduce_op, reduce_res, command)
    cycles = cost.activation(data.shape, bool(extra))
    return produce(
        hardware.SCALAR, name, cycles, reads, result, output_dtype(dtype, data.dtype), where=where, extra=extra
    )


def _reduce(name, data, result, where, reduce_op, reduce_res, command):
    """Update the accumulator registers; returns what is read out of them."""
    program = current()
    if reduce_op is not None and operators.name_of(reduce_op, name) != "add":
        raise OperatorError(f"{name}: the Scalar Engine reduces with add alone, got {reduce_op!r}")
    if command == commands.reset:
        program.scalar_registers = np.zeros((hardware.PARTITIONS, 1), np.float32)
    if command in (commands.reduce, commands.reset_reduce):
        total = reduce_free(np.add, result, where)
        if command == commands.reset_reduce:
            program.scalar_registers = total
        elif program.scalar_registers is None:
            raise OperatorError(f"{name}: reduce_cmd.reduce before the accumulators were reset")
        else:
            program.scalar_registers = program.scalar_registers[: total.shape[0]] + total
    if reduce_res is None:
        return ()
    check_result(reduce_res, data, name)
    if program.scalar_registers is None:
        raise OperatorError(f"{name}: reduce_res is read before the accumulators were reset")
    return ((reduce_res, program.scalar_registers[: data.shape[0]]),)
