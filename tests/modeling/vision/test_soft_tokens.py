# SPDX-License-Identifier: Apache-2.0
"""Soft tokens against goldens of transformers 5.23, and what must change when one thing is broken on purpose."""

import pytest
import torch

from optimum_gemma4.modeling.processing.image_processor import target_size
from optimum_gemma4.modeling.vision import attention, encoder, model, patches, pooler
from tests.modeling.vision.helpers import inputs, make_encoder, relative_errors, run, run_sharded
from tests.modeling.vision.toy_vision import GRIDS, SIZES


TOLERANCE = 1e-5
CASES = [("standardized", 70), ("standardized", 140), ("standardized", 280), ("clipped", 70)]
# Splitting knows nothing of the budget: the largest one is slow on several ranks
RANKED_CASES = [
    pytest.param(name, budget, tp, marks=[pytest.mark.slow] if budget == 280 and tp > 1 else [])
    for name, budget in CASES
    for tp in (1, 2, 4)
]


def test_grids_are_those_of_the_processor():
    for budget, grids in GRIDS.items():
        sizes = [target_size(*size, max_soft_tokens=budget) for size in SIZES]
        assert tuple((height // 16, width // 16) for height, width in sizes) == grids


@pytest.mark.parametrize(("name", "budget", "tp"), RANKED_CASES)
def test_five_aspect_ratios_equal_the_reference(name, budget, tp, golden):
    pixels, positions = inputs(budget)
    outputs = run_sharded(name, tp, pixels, positions)
    assert outputs.shape == (5, budget, 16)
    assert max(relative_errors(outputs, positions, golden[f"{name} {budget}"])) < TOLERANCE


@pytest.mark.parametrize("name", ["standardized", "clipped"])
def test_d13_black_images_are_encoded(name, golden):
    """PEERS.md D13: pixels that sum to nothing are an image like any other, with tokens of their own."""
    pixels, positions = inputs(70, black=True)
    assert not pixels.any()
    outputs = run(make_encoder(name), pixels, positions)
    assert max(relative_errors(outputs, positions, golden[f"{name} black"])) < TOLERANCE
    colourful = run(make_encoder(name), *inputs(70))
    assert (outputs - colourful).abs().max() > 0.1 * colourful.abs().max()


def test_images_of_a_batch_do_not_touch_each_other():
    encode = make_encoder("standardized")
    pixels, positions = inputs(70)
    together = run(encode, pixels, positions)
    for index in range(len(pixels)):
        alone = run(encode, pixels[index : index + 1], positions[index : index + 1])
        assert torch.allclose(together[index], alone[0], atol=1e-5)


def test_padding_patches_do_not_matter():
    """Neither what is in them nor how many there are."""
    encode = make_encoder("standardized")
    pixels, positions = inputs(70, images=slice(3, 5))
    wanted = run(encode, pixels, positions)
    counts = (positions[..., 0] >= 0).sum(1).tolist()
    rows = [slice(count // 9) for count in counts]
    noisy = pixels.clone()
    for index, count in enumerate(counts):
        assert count < 630
        noisy[index, count:] = 7.0
    outputs = run(encode, noisy, positions)
    assert all(torch.equal(outputs[i, row], wanted[i, row]) for i, row in enumerate(rows))
    longer = [torch.cat([part, part.new_full((2, 630, part.shape[2]), -1)], dim=1) for part in (pixels, positions)]
    outputs = run(encode, *longer)
    assert all(torch.allclose(outputs[i, row], wanted[i, row], atol=1e-5) for i, row in enumerate(rows))


def test_slots_of_padding_only_are_finite():
    pixels, positions = inputs(70)
    positions[1:3] = -1
    pixels[1] = 0
    for name in ("standardized", "clipped"):
        for dtype in (torch.float32, torch.bfloat16):
            assert run(make_encoder(name, dtype), pixels, positions).isfinite().all()


def test_positions_outside_the_table_stay_in_bounds():
    pixels, positions = inputs(70)
    assert run(make_encoder("standardized"), pixels, positions * 1000).isfinite().all()


def test_queries_attend_alike_in_blocks(monkeypatch):
    encode, arguments = make_encoder("standardized"), inputs(70)
    whole = run(encode, *arguments)
    monkeypatch.setattr(attention, "QUERY_BLOCK", 100)
    assert torch.allclose(run(encode, *arguments), whole, atol=1e-5)


def swapped_axes(monkeypatch):
    original = patches.Gemma4VisionPatchEmbedder.forward
    monkeypatch.setattr(
        patches.Gemma4VisionPatchEmbedder, "forward", lambda self, pixels, ids: original(self, pixels, ids.flip(-1))
    )


def swapped_axes_in_rope(monkeypatch):
    original = attention.axis_tables
    monkeypatch.setattr(encoder, "axis_tables", lambda *args: original(*args)[::-1])


def no_standardize(monkeypatch):
    monkeypatch.setattr(model, "standardize", lambda pooled, bias, scale: pooled)


def standardize_before_scaling(monkeypatch):
    monkeypatch.setattr(model, "standardize", lambda pooled, bias, scale: (pooled / 8 - bias) * scale * 8)


def row_length_of_the_batch(monkeypatch):
    def cell_index(ids, kernel_size):
        cells = ids.clamp(min=0) // kernel_size
        return cells[..., 0] + (ids[..., 0].max() + 1) // kernel_size * cells[..., 1]

    monkeypatch.setattr(pooler, "cell_index", cell_index)


def pixels_scaled_twice(monkeypatch):
    original = patches.Gemma4VisionPatchEmbedder.forward
    monkeypatch.setattr(
        patches.Gemma4VisionPatchEmbedder, "forward", lambda self, pixels, ids: original(self, 2 * (pixels - 0.5), ids)
    )


def padding_attended(monkeypatch):
    monkeypatch.setattr(encoder, "valid_patches", lambda ids: ids[..., 0] >= -1)


def attention_scaled(monkeypatch):
    monkeypatch.setattr(attention, "ATTENTION_SCALE", 16**-0.5)


def whole_head_rotated(monkeypatch):
    """One rotate_half over the head instead of one per axis."""

    def rotate_axes(heads, tables):
        cos, sin = (torch.cat([table[part] for table in tables], -1) for part in (0, 1))
        return attention.apply_rotary(heads, cos, sin)

    monkeypatch.setattr(attention, "rotate_axes", rotate_axes)


BROKEN = {
    swapped_axes: range(5),
    swapped_axes_in_rope: range(5),
    no_standardize: range(5),
    standardize_before_scaling: range(5),
    row_length_of_the_batch: [0, 1, 3, 4],  # the strip is the widest, and one row has nothing below
    pixels_scaled_twice: range(5),
    padding_attended: [0, 1, 3, 4],  # the strip fills the budget: it has no padding
    attention_scaled: range(5),
    whole_head_rotated: range(5),
}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_broken_on_purpose_is_noticed(broken, monkeypatch, golden):
    """The goldens tell each of these from the right thing, by at least a hundred times the tolerance."""
    broken(monkeypatch)
    pixels, positions = inputs(70)
    errors = relative_errors(
        run(make_encoder("standardized"), pixels, positions), positions, golden["standardized 70"]
    )
    assert [index for index, error in enumerate(errors) if error > 100 * TOLERANCE] == list(BROKEN[broken])


@pytest.mark.parametrize("end", ["input_min", "input_max", "output_min", "output_max"])
def test_every_clip_bound_matters(end, golden):
    encode = make_encoder("clipped")
    for name, parameter in encode.named_parameters():
        if name.endswith(end):
            parameter.fill_(float("-inf") if end.endswith("min") else float("inf"))
    pixels, positions = inputs(70)
    assert min(relative_errors(run(encode, pixels, positions), positions, golden["clipped 70"])) > 100 * TOLERANCE


def test_every_weight_matters(golden):
    """Each tensor, set to its neutral value, changes the soft tokens: none is loaded and left unused."""
    pixels, positions = inputs(70, images=slice(1, 2))
    wanted = run(make_encoder("standardized"), pixels, positions)
    encode = make_encoder("standardized")
    for name, parameter in encode.named_parameters():
        kept = parameter.detach().clone()
        parameter.data.fill_(1.0 if name.endswith(("norm.weight", "std_scale")) else 0.0)
        difference = (run(encode, pixels, positions) - wanted)[0, : 12 * 48 // 9].abs().max()
        assert difference > 1e-3 * wanted.abs().max(), name
        parameter.data.copy_(kept)
