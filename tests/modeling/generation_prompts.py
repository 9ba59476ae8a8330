# SPDX-License-Identifier: Apache-2.0
"""Random prompts for `generate()`, padded on either side; the models are those of `causal_lm_calls`."""

import torch
from causal_lm_calls import BUCKETS
from exported_models import Exports
from random_models import VOCAB_SIZE


SEQUENCE_LENGTH = Exports.OPTIONS["sequence_length"]
LONGEST_PROMPT = BUCKETS[-1]
GREEDY = {"do_sample": False, "eos_token_id": None}


def prompts(*lengths: int) -> list[torch.Tensor]:
    """Token ids [S] of each length."""
    generator = torch.Generator().manual_seed(sum(lengths))
    return [torch.randint(3, VOCAB_SIZE, (length,), generator=generator) for length in lengths]


def padded(rows: list[torch.Tensor], side: str) -> dict[str, torch.Tensor]:
    """input_ids and attention_mask [n, longest]."""
    width = max(len(row) for row in rows)
    input_ids, attention_mask = torch.zeros(2, len(rows), width).long()
    for index, row in enumerate(rows):
        columns = slice(width - len(row), width) if side == "left" else slice(0, len(row))
        input_ids[index, columns], attention_mask[index, columns] = row, 1
    return {"input_ids": input_ids, "attention_mask": attention_mask}
