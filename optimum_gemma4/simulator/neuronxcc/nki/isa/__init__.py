# SPDX-License-Identifier: Apache-2.0
"""`neuronxcc.nki.isa`: the instruction set of the NeuronCore engines, simulated.

Signatures are those of SDK 2.26 (Beta 1). One file for each engine; `constants` holds the enumerations. Instructions
that Gemma 4 has no use for and that are not simulated do not exist here, so a kernel that calls one fails by name.
"""

from .constants import (
    dge_mode,
    dma_engine,
    engine,
    fp32,
    get_nc_version,
    gpsimd_engine,
    nc_version,
    oob_mode,
    reduce_cmd,
    scalar_engine,
    tensor_engine,
    unknown_engine,
    vector_engine,
)
from .dma import dma_copy, dma_transpose
from .movement import memset, reciprocal, tensor_copy
from .on_gpsimd import affine_select, iota, sequence_bounds, tensor_partition_reduce
from .on_scalar import activation, activation_reduce
from .on_tensor import nc_matmul, nc_transpose
from .on_vector import scalar_tensor_tensor, tensor_reduce, tensor_scalar, tensor_scalar_reduce, tensor_tensor
from .selection import (
    max8,
    nc_find_index8,
    range_select,
    select_reduce,
    tensor_copy_predicated,
    tensor_tensor_scan,
)


__all__ = [
    "activation",
    "activation_reduce",
    "affine_select",
    "dge_mode",
    "dma_copy",
    "dma_engine",
    "dma_transpose",
    "engine",
    "fp32",
    "get_nc_version",
    "gpsimd_engine",
    "iota",
    "max8",
    "memset",
    "nc_find_index8",
    "nc_matmul",
    "nc_transpose",
    "nc_version",
    "oob_mode",
    "range_select",
    "reciprocal",
    "reduce_cmd",
    "scalar_engine",
    "scalar_tensor_tensor",
    "select_reduce",
    "sequence_bounds",
    "tensor_copy",
    "tensor_copy_predicated",
    "tensor_engine",
    "tensor_partition_reduce",
    "tensor_reduce",
    "tensor_scalar",
    "tensor_scalar_reduce",
    "tensor_tensor",
    "tensor_tensor_scan",
    "unknown_engine",
    "vector_engine",
]
