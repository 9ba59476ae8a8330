# SPDX-License-Identifier: Apache-2.0
"""Batches for training the tiny Gemma 4: token ids, loss masks and pictures as patches.

Rows are right-padded without an attention mask: every mask of the model looks backwards (image blocks contain no
padding), so padding behind a row can not change it. Shapes: ids [B, S], targets [B, S], patches [N, P, 768] and
positions [N, P, 2] as the image processor gives them.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers.models.gemma4.image_processing_pil_gemma4 import Gemma4ImageProcessorPil

from tools.tiny_pictures import SIZES, Scene, paint_scene, random_scene
from tools.tiny_text import EACH, IMAGE, QUESTIONS, Segments, TextMix, conversation


IGNORE = -100
BOI, EOI = "<|image>", "<image|>"


@dataclass
class Batch:
    """One training batch; `patches` and `positions` are `None` for text."""

    ids: torch.Tensor
    targets: torch.Tensor
    patches: torch.Tensor | None = None
    positions: torch.Tensor | None = None


class Encoder:
    """Turns segments into ids and targets."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

    def __call__(self, segments: Segments, image_tokens: list[int] | None = None) -> tuple[list[int], list[int]]:
        """Encode segments; each IMAGE is expanded to the next number of `image_tokens`."""
        counts = iter(image_tokens or [])
        ids, targets = [], []
        for text, is_target in segments:
            pieces = text.split(IMAGE)
            text = pieces[0] + "".join(BOI + IMAGE * next(counts) + EOI + piece for piece in pieces[1:])
            new = self.tokenizer.encode(text).ids
            ids += new
            targets += new if is_target else [IGNORE] * len(new)
        return ids, targets


def collate(rows: list[tuple[list[int], list[int]]]) -> Batch:
    """Pad rows on the right."""
    longest = max(len(ids) for ids, _ in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    targets = torch.full((len(rows), longest), IGNORE)
    for index, (row, wanted) in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row)
        targets[index, : len(row)] = torch.tensor(wanted)
    return Batch(ids, targets)


def text_batches(encode: Encoder, seed: int, tokens: int) -> Iterator[Batch]:
    """Endless batches of about `tokens` tokens each, with rows of similar length."""
    rng = np.random.default_rng(seed)
    mix = TextMix()
    while True:
        rows = sorted((encode(mix.sample(rng)) for _ in range(1024)), key=lambda row: len(row[0]))
        batches, start = [], 0
        for end in range(1, len(rows) + 1):
            full = end == len(rows) or (end + 1 - start) * len(rows[end][0]) > tokens
            if full:
                batches.append(rows[start:end])
                start = end
        for index in rng.permutation(len(batches)):
            yield collate(batches[int(index)])


def preprocess(images: list, budget: int) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    """Patches, positions and soft-token counts of pictures at a soft-token budget, padded to the fullest one.

    A budget below the processor's smallest (used to train faster) shrinks the picture to fewer cells first.
    """
    side = 48
    processor = Gemma4ImageProcessorPil(max_soft_tokens=70)
    if budget < 70:
        small = []
        for image in images:
            factor = (budget * side * side / (image.width * image.height)) ** 0.5
            small.append(image.resize([max(1, int(factor * s / side)) * side for s in image.size], 3))
        images = small
    out = processor(images, do_resize=budget >= 70, return_tensors="pt")
    patches, positions = out["pixel_values"].float(), out["image_position_ids"]
    longest = int((positions[..., 0] >= 0).sum(-1).max())
    return patches[:, :longest], positions[:, :longest], [int(n) for n in out["num_soft_tokens_per_image"]]


def scenes(rng: np.random.Generator, count: int) -> tuple[list[Scene], list]:
    """Draw `count` scenes and their pictures, all of one canvas size."""
    size = SIZES[int(rng.integers(len(SIZES)))]
    drawn = [random_scene(rng) for _ in range(count)]
    return drawn, [paint_scene(scene, rng, size) for scene in drawn]


def tower_batches(seed: int, count: int, budgets: tuple[int, ...]) -> Iterator[tuple[torch.Tensor, ...]]:
    """Endless (patches, positions, labels [count, 4]) for training the vision tower alone."""
    rng = np.random.default_rng(seed)
    while True:
        drawn, images = scenes(rng, count)
        patches, positions, _ = preprocess(images, int(rng.choice(budgets)))
        yield patches, positions, torch.tensor([(s.shape, s.colour, s.count, s.side) for s in drawn])


def picture_batches(encode: Encoder, seed: int, rows: int, budgets: tuple[int, ...]) -> Iterator[Batch]:
    """Endless batches of questions about one picture, and now and then about two or three."""
    rng = np.random.default_rng(seed)
    while True:
        per_row = 1 if rng.random() < 0.75 else int(rng.integers(2, 4))
        number = max(1, rows // per_row) * per_row
        drawn, images = scenes(rng, number)
        patches, positions, counts = preprocess(images, int(rng.choice(budgets)))
        encoded = []
        for start in range(0, number, per_row):
            group = drawn[start : start + per_row]
            if per_row == 1:
                question = QUESTIONS[int(rng.integers(len(QUESTIONS)))]
                question = IMAGE + question if rng.random() < 0.7 else question + IMAGE
            else:
                question = IMAGE * per_row + EACH
            turn = (question, " ".join(scene.description for scene in group))
            encoded.append(encode(conversation([turn]), counts[start : start + per_row]))
        batch = collate(encoded)
        yield Batch(batch.ids, batch.targets, patches, positions)
