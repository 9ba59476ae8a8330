# SPDX-License-Identifier: Apache-2.0
"""Tensor indexing: basic (integers, slices, `nl.ds`, loop variables) and advanced (`nl.arange`, `nl.mgrid`, tiles).

Follows SDK 2.26 `programming_model.rst` (Tensor Indexing), `nki_known_issues.rst` and `nki.errors.rst`: the two styles
do not mix, accesses are checked against the shape, and an on-chip view keeps its partition axis and two axes at least.
Advanced indices that are plain strided ranges become views; the others gather and scatter.
"""

import numpy as np

from .._machine.errors import IndexingError, OutOfBoundsError
from .index import Index, IndexArray
from .regions import Region
from .tensor import ON_CHIP, Tensor


class DynamicSlice:
    """`nl.ds(start, size)`: a slice of constant size at a start that may depend on loop variables."""

    __slots__ = ("start", "size")

    def __init__(self, start, size: int):
        self.start = start
        self.size = size


def _scalar(entry):
    if isinstance(entry, Index):
        return entry.value
    if isinstance(entry, (int, np.integer)) and not isinstance(entry, bool):
        return int(entry)
    return None


def _bounds(tensor, axis, start, stop):
    if start < 0 or stop > tensor.shape[axis]:
        raise OutOfBoundsError(
            f"out-of-bound access for tensor {tensor!r} on dimension {axis}: index range [{start}, {stop - 1}] "
            f"exceeds dimension size of {tensor.shape[axis]}"
        )


def _expand(tensor, key) -> list:
    key = list(key) if isinstance(key, tuple) else [key]
    dots = [i for i, k in enumerate(key) if k is Ellipsis]
    if dots:
        key[dots[0] : dots[0] + 1] = [slice(None)] * (tensor.ndim - (len(key) - 1))
    if len(key) > tensor.ndim:
        raise IndexingError(f"{len(key)} indices for {tensor!r}")
    return key


def index_tensor(tensor: Tensor, key) -> Tensor:
    """Index a tensor; see the module docstring.

    Raises:
        IndexingError: For an unsupported kind of index.
        OutOfBoundsError: If the access leaves the tensor.
    """
    if tensor.fancy is not None:
        raise IndexingError(f"{tensor!r} is already an advanced-indexed view and cannot be indexed again")
    key = _expand(tensor, key)
    if any(isinstance(k, (IndexArray, Tensor)) for k in key):
        return _advanced(tensor, key)
    return _basic(tensor, key)


def _slice(tensor, axis, entry) -> tuple[int, int, int]:
    size = tensor.shape[axis]
    if isinstance(entry, DynamicSlice):
        start = _scalar(entry.start)
        return start, start + entry.size, 1
    start = 0 if entry.start is None else _scalar(entry.start)
    stop = size if entry.stop is None else _scalar(entry.stop)
    step = 1 if entry.step is None else _scalar(entry.step)
    if start is None or stop is None or step is None or step < 1:
        raise IndexingError(f"slice {entry} of {tensor!r} is not made of integers and affine indices")
    return start, stop, step


def _basic(tensor: Tensor, key) -> Tensor:
    on_chip = tensor.buffer.memory in ON_CHIP
    if on_chip and tensor.ndim == 2 and len(key) == 1 and 1 in tensor.shape and key[0] != slice(None):
        raise IndexingError(f"{tensor!r} must be indexed with both indices, as in t[0:N, 0]")
    box, axes = list(tensor.region.box), []
    numpy_key, par_axis = [], None
    for axis in range(tensor.ndim):
        entry = key[axis] if axis < len(key) else slice(None)
        origin = tensor.region.axes[axis]
        scalar = _scalar(entry)
        if scalar is not None:
            size = tensor.shape[axis]
            if scalar < 0 and not isinstance(entry, Index):
                scalar += size
            start, stop, step = scalar, scalar + 1, 1
        elif isinstance(entry, (slice, DynamicSlice)):
            start, stop, step = _slice(tensor, axis, entry)
        else:
            raise IndexingError(f"index {entry!r} of {tensor!r} is not supported")
        _bounds(tensor, axis, start, stop)
        if stop <= start:
            raise IndexingError(f"index {entry!r} of {tensor!r} selects nothing")
        keep = scalar is None
        if on_chip and axis == tensor.par_axis:
            # The partition axis stays, with size one for an integer index.
            par_axis, keep = len(axes), True
        numpy_key.append(slice(start, stop, step) if keep else start)
        if keep:
            axes.append(origin)
        if origin is not None and (start or step != 1 or stop != tensor.shape[axis]):
            lo, _, base = box[origin]
            box[origin] = (lo + start * base, lo + (stop - 1) * base + 1, step * base)
    numpy_key = tuple(numpy_key)
    data = tensor.data[numpy_key]
    written = None if tensor.written is None else tensor.written[numpy_key]
    if on_chip and data.ndim < 2:
        data = data[:, None]
        written = None if written is None else written[:, None]
        axes.append(None)
    region = Region(tuple(box), tuple(axes), tensor.region.frame)
    return Tensor(tensor.buffer, data, written, region, par_axis or 0)


