# SPDX-License-Identifier: Apache-2.0
"""Prompts with images through the exported model: rows, padding, graphs and conversations must not mix.

Everything goes through a real export that was saved and loaded again. The oracle is the model on one conversation at a
time, or the text model of the same weights; `tests/parity` compares with transformers. What each image of a prompt
does: `test_images_of_prompts.py`.
"""

import json

import pytest
import torch
from image_conversations import CONTINUOUS, CONVERSATIONS, GREEDY, NEW, ON_DEVICE, assert_same, first_logits, run
from image_prompts import processed
from random_models import IMAGE_ID


@pytest.fixture(params=["sees", "sees_static"])
def model(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def alone(sees) -> dict:
    """What each conversation gives when it is alone, always as the first of a batch of one."""
    return {name: run(sees, processed(parts)) for name, parts in CONVERSATIONS.items()}


def test_conversations_differ(alone):
    """Otherwise none of the comparisons below could fail."""
    tokens = [tuple(tokens[0].tolist()) for tokens, _ in alone.values()]
    assert len(set(tokens)) == len(tokens)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(
    "names",
    [
        ("three images", "text", "image last"),
        ("text", "image alone", "images side by side"),
        ("image first", "image in the middle"),
        ("text", "text"),
    ],
)
def test_a_batch_gives_what_each_prompt_gives_alone(model, alone, names, side):
    # Text tokens follow from the place in a batch: those of a batch of one are put in.
    rows = [processed(CONVERSATIONS[name]) for name in names]
    batch = processed(*(CONVERSATIONS[name] for name in names), side=side)
    for row, single in enumerate(rows):
        batch["input_ids"][row][batch["attention_mask"][row].bool()] = single["input_ids"][0]
    expected = tuple(torch.cat([alone[name][part] for name in names]) for part in (0, 1))
    assert_same(run(model, batch), expected)


def test_conversations_after_each_other_leave_no_trace(model, alone):
    for name in ("three images", "text", "image last", "text", "image alone", "three images"):
        assert_same(run(model, processed(CONVERSATIONS[name])), alone[name])


def test_a_prompt_beside_a_running_conversation_leaves_it_alone(sees, alone):
    """Continuous batching: a prompt with an image enters while two others are being answered."""
    tokens, logits = alone["three images"]
    inputs = processed(CONVERSATIONS["three images"])
    length = inputs["input_ids"].shape[1]

    def prefill(name: str, seq_id: int) -> torch.Tensor:
        given = processed(CONVERSATIONS[name])
        positions = torch.arange(given["input_ids"].shape[1])[None]
        media = {key: given[key] for key in ("pixel_values", "image_position_ids") if key in given}
        return sees(given["input_ids"], positions, seq_ids=torch.tensor([seq_id]), **media)[0, 0]

    def step(index: int) -> torch.Tensor:
        arguments = tokens[:, index - 1 : index], torch.tensor([[length + index - 1]])
        return sees(*arguments, seq_ids=torch.tensor([1]))[0, 0]

    found = [prefill("three images", 1)]
    prefill("text", 0)
    found += [step(1), step(2)]
    prefill("image last", 2)
    found += [step(index) for index in range(3, NEW)]
    torch.testing.assert_close(torch.stack(found), logits[0], atol=1e-4, rtol=1e-4)


def test_text_prompts_give_what_the_text_model_gives(exports, image_checkpoint, model):
    text_model = exports.model(image_checkpoint, sequence_length=192, batch_size=3, on_device_sampling=False)
    prompts = processed([9], [30], [1])
    assert_same(run(model, prompts), run(text_model, prompts))


def test_tokens_chosen_on_the_device_are_the_hosts(image_exports, image_checkpoint, alone):
    device = image_exports.model(image_checkpoint, **ON_DEVICE)
    for name in CONVERSATIONS:
        inputs = processed(CONVERSATIONS[name])
        assert device.generate(**inputs, **GREEDY)[:, inputs["input_ids"].shape[1] :].equal(alone[name][0])
    sampled = device.generate(**inputs, do_sample=True, top_k=20, max_new_tokens=NEW, eos_token_id=None)
    assert sampled.shape == (1, inputs["input_ids"].shape[1] + NEW)


def test_several_sequences_of_a_prompt_share_its_images(model):
    inputs = processed(CONVERSATIONS["three images"], CONVERSATIONS["image last"])
    options = {"num_return_sequences": 2, "do_sample": True, "max_new_tokens": 1, "top_k": 0, "top_p": 1.0}
    _, logits = run(model, inputs, **options)
    expected = first_logits(model, inputs).repeat_interleave(2, dim=0)
    torch.testing.assert_close(logits[:, 0], expected, atol=1e-4, rtol=1e-4)


def test_generation_defaults_and_configuration_are_the_checkpoints(image_exports, image_checkpoint, sees):
    assert sees.generation_config.eos_token_id == [1, 106, 50]
    folder = image_exports.artifact(image_checkpoint, **CONTINUOUS)
    assert json.loads((folder / "config.json").read_text())["image_token_id"] == IMAGE_ID
    recorded = json.loads((folder / "neuron_config.json").read_text())
    assert recorded["max_soft_tokens"] == [70, 140] and recorded["max_images"] is None
