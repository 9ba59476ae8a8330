# SPDX-License-Identifier: Apache-2.0
"""A model of the 31B's widths exports, loads and generates on this machine, as near to fp32 as transformers in bf16.

`make test-big`: 5 GB of disk, 6 GB of memory, a minute or two, and the reference environment. Memory is the anonymous
memory of each process, watched from outside (pages of mapped files do not count).
"""

import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from big_model import BIG_CONFIG, PROMPT, SEQUENCE_LENGTH, STEPS, TOKENS, VOCABULARY
from safetensors.torch import save_file

from optimum_gemma4 import NeuronModelForCausalLM
from optimum_gemma4.exporters.key_table import text_specs
from optimum_gemma4.modeling.configuration import Gemma4TextConfig
from optimum_gemma4.modeling.geometry import TextGeometry


ROOT = Path(__file__).parents[2]
REFERENCE_PYTHON = Path(os.environ.get("OPTIMUM_GEMMA4_REFERENCE_PYTHON", ROOT / ".venv-reference" / "bin" / "python"))
SCRIPT = Path(__file__).with_name("big_model.py")
TP = 4
GIB = 2**30
SAMPLE_SECONDS = 0.02
ALLOWED_ERROR_RATIO = 1.2  # against transformers' own bf16
ALLOWED_TRACE_MEMORY = 2.5  # times the weights
PREFIX = "model.language_model."

pytestmark = pytest.mark.slow
logger = logging.getLogger(__name__)


def anonymous_bytes(pid: int) -> int:
    """RssAnon of a process, 0 when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return max((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:")), default=0)


def watched(*command: str | Path) -> int:
    """Run a command to its end; its peak anonymous memory in bytes."""
    process = subprocess.Popen([str(part) for part in command], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    peak = 0
    while process.poll() is None:
        peak = max(peak, anonymous_bytes(process.pid))
        time.sleep(SAMPLE_SECONDS)
    assert process.returncode == 0, process.stderr.read()
    return peak


def draw(name: str, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Random weights whose logits are spread out; no norm weight or `layer_scalar` is 1."""
    values = torch.randn(shape, generator=generator, dtype=torch.float32)
    if name.endswith("layer_scalar"):
        values = 0.8 + 0.2 * values.abs()
    elif name == f"{PREFIX}norm.weight":
        values = 100 * (1 + 0.3 * values)
    elif "norm" in name:
        values = 1 + 0.3 * values
    else:
        # With a larger embedding the tied head would repeat the last token.
        values *= 0.0005 if name.endswith("embed_tokens.weight") else shape[-1] ** -0.5
    return values.bfloat16()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("big") / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(BIG_CONFIG))
    generator = torch.Generator().manual_seed(0)
    specs = text_specs(TextGeometry.from_config(Gemma4TextConfig(**BIG_CONFIG["text_config"])), PREFIX)
    weights = {spec.source: draw(spec.source, spec.shape, generator) for spec in specs}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def artifact(checkpoint) -> Path:
    """By the real command, in the process that does the work."""
    output = checkpoint.with_name("artifact")
    options = {
        "--model": checkpoint,
        "--task": "text-generation",
        "--instance_type": "trn2",
        "--batch_size": 1,
        "--sequence_length": SEQUENCE_LENGTH,
        "--tensor_parallel_size": TP,
    }
    arguments = [part for pair in options.items() for part in pair]
    peak = watched(sys.executable, "-m", "optimum_gemma4.exporters", *arguments, "--no_on_device_sampling", output)
    size = (checkpoint / "model.safetensors").stat().st_size
    logger.info("weights %.2f GiB; export: peak anonymous memory %.2f GiB", size / GIB, peak / GIB)
    assert size > 2 * GIB
    assert peak <= ALLOWED_TRACE_MEMORY * size
    return output


def test_bf16_logits_are_as_near_to_fp32_as_those_of_transformers(checkpoint, artifact):
    """Prefill beyond the window, then decoding: the relative error of ours and of transformers' bf16."""
    logits = {}
    for name, command in {
        "ours": (sys.executable, SCRIPT, artifact, checkpoint.with_name("ours.npy")),
        "bfloat16": (REFERENCE_PYTHON, SCRIPT, checkpoint, checkpoint.with_name("bfloat16.npy"), "bfloat16"),
        "float32": (REFERENCE_PYTHON, SCRIPT, checkpoint, checkpoint.with_name("float32.npy"), "float32"),
    }.items():
        logger.info("%s: peak anonymous memory %.2f GiB", name, watched(*command) / GIB)
        logits[name] = np.load(command[3])
        assert logits[name].shape == (1 + STEPS, VOCABULARY)
    ours, theirs = (np.abs(logits[name] - logits["float32"]).mean() for name in ("ours", "bfloat16"))
    logger.info("mean error of the logits: ours %.4f, transformers in bf16 %.4f", ours, theirs)
    assert 0 < ours <= ALLOWED_ERROR_RATIO * theirs


def test_it_generates(artifact):
    model = NeuronModelForCausalLM.from_pretrained(str(artifact))
    sequences = model.generate(TOKENS[None, :PROMPT], max_new_tokens=8, do_sample=False, eos_token_id=None)
    assert sequences.shape == (1, PROMPT + 8)
    assert len(set(sequences[0, PROMPT:].tolist())) > 1
