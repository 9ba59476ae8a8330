# SPDX-License-Identifier: Apache-2.0
"""The image inputs of a text graph: each row's soft tokens in its own section, found by the index of each position."""

import pytest
import torch

from optimum_gemma4.exporters.export_config import TensorSpec
from optimum_gemma4.modeling.images.inputs import ImageInputs


WIDTH = 4
FEATURES = [torch.randn(count, WIDTH) for count in (3, 0, 2)]
INDEX = torch.tensor([[-1, 0, 1, 2], [-1, -1, -1, -1], [0, 1, -1, -1]])
END = torch.tensor([[0, 3, 3, 3], [0, 1, 2, -1], [1, 1, -1, -1]])


@pytest.fixture
def images() -> ImageInputs:
    return ImageInputs(tuple(FEATURES), INDEX, END)


def gathered(images: ImageInputs, rows: int) -> list[dict[int, torch.Tensor]]:
    """For each row the soft token at each of its positions, by the tensors that the graph takes."""
    spec = TensorSpec("image_features", (rows, WIDTH), torch.float32)
    features, index, end = images.tensors(spec)
    assert features.shape == spec.shape and index.dtype == end.dtype == torch.int32
    assert ((index >= -1) & (index < rows)).all()
    return [{column: features[row] for column, row in enumerate(line) if row >= 0} for line in index.tolist()]


def check(found: list[dict[int, torch.Tensor]], expected: list[tuple[int, list[int]]]) -> None:
    """`expected`: for each row its features and the columns where they stand."""
    for row, (source, columns) in zip(found, expected, strict=True):
        assert sorted(row) == columns
        for column, feature in zip(columns, FEATURES[source], strict=True):
            assert row[column].equal(feature)


@pytest.mark.parametrize("rows", [9, 12, 30])
def test_every_position_finds_its_soft_token(images, rows):
    check(gathered(images, rows), [(0, [1, 2, 3]), (1, []), (2, [0, 1])])


def test_a_row_of_its_own(images):
    check(gathered(images.row(2), 3), [(2, [0, 1])])
    assert images.row(2).end.tolist() == [END[2].tolist()]


def test_rows_go_to_their_places_and_the_others_hold_nothing(images):
    placed = images.placed(torch.tensor([3, 0, 1]), 5)
    check(gathered(placed, 5 * 3), [(1, []), (2, [0, 1]), (1, []), (0, [1, 2, 3]), (1, [])])
    assert placed.end.tolist() == [END[1].tolist(), END[2].tolist(), [-1] * 4, END[0].tolist(), [-1] * 4]


@pytest.mark.parametrize("columns", [2, -1])
def test_padding_has_no_soft_token_and_sees_nothing(images, columns):
    padded = images.row(2).padded(columns)
    check(gathered(padded, 2), [(2, [0, 1])])
    assert padded.end.tolist() == [[1, 1, -1, -1, -1, -1][: 4 + columns]]


def test_a_decode_step_has_one_row_for_all_and_takes_nothing():
    nothing = ImageInputs((FEATURES[1],) * 3, torch.full((3, 1), -1), torch.tensor([[4], [-1], [2]]))
    assert gathered(nothing, 1) == [{}, {}, {}]


def test_more_soft_tokens_than_compiled_are_refused(images):
    with pytest.raises(ValueError, match="3 image tokens and the artifact was compiled for 2.*--max_images"):
        gathered(images, 6)
