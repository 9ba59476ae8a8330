# SPDX-License-Identifier: Apache-2.0
"""Dealing images out to prompts: every image to its own placeholders, or an error with both counts."""

import pytest
import torch

from optimum_gemma4.modeling.images.matching import IMAGE, VIDEO, PlaceholderIds, match_images


IDS = PlaceholderIds(image=90, video=91, audio=92)


def kinds_of(*rows: str) -> torch.Tensor:
    """`.` text, `i` image, `v` video."""
    width = max(map(len, rows))
    return torch.tensor([[".iv".index(letter) for letter in row.ljust(width, ".")] for row in rows])


@pytest.mark.parametrize(
    ("rows", "images", "frames", "expected"),
    [
        (["..", "."], [], [], [[], []]),
        ([".iii."], [3], [], [[(IMAGE, 0)]]),
        ([".iii.ii"], [3, 2], [], [[(IMAGE, 0), (IMAGE, 1)]]),
        (["iii.", "...", "i.ii"], [3, 1, 2], [], [[(IMAGE, 0)], [], [(IMAGE, 1), (IMAGE, 2)]]),
        ([".vv.i.vv", "v"], [1], [2, 2, 1], [[(VIDEO, 0), (IMAGE, 0), (VIDEO, 1)], [(VIDEO, 2)]]),
        (["iiiii"], [3, 2], [], [[(IMAGE, 0), (IMAGE, 1)]]),
        (["iivv"], [2], [2], [[(IMAGE, 0), (VIDEO, 0)]]),
    ],
)
def test_images_go_to_their_placeholders_in_order(rows, images, frames, expected):
    assert match_images(kinds_of(*rows), {IMAGE: images, VIDEO: frames}) == expected


@pytest.mark.parametrize(
    ("rows", "images", "frames", "message"),
    [
        ([".iii."], [], [], r"3 image tokens .*\[\[3\]\].*0 images given have 0 soft tokens"),
        (["..."], [4], [], r"0 image tokens .*1 images given have 4 soft tokens"),
        (["iii", "ii"], [3], [], r"5 image tokens \(in runs of \[\[3\], \[2\]\].*1 images given have 3"),
        (["iii", "ii"], [3, 2, 2], [], r"5 image tokens.*3 images given have 7 soft tokens \(\[3, 2, 2\]\)"),
        (["iii"], [4], [], r"3 image tokens.*1 images given have 4"),
        (["iii.ii"], [2, 3], [], r"Prompt 0 has 3 image tokens in a row.*number 0 on have \[2, 3\]"),
        (["i.i", "iii.i"], [1, 1, 2, 2], [], r"Prompt 1 has 3 image tokens.*number 2 on have \[2, 2\]"),
        (["iivv"], [2], [3], r"2 video frame tokens.*1 video frames given have 3"),
        (["vv"], [2], [], r"0 image tokens.*1 images given have 2"),
    ],
)
def test_what_does_not_fit_is_an_error_with_both_counts(rows, images, frames, message):
    with pytest.raises(ValueError, match=message):
        match_images(kinds_of(*rows), {IMAGE: images, VIDEO: frames})


def test_placeholders_are_known_by_their_ids_and_padding_has_none():
    input_ids = torch.tensor([[5, 90, 91, 92, 90]])
    positions = torch.tensor([[0, 1, 2, 3, -1]])
    assert IDS.kinds(input_ids, positions).tolist() == [[0, IMAGE, VIDEO, 0, 0]]
    assert IDS.replaced(input_ids, 0).tolist() == [[5, 0, 0, 0, 0]]


def test_a_model_without_such_a_token_has_no_placeholders():
    ids = PlaceholderIds(None, None, None)
    input_ids = torch.tensor([[5, 90]])
    assert not ids.kinds(input_ids, torch.tensor([[0, 1]])).any() and ids.replaced(input_ids, 0).equal(input_ids)
