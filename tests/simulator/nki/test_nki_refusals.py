# SPDX-License-Identifier: Apache-2.0
"""What the hardware or the compiler refuses, the NKI simulator refuses: one kernel a rule, with the rule's source.

Sources: `S26 errors` is SDK 2.26 nki.errors.rst, `S26 isa` the notes of nki.isa, `S26 shared` nki.api.shared.rst,
`S26 arch` trainium_inferentia2_arch.rst, `S26 issues` nki_known_issues.rst, `S26 model` programming_model.rst.
"""

from typing import NamedTuple

import neuronxcc.nki as nki
import neuronxcc.nki.isa as nisa
import neuronxcc.nki.language as nl
import neuronxcc.nki.typing as nt
import numpy as np
import pytest
from neuronxcc.nki._frontend.launch import simulate
from neuronxcc.nki._machine import errors
from neuronxcc.nki.language import par_dim


class Refusal(NamedTuple):
    error: type
    match: str
    source: str
    body: object
    target: str


REFUSALS: list[Refusal] = []
F32, BF16 = nl.float32, nl.bfloat16


def refused(error, match, source, target="trn2"):
    def register(body):
        REFUSALS.append(Refusal(error, match, source, body, target))
        return body

    return register


def sbuf(shape, dtype=F32, value=1.0):
    return nl.full(shape, value, dtype=dtype, buffer=nl.sbuf)


def in_psum(columns=128):
    return nisa.nc_matmul(sbuf((128, 128), BF16), sbuf((128, columns), BF16))


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


@refused(errors.MemorySpaceError, "'moving' of nc_matmul", "S26 isa nc_matmul")
def matmul_operand_in_psum(x):
    nisa.nc_matmul(sbuf((128, 128), BF16), in_psum())


@refused(errors.DtypeError, "both must be", "S29 isa nc_matmul")
def matmul_mixes_fp32_and_bf16(x):
    nisa.nc_matmul(sbuf((128, 128), F32), sbuf((128, 128), BF16))


@refused(errors.DtypeError, "expected fp8, bf16", "S26 isa nc_matmul")
def matmul_of_integers(x):
    nisa.nc_matmul(sbuf((128, 128), nl.int32, 1), sbuf((128, 128), nl.int32, 1))


@refused(errors.TileSizeError, "cannot contain 32", "S26 isa nc_matmul tile_size", target="trn1")
def matmul_row_tile_of_32_on_v2(x):
    nisa.nc_matmul(sbuf((32, 32), BF16), sbuf((32, 32), BF16), tile_position=(0, 0), tile_size=(32, 32))


@refused(errors.TileSizeError, "exceeds 128x128 on the Tensor", "S26 isa nc_transpose")
def pe_transpose_too_wide(x):
    nisa.nc_transpose(sbuf((128, 256), BF16))


@refused(errors.TileSizeError, "exceeds 32x32 on the Vector", "S26 isa nc_transpose")
def vector_transpose_too_wide(x):
    nisa.nc_transpose(sbuf((64, 32), BF16), engine=nisa.vector_engine)


@refused(errors.MemorySpaceError, "address space sbuf", "S26 isa nc_transpose")
def pe_transpose_of_psum(x):
    nisa.nc_transpose(in_psum(), engine=nisa.tensor_engine)


@refused(errors.TileSizeError, "must fit one bank", "S26 model TC#2")
def psum_tile_beyond_a_bank(x):
    nl.ndarray((128, 513), dtype=F32, buffer=nl.psum)


@refused(errors.CapacityError, "SBUF", "S26 nki_direct_allocation_guide.rst", target="trn1")
def sbuf_overflow(x):
    first = sbuf((128, 24 * 1024))
    second = sbuf((128, 24 * 1024))
    nl.store(x[0:128, 0:64], nl.add(first[:, 0:64], second[:, 0:64]))


@refused(errors.CapacityError, "9 banks of PSUM", "S26 arch, 8 banks")
def psum_overflow(x):
    tiles = []
    for _ in nl.static_range(9):
        tiles.append(in_psum(64))
    for i in nl.static_range(9):
        nl.store(x[0:128, nl.ds(64 * i, 64)], tiles[i])


