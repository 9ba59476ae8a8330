# SPDX-License-Identifier: Apache-2.0
"""The simulator refuses operands that instructions do not take: sizes, partitions, types, operators, generation."""

import neuronxcc.nki.isa as nisa
import neuronxcc.nki.language as nl
import numpy as np
import pytest
from neuronxcc.nki._machine import errors
from nki_refusals import BF16, F32, check, sbuf, table


RULES, refused = table()


@refused(errors.TileSizeError, "number of partitions 256", "S26 errors err_num_partition_exceed_arch_limit")
def too_many_partitions(x):
    nl.zeros((256, 64), dtype=F32, buffer=nl.sbuf)


@refused(errors.TileSizeError, "number of partitions 256", "S26 errors err_num_partition_exceed_arch_limit")
def load_of_too_many_partitions(x):
    nl.load(x[0:256, 0:64])


@refused(errors.TileSizeError, "number of partitions 256", "S26 errors err_num_partition_exceed_arch_limit")
def memset_of_too_many_partitions(x):
    nisa.memset((256, 4), 0, F32)


@refused(errors.TileSizeError, "must not exceed 128 and 512", "S26 isa nc_matmul")
def matmul_stationary_too_wide(x):
    nisa.nc_matmul(sbuf((128, 256), BF16), sbuf((128, 512), BF16))


@refused(errors.TileSizeError, "must not exceed 128 and 512", "S26 isa nc_matmul")
def matmul_moving_too_wide(x):
    nisa.nc_matmul(sbuf((128, 128), BF16), sbuf((128, 513), BF16))


@refused(errors.PartitionMismatchError, "contraction sizes differ", "S26 isa nc_matmul")
def matmul_contraction_mismatch(x):
    nisa.nc_matmul(sbuf((128, 128), BF16), sbuf((64, 128), BF16))


@refused(errors.DtypeError, "both must be", "S29 isa nc_matmul")
def matmul_mixes_fp32_and_bf16(x):
    nisa.nc_matmul(sbuf((128, 128), F32), sbuf((128, 128), BF16))


@refused(errors.DtypeError, "expected fp8, bf16", "S26 isa nc_matmul")
def matmul_of_integers(x):
    nisa.nc_matmul(sbuf((128, 128), nl.int32, 1), sbuf((128, 128), nl.int32, 1))


@refused(errors.TileSizeError, "cannot contain 32", "S26 isa nc_matmul tile_size", target="trn1")
def matmul_row_tile_of_32_on_v2(x):
    nisa.nc_matmul(sbuf((32, 32), BF16), sbuf((32, 32), BF16), tile_position=(0, 0), tile_size=(32, 32))


@refused(errors.OperatorError, "not subtract", "S26 nki.api.shared tbl-aluop, Supported Engine")
def subtraction_on_gpsimd(x):
    nisa.tensor_tensor(sbuf((128, 8)), sbuf((128, 8)), nl.subtract, engine=nisa.gpsimd_engine)


@refused(errors.TileSizeError, "exceeds 128x128 on the Tensor", "S26 isa nc_transpose")
def pe_transpose_too_wide(x):
    nisa.nc_transpose(sbuf((128, 256), BF16))


@refused(errors.TileSizeError, "exceeds 32x32 on the Vector", "S26 isa nc_transpose")
def vector_transpose_too_wide(x):
    nisa.nc_transpose(sbuf((64, 32), BF16), engine=nisa.vector_engine)


@refused(errors.TileSizeError, "must fit one bank", "S26 model TC#2")
def psum_tile_beyond_a_bank(x):
    nl.ndarray((128, 513), dtype=F32, buffer=nl.psum)


@refused(errors.PartitionMismatchError, "number of partitions mismatch", "S26 errors err_num_partition_mismatch")
def tensor_tensor_partition_mismatch(x):
    nisa.tensor_tensor(sbuf((128, 64)), sbuf((1, 64)), op=nl.add)


@refused(errors.PartitionMismatchError, "not supported on operators", "S26 issues, indexing")
def operator_broadcasts_partitions(x):
    sbuf((128, 64)) + sbuf((1, 64))


@refused(errors.StartPartitionError, "starts at partition 16", "S26 arch, start partition")
def start_partition(x):
    nl.exp(sbuf((128, 64))[16:32, 0:64])


@refused(errors.StartPartitionError, "starts at partition 32", "S26 arch, start partition")
def start_partition_of_a_large_tile(x):
    nl.exp(sbuf((128, 64))[32:96, 0:64])


@refused(errors.ShapeError, "insufficient rank", "S26 issues, indexing")
def one_dimensional_tile(x):
    nl.zeros((128,), dtype=F32, buffer=nl.sbuf)