def _advanced(tensor: Tensor, key) -> Tensor:
    if any(isinstance(k, (slice, DynamicSlice)) for k in key) or len(key) != tensor.ndim:
        raise IndexingError(
            f"mixing basic and advanced indexing of {tensor!r} is not supported; index every dimension with nl.arange "
            "or nl.mgrid expressions, or every one with slices"
        )
    arrays = [k for k in key if isinstance(k, IndexArray)]
    for array in arrays:
        if array.ndim < 2:
            raise IndexingError(f"indexing {tensor!r} with 1-D arange is not supported; use nl.arange(n)[:, None]")
    dynamic = [k for k in key if isinstance(k, Tensor)]
    shape = np.broadcast_shapes(*(k.shape for k in arrays + dynamic))
    if not dynamic:
        view = _strided(tensor, key, shape)
        if view is not None:
            return view
    return _gather(tensor, key, shape)


def _strided(tensor, key, shape) -> Tensor | None:
    """The view of an access that is one strided range along each axis, in order; None if it is not."""
    numpy_key, box, axes, used = [], list(tensor.region.box), [], []
    for axis, entry in enumerate(key):
        origin = tensor.region.axes[axis]
        if isinstance(entry, IndexArray):
            strides = [(a, c) for a, c in entry.coefficients.items() if c]
            if len(strides) > 1 or (strides and (strides[0][1] < 0 or strides[0][0] in used)):
                return None
            start = entry.offset
            along, step = strides[0] if strides else (None, 1)
            count = shape[along] if along is not None else 1
        else:
            start, along, step, count = _scalar(entry), None, 1, 1
            if start is None:
                raise IndexingError(f"index {entry!r} of {tensor!r} is not supported")
        stop = start + (count - 1) * step + 1
        if start < 0 or stop > tensor.shape[axis]:
            # A mask may exclude what lies outside; the gather path checks that.
            return None
        if along is not None:
            if used and along < used[-1]:
                return None
            used.append(along)
        numpy_key.append(slice(start, stop, step) if along is not None else start)
        if origin is not None:
            lo, _, base = box[origin]
            box[origin] = (lo + start * base, lo + (stop - 1) * base + 1, step * base)
        if along is not None:
            axes.append(origin)
    if any(shape[a] != 1 for a in range(len(shape)) if a not in used):
        return None
    numpy_key, full_axes, position = tuple(numpy_key), [], 0
    for axis in range(len(shape)):
        full_axes.append(axes[position] if axis in used else None)
        position += axis in used
    data = tensor.data[numpy_key].reshape(shape)
    written = None if tensor.written is None else tensor.written[numpy_key].reshape(shape)
    if not np.shares_memory(data, tensor.data):
        return None
    return Tensor(tensor.buffer, data, written, Region(tuple(box), tuple(full_axes), tensor.region.frame), 0)


def _gather(tensor, key, shape) -> Tensor:
    """A scattered access: index arrays kept in `fancy`, out-of-range positions noted for the mask to exclude."""
    arrays, box, invalid, indirect = [], list(tensor.region.box), None, []
    for axis, entry in enumerate(key):
        if isinstance(entry, Tensor):
            values = entry.values("an indirect index").astype(np.int64)
            indirect.append(entry)
        else:
            values = entry.values if isinstance(entry, IndexArray) else np.asarray(_scalar(entry))
        outside = (values < 0) | (values >= tensor.shape[axis])
        if outside.any():
            invalid = outside if invalid is None else invalid | outside
            values = np.clip(values, 0, tensor.shape[axis] - 1)
        arrays.append(values)
        origin = tensor.region.axes[axis]
        if origin is not None:
            lo, _, base = box[origin]
            box[origin] = (lo + int(values.min()) * base, lo + int(values.max()) * base + 1, 1)
    axes = (None,) * len(shape)
    region = Region(tuple(box), axes, tensor.region.frame)
    view = Tensor(tensor.buffer, tensor.data, tensor.written, region, 0, tuple(arrays), tuple(shape))
    view.dynamic = (None if invalid is None else np.broadcast_to(invalid, shape), tuple(indirect))
    return view


def check_valid(tensor: Tensor, where, what: str) -> None:
    """Refuse an access whose out-of-range positions are not excluded by the mask.

    Raises:
        OutOfBoundsError: If a used position lies outside the tensor.
    """
    if tensor.dynamic is None or tensor.dynamic[0] is None:
        return
    invalid = tensor.dynamic[0]
    used = invalid if where is None else invalid & where
    if used.any():
        raise OutOfBoundsError(
            f"{what}: out-of-bound access for tensor {tensor!r} at {int(np.count_nonzero(used))} positions; add a mask"
        )