@refused(errors.MemorySpaceError, "GpSimd cannot access PSUM", "S26 isa affine_select, S26 arch")
def affine_select_of_psum(x):
    i, j = nl.mgrid[0:128, 0:128]
    nisa.affine_select(i >= j, in_psum(), -1.0)


@refused(errors.MemorySpaceError, "GpSimd cannot access PSUM", "S26 isa tensor_copy")
def gpsimd_copy_of_psum(x):
    nisa.tensor_copy(in_psum(), engine=nisa.gpsimd_engine)


@refused(errors.MemorySpaceError, "cannot both be in PSUM", "S26 isa tensor_tensor")
def tensor_tensor_of_psum(x):
    nisa.tensor_tensor(in_psum(), in_psum(), op=nl.add)


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


@refused(errors.MemorySpaceError, "address space 'hbm|psum\\|sbuf|sbuf\\|psum", "S26 errors err_unsupported_memory")
def compute_on_hbm(x):
    nl.exp(x[0:128, 0:64])


@refused(errors.MemorySpaceError, "'src' of load", "S26 errors err_unsupported_memory")
def load_from_sbuf(x):
    nl.load(sbuf((128, 64)))


@refused(errors.ImmutableParameterError, "cannot update immutable parameter", "S26 errors, same name")
def store_to_parameter(x, immutable=True):
    nl.store(x[0:128, 0:64], sbuf((128, 64)))


@refused(errors.UninitializedReadError, "no instruction wrote", "S26 errors err_tensor_output_not_written_to")
def uninitialised_read(x):
    nl.exp(nl.ndarray((128, 64), dtype=F32))


@refused(errors.UninitializedReadError, "reads 4096 of 8192", "S26 errors err_tensor_output_not_written_to")
def half_initialised_read(x):
    tile = nl.ndarray((128, 64), dtype=F32)
    tile[:, 0:32] = 0.0
    nl.exp(tile)


@refused(errors.OutOfBoundsError, "index range \\[1000, 1127\\]", "S26 errors err_tensor_access_out_of_bound")
def out_of_bounds(x):
    nl.load(x[0:128, nl.ds(1000, 128)])


@refused(errors.OutOfBoundsError, "add a mask", "S26 errors err_tensor_access_out_of_bound")
def out_of_bounds_of_mgrid(x):
    i, j = nl.mgrid[0:128, 0:512]
    for k in nl.affine_range(3):
        nl.load(x[i, k * 512 + j])


@refused(errors.LoopDependencyError, "unexpected output dependencies", "S26 errors err_unexpected_output_dependencies")
def affine_iterations_write_one_place(x):
    tile = nl.ndarray((128, 4, 64), dtype=F32)
    for i in nl.affine_range(4):
        tile[:, 0, :] = 0.0


@refused(errors.LoopDependencyError, "loop-carried dependency", "S26 lang affine_range")
def affine_iteration_reads_the_last_one(x):
    tile = sbuf((128, 5, 64))
    for i in nl.affine_range(4):
        tile[:, i + 1, :] = nl.exp(tile[:, i, :])


@refused(errors.LoopDependencyError, "programs 0 and 1", "S26 errors err_unexpected_output_dependencies")
def programs_write_one_place(x, grid=2):
    nl.store(x[0:128, 0:64], sbuf((128, 64)))


@refused(errors.ScopeError, "outside of its parent scope", "S26 errors err_local_variable_used_out_of_scope")
def tensor_survives_its_loop(x):
    for i in range(2):
        tile = nl.load(x[0:128, 0:64])
    nl.exp(tile)


@refused(errors.ScopeError, "outside of its parent scope", "S26 errors err_local_variable_used_out_of_scope")
def tensor_survives_its_if_block(x):
    for i in range(4):
        if i < 2:
            tile = nl.load(x[0:128, 0:64])
        else:
            tile = nl.load(x[0:128, 64:128])
        nl.exp(tile)


@refused(errors.ScopeError, "outside of its parent scope", "S26 errors err_local_variable_used_out_of_scope")
def rebinding_across_iterations(x):
    data = sbuf((128, 64))
    for i in nl.sequential_range(3):
        data = data + data