@refused(errors.ShapeError, "destination shape", "S26 errors err_store_dst_shape_smaller_than_other_shape")
def destination_too_small(x):
    column = sbuf((128, 1))
    column[...] = sbuf((128, 512))


@refused(errors.TargetError, "NeuronCore-v3", "S26 isa range_select", target="trn1")
def range_select_on_v2(x):
    bounds = sbuf((128, 1))
    nisa.range_select(on_true_tile=sbuf((128, 64)), comp_op0=np.less, comp_op1=np.less, bound0=bounds, bound1=bounds)


@refused(errors.OperatorError, "fp32.min", "S26 isa range_select")
def range_select_fill(x):
    bounds = sbuf((128, 1))
    nisa.range_select(
        on_true_tile=sbuf((128, 64)), comp_op0=np.less, comp_op1=np.less, bound0=bounds, bound1=bounds,
        on_false_value=-1.0,
    )  # fmt: skip


@refused(errors.TargetError, "hwdge", "S26 isa dma_copy", target="trn1")
def hardware_descriptors_on_v2(x):
    nisa.dma_copy(dst=nl.ndarray((128, 64), dtype=F32), src=x[0:128, 0:64], dge_mode=nisa.dge_mode.hwdge)


@refused(errors.DtypeError, "bias must be a vector", "S26 errors err_activation_bias_invalid_type")
def activation_bias_of_integers(x):
    nisa.activation(nl.exp, sbuf((128, 64)), bias=sbuf((128, 1), nl.int8, 1))


@refused(errors.ShapeError, "bias must be a", "S26 isa activation")
def activation_bias_of_a_row(x):
    nisa.activation(nl.exp, sbuf((128, 64)), bias=sbuf((128, 64)))


@refused(errors.DtypeError, "scale must be a number or a float32", "S26 errors err_activation_scale_invalid_type")
def activation_scale_in_fp16(x):
    nisa.activation(nl.exp, sbuf((128, 64)), scale=sbuf((128, 1), nl.float16))


@refused(errors.ShapeError, "scale must be a number", "S26 errors err_activation_scale_scalar_or_vector")
def activation_scale_of_a_row(x):
    nisa.activation(nl.exp, sbuf((128, 64)), scale=sbuf((128, 64)))


@refused(errors.OperatorError, "not in the table", "S26 shared tbl-act-func")
def activation_without_function(x):
    nisa.activation(nl.maximum, sbuf((128, 64)))


@refused(errors.OperatorError, "valid range", "S26 shared tbl-act-func")
def activation_outside_its_range(x):
    nisa.activation(nl.log, sbuf((128, 64), F32, -1.0))


@refused(errors.OperatorError, "reduces with add alone", "S26 isa activation_reduce")
def activation_reduces_with_max(x):
    nisa.activation_reduce(nl.exp, sbuf((128, 64)), reduce_op=nl.max, reduce_res=sbuf((128, 1)))


@refused(errors.OperatorError, "no add and multiply", "S26 shared tbl-aluop, note", target="trn1")
def tensor_scalar_on_scalar_engine_of_v2(x):
    nisa.tensor_scalar(sbuf((128, 64)), nl.multiply, 2.0, engine=nisa.scalar_engine)


@refused(errors.OperatorError, "Scalar Engine does not implement", "S26 isa tensor_scalar")
def tensor_scalar_maximum_on_scalar_engine(x):
    nisa.tensor_scalar(sbuf((128, 64)), nl.maximum, 2.0, engine=nisa.scalar_engine)


@refused(errors.ShapeError, "last contiguous free axes", "S26 isa tensor_reduce")
def reduce_of_partitions(x):
    nisa.tensor_reduce(nl.add, sbuf((128, 64)), axis=0)


@refused(errors.ShapeError, "last contiguous free axes", "S26 isa tensor_reduce")
def reduce_of_a_middle_axis(x):
    nisa.tensor_reduce(nl.add, sbuf((128, 4, 64)), axis=1)


@refused(errors.OperatorError, "not a legal reduction", "S26 shared tbl-aluop")
def reduce_with_power(x):
    nisa.tensor_reduce(nl.power, sbuf((128, 64)), axis=1)


@refused(errors.DtypeError, "float64", "S26 shared, data types")
def double_precision(x):
    nl.zeros((128, 64), dtype=np.float64, buffer=nl.sbuf)


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.body.__name__)
def test_refused(rule):
    check(rule)


def test_tile_limits_are_syntax_errors_as_the_compiler_raises_them():
    assert issubclass(errors.TileSizeError, SyntaxError)
    assert all(issubclass(e, ValueError) for e in vars(errors).values() if isinstance(e, type))
