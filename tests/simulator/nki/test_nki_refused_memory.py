# SPDX-License-Identifier: Apache-2.0
"""The simulator refuses accesses that memories do not have: place, bounds, capacity, unwritten, immutable, indices."""

import neuronxcc.nki as nki
import neuronxcc.nki.isa as nisa
import neuronxcc.nki.language as nl
import neuronxcc.nki.typing as nt
import numpy as np
import pytest
from neuronxcc.nki._frontend.launch import simulate
from neuronxcc.nki._machine import errors
from neuronxcc.nki.language import par_dim
from nki_refusals import BF16, F32, check, in_psum, sbuf, table


RULES, refused = table()


@refused(errors.MemorySpaceError, "'moving' of nc_matmul", "S26 isa nc_matmul")
def matmul_operand_in_psum(x):
    nisa.nc_matmul(sbuf((128, 128), BF16), in_psum())


@refused(errors.MemorySpaceError, "address space sbuf", "S26 isa nc_transpose")
def pe_transpose_of_psum(x):
    nisa.nc_transpose(in_psum(), engine=nisa.tensor_engine)


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


@refused(errors.UninitializedReadError, "make it with nl.zeros", "S26 arch, PSUM accumulation; rule psum_start")
def accumulation_without_a_start(x):
    total = nl.ndarray((128, 128), dtype=F32, buffer=nl.psum)
    total += in_psum()


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


@refused(errors.NkiError, "initial value is not supported", "S26 errors err_hbm_tensor_with_init_value_not_supported")
def hbm_with_initial_value(x):
    nl.full((128, 64), 1.0, dtype=F32, buffer=nl.shared_hbm)


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


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.body.__name__)
def test_refused(rule):
    check(rule)


def test_two_cores_need_neuroncore_v3():
    def kernel(x):
        nl.store(x[0:128, 0:64], sbuf((128, 64)))

    with simulate(target="trn1"), pytest.raises(errors.NkiError, match="spreads over 2 cores"):
        nki.trace(kernel)[nl.nc(2)](np.zeros((128, 64), np.float32))
