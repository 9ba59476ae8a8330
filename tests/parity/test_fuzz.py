# SPDX-License-Identifier: Apache-2.0
"""From export to generate() on models that nobody chose: tokens and logits are transformers' for every seed.

    make test-fuzz                      # seeds 0 to 39
    make test-fuzz FUZZ_SEEDS=100-299

Each seed is a model, an export and prompts of its own (`fuzz_cases.py`); transformers runs in the reference
environment, all seeds in one process. A seed that fails fails again alone. Left-padded batches against prompts without
padding.
"""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from exported_models import Exports
from multimodal_models import batch_inputs, multimodal_weight
from safetensors.torch import save_file

from optimum_gemma4 import NeuronModelForCausalLM, NeuronModelForImageTextToText
from optimum_gemma4.exporters.key_table import text_specs, vision_specs
from optimum_gemma4.modeling.configuration import Gemma4Config
from optimum_gemma4.modeling.geometry import TextGeometry
from optimum_gemma4.modeling.processing import Gemma4ImageProcessor
from optimum_gemma4.modeling.vision.spec import VisionSpec
from tests.parity.fuzz_cases import draw_case


pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
REFERENCE_PYTHON = Path(os.environ.get("OPTIMUM_GEMMA4_REFERENCE_PYTHON", ROOT / ".venv-reference" / "bin" / "python"))
FIRST, LAST = (int(seed) for seed in os.environ.get("FUZZ_SEEDS", "0-39").split("-"))
SEEDS = range(FIRST, LAST + 1)
TOLERANCE = 1e-3


@pytest.fixture(scope="module")
def references(tmp_path_factory) -> Path:
    """A folder with what transformers makes of every seed."""
    folder = tmp_path_factory.mktemp("references")
    command = [str(REFERENCE_PYTHON), "-m", "tools.make_fuzz_reference", str(folder), *map(str, SEEDS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def write_checkpoint(folder: Path, values: dict) -> Path:
    """A model in the Hub's layout."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(values))
    config = Gemma4Config.from_pretrained(folder)
    geometry = TextGeometry.from_config(config)
    specs = list(text_specs(geometry, "model.language_model."))
    if config.vision_config is not None:
        specs += vision_specs(VisionSpec.from_config(config.vision_config, geometry.hidden_size), "model.")
    weights = {spec.source: multimodal_weight(spec.source.removeprefix("model."), spec.shape) for spec in specs}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def check_row(name: str, golden: dict[str, np.ndarray], tokens: list[int], logits: np.ndarray | None) -> None:
    """Up to the first step whose two best tokens are as good as equal; alone, a prompt may have gone on for longer."""
    wanted, truth = golden[f"{name}.tokens"], golden[f"{name}.logits"]
    for step, token in enumerate(tokens):
        right = wanted[step]
        # Without a softcap logits may be of any size
        tolerance = TOLERANCE * max(1.0, np.abs(truth[step]).max() / 30)
        if logits is not None:
            np.testing.assert_allclose(
                logits[step], truth[step], atol=tolerance, rtol=0, err_msg=f"{name}, step {step}"
            )
        if token != right:
            gap = truth[step][right] - truth[step][token]
            assert gap < tolerance, f"{name}, step {step}: {token} instead of {right}, which is better by {gap}"
            return


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_case_is_as_in_transformers(tmp_path, references, seed):
    case = draw_case(seed)
    with np.load(references / f"{seed}.npz") as file:
        golden = dict(file)
    has_images = case.config["vision_config"] is not None
    exports = Exports(tmp_path, NeuronModelForImageTextToText if has_images else NeuronModelForCausalLM)
    model = exports.model(write_checkpoint(tmp_path / "checkpoint", case.config), **case.options)
    has_logits = not case.options["on_device_sampling"] or case.options["output_logits"]
    for number, (prompts, most) in enumerate(zip(case.batches, case.new_tokens, strict=True)):
        inputs = batch_inputs(prompts, Gemma4ImageProcessor())
        width = inputs["input_ids"].shape[1]
        output = model.generate(
            **inputs,
            max_new_tokens=min(most, case.options["sequence_length"] - width),
            do_sample=False,
            eos_token_id=None,
            return_dict_in_generate=True,
            output_logits=has_logits,
        )
        logits = torch.stack(output.logits, 1).numpy() if has_logits else None
        new_tokens = output.sequences[:, width:].tolist()
        for row, tokens in enumerate(new_tokens):
            name = f"{number}.{row}"
            ids = golden[f"{name}.ids"]
            assert inputs["input_ids"][row, width - len(ids) :].tolist() == ids.tolist()
            check_row(name, golden, tokens, None if logits is None else logits[row])
