# SPDX-License-Identifier: Apache-2.0
"""The simulator refuses what one tracing of a loop body gets wrong: scope, dependencies, control flow, masks."""

import neuronxcc.nki as nki
import neuronxcc.nki.isa as nisa
import neuronxcc.nki.language as nl
import numpy as np
import pytest
from neuronxcc.nki._machine import errors
from nki_refusals import F32, check, sbuf, table


RULES, refused = table()


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


@refused(errors.ControlFlowError, "has no iterations", "NKI Beta 2 migration guide, trace-once")
def loop_without_iterations(x):
    for i in nl.affine_range(0):
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


@refused(errors.NkiError, "inside another kernel", "S26 errors err_nested_kernel_with_spmd_grid")
def nested_grid(x):
    nki.jit(truth_of_an_index)[2](x)


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.body.__name__)
def test_refused(rule):
    check(rule)


def test_api_outside_a_kernel():
    with pytest.raises(errors.OutsideKernelError, match="outside of an NKI kernel"):
        nl.zeros((128, 64), dtype=F32)
