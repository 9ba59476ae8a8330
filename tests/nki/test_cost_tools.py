# SPDX-License-Identifier: Apache-2.0
"""The tools that compare kernels given by path and profile ours: values checked, rules relaxed, costs linear."""

import runpy
import sys
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


def assert_one_line(status: int, message: str, capsys) -> None:
    """An error's exit status, its line and nothing else."""
    captured = capsys.readouterr()
    *usage, line = captured.err.strip().splitlines()
    assert status == 2 and not captured.out
    assert line.startswith("python -m optimum_gemma4.nki.") and ": error: " in line and message in line
    assert all(text.startswith(("usage:", " ")) for text in usage)


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


BAD_FILES = {
    "syntax.py": "def f(:",
    "imports.py": "import a_module_that_is_not_there",
    "exits.py": "raise SystemExit(3)",
}


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        ("missing.py:f", "'missing.py' is not a file"),
        ("missing.py", "--kernel missing.py: expected PATH:FUNCTION"),
        (f"{FOREIGN}:f", "the file has no 'f'"),
        (f"{FOREIGN}:attend", "no calling convention for 'attend'"),
        ("syntax.py:f", "the file cannot be imported: SyntaxError: invalid syntax"),
        ("imports.py:f", "the file cannot be imported: ModuleNotFoundError: No module named 'a_module_that_is_not"),
        ("exits.py:f", "the file cannot be imported: SystemExit: 3"),
        ("notes.txt:f", "'notes.txt' is not a Python file"),
    ],
)
def test_a_kernel_that_cannot_be_loaded(kernel, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, text in {**BAD_FILES, "notes.txt": "f"}.items():
        Path(name).write_text(text)
    assert_one_line(compare.main([*SHAPE, "--without-ours", "--kernel", kernel]), message, capsys)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("too_many_partitions", "too_many_partitions does not run on this problem: TileSizeError: "),
        ("wants_other_shapes", "problem: AssertionError: seqlen 256 must be divisible by 2048"),
    ],
)
def test_a_kernel_that_does_not_run(function, message, capsys):
    arguments = ["--without-ours", "--convention", "flash_fwd_large_d", "--kernel", f"{FOREIGN}:{function}"]
    assert_one_line(compare.main([*SHAPE, *arguments]), message, capsys)
    with pytest.raises(ValueError, match="does not run on this problem"):
        compare.main([*SHAPE, *arguments, "--debug"])


@pytest.mark.parametrize(
    ("tool", "arguments", "message"),
    [
        (compare, ["--heads", "3", "--kv-heads", "2"], "--heads 3 is not a multiple of --kv-heads 2"),
        (compare, ["--kv-heads", "4", "--groups", "3"], "--groups 3 does not divide --kv-heads 4"),
        (compare, ["--without-ours"], "nothing to compare"),
        (compare, ["--lnc", "2", "--target", "inf2"], "--lnc 2: inf2 has no logical cores of two"),
        (profile, ["flash_prefill", "--keys", "100"], "--keys 100: the keys of a prompt include those of its last"),
        (profile, ["flash_prefill", "--rotated", "64"], "--rotated is of decode_attention"),
        (profile, ["decode_attention", "--keys", "512"], "--keys is of flash_prefill"),
        (profile, ["decode_attention", "--seq", "128", "--rotated", "200"], "200 rotated dims"),
        (profile, ["decode_attention", "--heads", "64", "--kv-heads", "1"], "expected at most 128 and 32"),
        (profile, ["flash_prefill", "--picture", "x.txt"], "--picture x.txt: the name must end in .svg or .png"),
        (profile, ["flash_prefill", "--picture", "no/x.svg"], "--picture no/x.svg: there is no folder no"),
    ],
)
def test_values_that_do_not_fit(tool, arguments, message, capsys):
    assert_one_line(tool.main(arguments), message, capsys)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--d", "64"], "argument --d: invalid choice: 64"),
        (["--seq", "0"], "argument --seq: 0 must be at least 1"),
        (["--seq", "many"], "argument --seq: 'many' is not an integer"),
        (["--window", "-1"], "argument --window: -1 must be at least 0"),
        (["--target", "trn9"], "argument --target: invalid choice: 'trn9'"),
    ],
)
@pytest.mark.parametrize("tool", [compare, profile])
def test_values_that_are_not_understood(tool, arguments, message, capsys):
    with pytest.raises(SystemExit) as end:
        tool.main(([] if tool is compare else ["flash_prefill"]) + arguments)
    assert_one_line(end.value.code, message, capsys)


def test_the_command_ends_with_the_status(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["profile", "decode_attention", "--keys", "512"])
    monkeypatch.delitem(sys.modules, "optimum_gemma4.nki.profile")
    with pytest.raises(SystemExit) as end:
        runpy.run_module("optimum_gemma4.nki.profile", run_name="__main__")
    assert_one_line(end.value.code, "--keys is of flash_prefill", capsys)


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
