# SPDX-License-Identifier: Apache-2.0
"""From prompts to image inputs, with a stand-in for the vision graphs whose soft tokens name their image and row.

So the place of every single soft token is checked, which the whole model, compared with itself, does not show.
"""

import pytest
import torch
from image_prompts import Image, pixels_of, prompt_ids
from random_models import IMAGE_ID, RANDOM_CONFIG, RANDOM_IMAGE_CONFIG, VIDEO_ID

from optimum_gemma4 import Gemma4Config, Gemma4NeuronConfig
from optimum_gemma4.exporters.export_config import TensorSpec
from optimum_gemma4.modeling.images.matching import IMAGE, VIDEO
from optimum_gemma4.modeling.images.prompt_images import PromptImages


WIDTH = RANDOM_CONFIG["hidden_size"]
SMALL, WIDE, DOT = Image(2, 2), Image(1, 5), Image(1, 1)


class NamingEncoder:
    """Soft token `row` of the image whose first pixel is `number` holds (number, row)."""

    def soft_tokens(self, pixels: torch.Tensor, positions: torch.Tensor, name: str) -> list[int]:
        return [int((grid[:, 0] >= 0).sum()) // 9 for grid in positions]

    def __call__(self, pixels: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        (count,) = self.soft_tokens(None, positions[None], "")
        features = torch.zeros(count, WIDTH)
        features[:, 0], features[:, 1] = pixels[0, 0], torch.arange(count)
        return features


def prompt_images(attention: str | None = "vision", **options) -> PromptImages:
    text = {**RANDOM_CONFIG, "use_bidirectional_attention": attention}
    config = Gemma4Config.from_dict({**RANDOM_IMAGE_CONFIG, "text_config": text})
    shapes = {"batch_size": 2, "sequence_length": 96, "tp_degree": 1, "torch_dtype": torch.float32}
    return PromptImages(NamingEncoder(), config, Gemma4NeuronConfig(**shapes, max_soft_tokens=70, **options))


def media_of(images: list[Image], first_number: int) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    if not images:
        return None, None
    pixels, positions = pixels_of(images).values()
    pixels[:, 0, 0] = torch.arange(len(images)) + first_number
    return pixels, positions


def batch(*prompts: list, frames: tuple[int, ...] = ()) -> tuple[torch.Tensor, torch.Tensor, dict]:
    """input_ids and position_ids [B, S] and the media; images whose number in the batch is in `frames` are frames."""
    rows, images, number = [], {IMAGE: [], VIDEO: []}, 0
    for parts in prompts:
        ids = []
        for part in parts:
            tokens = prompt_ids([part])
            if isinstance(part, Image):
                kind = VIDEO if number in frames else IMAGE
                tokens = torch.where(tokens == IMAGE_ID, VIDEO_ID, tokens) if kind == VIDEO else tokens
                images[kind].append(part)
                number += 1
            ids += tokens.tolist()
        rows.append(torch.tensor(ids))
    width = max(map(len, rows)) + 1
    input_ids, position_ids = torch.full((len(rows), width), IMAGE_ID), torch.full((len(rows), width), -1)
    for row, ids in enumerate(rows):
        input_ids[row, : len(ids)], position_ids[row, : len(ids)] = ids, torch.arange(len(ids))
    return input_ids, position_ids, {IMAGE: media_of(images[IMAGE], 0), VIDEO: media_of(images[VIDEO], 100)}


def placed(images: PromptImages, input_ids: torch.Tensor, position_ids: torch.Tensor, media: dict) -> list[list]:
    """What the graph gathers at every position of each prompt: None, or (image, row)."""
    kinds = images.placeholders.kinds(input_ids, position_ids)
    features = images.encode(images.match(kinds, media), media)
    inputs = images.inputs(kinds, images.ends(kinds, position_ids, None), features)
    rows, index, _ = inputs.tensors(TensorSpec("image_features", (len(kinds) * 60, WIDTH), torch.float32))
    found = [[None if i < 0 else tuple(rows[i, :2].int().tolist()) for i in line] for line in index.tolist()]
    return [[at for at, position in zip(*pair) if position >= 0] for pair in zip(found, position_ids.tolist())]


def expected_of(*prompts: list, frames: tuple[int, ...] = ()) -> list[list]:
    rows, number, next_of = [], 0, {IMAGE: 0, VIDEO: 100}
    for parts in prompts:
        row = []
        for part in parts:
            if not isinstance(part, Image):
                row += [None] * part
                continue
            kind = VIDEO if number in frames else IMAGE
            row += [None, *((next_of[kind], i) for i in range(part.soft_tokens)), None]
            next_of[kind] += 1
            number += 1
        rows.append(row)
    return rows


@pytest.mark.parametrize("frames", [(), (0,), (1, 2)])
@pytest.mark.parametrize(
    "prompts",
    [
        ([3], [1]),
        ([3, SMALL, 2],),
        ([SMALL, WIDE, 1, DOT], [2]),
        ([2], [WIDE, 4, SMALL]),
        ([1, SMALL, SMALL, 2], [WIDE], [DOT, 1, DOT]),
    ],
)
def test_every_soft_token_stands_at_its_placeholder(prompts, frames):
    assert placed(prompt_images(), *batch(*prompts, frames=frames)) == expected_of(*prompts, frames=frames)


def test_images_look_ahead_to_their_end_and_only_where_the_configuration_says_so():
    input_ids, positions, _ = batch([2, SMALL, 1, WIDE])
    ends = [0, 1, 2, 6, 6, 6, 6, 7, 8, 9, 14, 14, 14, 14, 14, 15, -1]
    for attention, expected in (("vision", ends), (None, positions[0].tolist())):
        images = prompt_images(attention)
        kinds = images.placeholders.kinds(input_ids, positions)
        assert images.ends(kinds, positions, None)[0].tolist() == expected
        assert images.ends(kinds, positions, torch.zeros_like(kinds))[0].tolist() == positions[0].tolist()


def test_the_limit_of_images_is_one_of_each_prompt():
    images = prompt_images(max_images=2)
    assert len(placed(images, *batch([SMALL, DOT], [DOT, DOT]))) == 2
    with pytest.raises(ValueError, match="Prompt 1 has 3 images and the artifact was compiled for 2"):
        placed(images, *batch([SMALL], [DOT, DOT, DOT]))


def test_a_decode_step_takes_nothing():
    inputs = prompt_images().no_inputs(torch.tensor([[5], [-1]]))
    rows, index, end = inputs.tensors(TensorSpec("image_features", (1, WIDTH), torch.float32))
    assert rows.shape == (1, WIDTH) and index.tolist() == [[-1], [-1]] and end.tolist() == [[5], [-1]]
