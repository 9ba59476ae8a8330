# SPDX-License-Identifier: Apache-2.0
"""The static schedule of decode: every slot in one section, every dim in one contraction step, heads read together."""

import pytest

from optimum_gemma4.nki.schedules.decode_cuts import plan_decode, sections, unrotated_columns


@pytest.mark.parametrize("slots", [1, 100, 128, 1000, 1024, 1025, 4096, 5000])
def test_sections_hold_every_slot_once(slots):
    full, held = slots // 128, []
    for cut in sections(slots, 8):
        assert cut.blocks <= 8
        if cut.partitions == 128:
            held += [p * full + column for p in range(128) for column in range(cut.first, cut.first + cut.blocks)]
        else:
            held += range(full * 128, full * 128 + cut.partitions)
    assert sorted(held) == list(range(slots))


@pytest.mark.parametrize(("head_dim", "rotated"), [(512, 128), (512, 64), (256, 64), (256, 0), (128, 32), (512, 0)])
def test_contraction_covers_the_unrotated_dims_once(head_dim, rotated):
    half, part = head_dim // 2, rotated // 2
    dims = []
    for step in unrotated_columns(head_dim, rotated):
        assert step.size <= 128
        dims += [step.start + run * step.stride + i for run in range(step.count) for i in range(step.width)]
    assert sorted(dims) == [i for i in range(head_dim) if i % half >= part]
    assert len(dims) == len(set(dims))


def test_the_31b_takes_three_steps_for_its_unrotated_dims():
    assert len(unrotated_columns(512, 128)) == 3


def test_key_heads_are_read_together_where_their_queries_fit():
    """Sequences, then heads, then sections; 32 query heads share a softmax, and sections shrink with their heads."""
    plan = plan_decode(2, 4, 2, 1024, 1024)
    assert plan.heads == 4 and [(s.sequence, s.head, s.first, s.last) for s in plan.steps] == [
        (0, 0, True, True),
        (1, 0, True, True),
    ]
    plan = plan_decode(1, 16, 4, 1024, 1024)
    assert plan.heads == 8 and {s.section.blocks for s in plan.steps} == {4}
    assert [(s.head, s.section.first, s.first, s.last) for s in plan.steps] == [
        (0, 0, True, False), (0, 4, False, True), (8, 0, True, False), (8, 4, False, True)
    ]  # fmt: skip
