# SPDX-License-Identifier: Apache-2.0
"""Enumerations and constants of `nki.isa` (values as in the SDK 2.26 stubs)."""

from enum import IntEnum

import numpy as np

from .._memory.context import current


class dge_mode(IntEnum):
    """How DMA descriptors are generated."""

    none = 0
    swdge = 1
    hwdge = 2
    unknown = 3


class engine(IntEnum):
    """Engines of a NeuronCore."""

    unknown = 0
    tensor = 1
    scalar = 2
    gpsimd = 3
    dma = 4
    vector = 5
    sync = 6


class nc_version(IntEnum):
    """NeuronCore generations."""

    gen2 = 2
    gen3 = 3


class oob_mode(IntEnum):
    """What an indirect DMA does with an index out of bounds."""

    error = 0
    skip = 1


class reduce_cmd(IntEnum):
    """Commands to the accumulator registers of the Scalar and Vector Engines."""

    idle = 0
    reset = 1
    reduce = 2
    reset_reduce = 3


class fp32:
    """float32 constants."""

    min = float(np.finfo(np.float32).min)


dma_engine = engine.dma
gpsimd_engine = engine.gpsimd
scalar_engine = engine.scalar
tensor_engine = engine.tensor
unknown_engine = engine.unknown
vector_engine = engine.vector


def get_nc_version() -> nc_version:
    """NeuronCore generation that the running kernel is compiled for."""
    return nc_version(current().generation.version)
