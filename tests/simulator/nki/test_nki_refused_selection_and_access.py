# SPDX-License-Identifier: Apache-2.0
"""What selections, DMAs and indices refuse, and sizes that tracing must know. See `nki_refusals`."""

import neuronxcc.nki.isa as nisa
import neuronxcc.nki.language as nl
import numpy as np
import pytest
from neuronxcc.nki._machine import errors
from nki_refusals import BF16, F32, check, sbuf, table


RULES, refused = table()
I32 = nl.int32
TILE = (128, 64)


def bounds():
    """The two [P, 1] bounds of a range_select."""
    return sbuf((128, 1)), sbuf((128, 1))


def select(**changes):
    """A range_select that would run."""
    lower, upper = bounds()
    arguments = {"on_true_tile": sbuf(TILE), "comp_op0": np.less, "comp_op1": np.greater}
    nisa.range_select(**{**arguments, "bound0": upper, "bound1": lower, **changes})


# Selection


@refused(errors.DtypeError, "on_true_tile must be a float tile", "S26 isa range_select")
def range_select_of_integers(x):
    select(on_true_tile=sbuf(TILE, I32, 1))


@refused(errors.DtypeError, "bound0 must be a float32", "S26 isa range_select")
def range_select_with_a_bf16_bound(x):
    select(bound0=sbuf((128, 1), BF16))


@refused(errors.OperatorError, "exceeds 2\\*\\*24", "S26 isa range_select, range_start")
def range_select_beyond_exact_floats(x):
    select(range_start=2**24)


@refused(errors.OperatorError, "range_start -128 is negative", "S26 isa range_select and its published uses")
def range_select_before_zero(x):
    select(range_start=-128)


@refused(errors.OperatorError, "comparison must be one of", "S26 isa range_select")
def range_select_by_a_sum(x):
    select(comp_op0=np.add)


@refused(errors.OperatorError, "reduce_op must be max", "S26 isa range_select")
def range_select_with_a_sum(x):
    select(reduce_op=np.add, reduce_res=sbuf((128, 1)), reduce_cmd=nisa.reduce_cmd.reset_reduce)


@refused(errors.OperatorError, "needs reduce_cmd", "S26 isa range_select, reduce_cmd")
def range_select_with_an_idle_reduction(x):
    select(reduce_res=sbuf((128, 1)))


@refused(errors.DtypeError, "on_false_value must be a float32 number", "S26 isa affine_select")
def affine_select_with_a_tile(x):
    i, j = nl.mgrid[0:128, 0:64]
    nisa.affine_select(i >= j, sbuf(TILE), sbuf(TILE))


@refused(errors.ShapeError, "pred has shape", "S26 isa affine_select")
def affine_select_of_another_shape(x):
    i, j = nl.mgrid[0:128, 0:32]
    nisa.affine_select(i >= j, sbuf(TILE), -1.0)


@refused(errors.MaskError, "affine expression", "S26 isa iota")
def iota_of_a_number(x):
    nisa.iota(3, dtype=I32)


@refused(errors.ShapeError, "axes \\[0\\] of", "S26 isa iota: the output has the axes of the expression")
def iota_without_its_partitions(x):
    nisa.iota(nl.arange(64)[None, :] + nl.arange(128)[:, None] * 0, dtype=I32)


@refused(errors.DtypeError, "predicate must be uint8", "S26 isa tensor_copy_predicated")
def predicate_of_floats(x):
    nisa.tensor_copy_predicated(src=sbuf(TILE), dst=sbuf(TILE), predicate=sbuf(TILE))


@refused(errors.ShapeError, "between 8 and 16384", "S26 isa max8")
def largest_eight_of_four(x):
    nisa.max8(src=sbuf((128, 4)))


# DMA


@refused(errors.ShapeError, "differ in size", "S26 isa dma_copy")
def dma_between_sizes(x):
    nisa.dma_copy(dst=sbuf((128, 32)), src=x[0:128, 0:64])


@refused(errors.OperatorError, "np.add with oob_mode.error alone", "S26 isa dma_copy, dst_rmw_op")
def dma_that_multiplies(x):
    nisa.dma_copy(dst=x[0:128, 0:64], src=sbuf(TILE), dst_rmw_op=np.multiply)


@refused(errors.OperatorError, "axes .* are not supported", "S26 isa dma_transpose")
def dma_transpose_of_other_axes(x):
    nisa.dma_transpose(sbuf((32, 4, 8)), axes=(1, 0, 2))


@refused(errors.OperatorError, "2- or 4-byte", "S29 trainium2_arch.rst, DMA transpose")
def dma_transpose_of_bytes(x):
    nisa.dma_transpose(sbuf((32, 32), nl.int8, 1))


@refused(errors.MemorySpaceError, "dst must be an HBM tensor|'dst' of store", "S26 lang store")
def store_to_sbuf(x):
    nl.store(sbuf(TILE), sbuf(TILE))


@refused(errors.MemorySpaceError, "write HBM with nl.store", "S26 lang store, model")
def assignment_to_hbm(x):
    x[0:128, 0:64] = sbuf(TILE)


# Shapes and indices that tracing must know


@refused(errors.IndexingError, "3 indices", "S26 model, tensor indexing")
def too_many_indices(x):
    sbuf(TILE)[0:1, 0:1, 0:1]


@refused(errors.IndexingError, "size must be a compile-time integer", "S26 lang ds")
def slice_of_a_traced_size(x):
    for i in nl.affine_range(1, 3):
        nl.load(x[0:128, nl.ds(0, i)])


@refused(errors.ShapeError, "bounds must be compile-time integers", "S26 lang arange")
def arange_of_a_traced_size(x):
    for i in nl.affine_range(1, 3):
        nl.arange(i)


@refused(errors.ShapeError, "depends on a traced index", "S26 lang ndarray")
def tile_of_a_traced_size(x):
    for i in nl.affine_range(1, 3):
        nl.ndarray((128, i), dtype=F32, buffer=nl.sbuf)


@refused(errors.MaskError, "product of two traced indices", "S26 errors err_unsupported_expression_in_mask")
def product_of_indices(x):
    for i in nl.affine_range(2):
        for j in nl.affine_range(2):
            nl.load(x[0:128, nl.ds(i * j, 8)])


@refused(errors.MaskError, "compare affine expressions", "S26 shared, masking")
def mask_by_a_float(x):
    i, j = nl.mgrid[0:128, 0:64]
    nl.load(x[i, j], mask=i < 1.5)


@refused(errors.IndexingError, "only ':' and None", "S26 lang arange")
def part_of_an_arange(x):
    nl.arange(8)[2]


@refused(errors.ShapeError, "between partitions", "S26 model, partition dimension")
def reshape_across_partitions(x):
    sbuf((128, 64)).reshape((64, 128))


@refused(errors.PartitionMismatchError, "cannot broadcast", "S26 errors err_num_partition_mismatch")
def broadcast_of_partitions(x):
    nl.broadcast_to(sbuf((2, 64)), shape=(128, 64))


@refused(errors.OutputNotWrittenError, "writes no output", "S26 errors err_tensor_output_not_written_to")
def nothing_returned(x, immutable=True):
    sbuf(TILE)


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.body.__name__)
def test_refused(rule):
    check(rule)
