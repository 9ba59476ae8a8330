# SPDX-License-Identifier: Apache-2.0
"""Packing and checking of prompts, against the rule written out row by row."""

import pytest
import torch

from optimum_gemma4.modeling.prompts import check_prompts, pack_prompts


IDS = torch.tensor([[0, 0, 5, 6, 7], [8, 9, 10, 11, 12], [13, 14, 0, 0, 0], [0, 15, 0, 16, 0]])
MASK = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 1, 0, 1, 0]])


def test_every_kind_of_padding_moves_behind_the_prompt():
    packed = pack_prompts(MASK)
    assert packed.lengths.tolist() == [3, 5, 2, 2]
    assert packed.pack(IDS, 99).tolist() == [
        [5, 6, 7, 99, 99],
        [8, 9, 10, 11, 12],
        [13, 14, 99, 99, 99],
        [15, 16, 99, 99, 99],
    ]
    assert packed.position_ids.tolist() == [
        [0, 1, 2, -1, -1],
        [0, 1, 2, 3, 4],
        [0, 1, -1, -1, -1],
        [0, 1, -1, -1, -1],
    ]


def test_columns_that_hold_only_padding_are_dropped():
    packed = pack_prompts(MASK[[0, 2]])
    assert packed.pack(IDS[[0, 2]], 0).tolist() == [[5, 6, 7], [13, 14, 0]]


def test_d14_a_prompt_of_one_token_keeps_its_own_position():
    """PEERS D14: padding positions that are valid positions make a one-token prompt read a padding slot."""
    packed = pack_prompts(torch.tensor([[0, 0, 0, 1], [1, 1, 1, 1]]))
    assert packed.position_ids[0].tolist() == [0, -1, -1, -1]


@pytest.mark.parametrize(
    ("ids", "mask", "message"),
    [
        (None, None, "expected a tensor of token ids"),
        ([[1, 2]], None, "list: expected a tensor"),
        (torch.tensor([1, 2]), None, r"shape \(2,\): expected \[batch, length\]"),
        (torch.ones(1, 2), None, "dtype torch.float32: expected torch.int64"),
        (torch.ones(1, 2, dtype=torch.bool), None, "dtype torch.bool"),
        (
            IDS[:2],
            MASK[:1],
            r"attention_mask has the shape \(1, 5\): expected a tensor of the shape of input_ids, \(2, 5\)",
        ),
        (IDS[:1], 2 * MASK[:1], "only 0 .padding. and 1"),
        (torch.empty(1, 0, dtype=torch.long), None, r"prompts \[0\] have no token"),
        (torch.empty(0, 3, dtype=torch.long), None, "no token"),
        (IDS[:2], torch.tensor([[0, 0, 0, 0, 0], [1, 1, 1, 1, 1]]), r"prompts \[0\] have no token"),
        (IDS, MASK, "4 prompts exceed the compiled batch size of 3: pass fewer, or export with --batch_size 4"),
        (torch.tensor([[3, 20]]), None, r"holds \[20\]: token ids must be from 0 to 19"),
        (torch.tensor([[3, -100]]), None, r"holds \[-100\]"),
    ],
)
def test_what_cannot_be_meant_is_refused(ids, mask, message):
    with pytest.raises(ValueError, match=message):
        check_prompts(ids, mask, batch_size=3, copies=1, vocab_size=20)


def test_copies_count_as_sequences():
    check_prompts(IDS[:1], None, batch_size=3, copies=3, vocab_size=20)
    with pytest.raises(ValueError, match="2 prompts x 2 num_return_sequences exceed .* --batch_size 4"):
        check_prompts(IDS[:2], None, batch_size=3, copies=2, vocab_size=20)


def test_ids_at_padding_positions_do_not_matter():
    check_prompts(torch.tensor([[-100, 3]]), torch.tensor([[0, 1]]), batch_size=1, copies=1, vocab_size=20)


def test_an_attention_mask_that_is_no_tensor_is_refused():
    ids = torch.ones(1, 3).long()
    with pytest.raises(ValueError, match=r"attention_mask is list: expected a tensor of .* \(1, 3\)"):
        check_prompts(ids, [[1, 1, 1]], batch_size=1, copies=1, vocab_size=8)
