# SPDX-License-Identifier: Apache-2.0
"""The static schedule of prefill: it visits what the mask rule needs, masks what it must, and nothing else."""

import itertools

import pytest

from optimum_gemma4.nki.schedules.blocks import BANK, CHUNK, TILE, tile_banks
from optimum_gemma4.nki.schedules.prefill_plan import Shape, plan_prefill


SHAPES = [
    Shape(queries, queries + offset + extra, head_dim, group, window, offset, lookahead, lanes)
    for queries, offset, extra, head_dim, group, window, lookahead, lanes in (
        (1, 0, 0, 128, 1, 0, 0, 1),
        (127, 0, 0, 128, 1, 128, 0, 1),
        (1025, 0, 0, 256, 2, 1024, 0, 1),
        (4096, 0, 0, 256, 2, 1024, 0, 1),
        (4096, 0, 0, 512, 8, 0, 0, 1),
        (3000, 0, 0, 256, 2, 1024, 279, 1),
        (2500, 70, 9, 512, 8, 0, 0, 1),
        (6000, 0, 0, 512, 4, 0, 300, 1),
        (5120, 1000, 128, 256, 1, 1000, 0, 1),
        (4096, 4096, 0, 512, 8, 0, 0, 1),
        (1024, 3000, 0, 512, 8, 6000, 0, 1),
        (2048, 0, 0, 512, 1, 0, 0, 2),
        (9216, 0, 0, 256, 1, 1024, 100, 2),
    )
]


def visits(shape: Shape):
    """(first position, rows, first key, keys, whether masked) of every 128-block that the plan visits."""
    for group in plan_prefill(shape):
        for held in group.passes:
            for repeat in range(held.repeat):
                start = held.start + repeat * held.keys
                for chunk in held.chunks:
                    for again in range(chunk.repeat):
                        for tile, lane in itertools.product(chunk.tiles, range(shape.lanes)):
                            first = chunk.first + again * CHUNK + tile.row + TILE * lane
                            for bank in tile.banks:
                                for block in range(0, bank.width, TILE):
                                    key = start + bank.column + again * CHUNK + block
                                    yield first, tile.rows, key, min(TILE, bank.width - block), block in bank.masked


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_needed_key_is_visited_once_and_masked_where_needed(shape):
    seen: dict[int, int] = {}
    for first, rows, key, width, masked in visits(shape):
        assert key % TILE == 0 and width <= TILE and key + width <= shape.num_keys
        top = shape.offset + first
        bottom = top + rows - 1
        open_to_all = key + width - 1 <= top and (not shape.window or key > bottom - shape.window)
        if shape.lanes == 1:
            assert masked != open_to_all
        assert masked or open_to_all
        for row in range(first, first + rows):
            position = shape.offset + row
            low = max(0, position - shape.window + 1) if shape.window else 0
            high = min(shape.num_keys, position + shape.max_lookahead + 1)
            seen[row] = seen.get(row, 0) + max(0, min(key + width, high) - max(key, low))
        if shape.lanes == 1:
            needed_low = max(0, top - shape.window + 1) if shape.window else 0
            assert key + width > needed_low and key <= bottom + shape.max_lookahead, "visits a block nobody sees"
    for row in range(shape.queries):
        position = shape.offset + row
        low = max(0, position - shape.window + 1) if shape.window else 0
        assert seen[row] == min(shape.num_keys, position + shape.max_lookahead + 1) - low


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_fits_what_it_was_planned_for(shape):
    queries = 0
    for group in plan_prefill(shape):
        first, last = group.passes[0].chunks[0].first, group.passes[0].chunks[-1]
        assert first == queries
        queries = last.first + (last.repeat - 1) * CHUNK + last.queries
        for held in group.passes:
            # K and V, two bytes each: 64 KiB a partition leaves room for the next head's beside them.
            assert group.streamed or held.keys * shape.head_dim // TILE * 4 <= 64 * 1024
            for chunk in held.chunks:
                assert chunk.width <= 4096
                assert all(bank.width <= BANK for tile in chunk.tiles for bank in tile.banks)
    assert queries == shape.queries


def test_text_of_the_31b_at_4096_is_the_minimum():
    """Blocks of 128 x 128 per head: 252 sliding, 528 global; sliding masks the diagonal and the window's edge."""
    sliding = list(visits(Shape(4096, 4096, 256, 2, 1024)))
    assert len(sliding) == 252 and sum(masked for *_, masked in sliding) == 32 + 24
    full = list(visits(Shape(4096, 4096, 512, 8)))
    assert len(full) == 528 and sum(masked for *_, masked in full) == 32


def test_sliding_program_does_not_grow_with_the_length():
    def tiles(queries: int) -> int:
        plan = plan_prefill(Shape(queries, queries, 256, 2, 1024))
        return max(sum(len(chunk.tiles) for chunk in group.passes[0].chunks) for group in plan)

    assert tiles(4096) == 16 and tiles(32768) <= 24


def test_long_global_context_is_streamed_in_few_loops():
    plan = plan_prefill(Shape(32768, 32768, 512, 8))
    assert sum(group.streamed for group in plan) == 56
    assert max(len(group.passes) for group in plan) <= 3


def test_text_pays_nothing_for_images():
    """Without a lookahead the schedule ends at the diagonal; with one, it visits the keys an image may reach."""
    assert sum(bank.width for bank in tile_banks(2048, 2175, 1024, 0, 4096)) == 1152
    assert sum(bank.width for bank in tile_banks(2048, 2175, 1024, 280, 4096)) == 1152 + 280


def test_refuses_queries_that_cores_cannot_share():
    with pytest.raises(ValueError, match="multiple of 256"):
        plan_prefill(Shape(300, 300, 128, 1, lanes=2))
