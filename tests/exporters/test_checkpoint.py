# SPDX-License-Identifier: Apache-2.0
"""Conversion of checkpoints: what the rank files hold. What is refused: `test_checkpoint_refusals.py`."""

import json
import struct
from pathlib import Path

import pytest
import torch
from checkpoints import PREFIX, random_tensors, small_config, text_shapes, vision_shapes, write_checkpoint
from safetensors import safe_open
from safetensors.torch import load_file

from optimum_gemma4 import Gemma4Config, Gemma4NeuronConfig
from optimum_gemma4.exporters import checkpoint as checkpoint_module
from optimum_gemma4.exporters.checkpoint import convert_checkpoint, load_shards, shard_file_name


def _neuron_config(tp: int, dtype: torch.dtype = torch.float32) -> Gemma4NeuronConfig:
    return Gemma4NeuronConfig(batch_size=1, sequence_length=64, tp_degree=tp, torch_dtype=dtype)


@pytest.fixture(scope="module")
def source(tmp_path_factory, tensors) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("source"), small_config(), tensors)


def _converted(source: Path, folder: Path, config: Gemma4Config, neuron_config) -> list[dict[str, torch.Tensor]]:
    convert_checkpoint(source, folder, config, neuron_config, "text")
    return [load_file(folder / "weights" / shard_file_name(rank)) for rank in range(neuron_config.tp_degree)]


