# SPDX-License-Identifier: Apache-2.0
"""Data types, memory spaces and tile sizes of `nki.language` (SDK 2.26)."""

import numpy as np

from .._machine import dtypes, hardware
from .._memory.context import current
from .._memory.tensor import HBM, PSUM, SBUF, SHARED_HBM


bfloat16 = dtypes.BFLOAT16
float8_e4m3 = dtypes.FLOAT8_E4M3
float8_e5m2 = dtypes.FLOAT8_E5M2
tfloat32 = dtypes.TFLOAT32
bool_ = np.bool_
float16 = np.float16
float32 = np.float32
int8, int16, int32 = np.int8, np.int16, np.int32
uint8, uint16, uint32 = np.uint8, np.uint16, np.uint32


class fp32:
    """float32 constants."""

    min = float(np.finfo(np.float32).min)


class bfp16:
    """bfloat16 constants (the published bit pattern, 0xff80, is minus infinity)."""

    min = float("-inf")


class BufferSpace:
    """A memory, as the `buffer=` argument of tensor constructors.

    Args:
        memory: `hbm`, `shared_hbm`, `sbuf` or `psum`.
    """

    __slots__ = ("memory",)

    def __init__(self, memory: str):
        self.memory = memory

    def __repr__(self):
        return f"nl.{self.memory}"


private_hbm = hbm = BufferSpace(HBM)
shared_hbm = BufferSpace(SHARED_HBM)
sbuf = BufferSpace(SBUF)
psum = BufferSpace(PSUM)


class _TileSize:
    """Tile size limits of the target."""

    pmax = hardware.PARTITIONS
    psum_fmax = hardware.PSUM_BANK_BYTES // 4
    gemm_stationary_fmax = hardware.MATMUL_STATIONARY_FREE
    gemm_moving_fmax = hardware.MATMUL_MOVING_FREE
    bn_stats_fmax = 512
    psum_min_align = 4
    sbuf_min_align = 1

    @property
    def total_available_sbuf_size(self) -> int:
        """SBUF bytes a partition that a kernel may use."""
        return current().generation.sbuf_bytes


tile_size = _TileSize()
