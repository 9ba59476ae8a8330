# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that do not fit: refused by name, with every fault in one message, before anything is written."""

import struct
from pathlib import Path

import pytest
import torch
from checkpoints import (
    CONFIG_31B,
    PREFIX,
    small_config,
    text_shapes,
    vision_shapes,
    write_checkpoint,
    write_sparse_file,
)

from optimum_gemma4 import Gemma4Config, Gemma4NeuronConfig
from optimum_gemma4.exporters.checkpoint import check_checkpoint, convert_checkpoint


def test_the_31b_as_published_fits_the_table(tmp_path):
    write_sparse_file(tmp_path / "model.safetensors", text_shapes(CONFIG_31B) | vision_shapes(CONFIG_31B))
    check_checkpoint(tmp_path, Gemma4Config.from_dict(CONFIG_31B), "text")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(f"{PREFIX}layers.1.layer_scalar"), r"1 missing: model\.language_model\.layers\.1\.layer_sca"),
        (lambda t: t.update({"model.extra": torch.ones(1)}), r"1 not used by this model: model\.extra"),
        (lambda t: t.update({"lm_head.weight": torch.ones(64, 32)}), r"1 not used by this model: lm_head\.weight"),
        (
            lambda t: t.update({f"{PREFIX}layers.2.self_attn.v_proj.weight": torch.ones(32, 32)}),
            r"not used by this model: .*layers\.2\.self_attn\.v_proj",
        ),
        (
            lambda t: t.update({"model.vision_tower.encoder.layers.0.self_attn.v_norm.weight": torch.ones(8)}),
            r"not used by this model: model\.vision_tower\.encoder\.layers\.0\.self_attn\.v_norm",
        ),
        (
            lambda t: t.update({f"{PREFIX}norm.weight": torch.ones(31)}),
            r"norm\.weight \[31\] instead of \[32\]",
        ),
        (
            lambda t: t.update({f"{PREFIX}norm.weight": torch.ones(32, dtype=torch.int8)}),
            r"dtype other than F32, F16 or BF16: model\.language_model\.norm\.weight I8",
        ),
    ],
    ids=["missing", "unused", "a head that is tied", "v on a K = V layer", "unknown vision", "misshapen", "quantised"],
)
def test_tensors_that_do_not_fit_are_refused_by_name(tmp_path, tensors, config, change, message):
    changed = dict(tensors)
    change(changed)
    source = write_checkpoint(tmp_path / "source", small_config(), changed)
    neuron_config = Gemma4NeuronConfig(batch_size=1, sequence_length=64, tp_degree=1)
    with pytest.raises(ValueError, match=message) as refusal:
        convert_checkpoint(source, tmp_path / "out", config, neuron_config, "text")
    assert "--model" in str(refusal.value)
    assert not (tmp_path / "out").exists()


def test_every_kind_of_fault_is_in_one_message(tmp_path, tensors, config):
    changed = {name: tensor for name, tensor in tensors.items() if ".layers.0." not in name}
    changed["model.other"] = torch.ones(1)
    source = write_checkpoint(tmp_path, small_config(), changed)
    with pytest.raises(ValueError, match=r"14 missing: .* and 8 more; 1 not used by this model: model\.other"):
        check_checkpoint(source, config, "text")


def _truncate(path: Path) -> None:
    with open(path, "r+b") as stream:
        stream.truncate(path.stat().st_size - 10)


def _lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"12345678")


def _garbage(path: Path) -> None:
    path.write_bytes(b"not safetensors at all")


def _huge_header(path: Path) -> None:
    path.write_bytes(struct.pack("<Q", 2**62) + b"{}")


def _header_of_numbers(path: Path) -> None:
    path.write_bytes(struct.pack("<Q", 4) + b"[1] ")


def _empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    "damage", [_truncate, _lengthen, _garbage, _huge_header, _header_of_numbers, _empty, Path.unlink]
)
def test_a_damaged_file_is_named(tmp_path, tensors, config, damage):
    source = write_checkpoint(tmp_path, small_config(), tensors, files=2)
    damaged = sorted(source.glob("*.safetensors"))[1]
    damage(damaged)
    with pytest.raises(ValueError, match=f"{damaged.name}.*--model"):
        check_checkpoint(source, config, "text")


@pytest.mark.parametrize("content", ["{", "[]", '{"weight_map": 3}', "{}"])
def test_a_damaged_index_is_named(tmp_path, tensors, config, content):
    source = write_checkpoint(tmp_path, small_config(), tensors, files=2)
    (source / "model.safetensors.index.json").write_text(content)
    with pytest.raises(ValueError, match=r"model\.safetensors\.index\.json.*--model"):
        check_checkpoint(source, config, "text")


def test_a_folder_without_weights_is_named(tmp_path, config):
    with pytest.raises(ValueError, match=r"holds neither model\.safetensors nor .*--model"):
        check_checkpoint(tmp_path, config, "text")