@pytest.mark.parametrize("tp", [1, 2, 4, 8])
def test_rank_files_hold_the_slices_that_each_rank_computes_with(tmp_path, source, tensors, config, tp):
    shards = _converted(source, tmp_path, config, _neuron_config(tp))
    embedding = tensors[f"{PREFIX}embed_tokens.weight"]
    queries = tensors[f"{PREFIX}layers.0.self_attn.q_proj.weight"]
    down = tensors[f"{PREFIX}layers.1.mlp.down_proj.weight"]
    assert torch.equal(torch.cat([shard["embed_tokens.weight"] for shard in shards], dim=1), embedding)
    assert torch.equal(torch.cat([shard["lm_head.weight"] for shard in shards], dim=0), embedding)
    assert torch.equal(torch.cat([shard["layers.0.self_attn.q_proj.weight"] for shard in shards], dim=0), queries)
    assert torch.equal(torch.cat([shard["layers.1.mlp.down_proj.weight"] for shard in shards], dim=1), down)
    for rank, shard in enumerate(shards):
        assert shard["rank_util.rank"].tolist() == [rank] and shard["rank_util.rank"].dtype == torch.int32
        assert torch.equal(shard["layers.1.layer_scalar"], tensors[f"{PREFIX}layers.1.layer_scalar"])
        # full layer: 2 KV heads of 16 values, 8 query heads; a rank has the heads that its query heads read
        heads = tensors[f"{PREFIX}layers.2.self_attn.k_proj.weight"].view(2, 16, -1)
        mine = heads[rank * 2 // tp : max((rank + 1) * 2 // tp, rank * 2 // tp + 1)]
        assert torch.equal(shard["layers.2.self_attn.k_proj.weight"], mine.flatten(0, 1))


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("compiled", [torch.float32, torch.bfloat16])
def test_every_tensor_is_rounded_once_to_the_compiled_dtype(tmp_path, config, stored, compiled):
    tensors = random_tensors(text_shapes(small_config()), stored)
    source = write_checkpoint(tmp_path / "source", small_config(), tensors)
    (shard,) = _converted(source, tmp_path, config, _neuron_config(1, compiled))
    for name, tensor in shard.items():
        if name not in ("rank_util.rank", "lm_head.weight"):
            assert tensor.dtype == compiled
            assert torch.equal(tensor, tensors[PREFIX + name].to(compiled))


def test_loading_without_files_gives_what_the_files_hold(tmp_path, source, config):
    neuron_config = _neuron_config(4, torch.bfloat16)
    written = _converted(source, tmp_path, config, neuron_config)
    loaded = load_shards(source, config, neuron_config, "text", [1, 3])
    for rank, shard in zip([1, 3], loaded):
        assert shard.keys() == written[rank].keys()
        assert all(torch.equal(shard[name], written[rank][name]) for name in shard)


@pytest.mark.parametrize("tp", [1, 2])
def test_the_vision_bundle_holds_the_other_tensors_of_the_checkpoint(tmp_path, source, tensors, config, tp):
    neuron_config = _neuron_config(tp)
    convert_checkpoint(source, tmp_path, config, neuron_config, "vision")
    shards = [load_file(tmp_path / "weights" / shard_file_name(rank)) for rank in range(tp)]
    layer = "vision_tower.encoder.layers.1."
    for name, axis in (
        (f"{layer}self_attn.q_proj.linear.weight", 0),
        (f"{layer}self_attn.o_proj.linear.weight", 1),
        (f"{layer}mlp.down_proj.linear.weight", 1),
    ):
        assert torch.equal(torch.cat([shard[name] for shard in shards], dim=axis), tensors[f"model.{name}"])
    for shard in shards:
        assert {f"model.{name}" for name in shard} == set(vision_shapes(small_config()))
        assert torch.equal(
            shard["vision_tower.patch_embedder.position_embedding_table"],
            tensors["model.vision_tower.patch_embedder.position_embedding_table"],
        )
    loaded = load_shards(source, config, neuron_config, "vision", range(tp))
    assert all(torch.equal(ours[name], theirs[name]) for ours, theirs in zip(loaded, shards) for name in theirs)


def test_clip_bounds_are_scalars_and_become_tensors_of_one(tmp_path):
    """torch_xla merges parameters without an axis that are equal in the trace: none may be one."""
    config_dict = small_config()
    config_dict["vision_config"] |= {"use_clipped_linears": True, "standardize": False}
    shapes = vision_shapes(config_dict)
    shapes = {name: shape for name, shape in shapes.items() if ".std_" not in name}
    linears = [name.removesuffix("linear.weight") for name in shapes if name.endswith("linear.weight")]
    shapes |= {f"{name}{bound}": () for name in linears for bound in ("input_min", "input_max")}
    shapes |= {f"{name}{bound}": () for name in linears for bound in ("output_min", "output_max")}
    tensors = random_tensors(text_shapes(config_dict) | shapes)
    source = write_checkpoint(tmp_path / "source", config_dict, tensors)
    config = Gemma4Config.from_dict(config_dict)
    convert_checkpoint(source, tmp_path, config, _neuron_config(2), "vision")
    shard = load_file(tmp_path / "weights" / shard_file_name(1))
    name = "vision_tower.encoder.layers.0.mlp.down_proj.output_max"
    assert torch.equal(shard[name], tensors[f"model.{name}"].reshape(1))
    (loaded,) = load_shards(source, config, _neuron_config(2), "vision", [1])
    assert torch.equal(loaded[name], shard[name])


def test_several_files_and_small_pieces_change_nothing(tmp_path, tensors, source, config, monkeypatch):
    whole = _converted(source, tmp_path / "whole", config, _neuron_config(2))
    monkeypatch.setattr(checkpoint_module, "PIECE_BYTES", 100)
    sharded = write_checkpoint(tmp_path / "sharded", small_config(), tensors, files=3)
    pieces = _converted(sharded, tmp_path / "pieces", config, _neuron_config(2))
    for ours, theirs in zip(pieces, whole):
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_text_only_checkpoint_converts_to_the_same_shards(tmp_path, tensors, source, config):
    text_only = {
        name.replace("language_model.", ""): tensor for name, tensor in tensors.items() if name.startswith(PREFIX)
    }
    folder = write_checkpoint(tmp_path / "source", small_config()["text_config"], text_only)
    ours = load_shards(folder, config.get_text_config(), _neuron_config(2), "text", [1])[0]
    theirs = load_shards(source, config, _neuron_config(2), "text", [1])[0]
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_conversion_that_fails_leaves_no_rank_file(tmp_path, source, config, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_module, "_pieces", fail)
    with pytest.raises(OSError, match="No space"):
        convert_checkpoint(source, tmp_path, config, _neuron_config(2), "text")
    assert list((tmp_path / "weights").iterdir()) == []


def test_rank_files_are_aligned_and_say_their_format(tmp_path, source, config):
    """The int32 rank is first: behind a bfloat16 tensor of odd length it could not be mapped."""
    _converted(source, tmp_path, config, _neuron_config(2, torch.bfloat16))
    path = tmp_path / "weights" / shard_file_name(1)
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    sizes = {"I32": 4, "BF16": 2}
    assert length % 8 == 0 and header.pop("__metadata__") == {"format": "pt"}
    assert all(entry["data_offsets"][0] % sizes[entry["dtype"]] == 0 for entry in header.values())
    with safe_open(path, framework="pt") as opened:
        assert opened.get_tensor("rank_util.rank").item() == 1
