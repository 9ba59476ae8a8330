# SPDX-License-Identifier: Apache-2.0
"""Gemma4ImageProcessor against hashes of transformers 5.23 `Gemma4ImageProcessorPil`, and its own rules."""

import hashlib

import numpy as np
import PIL.Image
import pytest

from optimum_gemma4.modeling.processing import Gemma4ImageProcessor, soft_token_counts, target_size
from optimum_gemma4.modeling.processing.image_processor import SUPPORTED_SOFT_TOKENS, to_patches
from tests.modeling.processing.toy_images import drawn_image, image_cases, mode_images


def digest(array) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


def summary(outputs) -> list:
    counts = outputs["num_soft_tokens_per_image"]
    return [digest(outputs["pixel_values"]), digest(outputs["image_position_ids"]), counts[0]]


def test_200_sizes_equal_the_reference_bit_for_bit(golden):
    """pixel_values, position ids and counts, extreme strips and all five budgets included."""
    process = Gemma4ImageProcessor()
    cases, wanted = image_cases(), golden["images"]["sizes"]
    assert len(cases) == len(wanted) == 200
    assert {budget for _, _, budget in cases} == set(SUPPORTED_SOFT_TOKENS)
    for index, (height, width, budget) in enumerate(cases):
        outputs = process(drawn_image(index, height, width), max_soft_tokens=budget)
        assert [height, width, budget, *summary(outputs)] == wanted[index]


@pytest.mark.parametrize("mode", sorted(mode_images()))
def test_modes_equal_the_reference(mode, golden):
    outputs = Gemma4ImageProcessor()(mode_images()[mode], max_soft_tokens=70)
    assert summary(outputs) == golden["images"]["modes"][mode]


@pytest.mark.parametrize(
    ("height", "width", "wanted"),
    [
        (480, 640, (672, 912)),
        (224, 224, (768, 768)),
        (1080, 1920, (576, 1056)),
        (100, 3000, (144, 4368)),
        (1, 3000, (48, 280 * 48)),
        (3000, 1, (280 * 48, 48)),
        (1, 300, (48, 280 * 48)),
        (1, 1, (768, 768)),
    ],
)
def test_target_size_examples(height, width, wanted):
    """Small images grow: the factor has no cap at 1. A side that would vanish is one cell."""
    assert target_size(height, width) == wanted


def test_patches_are_row_major_with_channels_fastest():
    height, width, patch = 32, 48, 16
    y, x, channel = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    image = (y * 1000 + x * 10 + channel).transpose(2, 0, 1)
    patches, positions = to_patches(image, patch)
    assert positions.tolist() == [[0, 0], [1, 0], [2, 0], [0, 1], [1, 1], [2, 1]]  # (x, y)
    for vector, (column, row) in zip(patches, positions, strict=True):
        wanted = [
            (row * patch + i) * 1000 + (column * patch + j) * 10 + c
            for i in range(patch)
            for j in range(patch)
            for c in range(3)
        ]
        assert vector.tolist() == wanted


def test_padding_is_zero_pixels_at_position_minus_one():
    outputs = Gemma4ImageProcessor()(drawn_image(0, 100, 3000), max_soft_tokens=70)
    valid = outputs["num_soft_tokens_per_image"][0] * 9
    assert outputs["pixel_values"].shape == (1, 630, 768) and outputs["pixel_values"].dtype == np.float32
    assert (outputs["image_position_ids"][0, valid:] == -1).all() and (outputs["pixel_values"][0, valid:] == 0).all()
    assert (outputs["image_position_ids"][0, :valid] >= 0).all()


def test_images_of_one_call_keep_their_own_sizes():
    process = Gemma4ImageProcessor(max_soft_tokens=70)
    images = [drawn_image(index, *size) for index, size in enumerate([(40, 90), (90, 40), (64, 64)])]
    together = process([images[:1], images[1:]], return_tensors="pt")
    assert tuple(together["pixel_values"].shape) == (3, 630, 768)
    assert together["num_soft_tokens_per_image"].tolist() == soft_token_counts(together["image_position_ids"])
    for index, image in enumerate(images):
        alone = process(image)
        assert np.array_equal(together["pixel_values"][index].numpy(), alone["pixel_values"][0])
        assert np.array_equal(together["image_position_ids"][index].numpy(), alone["image_position_ids"][0])


