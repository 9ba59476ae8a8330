# SPDX-License-Identifier: Apache-2.0
"""Prompts with images through the exported model: rows, images, padding, graphs and conversations must not mix.

Everything goes through a real export that was saved and loaded again. The oracle is the model on one conversation at a
time, or the text model of the same weights; `tests/parity` compares with transformers. Window 8: most images here are
longer than it.
"""

import json

import pytest
import torch
from image_prompts import Image, pixels_of, processed, prompt_ids
from random_models import AUDIO_ID, BOI_ID, EOI_ID, IMAGE_ID, VIDEO_ID, write_random_image_checkpoint
from safetensors.torch import load_file, save_file


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


@pytest.fixture(scope="module")
def continuous(image_exports, image_checkpoint):
    return image_exports.model(image_checkpoint, **CONTINUOUS)


@pytest.fixture(scope="module")
def static(image_exports, image_checkpoint):
    return image_exports.model(image_checkpoint, **STATIC)


@pytest.fixture(params=["continuous", "static"])
def model(request):
    return request.getfixturevalue(request.param)


def run(model, inputs: dict, **options) -> tuple[torch.Tensor, torch.Tensor]:
    """New tokens [B, NEW] and their logits [B, NEW, V]."""
    output = model.generate(**inputs, **{**GREEDY, **options}, return_dict_in_generate=True, output_logits=True)
    return output.sequences[:, inputs["input_ids"].shape[1] :], torch.stack(output.logits, dim=1)


def first_logits(model, inputs: dict) -> torch.Tensor:
    return run(model, inputs, max_new_tokens=1)[1][:, 0]


def assert_same(found: tuple, expected: tuple) -> None:
    assert found[0].equal(expected[0])
    torch.testing.assert_close(found[1], expected[1], atol=1e-4, rtol=1e-4)


@pytest.fixture(scope="module")
def alone(continuous) -> dict:
    """What each conversation gives when it is alone, always as the first of a batch of one."""
    return {name: run(continuous, processed(parts)) for name, parts in CONVERSATIONS.items()}


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


def test_a_prompt_beside_a_running_conversation_leaves_it_alone(continuous, alone):
    """Continuous batching: a prompt with an image enters while two others, with and without one, are being answered."""
    tokens, logits = alone["three images"]
    inputs = processed(CONVERSATIONS["three images"])
    length = inputs["input_ids"].shape[1]

    def prefill(name: str, seq_id: int) -> torch.Tensor:
        given = processed(CONVERSATIONS[name])
        positions = torch.arange(given["input_ids"].shape[1])[None]
        media = {key: given[key] for key in ("pixel_values", "image_position_ids") if key in given}
        return continuous(given["input_ids"], positions, seq_ids=torch.tensor([seq_id]), **media)[0, 0]

    def step(index: int) -> torch.Tensor:
        arguments = tokens[:, index - 1 : index], torch.tensor([[length + index - 1]])
        return continuous(*arguments, seq_ids=torch.tensor([1]))[0, 0]

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


# --- images ----------------------------------------------------------------------------------------------------------


def test_d8_every_image_of_a_prompt_counts(model):
    """Not the last one alone: each image changes the answer, and so does their order."""
    images = [SMALL, Image(2, 3, 6), Image(2, 3, 7)]
    inputs = processed([3, images[0], 2, images[1], 1, images[2], 2])
    expected = first_logits(model, inputs)
    for index in range(3):
        changed = {**inputs, "pixel_values": inputs["pixel_values"].clone()}
        changed["pixel_values"][index] = changed["pixel_values"][index].flip(0)
        assert (first_logits(model, changed) - expected).abs().max() > 1e-2
    for order in ([1, 0, 2], [0, 2, 1]):
        swapped = {**inputs, "pixel_values": inputs["pixel_values"][order]}
        assert (first_logits(model, swapped) - expected).abs().max() > 1e-2


def test_d8_soft_tokens_of_pixels_are_those_given_instead(continuous, alone):
    inputs = processed(CONVERSATIONS["three images"])
    media = {name: inputs[name] for name in ("pixel_values", "image_position_ids")}
    features = continuous.get_image_features(**media)
    assert [len(soft_tokens) for soft_tokens in features] == [6, 20, 6]
    ids, positions = inputs["input_ids"], torch.arange(inputs["input_ids"].shape[1])[None]
    given = continuous(ids, positions, image_features=[torch.cat(features)])
    assert given.equal(continuous(ids, positions, **media))
    torch.testing.assert_close(given[0, 0], alone["three images"][1][0, 0], atol=1e-4, rtol=1e-4)


