# SPDX-License-Identifier: Apache-2.0
"""Operands that single instructions refuse: engines, shapes, data types, reductions. See `nki_refusals`."""

import neuronxcc.nki.isa as nisa
import neuronxcc.nki.language as nl
import numpy as np
import pytest
from neuronxcc.nki._machine import errors
from nki_refusals import BF16, check, in_psum, sbuf, table


RULES, refused = table()
I32 = nl.int32
TILE = (128, 64)


# Engines


@refused(errors.OperatorError, "cannot run on", "S26 isa tensor_tensor, engine")
def tensor_tensor_on_scalar(x):
    nisa.tensor_tensor(sbuf(TILE), sbuf(TILE), op=np.add, engine=nisa.scalar_engine)


@refused(errors.OperatorError, "runs on the Tensor or Vector Engine", "S26 isa nc_transpose")
def transpose_on_scalar(x):
    nisa.nc_transpose(sbuf((32, 32)), engine=nisa.scalar_engine)


@refused(errors.OperatorError, "rsqrt and power alone", "S26 isa tensor_scalar, GpSimd")
def tensor_scalar_add_on_gpsimd(x):
    nisa.tensor_scalar(sbuf(TILE), np.add, 1.0, engine=nisa.gpsimd_engine)


@refused(errors.MemorySpaceError, "data and operand1 cannot both be in PSUM", "S26 isa scalar_tensor_tensor")
def scalar_tensor_tensor_of_psum(x):
    nisa.scalar_tensor_tensor(data=in_psum(64), op0=np.add, operand0=1.0, op1=np.add, operand1=in_psum(64))


@refused(errors.MemorySpaceError, "data0 and data1 cannot both be in PSUM", "S26 isa tensor_tensor_scan")
def scan_of_psum(x):
    nisa.tensor_tensor_scan(in_psum(64), in_psum(64), 0.0, np.multiply, np.add)


@refused(errors.MemorySpaceError, "on the Vector Engine", "S26 isa tensor_tensor")
def sum_of_psum_tiles(x):
    total, other = in_psum(64), in_psum(64)
    nl.copy(total)
    total += other


@refused(errors.OperatorError, "which memset wrote", "SDK 2.29 isa nc_matmul, accumulation mode; rule psum_start")
def matmul_onto_a_memset(x):
    total = nl.ndarray(TILE, dtype=nl.float32, buffer=nl.psum)
    total[...] = 0.0
    total += in_psum(64)


@refused(errors.OperatorError, "which memset wrote", "SDK 2.29 isa nc_matmul, accumulation mode; rule psum_start")
def matmul_onto_zeros_that_were_read(x):
    total = nl.zeros((128, 64), dtype=nl.float32, buffer=nl.psum)
    nl.exp(total)
    total += in_psum(64)


# Scalars of one element a partition


@refused(errors.DtypeError, "operand0 of an arithmetic operator must be float32", "SDK 2.29 isa tensor_scalar")
def tensor_scalar_by_a_bf16_vector(x):
    nisa.tensor_scalar(sbuf(TILE), np.add, sbuf((128, 1), BF16))


@refused(errors.DtypeError, "operand0 of an arithmetic operator must be float32", "SDK 2.29 isa tensor_scalar")
def tensor_scalar_reduce_by_a_bf16_vector(x):
    result = sbuf((128, 1))
    nisa.tensor_scalar_reduce(
        data=sbuf(TILE), op0=np.add, operand0=sbuf((128, 1), BF16), reduce_op=np.max, reduce_res=result
    )


@refused(errors.DtypeError, "operand0 must be a number", "S26 isa tensor_scalar")
def tensor_scalar_by_a_string(x):
    nisa.tensor_scalar(sbuf(TILE), np.add, "1.0")


@refused(errors.ShapeError, "one element a partition", "S26 isa tensor_scalar")
def tensor_scalar_by_a_row(x):
    nisa.tensor_scalar(sbuf(TILE), np.add, sbuf((128, 2)))


@refused(errors.OperatorError, "given together", "S26 isa tensor_scalar")
def tensor_scalar_without_its_second_operand(x):
    nisa.tensor_scalar(sbuf(TILE), np.add, 1.0, op1=np.multiply)


@refused(errors.OperatorError, "both bitvec or both arithmetic", "S26 isa tensor_scalar")
def tensor_scalar_of_mixed_operators(x):
    nisa.tensor_scalar(sbuf(TILE, I32, 1), np.bitwise_and, 1, op1=np.add, operand1=1.0)


@refused(errors.DtypeError, "need integer operands", "S26 shared tbl-aluop, bitvec")
def bits_of_floats(x):
    nisa.tensor_tensor(sbuf(TILE), sbuf(TILE), op=np.bitwise_and)


