# SPDX-License-Identifier: Apache-2.0
"""Calls with images that cannot be what was meant: refused before anything is encoded, with what to change."""

import pytest
import torch
from image_prompts import SMALL_EXPORT, Image, pixels_of, processed
from random_models import IMAGE_ID, VIDEO_ID


SMALL, TALL = Image(2, 3), Image(5, 2)


@pytest.fixture(scope="module")
def model(image_exports, image_checkpoint):
    return image_exports.model(image_checkpoint, **SMALL_EXPORT)


@pytest.fixture
def calls(model) -> list[str]:
    """What ran, in order."""
    ran = []
    hooks = [
        module.register_forward_pre_hook(lambda *_, name=name: ran.append(name))
        for name, module in (("vision", model.vision_encoder), ("prefill", model.context_encoding_model))
    ]
    yield ran
    for hook in hooks:
        hook.remove()


def inputs(**changes) -> dict:
    """Two prompts, with two images and with one."""
    return {**processed([3, SMALL, 2, TALL], [4, SMALL, 1]), **changes}


def without(*names: str) -> dict:
    return {name: value for name, value in inputs().items() if name not in names}


def media(*images: Image) -> dict:
    return pixels_of(list(images))


def video_ids() -> torch.Tensor:
    ids = inputs()["input_ids"]
    return torch.where(ids == IMAGE_ID, VIDEO_ID, ids)


REFUSED = {
    "no images": (
        lambda: without("pixel_values", "image_position_ids"),
        r"22 image tokens \(in runs of \[\[6, 10\], \[6\]\], by prompt\).*the 0 images given have 0 soft tokens",
    ),
    "an image is missing": (lambda: inputs(**media(SMALL, TALL)), r"22 image tokens.*2 images given have 16 .*6, 10"),
    "an image too many": (
        lambda: inputs(**media(SMALL, TALL, SMALL, SMALL)),
        r"22 image tokens.*4 images given have 28 soft tokens \(\[6, 10, 6, 6\]\)",
    ),
    "images for a text prompt": (lambda: {**processed([5]), **media(SMALL)}, "0 image tokens.*1 images given have 6"),
    "images in another order": (
        lambda: inputs(**media(TALL, SMALL, SMALL)),
        r"Prompt 0 has 6 image tokens in a row.*number 0 on have \[10\]",
    ),
    "placeholders of videos": (lambda: inputs(input_ids=video_ids()), "0 image tokens.*3 images given"),
    "more images than compiled": (
        lambda: processed([SMALL, 1, SMALL, 1, SMALL]),
        "Prompt 0 has 3 images and the artifact was compiled for 2.*--max_images 3",
    ),
    "an image larger than compiled": (
        lambda: processed([2, Image(8, 9)], budget=140),
        "image 0 has 72 soft tokens and the largest compiled budget is 70",
    ),
    "a prompt longer than compiled": (
        lambda: processed([60, Image(7, 10)]),
        "A prompt of 132 tokens is longer than the 128 that were compiled, and a prompt is encoded as a whole.*images",
    ),
    "positions alone": (lambda: without("pixel_values"), "pixels of the images have the shape NoneType"),
    "pixels alone": (lambda: without("image_position_ids"), "patch positions of the images have the shape NoneType"),
    "token types of another shape": (
        lambda: inputs(mm_token_type_ids=torch.zeros(2, 3).long()),
        r"mm_token_type_ids has the shape \(2, 3\).*expected the shape of input_ids",
    ),
    "unknown token types": (
        lambda: inputs(mm_token_type_ids=inputs()["mm_token_type_ids"] * 7),
        r"values \[0, 7\]: expected .* 0 .text., 1 .image.",
    ),
    "a block longer than any image": (
        lambda: {**processed([100, SMALL]), "mm_token_type_ids": torch.ones(1, 108).long()},
        "108 image tokens follow each other.*largest compiled image has 70",
    ),
    "frames that do not add up": (
        lambda: inputs(num_frames_per_video=torch.tensor([2, 1])),
        r"num_frames_per_video is \[2, 1\] and there are 0 frames",
    ),
    "token types of another model": (lambda: inputs(token_type_ids=torch.ones(2, 24)), "pass the mm_token_type_ids"),
    "a misspelt argument": (lambda: inputs(pixel_value=torch.ones(1)), r"does not know \['pixel_value'\]"),
    "embeddings": (lambda: inputs(inputs_embeds=torch.ones(2, 24, 32)), "inputs_embeds is not supported"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_before_anything_runs(model, calls, name):
    make, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        model.generate(**make(), max_new_tokens=2)
    assert calls == []


def test_the_same_call_without_the_mistake_runs(model, calls):
    given = inputs(token_type_ids=torch.zeros(2, 24).long(), num_frames_per_video=None)
    model.generate(**given, max_new_tokens=2, do_sample=False)
    assert calls == ["vision"] * 3 + ["prefill"]


def test_every_image_is_encoded_once_for_all_sequences_of_its_prompt(model, calls):
    single = processed([3, SMALL, 2, TALL])
    model.generate(**single, num_return_sequences=2, do_sample=True, max_new_tokens=2)
    assert calls == ["vision", "vision", "prefill"]


def test_a_text_prompt_runs_no_vision_graph(model, calls):
    model.generate(**processed([5], [9]), max_new_tokens=2)
    assert calls == ["prefill"]


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ([torch.zeros(6, 32)], r"\[6, 6\] image tokens and their image_features \[6\] rows"),
        ([torch.zeros(6, 32), torch.zeros(5, 32)], r"\[6, 6\] image tokens and their image_features \[6, 5\] rows"),
    ],
)
def test_soft_tokens_that_do_not_fit_the_prompts_are_refused(model, features, message):
    ids = processed([SMALL], [SMALL])["input_ids"]
    with pytest.raises(ValueError, match=message):
        model(ids, torch.arange(ids.shape[1]).expand_as(ids), image_features=features)


def test_images_and_their_soft_tokens_at_once_are_refused(model, calls):
    given = processed([SMALL])
    ids, images = given["input_ids"], media(SMALL)
    with pytest.raises(ValueError, match="Both pixels and image_features"):
        model(ids, torch.arange(ids.shape[1])[None], image_features=[torch.zeros(6, 32)], **images)
    assert calls == []


def test_an_image_cannot_join_a_conversation_that_is_being_answered(model):
    dot = {
        "pixel_values": torch.zeros(1, 9, 768),
        "image_position_ids": media(Image(1, 1))["image_position_ids"][:, :9],
    }
    with pytest.raises(ValueError, match="A prompt is encoded as a whole, from position 0"):
        model(torch.tensor([[IMAGE_ID]]), torch.tensor([[7]]), **dot)


def test_a_prompt_that_is_partly_encoded_cannot_go_on(model):
    """There is no chunked prefill: an image would have to be complete in its chunk."""
    given = processed([2, SMALL, 3])
    ids = given["input_ids"]
    with pytest.raises(ValueError, match="A prompt is encoded as a whole, from position 0"):
        model(ids, torch.arange(ids.shape[1])[None] + 4, **media(SMALL))
