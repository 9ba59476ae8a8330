# SPDX-License-Identifier: Apache-2.0
"""Calls of exported text models without `generate()`: random prompts, padded on the right, as rows of a batch.

And what the text models of this folder are compiled for, the same for all tests, so that they are exported once.
"""

import torch
from random_models import VOCAB_SIZE


BUCKETS = [12, 40]
HOST = {"on_device_sampling": False, "batch_size": 3, "prefill_buckets": BUCKETS}
CONTINUOUS = {**HOST, "continuous_batching": True}
STATIC = {**HOST, "continuous_batching": False}
ON_DEVICE = {"batch_size": 3, "prefill_buckets": BUCKETS, "tensor_parallel_size": 2}
WITH_LOGITS = {**ON_DEVICE, "batch_size": 1, "output_logits": True}


def prompt(length: int, seed: int = 0) -> torch.Tensor:
    """Random token ids [S]."""
    return torch.randint(3, VOCAB_SIZE, (length,), generator=torch.Generator().manual_seed(100 * length + seed))


def rows_of(*prompts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """input_ids and position_ids [n, longest], padded on the right."""
    width = max(len(ids) for ids in prompts)
    input_ids, position_ids = torch.zeros(len(prompts), width).long(), torch.full((len(prompts), width), -1)
    for row, ids in enumerate(prompts):
        input_ids[row, : len(ids)], position_ids[row, : len(ids)] = ids, torch.arange(len(ids))
    return input_ids, position_ids


def prefill(model, *prompts: torch.Tensor, seq_ids: list[int] | None = None) -> torch.Tensor:
    """What a model gives for the last token of each prompt."""
    return model(*rows_of(*prompts), seq_ids=None if seq_ids is None else torch.tensor(seq_ids))
