# SPDX-License-Identifier: Apache-2.0
"""Which position a slot holds, against a ring that is really written; which layers look ahead."""

import pytest
import torch

from optimum_gemma4.modeling.geometry import LayerSpec, RopeSpec
from optimum_gemma4.modeling.text.masks import last_visible, slot_ages, slot_positions


def written_ring(last: int, num_slots: int) -> list[int | None]:
    ring = [None] * num_slots
    for position in range(last + 1):
        ring[position % num_slots] = position
    return ring


@pytest.mark.parametrize("num_slots", [1, 2, 7, 8, 16])
def test_slot_positions_are_those_of_a_written_ring(num_slots):
    lasts = torch.arange(-1, 3 * num_slots + 2, dtype=torch.int32)
    positions = slot_positions(lasts, num_slots)
    ages = slot_ages(lasts, num_slots)
    assert positions.dtype == ages.dtype == torch.int32
    for last, row, age in zip(lasts.tolist(), positions.tolist(), ages.tolist()):
        for slot, held in enumerate(written_ring(last, num_slots)):
            if held is None:
                assert row[slot] < 0 and age[slot] == -1
            else:
                assert row[slot] == held and age[slot] == last - held


@pytest.mark.parametrize("window", [1, 8, 1024])
def test_every_slot_of_a_full_ring_is_within_the_window(window):
    """With as many slots as the window, whatever a slot holds is seen: W keys, the query's own included."""
    ages = slot_ages(torch.tensor([window - 1, window, 5 * window + 3], dtype=torch.int32), window)
    assert ages.sort(1).values.equal(torch.arange(window, dtype=torch.int32).expand(3, window))


def test_an_unused_row_sees_nothing():
    assert slot_ages(torch.tensor([-1], dtype=torch.int32), 5).eq(-1).all()


@pytest.mark.parametrize("window, looks_ahead", [(16, True), (None, False)])
def test_only_sliding_layers_look_ahead(window, looks_ahead):
    kind = "global" if window is None else "sliding"
    spec = LayerSpec(0, kind, 8, 4, 16, window, False, RopeSpec(1e4, 16, 8))
    positions = torch.tensor([[0, 1, 2, 3, -1]], dtype=torch.int32)
    end = torch.tensor([[0, 2, 2, 3, -1]], dtype=torch.int32)
    assert last_visible(spec, positions, end).equal(end if looks_ahead else positions)
    assert last_visible(spec, positions, None).equal(positions)
