# SPDX-License-Identifier: Apache-2.0
"""Collectives: the vmapped rank axis gives what threads that really exchange tensors give."""

import pytest
import torch
from sim_threads import ThreadRanks

from optimum_gemma4.simulator.engine.fabric import ReplicatedFabric, use_fabric


OPERATORS = torch.ops.optimum_gemma4_simulator
ONE_GROUP = ([0, 1, 2, 3], 4)
PAIRS = ([0, 1, 2, 3], 2)
CROSSED = ([0, 2, 1, 3], 2)
REVERSED = ([3, 2, 1, 0], 4)


def _calls():
    for reduction in ("sum", "max", "min"):
        yield f"all_reduce_{reduction}", lambda x, ranks, size, r=reduction: OPERATORS.all_reduce(x, r, ranks, size)
    for dim in (0, 1, -1):
        yield f"all_gather_{dim}", lambda x, ranks, size, d=dim: OPERATORS.all_gather(x, d, ranks, size)
        yield (
            f"reduce_scatter_{dim}",
            lambda x, ranks, size, d=dim: OPERATORS.reduce_scatter(x, "sum", d, ranks, size),
        )


CALLS = dict(_calls())


@pytest.mark.parametrize("mesh", [ONE_GROUP, PAIRS, CROSSED, REVERSED], ids=["one", "pairs", "crossed", "reversed"])
@pytest.mark.parametrize("name", CALLS)
def test_the_rank_axis_equals_threads(name, mesh):
    x = torch.randn(4, 4, 8, generator=torch.Generator().manual_seed(0))
    expected = torch.stack(ThreadRanks(4).run(lambda rank: CALLS[name](x[rank], *mesh)))
    torch.testing.assert_close(torch.vmap(lambda t: CALLS[name](t, *mesh))(x), expected)
    # the rank axis may be anywhere
    moved = torch.vmap(lambda t: CALLS[name](t, *mesh), in_dims=1)(x.movedim(0, 1))
    torch.testing.assert_close(moved, expected)


def test_a_reduction_over_everybody_leaves_no_rank_axis():
    out = torch.vmap(lambda t: OPERATORS.all_reduce(t, "sum", *ONE_GROUP), out_dims=None)(torch.ones(4, 2))
    assert out.tolist() == [4.0, 4.0]


def test_what_is_replicated_is_reduced_as_often_as_there_are_ranks():
    with use_fabric(ReplicatedFabric(4)):
        assert OPERATORS.all_reduce(torch.ones(2), "sum", *PAIRS).tolist() == [2.0, 2.0]
        assert OPERATORS.all_reduce(torch.ones(2), "max", *PAIRS).tolist() == [1.0, 1.0]
        assert OPERATORS.all_gather(torch.ones(2), 0, *ONE_GROUP).shape == (8,)
        with pytest.raises(RuntimeError, match="reduce_scatter of a value that is the same"):
            OPERATORS.reduce_scatter(torch.ones(4), "sum", 0, *ONE_GROUP)


def test_a_collective_without_the_other_ranks_is_an_error():
    with pytest.raises(RuntimeError, match="needs all of them"):
        OPERATORS.all_reduce(torch.ones(2), "sum", *ONE_GROUP)


def test_a_dimension_that_the_group_does_not_divide_is_an_error():
    with pytest.raises(RuntimeError, match="unable to create 4 partitions along dim 0"):
        torch.vmap(lambda t: OPERATORS.reduce_scatter(t, "sum", 0, *ONE_GROUP))(torch.ones(4, 6))


@pytest.mark.parametrize("start", [-3, 0, 2, 3, 99])
def test_dynamic_update_slice_clamps_as_xla_does(start):
    x, update = torch.zeros(5, 3), torch.ones(2, 3)
    starts = [torch.tensor(start, dtype=torch.int32), torch.tensor(0, dtype=torch.int32)]
    expected = x.clone()
    first = min(max(start, 0), 3)
    expected[first : first + 2] = 1
    assert torch.equal(OPERATORS.dynamic_update_slice(x, update, starts), expected)
    assert x.sum() == 0
    ranks = torch.vmap(lambda a, b: OPERATORS.dynamic_update_slice(a, b, starts))(
        x.expand(2, 5, 3), update.repeat(2, 1, 1)
    )
    assert torch.equal(ranks, expected.expand(2, 5, 3))
    OPERATORS.dynamic_update_slice_(x, update, starts)
    assert torch.equal(x, expected)