def test_soft_token_counts():
    positions = np.full((2, 18, 2), -1)
    positions[0, :9] = 0
    assert soft_token_counts(positions) == [1, 0]
    with pytest.raises(ValueError, match=r"\[10, 0\] patches"):
        positions[0, :10] = 0
        soft_token_counts(positions)


def test_d11_pixels_are_scaled_once():
    """PEERS.md D11: values end in 0..1, and an image that is already there is refused rather than scaled again."""
    array = np.array(drawn_image(3, 96, 96))
    assert 0.9 < Gemma4ImageProcessor()(array)["pixel_values"].max() <= 1.0
    with pytest.raises(ValueError, match="image 1 .*already rescaled"):
        Gemma4ImageProcessor()([array, array.astype(np.float32) / 255])
    once = Gemma4ImageProcessor()(array / 255, do_rescale=False)["pixel_values"]
    # transformers' own resize goes through 8 bits and comes back as n / 255
    assert np.abs(once - Gemma4ImageProcessor()(array)["pixel_values"]).max() <= 1.5 / 255


def test_d13_black_image_is_an_image():
    """PEERS.md D13: what is an image is told by its positions, never by the sum of its pixels."""
    outputs = Gemma4ImageProcessor()(np.zeros((100, 100, 3), dtype=np.uint8))
    assert not outputs["pixel_values"].any()
    assert soft_token_counts(outputs["image_position_ids"]) == outputs["num_soft_tokens_per_image"] == [256]


@pytest.mark.parametrize("budget", [0, 100, 281, "280"])
def test_unsupported_budget_is_refused(budget):
    with pytest.raises(ValueError, match=f"70, 140, 280, 560, 1120.*{budget}"):
        Gemma4ImageProcessor(max_soft_tokens=budget)
    with pytest.raises(ValueError, match="70, 140, 280, 560, 1120"):
        Gemma4ImageProcessor()(drawn_image(0, 50, 50), max_soft_tokens=budget)


def test_without_resize_sides_must_be_cells_within_the_budget():
    process = Gemma4ImageProcessor(do_resize=False, max_soft_tokens=70)
    assert process(drawn_image(0, 96, 144))["num_soft_tokens_per_image"] == [6]
    for size in [(96, 100), (480, 480)]:
        with pytest.raises(ValueError, match=f"image 0 is {size[0]} x {size[1]}"):
            process(drawn_image(0, *size))


def test_normalize_is_applied_when_asked_for():
    image = drawn_image(1, 96, 96)
    plain = Gemma4ImageProcessor()(image, max_soft_tokens=70)
    normalized = Gemma4ImageProcessor()(
        image, max_soft_tokens=70, do_normalize=True, image_mean=[0.5] * 3, image_std=[0.25] * 3
    )
    valid = plain["num_soft_tokens_per_image"][0] * 9
    wanted = (plain["pixel_values"][0, :valid] - 0.5) / 0.25
    assert np.allclose(normalized["pixel_values"][0, :valid], wanted, atol=1e-6)


def test_no_images_is_refused():
    with pytest.raises(ValueError, match="No images"):
        Gemma4ImageProcessor()([])


def test_four_dimensional_array_is_a_batch():
    batch = np.stack([np.array(drawn_image(index, 60, 90)) for index in range(3)])
    assert Gemma4ImageProcessor(max_soft_tokens=70)(batch)["pixel_values"].shape[0] == 3


def test_configuration_round_trip_keeps_unknown_keys(tmp_path):
    process = Gemma4ImageProcessor(max_soft_tokens=140, image_seq_length=280, size={"height": 224, "width": 224})
    process.save_pretrained(tmp_path)
    loaded = Gemma4ImageProcessor.from_pretrained(tmp_path)
    assert loaded.to_dict() == process.to_dict()
    assert loaded.max_soft_tokens == 140 and loaded.image_seq_length == 280
    # the meaningless `size` of some conversions changes nothing
    assert target_size(100, 100, max_soft_tokens=140) == (528, 528)
    assert loaded(PIL.Image.new("RGB", (100, 100)))["num_soft_tokens_per_image"] == [121]
