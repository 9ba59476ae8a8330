# SPDX-License-Identifier: Apache-2.0
"""Which vision graph an image runs in and what of it arrives there, and images that no graph can take.

The graphs are stood in for by a module that records its inputs: the choice is made before them.
"""

import pytest
import torch
from image_prompts import Image, pixels_of

from optimum_gemma4.exporters.export_config import GraphSpec, TensorSpec
from optimum_gemma4.modeling.configuration import Gemma4VisionConfig
from optimum_gemma4.modeling.images.vision_graphs import VisionGraphs
from optimum_gemma4.modeling.vision.spec import VisionSpec


SPEC = VisionSpec.from_config(Gemma4VisionConfig(position_embedding_size=213), text_hidden_size=8)
WIDTH = 8


class Recorder(torch.nn.Module):
    """Takes what a vision graph takes; the soft token of a row is its number."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def forward(self, pixels: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        self.calls.append((pixels, positions))
        return torch.arange(pixels.shape[1] // 9)[None, :, None].expand(1, -1, WIDTH)


def graphs(*budgets: int) -> VisionGraphs:
    specs = [
        GraphSpec(f"vision_encoder_{budget}", (TensorSpec("pixel_values", (1, 9 * budget, 768), torch.float32),), ())
        for budget in budgets
    ]
    return VisionGraphs(Recorder(), specs, SPEC)


@pytest.mark.parametrize(
    ("shape", "budget", "graph"),
    [
        ((1, 1), 70, 70),
        ((7, 10), 70, 70),
        ((7, 10), 1120, 70),
        ((1, 70), 280, 70),
        ((71, 1), 280, 140),
        ((10, 14), 140, 140),
        ((2, 3), 6, 70),
    ],
)
def test_an_image_runs_in_the_smallest_graph_that_holds_its_own_patches(shape, budget, graph):
    encoder, image = graphs(70, 140), Image(*shape)
    media = pixels_of([image], budget)
    assert encoder.soft_tokens(*media.values(), "image") == [image.soft_tokens]
    features = encoder(media["pixel_values"][0], media["image_position_ids"][0])
    assert features[:, 0].tolist() == list(range(image.soft_tokens))
    ((pixels, positions),) = encoder._traced.calls
    assert pixels.shape == (1, 9 * graph, 768) and pixels.dtype == torch.float32
    assert positions.shape == (1, 9 * graph, 2) and positions.dtype == torch.int32
    expected_pixels, expected_positions = image.patches()
    assert pixels[0, : len(expected_pixels)].equal(expected_pixels)
    assert positions[0, : len(expected_pixels)].long().equal(expected_positions)
    assert (positions[0, len(expected_pixels) :] == -1).all() and not pixels[0, len(expected_pixels) :].any()


def test_patches_may_come_in_any_order_and_dtype():
    encoder, image = graphs(70), Image(2, 3)
    pixels, positions = (tensor[0].flip(0) for tensor in pixels_of([image], 10).values())
    assert encoder.soft_tokens(pixels[None].bfloat16(), positions[None].int(), "image") == [6]
    encoder(pixels.bfloat16(), positions.int())
    ((ran, _),) = encoder._traced.calls
    assert ran[0, :54].equal(image.patches()[0].flip(0).bfloat16().float())


def test_no_images_have_no_soft_tokens():
    assert graphs(70).soft_tokens(torch.zeros(0, 630, 768), torch.zeros(0, 630, 2).long(), "image") == []


def good() -> list[torch.Tensor]:
    return list(pixels_of([Image(2, 3), Image(4, 4)]).values())


def holes(pixels: torch.Tensor, positions: torch.Tensor) -> tuple:
    positions[1, 5] = -1
    return pixels, positions


def twice(pixels: torch.Tensor, positions: torch.Tensor) -> tuple:
    positions[1, 5] = positions[1, 4]
    return pixels, positions


def empty(pixels: torch.Tensor, positions: torch.Tensor) -> tuple:
    positions[1] = -1
    return pixels, positions


def far_off(pixels: torch.Tensor, positions: torch.Tensor) -> tuple:
    return list(pixels_of([Image(1, 72)], 72).values())


def half_a_cell(pixels: torch.Tensor, positions: torch.Tensor) -> tuple:
    positions[1, 132:] = -1
    return pixels, positions


def out_of_table(pixels: torch.Tensor, positions: torch.Tensor) -> tuple:
    positions[0, :54, 0] += 300
    return pixels, positions


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p, q: (None, q), r"pixels of the images have the shape NoneType: expected a tensor \[images, patches"),
        (lambda p, q: (p, None), "patch positions of the images have the shape NoneType"),
        (lambda p, q: (p.numpy(), q), "pixels of the images have the shape ndarray.*return_tensors='pt'"),
        (lambda p, q: (p[0], q), r"pixels of the images have the shape \(630, 768\)"),
        (lambda p, q: (p[..., :3], q), r"pixels of the images have the shape \(2, 630, 3\): .* patches, 768\]"),
        (lambda p, q: (p, q[..., :1]), r"positions of the images have the shape \(2, 630, 1\)"),
        (lambda p, q: (p[:1], q), r"pixels of \(1, 630\) and positions of \(2, 630\)"),
        (lambda p, q: (p, q[:, :100]), r"pixels of \(2, 630\) and positions of \(2, 100\)"),
        (lambda p, q: ((p * 255).to(torch.uint8), q), "torch.uint8 pixels"),
        (lambda p, q: (p, q.float()), "torch.float32 positions"),
        (lambda p, q: (p * 255, q), r"go from 0 to 25\d.*expected 0..1.*Rescale them once"),
        (lambda p, q: (2 * (p - 0.5), q), "go from -1 to .*do not normalise them"),
        (lambda p, q: (p.masked_fill(p == 0, float("nan")), q), "go from nan"),
        (holes, r"positions of image 1 \(143 patches\) are not those of one rectangle"),
        (twice, "positions of image 1 .* are not those of one rectangle"),
        (half_a_cell, r"positions of image 1 \(132 patches\)"),
        (empty, r"positions of image 1 \(0 patches\)"),
        (out_of_table, "positions of image 0 .* at most 213 patches long"),
        (far_off, "positions of image 0 .* at most 213 patches long"),
    ],
)
def test_what_the_processor_does_not_return_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        graphs(70, 140).soft_tokens(*change(*good()), "image")


def test_d11_pixels_that_were_scaled_twice_are_refused():
    pixels, positions = good()
    with pytest.raises(ValueError, match="expected 0..1, which the encoder itself brings to -1..1"):
        graphs(70).soft_tokens(2 * (pixels - 0.5), positions, "image")


def test_an_image_larger_than_every_graph_names_both_ways_out():
    media = pixels_of([Image(1, 70), Image(9, 8)], 280)
    message = "image 1 has 72 soft tokens and the largest compiled budget is 70.*max_soft_tokens=70.*--max_soft_tokens"
    with pytest.raises(ValueError, match=message):
        graphs(70).soft_tokens(*media.values(), "image")
