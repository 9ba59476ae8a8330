# SPDX-License-Identifier: Apache-2.0
"""Converting a checkpoint needs the memory of one piece, not of the model; optimum-neuron's loader is measured too.

The large test (`make test-memory`: 13 GB of disk, 20 GB of memory for the other loader) has the 31B's widths and fewer
layers; the small one is the same measurement at 200 MB and belongs to the default suite.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from checkpoints import CONFIG_31B, text_shapes
from safetensors.torch import save_file

from optimum_gemma4.exporters.checkpoint import PIECE_BYTES


SCRIPT = Path(__file__).parent / "conversion_process.py"
GIB = 2**30
MIB = 2**20
TP = 4


def _config(**text_overrides) -> dict:
    config = json.loads(json.dumps(CONFIG_31B))
    config["text_config"] |= text_overrides
    del config["vision_config"]
    return config


def _write(folder: Path, config: dict) -> int:
    """Random bfloat16 weights, a layer a file; returns the bytes written."""
    shapes = text_shapes(config)
    parts: dict[str, list[str]] = {}
    for name in shapes:
        part = name.split(".layers.")[1].split(".")[0] if ".layers." in name else "top"
        parts.setdefault(f"model-{part}.safetensors", []).append(name)
    for file, names in parts.items():
        # Real pages, quickly: a file of holes would measure the cache of the file system
        save_file({name: torch.empty(shapes[name], dtype=torch.bfloat16).fill_(0.5) for name in names}, folder / file)
    weight_map = {name: file for file, names in parts.items() for name in names}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (folder / "config.json").write_text(json.dumps(config))
    return sum((folder / file).stat().st_size for file in parts)


def _peaks(source: Path, destination: Path, *ways: str) -> list[int]:
    """Peak anonymous memory of conversions above that of the interpreter before them, in bytes."""
    command = [sys.executable, str(SCRIPT), str(source), str(destination), str(TP), *ways]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-len(ways) // 2 :]
    return [int(peak) - int(before) for before, peak in map(str.split, lines)]


def test_memory_of_a_conversion_does_not_follow_the_models_size(tmp_path):
    config = _config(
        vocab_size=131072,  # a rank's part of the embedding, cast to float32, is larger than what is allowed
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=2,
        num_attention_heads=8,
        num_key_value_heads=4,
        num_global_key_value_heads=4,
        layer_types=["sliding_attention", "full_attention"],
    )
    size = _write(tmp_path, config)
    assert size > 200 * MIB
    ours, theirs = _peaks(tmp_path, tmp_path / "out", "ours", "float32", "upstream", "bfloat16")
    assert ours < 3 * PIECE_BYTES, f"{ours / MIB:.0f} MiB"
    assert theirs > size / TP, f"{theirs / MIB:.0f} MiB: the other loader is no longer a yardstick"


@pytest.mark.slow
def test_a_6_gb_checkpoint_converts_in_little_memory(tmp_path, capsys):
    config = _config(num_hidden_layers=6, layer_types=["sliding_attention"] * 5 + ["full_attention"])
    size = _write(tmp_path, config)
    assert size > 6e9
    (ours,) = _peaks(tmp_path, tmp_path / "out", "ours", "bfloat16")
    shutil.rmtree(tmp_path / "out")
    (theirs,) = _peaks(tmp_path, tmp_path / "out", "upstream", "bfloat16")
    shutil.rmtree(tmp_path)  # pytest would keep it for the next sessions
    with capsys.disabled():
        sys.stdout.write(
            f"\n{size / 1e9:.2f} GB at tp {TP}: {ours / GIB:.2f} GiB, optimum-neuron's way {theirs / GIB:.2f} GiB\n"
        )
    assert ours <= 1.5 * GIB