@refused(errors.ScopeError, "top level kernel scope", "S26 errors err_shared_hbm_must_in_kernel_level")
def shared_hbm_in_a_loop(x):
    for i in nl.affine_range(2):
        nl.ndarray((128, 64), dtype=F32, buffer=nl.shared_hbm)


@refused(errors.NkiError, "initial value is not supported", "S26 errors err_hbm_tensor_with_init_value_not_supported")
def hbm_with_initial_value(x):
    nl.full((128, 64), 1.0, dtype=F32, buffer=nl.shared_hbm)


@refused(errors.ControlFlowError, "traced_bool", "S26 issues, masks conjunction; NKI Beta 2 migration guide")
def python_or_of_predicates(x):
    for i in nl.affine_range(4):
        if i < 1 or i > 2:
            nl.load(x[0:128, 0:64])


@refused(errors.ControlFlowError, "traced_bool", "NKI Beta 2 migration guide, trace-once")
def python_not_of_a_predicate(x):
    for i in nl.affine_range(4):
        if not i < 1:
            nl.load(x[0:128, 0:64])


@refused(errors.ControlFlowError, "truth value", "NKI Beta 2 migration guide, trace-once")
def truth_of_an_index(x):
    for i in nl.affine_range(4):
        if i:
            nl.load(x[0:128, 0:64])


@refused(errors.ControlFlowError, "use as a Python integer", "NKI Beta 2 migration guide, trace-once")
def index_into_a_python_list(x):
    offsets = [0, 64]
    for i in nl.affine_range(2):
        nl.load(x[0:128, nl.ds(offsets[i], 64)])


@refused(errors.ControlFlowError, "compile-time integers", "NKI Beta 2 migration guide, trace-once")
def loop_bound_from_an_index(x):
    for i in nl.affine_range(4):
        for j in nl.affine_range(i):
            nl.load(x[0:128, 0:64])


@refused(errors.ControlFlowError, "change between iterations", "NKI Beta 2 migration guide, trace-once")
def python_counter_in_a_loop(x):
    count = 0
    for i in nl.sequential_range(3):
        nl.load(x[0:128, nl.ds(count * 64, 64)])
        count += 1


@refused(errors.ControlFlowError, "change between iterations", "NKI Beta 2 migration guide, trace-once")
def python_list_grows_in_a_loop(x):
    tiles = []
    for i in nl.sequential_range(3):
        tiles.append(nl.load(x[0:128, 0:64]))


@refused(errors.ControlFlowError, "break in a traced loop", "NKI Beta 2 migration guide, trace-once")
def break_in_a_loop(x):
    for i in nl.sequential_range(3):
        break


@refused(errors.ControlFlowError, "arange or nl.mgrid", "S26 errors err_control_flow_condition_depending_on_arange")
def control_flow_on_arange(x):
    j = nl.arange(512)[None, :]
    if j > 100:
        nl.load(x[0:128, 0:64])


@refused(errors.ControlFlowError, "tensor values", "S26 errors err_dynamic_control_flow_not_supported")
def control_flow_on_values(x):
    if nl.load(x[0:1, 0:1]):
        nl.load(x[0:128, 0:64])


@refused(errors.IndexingError, "1-D arange", "S26 errors err_1d_arange_not_supported")
def one_dimensional_arange(x):
    sbuf((128, 64))[nl.arange(64), 0]


@refused(errors.IndexingError, "mixing basic and advanced", "S26 errors err_unsupported_mixing_basic_advanced...")
def mixed_indexing(x):
    sbuf((4, 4))[nl.arange(4)[:, None], :]


@refused(errors.IndexingError, "both indices", "S26 issues, indexing")
def column_indexed_once(x):
    sbuf((128, 1))[0:64]


@refused(errors.IndexingError, "does not support item assignment", "S26 errors err_cannot_assign_to_index")
def assignment_to_an_index(x):
    i, j = nl.mgrid[0:1, 0:8]
    j[0, 5] = 1024


