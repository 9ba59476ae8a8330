# SPDX-License-Identifier: Apache-2.0
"""`end` of every token, against transformers' rule written as it is there: block ids and a mask of pairs."""

import pytest
import torch

from optimum_gemma4.modeling.images.blocks import block_ends, check_lookahead


def allowed_pairs(types: list[int]) -> torch.Tensor:
    """Mask [S, S] without a window: causal, or in one block. A block begins where a vision token follows none."""
    blocks, count = [], 0
    for column, kind in enumerate(types):
        is_vision = kind in (1, 2)
        if is_vision and (column == 0 or types[column - 1] not in (1, 2)):
            count += 1
        blocks.append(count if is_vision else 0)
    size = len(types)
    return torch.tensor([[j <= i or (blocks[i] == blocks[j] > 0) for j in range(size)] for i in range(size)])


def ends(types: list[int], padding: int = 0) -> list[int]:
    positions = [*range(len(types)), *[-1] * padding]
    return block_ends(torch.tensor([types + [0] * padding]), torch.tensor([positions]))[0].tolist()


@pytest.mark.parametrize("seed", range(8))
def test_end_is_the_last_key_of_transformers_mask(seed):
    generator = torch.Generator().manual_seed(seed)
    types = torch.tensor([0, 1, 2, 3])[torch.randint(4, (20,), generator=generator).repeat_interleave(3)].tolist()
    last = allowed_pairs(types).int() * torch.arange(len(types))
    assert ends(types) == last.amax(1).tolist()
    # `end` says it all: every key up to it is allowed.
    assert allowed_pairs(types).sum(1).tolist() == [end + 1 for end in ends(types)]


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        ([0, 0, 0], [0, 1, 2]),
        ([1, 1, 1], [2, 2, 2]),
        ([0, 1, 1, 0, 0, 1, 1, 1, 0], [0, 2, 2, 3, 4, 7, 7, 7, 8]),
        ([1, 1, 0, 1], [1, 1, 2, 3]),
        ([0, 2, 2, 0, 2], [0, 2, 2, 3, 4]),
        ([0, 1, 2, 0], [0, 2, 2, 3]),
        ([3, 3, 1], [0, 1, 2]),
    ],
)
def test_blocks_end_where_something_else_begins(types, expected):
    assert ends(types) == expected
    assert ends(types, padding=3) == expected + [-1, -1, -1]


def test_token_types_of_padding_do_not_count():
    assert block_ends(torch.tensor([[0, 1, 1, 1]]), torch.tensor([[0, 1, -1, -1]])).tolist() == [[0, 1, -1, -1]]


def test_rows_are_apart():
    types, positions = torch.tensor([[0, 1, 1], [1, 0, 1]]), torch.arange(3).expand(2, 3)
    assert block_ends(types, positions).tolist() == [[0, 2, 2], [0, 1, 2]]


def test_a_block_that_the_graphs_do_not_reach_across_is_refused():
    positions = torch.arange(8)[None]
    end = block_ends(torch.tensor([[0, 1, 1, 1, 1, 1, 1, 0]]), positions)
    check_lookahead(end, positions, 6)
    with pytest.raises(ValueError, match="6 image tokens follow each other.*largest compiled image has 5"):
        check_lookahead(end, positions, 5)
