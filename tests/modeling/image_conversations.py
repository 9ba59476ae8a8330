# SPDX-License-Identifier: Apache-2.0
"""Conversations with images of random models that see, and what those models are compiled for.

Window 8: most images here are longer than it.
"""

import torch
from image_prompts import Image


OPTIONS = {"sequence_length": 192, "prefill_buckets": [96, 160], "max_soft_tokens": [70, 140]}
HOST = {**OPTIONS, "on_device_sampling": False, "batch_size": 4}
CONTINUOUS = {**HOST, "continuous_batching": True}
STATIC = {**HOST, "continuous_batching": False, "prefill_buckets": [160], "tensor_parallel_size": 4, "max_images": 3}
STATIC["max_soft_tokens"] = 70
ON_DEVICE = {**OPTIONS, "batch_size": 2, "prefill_buckets": [160], "max_soft_tokens": [70], "tensor_parallel_size": 2}
NEW = 12
GREEDY = {"max_new_tokens": NEW, "do_sample": False, "eos_token_id": None}

SMALL, WIDE, TALL, LARGE = Image(2, 3), Image(1, 20, 1), Image(9, 2, 2), Image(8, 8, 3)
CONVERSATIONS = {
    "text": [7],
    "image first": [WIDE, 5],
    "image in the middle": [4, TALL, 3],
    "image last": [6, LARGE],
    "three images": [3, SMALL, 2, WIDE, 1, SMALL, 4],
    "images side by side": [2, SMALL, Image(2, 3, 5), TALL, 2],
    "image alone": [TALL],
}


def run(model, inputs: dict, **options) -> tuple[torch.Tensor, torch.Tensor]:
    """New tokens [B, NEW] and their logits [B, NEW, V]."""
    output = model.generate(**inputs, **{**GREEDY, **options}, return_dict_in_generate=True, output_logits=True)
    return output.sequences[:, inputs["input_ids"].shape[1] :], torch.stack(output.logits, dim=1)


def first_logits(model, inputs: dict) -> torch.Tensor:
    """Those of the first new token [B, V]."""
    return run(model, inputs, max_new_tokens=1)[1][:, 0]


def assert_same(found: tuple, expected: tuple) -> None:
    """The same tokens, and logits that are as good as equal."""
    assert found[0].equal(expected[0])
    torch.testing.assert_close(found[1], expected[1], atol=1e-4, rtol=1e-4)
