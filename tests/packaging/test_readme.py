# SPDX-License-Identifier: Apache-2.0
"""README.md says what is true: its options, numbers, targets, and examples that end with what they say.

The examples run as they are, in one new process, on the artifact that the command in front of them makes.
"""

import re
from argparse import ArgumentParser
from math import prod
from pathlib import Path

import pytest
import torch
from commands import run_python
from safetensors import safe_open

from optimum_gemma4 import Gemma4Config, Gemma4NeuronConfig
from optimum_gemma4.exporters.memory_planner import plan_memory
from optimum_gemma4.exporters.options import add_gemma4_options
from optimum_gemma4.exporters.wording import GIB, MIB
from optimum_gemma4.modeling.processing import target_size
from tests.exporters.checkpoints import CONFIG_31B


ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def _rows(title: str) -> list[list[str]]:
    """The rows of the table whose first column has this title."""
    table = README[README.index(f"| {title} |") :].split("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def _plan(length: int, **options):
    config = Gemma4Config.from_dict(CONFIG_31B)
    neuron_config = Gemma4NeuronConfig(
        batch_size=1, sequence_length=length, tp_degree=4, torch_dtype=torch.bfloat16, target="trn2", **options
    )
    return plan_memory(config, neuron_config, ("text", "vision") if options else ("text",))


def test_the_table_of_options_is_that_of_the_help():
    parser = ArgumentParser()
    add_gemma4_options(parser)
    flags = {flag for action in parser._actions for flag in action.option_strings} - {"-h", "--help"}
    assert {cell.strip("`").split()[0] for cell, _ in _rows("option")} == flags


def test_the_table_of_budgets_is_what_the_processor_and_the_planner_say():
    for budget, square, images, activations in _rows("budget"):
        count = int(budget)
        side = target_size(5000, 5000, max_soft_tokens=count)
        assert square == f"{side[0]} x {side[1]}"
        assert int(images) == 8192 // (count + 2)
        memory = _plan(8192, max_soft_tokens=[count]).images
        assert activations == f"{round(memory.activation_bytes / MIB)} MiB"


def test_the_features_that_a_prompt_takes():
    assert f"take {_plan(8192, max_soft_tokens=[280]).images.feature_bytes[8192] // MIB} MiB per core" in README
    one = _plan(8192, max_soft_tokens=[280], max_images=1).images.feature_bytes[8192] / MIB
    assert re.search(rf"{one:.1f}\sMiB an image of 280", README)


def test_the_table_of_caches_is_what_the_planner_says():
    for length, cache, _ in _rows("sequence length"):
        assert abs(float(cache) - _plan(int(length.replace(",", ""))).kv_bytes / GIB) < 0.01


def test_the_number_of_parameters_is_that_of_the_tiny_checkpoint(tiny_checkpoint):
    with safe_open(tiny_checkpoint / "model.safetensors", "pt") as file:
        values = sum(prod(file.get_slice(name).get_shape()) for name in file.keys())
    assert f"a Gemma 4 of {values / 1e6:.1f} million parameters" in README


def test_the_targets_exist():
    named = re.findall(r"`(?:make )?((?:test|lint|demo|goldens)[a-z0-9-]*)`", README)
    described = re.findall(r"^([a-z0-9-]+):.*## ", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert len(named) > 5 and set(named) <= set(described)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_is_python(number):
    compile(EXAMPLES[number], f"example {number}", "exec")


def test_the_examples_print_what_they_say(cli_export, tmp_path):
    """A new process, with no network and no other folder than the artifact."""
    code = "\n".join(example for example in EXAMPLES if "out/gemma4-tiny" in example)
    expected = re.findall(r"^# (.*)$", code, flags=re.MULTILINE)
    assert len(expected) == 3
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "gemma4-tiny").symlink_to(cli_export[1])
    finished = run_python(code, cwd=tmp_path, HF_HUB_OFFLINE="1")
    assert finished.out.splitlines() == expected, finished.err