def test_an_image_gives_the_same_soft_tokens_on_1_and_4_ranks(continuous, static):
    media = pixels_of([SMALL, WIDE, TALL, LARGE])
    for one, four in zip(continuous.get_image_features(**media), static.get_image_features(**media), strict=True):
        torch.testing.assert_close(one, four, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("length", [96, 160])
def test_d9_a_prompt_with_an_image_that_fills_its_graph_keeps_its_last_token(continuous, length):
    """The last token decides, whether the graph has room behind it or not."""
    parts = [length - 2 - LARGE.soft_tokens - 8, LARGE, 8]
    inputs = processed(parts)
    assert inputs["input_ids"].shape[1] == length
    longer = {**inputs, "input_ids": torch.cat([inputs["input_ids"], torch.zeros(1, 8).long()], dim=1)}
    longer["attention_mask"] = torch.cat([inputs["attention_mask"], torch.zeros(1, 8).long()], dim=1)
    longer["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], torch.zeros(1, 8).long()], dim=1)
    assert_same(run(continuous, inputs), run(continuous, longer))
    changed = {**inputs, "input_ids": inputs["input_ids"].clone()}
    changed["input_ids"][0, -1] = (changed["input_ids"][0, -1] + 1) % BOI_ID
    assert (first_logits(continuous, changed) - first_logits(continuous, inputs)).abs().max() > 1e-2


@pytest.mark.parametrize("shape", [(1, 1), (1, 70), (70, 1), (8, 8), (2, 33), (7, 10)])
def test_d10_images_of_any_shape_and_padding_run_in_the_graph_that_is_there(continuous, shape):
    """The padding that an image comes with changes nothing, nor what its padding patches hold."""
    image = Image(*shape)
    (tight,) = continuous.get_image_features(**pixels_of([image], image.soft_tokens))
    padded = pixels_of([image], 1120)
    padded["pixel_values"][0, 9 * image.soft_tokens :] = 0.5
    (loose,) = continuous.get_image_features(**padded)
    assert loose.equal(tight) and tight.shape == (image.soft_tokens, 32)


@pytest.mark.parametrize(("name", "change"), [("std_scale", torch.neg), ("std_bias", lambda bias: bias + 1.5)])
def test_d12_standardisation_is_a_weight_of_the_bundle_not_a_constant(
    image_exports, image_checkpoint, tmp_path, continuous, name, change
):
    """The same graphs with the weights of a checkpoint that differs there alone: scales turned round turn everything."""
    tensors = load_file(image_checkpoint / "model.safetensors")
    tensors[f"model.vision_tower.{name}"] = change(tensors[f"model.vision_tower.{name}"])
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    media = pixels_of([SMALL])
    (before,) = continuous.get_image_features(**media)
    try:
        continuous.load_weights(tmp_path)
        (after,) = continuous.get_image_features(**media)
    finally:
        continuous.load_weights(image_exports.artifact(image_checkpoint, **CONTINUOUS))
    if name == "std_scale":
        torch.testing.assert_close(after, -before)
    assert (after - before).abs().max() > 0.1


def test_d13_a_black_image_is_an_image(continuous):
    inputs = processed([3, SMALL, 2])
    black = {**inputs, "pixel_values": torch.zeros_like(inputs["pixel_values"])}
    (features,) = continuous.get_image_features(black["pixel_values"], black["image_position_ids"])
    assert features.abs().max() > 1e-2
    assert (first_logits(continuous, black) - first_logits(continuous, inputs)).abs().max() > 1e-2


def test_frames_of_a_video_are_images_with_placeholders_of_their_own(continuous):
    images = processed([3, SMALL, 2, Image(2, 3, 5), 1])
    is_frame = torch.arange(images["input_ids"].shape[1]) > 12
    ids = torch.where((images["input_ids"] == IMAGE_ID) & is_frame, VIDEO_ID, images["input_ids"])
    mixed = {
        "input_ids": ids,
        "attention_mask": images["attention_mask"],
        "mm_token_type_ids": (ids == IMAGE_ID) + 2 * (ids == VIDEO_ID),
        "pixel_values": images["pixel_values"][:1],
        "image_position_ids": images["image_position_ids"][:1],
        "pixel_values_videos": images["pixel_values"][1:],
        "video_position_ids": images["image_position_ids"][1:],
        "num_frames_per_video": torch.tensor([1]),
    }
    assert (ids == VIDEO_ID).sum() == 6
    assert_same(run(continuous, mixed), run(continuous, images))


# --- tokens ----------------------------------------------------------------------------------------------------------


def test_image_tokens_see_their_whole_image_unless_the_token_types_say_text(continuous):
    """As in transformers, where a call without vision types is causal; without any types the placeholders say it."""
    inputs = processed([3, TALL, 2])
    untyped = {name: value for name, value in inputs.items() if name != "mm_token_type_ids"}
    text_types = {**inputs, "mm_token_type_ids": torch.zeros_like(inputs["input_ids"])}
    expected = first_logits(continuous, inputs)
    assert first_logits(continuous, untyped).equal(expected)
    assert (first_logits(continuous, text_types) - expected).abs().max() > 1e-3


def test_a_model_without_bidirectional_attention_stays_causal_inside_images(
    image_exports, image_checkpoint, tmp_path, continuous
):
    checkpoint = write_random_image_checkpoint(tmp_path, use_bidirectional_attention=None)
    options = {"sequence_length": 96, "max_soft_tokens": 70, "on_device_sampling": False}
    causal = image_exports.model(checkpoint, **options)
    inputs = processed([3, TALL, 2])
    text_types = {**inputs, "mm_token_type_ids": torch.zeros_like(inputs["input_ids"])}
    assert_same(run(causal, inputs), run(continuous, text_types))


def test_images_with_nothing_between_them_are_one_block_as_in_transformers(continuous):
    apart, together = (prompt_ids([2, SMALL, Image(2, 3, 5), 3], markers=markers) for markers in (True, False))
    assert BOI_ID in apart and BOI_ID not in together and EOI_ID not in together
    media = pixels_of([SMALL, Image(2, 3, 5)])
    inputs = {"input_ids": together[None], "attention_mask": torch.ones(1, len(together)).long(), **media}
    merged = first_logits(continuous, inputs)
    # The same tokens as one image of 12 soft tokens
    positions = torch.arange(len(together))[None]
    features = torch.cat(continuous.get_image_features(**media))
    whole = continuous(together[None], positions, image_features=[features])[:, 0]
    assert merged.equal(whole)


@pytest.mark.parametrize("token", [IMAGE_ID, VIDEO_ID, AUDIO_ID])
def test_a_generated_placeholder_is_read_as_padding(model, token):
    """transformers embeds the pad token there; so does a decode step after the model has chosen a placeholder."""

    def logits(chosen: int) -> torch.Tensor:
        inputs = processed([5])
        model(inputs["input_ids"], torch.arange(5)[None])
        return model(torch.tensor([[chosen]]), torch.tensor([[5]]))

    assert logits(token).equal(logits(0)) and not logits(token).equal(logits(9))


def test_a_prompt_of_one_image_token(model):
    """One soft token and nothing else: not a decode step, though it has one column."""
    dot = Image(1, 1)
    inputs = {"input_ids": torch.tensor([[0, IMAGE_ID]]), "attention_mask": torch.tensor([[0, 1]]), **pixels_of([dot])}
    prefill = model(torch.tensor([[IMAGE_ID, 0]]), torch.tensor([[0, -1]]), **pixels_of([dot]))[:, 0]
    torch.testing.assert_close(first_logits(model, inputs), prefill, atol=1e-4, rtol=1e-4)
    one_column = model(torch.tensor([[IMAGE_ID]]), torch.tensor([[0]]), **pixels_of([dot]))[:, 0]
    torch.testing.assert_close(one_column, prefill, atol=1e-4, rtol=1e-4)


def test_generation_defaults_and_configuration_are_the_checkpoints(image_exports, image_checkpoint, continuous):
    assert continuous.generation_config.eos_token_id == [1, 106, 50]
    folder = image_exports.artifact(image_checkpoint, **CONTINUOUS)
    assert json.loads((folder / "config.json").read_text())["image_token_id"] == IMAGE_ID
    recorded = json.loads((folder / "neuron_config.json").read_text())
    assert recorded["max_soft_tokens"] == [70, 140] and recorded["max_images"] is None
