# SPDX-License-Identifier: Apache-2.0
"""Prompts with images for the random models of `random_models`, as a processor would return them.

An image is given in cells (one soft token each), so that tests choose how many soft tokens it has; its patches are
random pixels. A prompt is a list of parts: a number is that many random text tokens, an image is its placeholders
between the two markers.
"""

from dataclasses import dataclass

import torch
from random_models import BOI_ID, EOI_ID, FIRST_SPECIAL_ID, IMAGE_ID


# One export for the tests of requests and of artifacts
SMALL_EXPORT = {
    "sequence_length": 160,
    "prefill_buckets": [128],
    "max_soft_tokens": 70,
    "max_images": 2,
    "batch_size": 2,
    "tensor_parallel_size": 2,
    "on_device_sampling": False,
}
CELL = 3  # patches
PIXELS = 768


@dataclass(frozen=True)
class Image:
    """An image of `rows` x `columns` cells."""

    rows: int
    columns: int
    seed: int = 0

    @property
    def soft_tokens(self) -> int:
        """As many as cells."""
        return self.rows * self.columns

    def patches(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Pixels [P, 768] and positions [P, 2] as (x, y), without padding."""
        height, width = CELL * self.rows, CELL * self.columns
        generator = torch.Generator().manual_seed(1000 * self.seed + 10 * self.rows + self.columns)
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        return torch.rand(height * width, PIXELS, generator=generator), torch.stack([x.flatten(), y.flatten()], dim=1)


def pixels_of(images: list[Image], budget: int = 70) -> dict[str, torch.Tensor]:
    """pixel_values and image_position_ids, padded to `budget` soft tokens."""
    pixel_values = torch.zeros(len(images), CELL**2 * budget, PIXELS)
    image_position_ids = torch.full((len(images), CELL**2 * budget, 2), -1)
    for index, image in enumerate(images):
        pixels, positions = image.patches()
        pixel_values[index, : len(pixels)], image_position_ids[index, : len(pixels)] = pixels, positions
    return {"pixel_values": pixel_values, "image_position_ids": image_position_ids}


def prompt_ids(parts: list[int | Image], seed: int = 0, markers: bool = True) -> torch.Tensor:
    """Token ids [S] of a prompt."""
    generator = torch.Generator().manual_seed(seed)
    ids = []
    for part in parts:
        if isinstance(part, Image):
            placeholders = [IMAGE_ID] * part.soft_tokens
            ids += [BOI_ID, *placeholders, EOI_ID] if markers else placeholders
        else:
            ids += torch.randint(3, FIRST_SPECIAL_ID, (part,), generator=generator).tolist()
    return torch.tensor(ids)


def processed(*prompts: list[int | Image], side: str = "left", budget: int = 70, seed: int = 0) -> dict:
    """What `generate()` takes for a batch of prompts; text token ids follow from `seed` and the place in the batch."""
    ids = [prompt_ids(parts, seed + row) for row, parts in enumerate(prompts)]
    width = max(map(len, ids))
    input_ids, attention_mask = torch.zeros(len(ids), width).long(), torch.zeros(len(ids), width).long()
    for row, tokens in enumerate(ids):
        place = slice(width - len(tokens), None) if side == "left" else slice(len(tokens))
        input_ids[row, place], attention_mask[row, place] = tokens, 1
    inputs = {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "mm_token_type_ids": (input_ids == IMAGE_ID).long(),
    }
    images = [part for parts in prompts for part in parts if isinstance(part, Image)]
    return inputs | (pixels_of(images, budget) if images else {})
