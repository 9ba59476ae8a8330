# SPDX-License-Identifier: Apache-2.0
"""The tools that compare kernels given by path and profile ours: values checked, rules relaxed by name, costs linear."""

import re
from pathlib import Path

import pytest

from optimum_gemma4.nki import compare, profile
from optimum_gemma4.nki.attention_cases import CONVENTIONS, Problem
from optimum_gemma4.nki.costs import table


FOREIGN = str(Path(__file__).with_name("foreign_kernels.py"))
SHAPE = ["--d", "256", "--seq", "256", "--heads", "2", "--kv-heads", "1"]


def cell(text: str, row: str, column: int = 1) -> str:
    line = next(line for line in text.splitlines() if line.startswith(f"| {row} "))
    return line.split("|")[column + 1].strip()


def test_ours_and_a_file_side_by_side(capsys):
    status = compare.main([*SHAPE, "--window", "100", "--kernel", f"{FOREIGN}:flash_fwd_large_d"])
    text = capsys.readouterr().out
    assert status == 0
    assert "flash_prefill" in text and "flash_fwd_large_d" in text
    # Two heads, two tiles: 2 x 2 score matmuls, 2 x 2 value matmuls, 2 x 2 weight and 2 x 2 output transposes a head.
    assert cell(text, "nc_matmul", 2) == "16" and cell(text, "nc_transpose", 2) == "16"
    assert cell(text, "DMA MiB O", 1) == cell(text, "DMA MiB O", 2)


def test_a_wrong_kernel_is_called_wrong(capsys):
    arguments = [*SHAPE, "--window", "100", "--without-ours", "--convention", "flash_fwd_large_d"]
    assert compare.main([*arguments, "--kernel", f"{FOREIGN}:without_window"]) == 1
    assert "without_window: error beyond" in capsys.readouterr().out


def test_a_conventions_relaxed_rules_are_counted(capsys):
    arguments = ["--d", "128", "--seq", "128", "--heads", "2", "--kv-heads", "1", "--without-ours"]
    arguments += ["--convention", "flash_attn_large_d", "--kernel", f"{FOREIGN}:reads_scores_from_psum"]
    assert compare.main(arguments) == 0
    assert cell(capsys.readouterr().out, "rules relaxed") == "gpsimd_psum x 2, traced_bool x 2"


@pytest.mark.parametrize("name", ["flash_prefill", "flash_fwd_large_d"])
def test_costs_are_linear_in_key_heads(name):
    kernel = compare.load_kernel(FOREIGN, name) if name != "flash_prefill" else None
    if kernel is None:
        from optimum_gemma4.nki.flash_prefill import flash_prefill as kernel
    problem = Problem(heads=4, kv_heads=2, head_dim=256, seq=256, window=128)
    whole, _, _, core = compare.run_case(kernel, CONVENTIONS[name], problem)
    part, _, _, _ = compare.run_case(kernel, CONVENTIONS[name], problem, groups=1)
    for row in ("nc_matmul", "nc_transpose", "pe cycles", "scalar cycles", "DMA MiB K+V", "DMA MiB Q", "DMA MiB O"):
        assert part[row] == whole[row], row
    assert core.cycles("pe") > 0


@pytest.mark.parametrize(
    "kernel, message",
    [
        ("missing.py:f", "is not a file"),
        (f"{FOREIGN}:f", "has no 'f'"),
        (f"{FOREIGN}:attend", "no calling convention"),
    ],
)
def test_what_cannot_be_loaded(kernel, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        compare.main([*SHAPE, "--without-ours", "--kernel", kernel])


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_profile_of_two_cores_with_a_picture(suffix, tmp_path, capsys):
    path = tmp_path / f"timeline.{suffix}"
    arguments = ["flash_prefill", *SHAPE, "--lnc", "2", "--window", "128", "--picture", str(path)]
    assert profile.main(arguments) == 0
    text = capsys.readouterr().out
    assert "core 0" in text and "core 1" in text and "simulated" in text
    assert cell(text, "pe cycles", 1) == cell(text, "pe cycles", 2)
    assert path.stat().st_size > 1000


def test_profile_of_a_prefill_that_continues_a_prompt(capsys):
    profile.main(["flash_prefill", *SHAPE, "--keys", "512"])
    longer = capsys.readouterr().out
    profile.main(["flash_prefill", *SHAPE])
    assert float(cell(longer, "DMA MiB K+V")) > float(cell(capsys.readouterr().out, "DMA MiB K+V"))


def test_table_aligns_missing_lines():
    text = table({"a": {"x": "1"}, "b": {"y": "22"}}, "title")
    assert text.splitlines() == [
        "| title | a | b  |",
        "|-------|---|----|",
        "| x     | 1 |    |",
        "| y     |   | 22 |",
    ]
