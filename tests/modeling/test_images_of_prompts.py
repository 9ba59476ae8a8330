# SPDX-License-Identifier: Apache-2.0
"""What each image of a prompt does, in exported models: every one counts, black or not, whatever its shape.

The oracle is the same model on a prompt that differs in one thing; `tests/parity` compares with transformers.
"""

import pytest
import torch
from image_conversations import (
    CONTINUOUS,
    CONVERSATIONS,
    LARGE,
    SMALL,
    TALL,
    WIDE,
    assert_same,
    first_logits,
    run,
)
from image_prompts import Image, pixels_of, processed, prompt_ids
from random_models import AUDIO_ID, BOI_ID, EOI_ID, IMAGE_ID, VIDEO_ID, write_random_image_checkpoint
from safetensors.torch import load_file, save_file


@pytest.fixture(params=["sees", "sees_static"])
def model(request):
    return request.getfixturevalue(request.param)


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


def test_d8_soft_tokens_of_pixels_are_those_given_instead(sees):
    inputs = processed(CONVERSATIONS["three images"])
    media = {name: inputs[name] for name in ("pixel_values", "image_position_ids")}
    features = sees.get_image_features(**media)
    assert [len(soft_tokens) for soft_tokens in features] == [6, 20, 6]
    ids, positions = inputs["input_ids"], torch.arange(inputs["input_ids"].shape[1])[None]
    given = sees(ids, positions, image_features=[torch.cat(features)])
    assert given.equal(sees(ids, positions, **media))
    torch.testing.assert_close(given[0], first_logits(sees, inputs), atol=1e-4, rtol=1e-4)


def test_an_image_gives_the_same_soft_tokens_on_1_and_4_ranks(sees, sees_static):
    media = pixels_of([SMALL, WIDE, TALL, LARGE])
    for one, four in zip(sees.get_image_features(**media), sees_static.get_image_features(**media), strict=True):
        torch.testing.assert_close(one, four, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("length", [96, 160])
def test_d9_a_prompt_with_an_image_that_fills_its_graph_keeps_its_last_token(sees, length):
    """The last token decides, whether the graph has room behind it or not."""
    parts = [length - 2 - LARGE.soft_tokens - 8, LARGE, 8]
    inputs = processed(parts)
    assert inputs["input_ids"].shape[1] == length
    longer = {**inputs, "input_ids": torch.cat([inputs["input_ids"], torch.zeros(1, 8).long()], dim=1)}
    longer["attention_mask"] = torch.cat([inputs["attention_mask"], torch.zeros(1, 8).long()], dim=1)
    longer["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], torch.zeros(1, 8).long()], dim=1)
    assert_same(run(sees, inputs), run(sees, longer))
    changed = {**inputs, "input_ids": inputs["input_ids"].clone()}
    changed["input_ids"][0, -1] = (changed["input_ids"][0, -1] + 1) % BOI_ID
    assert (first_logits(sees, changed) - first_logits(sees, inputs)).abs().max() > 1e-2


@pytest.mark.parametrize("shape", [(1, 1), (1, 70), (70, 1), (8, 8), (2, 33), (7, 10)])
def test_d10_images_of_any_shape_and_padding_run_in_the_graph_that_is_there(sees, shape):
    """The padding that an image comes with changes nothing, nor what its padding patches hold."""
    image = Image(*shape)
    (tight,) = sees.get_image_features(**pixels_of([image], image.soft_tokens))
    padded = pixels_of([image], 1120)
    padded["pixel_values"][0, 9 * image.soft_tokens :] = 0.5
    (loose,) = sees.get_image_features(**padded)
    assert loose.equal(tight) and tight.shape == (image.soft_tokens, 32)


@pytest.mark.parametrize(("name", "change"), [("std_scale", torch.neg), ("std_bias", lambda bias: bias + 1.5)])
def test_d12_standardisation_is_a_weight_of_the_bundle_not_a_constant(
    image_exports, image_checkpoint, tmp_path, sees, name, change
):
    """The same graphs with the weights of a checkpoint that differs there alone: scales of the other sign."""
    tensors = load_file(image_checkpoint / "model.safetensors")
    tensors[f"model.vision_tower.{name}"] = change(tensors[f"model.vision_tower.{name}"])
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    media = pixels_of([SMALL])
    (before,) = sees.get_image_features(**media)
    try:
        sees.load_weights(tmp_path)
        (after,) = sees.get_image_features(**media)
    finally:
        sees.load_weights(image_exports.artifact(image_checkpoint, **CONTINUOUS))
    if name == "std_scale":
        torch.testing.assert_close(after, -before)
    assert (after - before).abs().max() > 0.1


def test_d13_a_black_image_is_an_image(sees):
    inputs = processed([3, SMALL, 2])
    black = {**inputs, "pixel_values": torch.zeros_like(inputs["pixel_values"])}
    (features,) = sees.get_image_features(black["pixel_values"], black["image_position_ids"])
    assert features.abs().max() > 1e-2
    assert (first_logits(sees, black) - first_logits(sees, inputs)).abs().max() > 1e-2


def test_frames_of_a_video_are_images_with_placeholders_of_their_own(sees):
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
    assert_same(run(sees, mixed), run(sees, images))


def test_image_tokens_see_their_whole_image_unless_the_token_types_say_text(sees):
    """As in transformers, where a call without vision types is causal; without any types the placeholders say it."""
    inputs = processed([3, TALL, 2])
    untyped = {name: value for name, value in inputs.items() if name != "mm_token_type_ids"}
    text_types = {**inputs, "mm_token_type_ids": torch.zeros_like(inputs["input_ids"])}
    expected = first_logits(sees, inputs)
    assert first_logits(sees, untyped).equal(expected)
    assert (first_logits(sees, text_types) - expected).abs().max() > 1e-3


def test_a_model_without_bidirectional_attention_stays_causal_inside_images(
    image_exports, image_checkpoint, tmp_path, sees
):
    checkpoint = write_random_image_checkpoint(tmp_path, use_bidirectional_attention=None)
    options = {"sequence_length": 96, "max_soft_tokens": 70, "on_device_sampling": False}
    causal = image_exports.model(checkpoint, **options)
    inputs = processed([3, TALL, 2])
    text_types = {**inputs, "mm_token_type_ids": torch.zeros_like(inputs["input_ids"])}
    assert_same(run(causal, inputs), run(sees, text_types))


def test_images_with_nothing_between_them_are_one_block_as_in_transformers(sees):
    apart, together = (prompt_ids([2, SMALL, Image(2, 3, 5), 3], markers=markers) for markers in (True, False))
    assert BOI_ID in apart and BOI_ID not in together and EOI_ID not in together
    media = pixels_of([SMALL, Image(2, 3, 5)])
    inputs = {"input_ids": together[None], "attention_mask": torch.ones(1, len(together)).long(), **media}
    merged = first_logits(sees, inputs)
    # The same tokens as one image of 12 soft tokens
    positions = torch.arange(len(together))[None]
    features = torch.cat(sees.get_image_features(**media))
    whole = sees(together[None], positions, image_features=[features])[:, 0]
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
