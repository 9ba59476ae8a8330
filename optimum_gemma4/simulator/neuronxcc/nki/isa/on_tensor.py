# SPDX-License-Identifier: Apache-2.0
"""Tensor Engine (PE) instructions: nc_matmul and nc_transpose.

Operands come from SBUF, results go to PSUM: stationary [K, M] and moving [K, N] give stationary.T @ moving [M, N] in
float32, with K <= 128, M <= 128, N <= 512. Values were rounded to their type when they were written, so a float32
matmul of them is what the systolic array computes, up to the order of the sum.
"""

import numpy as np

from .._machine import cost, dtypes, hardware
from .._machine.errors import DtypeError, OperatorError, PartitionMismatchError, ShapeError, TileSizeError
from .._memory.checks import mask_for, operand
from .._memory.context import current
from .._memory.execute import produce
from .._memory.tensor import ON_CHIP, PSUM, SBUF
from .constants import engine as engines


def _flat(values: np.ndarray) -> np.ndarray:
    return values if values.ndim == 2 else values.reshape(values.shape[0], -1)


def _check_tiling(tile_position, tile_size, shape) -> None:
    if bool(tile_position) != bool(tile_size):
        raise ShapeError("nc_matmul: tile_position and tile_size must be both set to enable PE tiling")
    if not tile_size:
        return
    tile_position, tile_size = ([getattr(v, "value", v) for v in pair] for pair in (tile_position, tile_size))
    for value in (*tile_position, *tile_size):
        if value % 32:
            raise ShapeError(
                f"nc_matmul: tile_position {tile_position} and tile_size {tile_size} must be multiples of 32"
            )
    if tile_size[0] < shape[0] or tile_size[1] < cost.free_size(shape):
        raise TileSizeError(f"nc_matmul: tile_size {tile_size} is smaller than the stationary tile {list(shape)}")
    if current().generation.version == 2 and 32 in tile_size:
        raise TileSizeError(f"nc_matmul: tile_size {tile_size} cannot contain 32 on NeuronCore-v2")


def nc_matmul(
    stationary,
    moving,
    *,
    is_stationary_onezero=False,
    is_moving_onezero=False,
    is_transpose=False,
    tile_position=(),
    tile_size=(),
    mask=None,
    **kwargs,
):
    """stationary.T @ moving on the Tensor Engine.

    Returns:
        A float32 PSUM tile [M, N].
    """
    name = "nc_matmul"
    left = _flat(operand(stationary, name, "stationary", (SBUF,)))
    right = _flat(operand(moving, name, "moving", (SBUF,)))
    if left.shape[0] != right.shape[0]:
        raise PartitionMismatchError(
            f"nc_matmul: contraction sizes differ: stationary{list(stationary.shape)} and moving{list(moving.shape)}"
        )
    if left.shape[1] > hardware.MATMUL_STATIONARY_FREE or right.shape[1] > hardware.MATMUL_MOVING_FREE:
        raise TileSizeError(
            f"nc_matmul: free sizes of stationary{list(stationary.shape)} and moving{list(moving.shape)} must not "
            f"exceed {hardware.MATMUL_STATIONARY_FREE} and {hardware.MATMUL_MOVING_FREE}"
        )
    pair = (stationary.dtype, moving.dtype)
    for operand_name, dtype in (("stationary", pair[0]), ("moving", pair[1])):
        if dtype not in dtypes.MATMUL_DTYPES:
            raise DtypeError(f"nc_matmul: {operand_name} is {dtype}; expected fp8, bf16, fp16, tf32 or fp32")
    full = [t in (dtypes.FLOAT32, dtypes.TFLOAT32) for t in pair]
    if full[0] != full[1]:
        raise DtypeError(f"nc_matmul: if one operand is float32 both must be, got {pair[0]} and {pair[1]}")
    _check_tiling(tile_position, tile_size, stationary.shape)
    where = mask_for(mask, (left.shape[1], right.shape[1]), name)
    onezero = (is_stationary_onezero and full[0]) or (is_moving_onezero and full[1])
    cycles = cost.matmul(stationary.shape, moving.shape, pair, onezero)
    with np.errstate(all="ignore"):
        result = np.matmul(left.T, right)
    return produce(hardware.PE, name, cycles, (stationary, moving), result, dtypes.FLOAT32, PSUM, where)


def nc_transpose(data, *, mask=None, dtype=None, engine=engines.unknown, **kwargs):
    """Swap the partition axis with the (collapsed) free axes.

    Returns:
        A PSUM tile from the Tensor Engine (up to 128x128), or an SBUF tile from the Vector Engine (up to 32x32).
    """
    name = "nc_transpose"
    rows, columns = data.shape[0], cost.free_size(data.shape)
    if engine not in (engines.unknown, engines.tensor, engines.vector):
        raise OperatorError(f"nc_transpose runs on the Tensor or Vector Engine, not on {engine!r}")
    on_vector = engine == engines.vector
    if engine == engines.unknown:
        on_vector = data.buffer.memory == PSUM and max(rows, columns) <= hardware.VECTOR_TRANSPOSE
    limit = hardware.VECTOR_TRANSPOSE if on_vector else hardware.PE_TRANSPOSE
    values = _flat(operand(data, name, "data", ON_CHIP if on_vector else (SBUF,)))
    if rows > limit or columns > limit:
        raise TileSizeError(
            f"nc_transpose: {data!r} exceeds {limit}x{limit} on the {'Vector' if on_vector else 'Tensor'} Engine"
        )
    out = data.dtype if dtype is None else dtypes.canonical(dtype)
    where = mask_for(mask, (columns, rows), name)
    if on_vector:
        return produce(hardware.VECTOR, name, cost.at_least(columns), (data,), values.T.copy(), out, SBUF, where)
    if data.dtype not in dtypes.MATMUL_DTYPES:
        raise DtypeError(f"nc_transpose on the Tensor Engine takes float tiles, got {data!r}")
    if current().generation.version == 2 and not np.isfinite(values).all():
        # A matmul with the identity spreads NaN and Inf over whole rows on NeuronCore-v2.
        with np.errstate(all="ignore"):
            values = np.matmul(np.eye(rows, dtype=np.float32), values)
    return produce(
        hardware.PE, name, cost.pe_transpose(data.shape, data.dtype), (data,), values.T.copy(), out, PSUM, where
    )