@refused(errors.OperatorError, "not in the table of supported math", "S26 shared tbl-aluop")
def operator_that_does_not_exist(x):
    nisa.tensor_tensor(sbuf(TILE), sbuf(TILE), op=np.arctan2)


@refused(errors.OperatorError, "is not an nki.language or numpy operator", "S26 shared tbl-aluop")
def operator_of_ones_own(x):
    nisa.tensor_tensor(sbuf(TILE), sbuf(TILE), op=lambda a, b: a)


# Shapes of full operands


@refused(errors.PartitionMismatchError, "elements a partition differ", "S26 isa tensor_tensor")
def tensor_tensor_of_other_widths(x):
    nisa.tensor_tensor(sbuf((128, 64)), sbuf((128, 32)), op=np.add)


@refused(errors.ShapeError, "must have the shape of data", "S26 isa scalar_tensor_tensor")
def scalar_tensor_tensor_of_other_widths(x):
    nisa.scalar_tensor_tensor(data=sbuf(TILE), op0=np.add, operand0=1.0, op1=np.add, operand1=sbuf((128, 32)))


@refused(errors.ShapeError, "exceeds the max supported number of dimensions", "S26 lang transpose")
def transpose_of_three_axes(x):
    nl.transpose(sbuf((32, 4, 8)))


@refused(errors.ShapeError, "tile_position and tile_size must be both set", "S26 isa nc_matmul tile_size")
def matmul_tile_without_position(x):
    nisa.nc_matmul(sbuf((32, 32), BF16), sbuf((32, 64), BF16), tile_size=(32, 32))


@refused(errors.ShapeError, "must be multiples of 32", "S26 isa nc_matmul tile_position")
def matmul_tile_between_rows(x):
    nisa.nc_matmul(sbuf((32, 32), BF16), sbuf((32, 64), BF16), tile_position=(16, 0), tile_size=(32, 32))


@refused(errors.TileSizeError, "smaller than the stationary tile", "S26 isa nc_matmul tile_size")
def matmul_tile_too_small(x):
    nisa.nc_matmul(sbuf((64, 64), BF16), sbuf((64, 64), BF16), tile_position=(0, 0), tile_size=(32, 32))


@refused(errors.DtypeError, "takes float tiles", "S26 isa nc_transpose")
def pe_transpose_of_integers(x):
    nisa.nc_transpose(sbuf((128, 128), I32, 1), engine=nisa.tensor_engine)


@refused(errors.DtypeError, "accumulates in float32", "S26 arch, PSUM accumulation")
def accumulation_in_bf16(x):
    total = nl.zeros((128, 64), dtype=BF16, buffer=nl.psum)
    total += nisa.nc_matmul(sbuf((128, 128), BF16), sbuf((128, 64), BF16))


# Reductions on the side


@refused(errors.ShapeError, r"reduce_res must be a \[128, 1\] tile", "S26 isa activation_reduce")
def sum_into_a_row(x):
    nisa.activation_reduce(np.exp, sbuf(TILE), reduce_op=np.add, reduce_res=sbuf((128, 2)))


@refused(errors.OperatorError, "before the accumulators were reset", "S26 isa activation, reduce_cmd")
def sum_that_never_began(x):
    command = nisa.reduce_cmd.reduce
    nisa.activation(np.exp, sbuf(TILE), reduce_op=np.add, reduce_res=sbuf((128, 1)), reduce_cmd=command)


@refused(errors.OperatorError, "reverse0 is not supported", "S26 isa tensor_scalar_reduce")
def reversed_scalar_with_reduction(x):
    nisa.tensor_scalar_reduce(
        data=sbuf(TILE), op0=np.subtract, operand0=1.0, reverse0=True, reduce_op=np.max, reduce_res=sbuf((128, 1))
    )


@refused(errors.OperatorError, "bitvec operators are not supported", "S26 isa tensor_scalar_reduce")
def bits_with_reduction(x):
    nisa.tensor_scalar_reduce(
        data=sbuf(TILE, I32, 1), op0=np.bitwise_and, operand0=1, reduce_op=np.max, reduce_res=sbuf((128, 1))
    )


@refused(errors.DtypeError, "needs integer data", "S26 isa tensor_reduce")
def bitwise_reduction_of_floats(x):
    nisa.tensor_reduce(np.bitwise_or, sbuf(TILE), axis=1)


@refused(errors.OperatorError, "add, max, bitwise_or and bitwise_and", "S26 isa tensor_partition_reduce")
def minimum_across_partitions(x):
    nisa.tensor_partition_reduce(np.min, sbuf(TILE))


@refused(errors.OperatorError, "reciprocal does not support a bias", "S26 isa activation", target="trn1")
def reciprocal_with_bias(x):
    nisa.activation(nl.reciprocal, sbuf(TILE), bias=sbuf((128, 1)))


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.body.__name__)
def test_refused(rule):
    check(rule)
