# SPDX-License-Identifier: Apache-2.0
"""Data types of the simulated machine: how values are stored, rounded and promoted.

Engines compute in float32, so every float tensor is kept as a float32 array whose values were rounded to the tensor's
own type: the same numbers as real storage would give, at a fraction of the time that numpy needs for bfloat16.
Integers keep their own arrays. Promotion follows SDK 2.26 `nki.api.shared.rst` (type promotion, weak scalars).
"""

import ml_dtypes
import numpy as np
import torch

from .errors import DtypeError


FLOAT32 = np.dtype(np.float32)
FLOAT16 = np.dtype(np.float16)
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOAT8_E4M3 = np.dtype(ml_dtypes.float8_e4m3)
FLOAT8_E5M2 = np.dtype(ml_dtypes.float8_e5m2)
# numpy has no 19-bit float: like the SDK stub, a four-byte void stands for it.
TFLOAT32 = np.dtype("V4")
BOOL = np.dtype(np.bool_)
INTEGERS = tuple(np.dtype(t) for t in (np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32))

_FLOAT_BITS = {FLOAT32: 32, TFLOAT32: 19, FLOAT16: 16, BFLOAT16: 16, FLOAT8_E4M3: 8, FLOAT8_E5M2: 8}
FLOATS = frozenset(_FLOAT_BITS)
LOW_PRECISION = frozenset(FLOATS - {FLOAT32})
MATMUL_DTYPES = FLOATS
_ALIASES = {"bfloat16": BFLOAT16, "float8_e4m3": FLOAT8_E4M3, "float8_e5m2": FLOAT8_E5M2, "tfloat32": TFLOAT32}
_cache: dict = {}


def canonical(dtype) -> np.dtype:
    """Turn anything NKI accepts as a `dtype` into a numpy dtype of the supported table.

    Raises:
        DtypeError: If the hardware has no such type (for example float64 or int64).
    """
    try:
        return _cache[dtype]
    except (KeyError, TypeError):
        pass
    found = _ALIASES.get(dtype) if isinstance(dtype, str) else None
    if found is None:
        found = BOOL if dtype is bool else np.dtype(dtype)
    if found not in FLOATS and found != BOOL and found not in INTEGERS:
        raise DtypeError(f"data type {dtype} is not supported by NeuronCores; expected one of nki.language's dtypes")
    try:
        _cache[dtype] = found
    except TypeError:
        pass
    return found


def is_float(dtype: np.dtype) -> bool:
    """Whether values of this type are stored as rounded float32."""
    return dtype in FLOATS


def itemsize(dtype: np.dtype) -> int:
    """Bytes of one element in device memory."""
    return dtype.itemsize


def storage(dtype: np.dtype) -> np.dtype:
    """The numpy type that holds tensors of this type."""
    return FLOAT32 if dtype in FLOATS else dtype


def _round_bits(values: np.ndarray, drop: int) -> np.ndarray:
    """Round float32 to fewer mantissa bits, to nearest even, by integer arithmetic (NaN stays NaN)."""
    bits = values.view(np.uint32)
    rounded = bits >> drop
    rounded &= 1
    rounded += (1 << (drop - 1)) - 1
    rounded += bits
    rounded &= 0xFFFFFFFF << drop & 0xFFFFFFFF
    return rounded.view(np.float32)


def rounded(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Give float32 or integer results the values they have after a write in `dtype`.

    Args:
        values: Result of an instruction.
        dtype: Type of the destination.

    Returns:
        An array of `storage(dtype)`. Float to integer rounds to nearest even and saturates.
    """
    if dtype == FLOAT32:
        return values if values.dtype == FLOAT32 else values.astype(np.float32)
    if dtype in FLOATS:
        if values.dtype != FLOAT32:
            values = values.astype(np.float32)
        if dtype == BFLOAT16 or dtype == TFLOAT32:
            if not values.flags.c_contiguous:
                values = np.ascontiguousarray(values)
            return _round_bits(values, 16 if dtype == BFLOAT16 else 13)
        if dtype == FLOAT16:
            # numpy converts to half in software: hundreds of times slower.
            values = values if values.flags.c_contiguous and values.flags.writeable else values.copy()
            return torch.from_numpy(values).half().float().numpy()
        return values.astype(dtype).astype(np.float32)
    if values.dtype == dtype:
        return values
    if dtype == BOOL:
        return values != 0
    if values.dtype == FLOAT32:
        limits = np.iinfo(dtype)
        return np.clip(np.rint(values.astype(np.float64)), limits.min, limits.max).astype(dtype)
    return values.astype(dtype)


def scalar_dtype(value) -> np.dtype:
    """Type of a Python or numpy scalar operand; untyped ones are the widest type (weak scalars)."""
    if isinstance(value, (bool, np.bool_)):
        return np.dtype(np.uint8)
    if isinstance(value, np.generic):
        return canonical(value.dtype) if value.dtype != np.float64 else FLOAT32
    return np.dtype(np.int32) if isinstance(value, int) else FLOAT32


def promote(first: np.dtype, second: np.dtype) -> np.dtype:
    """Result type of an arithmetic operation on two types (SDK 2.26 nki.api.shared.rst, "NKI Type Promotion")."""
    if first == second:
        return first
    first_float, second_float = first in FLOATS, second in FLOATS
    if first_float and second_float:
        bits_a, bits_b = _FLOAT_BITS[first], _FLOAT_BITS[second]
        if bits_a == bits_b:
            # float16 with bfloat16 widens to float32, the two float8 types to bfloat16.
            return FLOAT32 if bits_a == 16 else BFLOAT16
        return first if bits_a > bits_b else second
    if first_float or second_float:
        return first if first_float else second
    first, second = (np.dtype(np.uint8) if t == BOOL else t for t in (first, second))
    widened = np.promote_types(first, second)
    return FLOAT32 if widened.itemsize > 4 else widened