@refused(errors.IndexingError, "partition axis first", "S26 errors err_failed_to_infer_tile_from_local_tensor")
def tile_with_block_axis(x):
    nl.add(nl.zeros((4, par_dim(8), 8), dtype=F32, buffer=nl.sbuf), 32)


@refused(errors.ShapeError, "insufficient rank", "S26 issues, indexing")
def one_dimensional_tile(x):
    nl.zeros((128,), dtype=F32, buffer=nl.sbuf)


@refused(errors.ShapeError, "destination shape", "S26 errors err_store_dst_shape_smaller_than_other_shape")
def destination_too_small(x):
    column = sbuf((128, 1))
    column[...] = sbuf((128, 512))


@refused(errors.MaskError, "mask must be", "S26 shared, masking; S26 issues")
def mask_that_is_no_predicate(x):
    nl.exp(sbuf((128, 64)), mask=np.ones((128, 64)))


@refused(errors.MaskError, "no \\|, ~, //, %", "S26 errors err_unsupported_expression_in_mask")
def mask_of_a_remainder(x):
    for i in range(8):
        nl.exp(sbuf((128, 64)), mask=(i % 4) < 2)


@refused(errors.MaskError, "no \\|, ~, //, %", "S26 shared, masking")
def mask_with_or(x):
    i, j = nl.mgrid[0:128, 0:64]
    nl.exp(sbuf((128, 64)), mask=(i < 3) | (j < 3))


@refused(errors.MaskError, "several comparisons", "S26 isa affine_select")
def affine_select_of_two_comparisons(x):
    i, j = nl.mgrid[0:128, 0:64]
    nisa.affine_select((i >= j) & (i < 64), sbuf((128, 64)), 0.0)


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


@refused(errors.MemorySpaceError, "results must be HBM", "S26 issues, top-level tensors")
def result_in_sbuf(x):
    return sbuf((128, 64))


@refused(errors.OutputNotWrittenError, "never written", "S26 errors err_tensor_output_not_written_to")
def result_never_written(x):
    return nl.ndarray((128, 64), dtype=F32, buffer=nl.shared_hbm)


@refused(errors.MutableNotReturnedError, "not returned", "S26 errors err_mutable_parameter_not_returned")
def mutable_not_returned(x: nt.mutable_tensor, immutable=True):
    out = nl.ndarray((128, 64), dtype=F32, buffer=nl.shared_hbm)
    nl.store(x[0:128, 0:64], sbuf((128, 64)))
    nl.store(out, sbuf((128, 64)))
    return out


@refused(errors.NkiError, "inside another kernel", "S26 errors err_nested_kernel_with_spmd_grid")
def nested_grid(x):
    nki.jit(out_of_bounds)[2](x)


@pytest.mark.parametrize("rule", REFUSALS, ids=lambda r: r.body.__name__)
def test_refused(rule):
    assert rule.source, "every rule cites where it comes from"
    code = rule.body.__code__
    options = dict(zip(code.co_varnames[1 : code.co_argcount], rule.body.__defaults__ or ()))
    # Stores to x stand for outputs, except where the rule is about parameters.
    wrap = nki.jit if "immutable" in options else nki.trace
    kernel = wrap(rule.body)
    kernel = kernel[options["grid"]] if "grid" in options else kernel
    with simulate(target=rule.target), pytest.raises(rule.error, match=rule.match):
        kernel(np.zeros((256, 1024), np.float32))


def test_api_outside_a_kernel():
    with pytest.raises(errors.OutsideKernelError, match="outside of an NKI kernel"):
        nl.zeros((128, 64), dtype=F32)


def test_two_cores_need_neuroncore_v3():
    def kernel(x):
        nl.store(x[0:128, 0:64], sbuf((128, 64)))

    with simulate(target="trn1"), pytest.raises(errors.NkiError, match="spreads over 2 cores"):
        nki.trace(kernel)[nl.nc(2)](np.zeros((128, 64), np.float32))


def test_tile_limits_are_syntax_errors_as_the_compiler_raises_them():
    assert issubclass(errors.TileSizeError, SyntaxError)
    assert all(issubclass(e, ValueError) for e in vars(errors).values() if isinstance(e, type))
