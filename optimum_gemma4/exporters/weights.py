# SPDX-License-Identifier: Apache-2.0
"""Where an artifact's weights are, and how they get there.

Three places, looked at in this order: one safetensors file per rank in the artifact (mapped, not read into memory), a
checkpoint in the Hub's layout (in the artifact's folder, or the folder that was exported), and the checkpoint on the
Hub that the artifact names. An artifact with one bundle keeps its shards in `checkpoint/weights/`, as optimum-neuron
does; with two, each bundle has `checkpoint/<bundle>/weights/`.
"""

import shutil
from pathlib import Path

import torch
from optimum.neuron.models.inference.backend.pretrained_model import NxDPreTrainedModel, get_shards_path
from safetensors.torch import load_file
from transformers import PretrainedConfig

from .checkpoint import check_checkpoint, convert_checkpoint, load_shards, shard_file_name
from .download import download
from .neuron_config import Gemma4NeuronConfig
from .safetensors_source import read_header


__all__ = ["check_shards", "check_weights", "find_checkpoint", "load_bundle_weights", "save_bundle_weights"]


def _bundle_folder(folder: Path, bundle: str, bundles: list[str]) -> Path:
    checkpoint = folder / NxDPreTrainedModel.CHECKPOINT_DIR
    return checkpoint if len(bundles) == 1 else checkpoint / bundle


def _shard_files(folder: Path, bundle: str, bundles: list[str], neuron_config: Gemma4NeuronConfig) -> list[Path]:
    shards = Path(get_shards_path(_bundle_folder(folder, bundle, bundles)))
    return [shards / shard_file_name(rank) for rank in _local_ranks(neuron_config)]


def _local_ranks(neuron_config: Gemma4NeuronConfig) -> range:
    first = neuron_config.start_rank_id
    return range(first, first + neuron_config.local_ranks_size)


def _is_sharded(folder: Path) -> bool:
    return (folder / NxDPreTrainedModel.CHECKPOINT_DIR).is_dir()


def find_checkpoint(folder: Path, neuron_config: Gemma4NeuronConfig, **hub_options) -> Path:
    """The folder that holds the weights of an artifact, sharded or in the Hub's layout.

    Args:
        folder: the artifact, or a checkpoint.
        neuron_config: names the checkpoint on the Hub, if any.
        hub_options: of `download` (token, cache_dir, force_download, local_files_only).

    Raises:
        ValueError: there are no weights in the folder and none are named.
        ConnectionError: the download was cut.
    """
    if _is_sharded(folder) or any(folder.glob("*.safetensors")):
        return folder
    if neuron_config.checkpoint_id is None:
        raise ValueError(
            f"{folder} holds no weights (neither {NxDPreTrainedModel.CHECKPOINT_DIR}/ nor *.safetensors) and names no "
            "checkpoint on the Hub: export the checkpoint again with optimum-cli export neuron."
        )
    return download(
        neuron_config.checkpoint_id,
        revision=neuron_config.checkpoint_revision,
        allow_patterns=["*.safetensors*"],
        **hub_options,
    )


def check_weights(
    checkpoint: Path, bundles: list[str], config: PretrainedConfig, neuron_config: Gemma4NeuronConfig
) -> None:
    """Looks at the headers of every bundle's weights, so that loading the first is not followed by a missing second.

    Raises:
        ValueError: missing or damaged files, or tensors that do not fit the configuration.
    """
    if _is_sharded(checkpoint):
        check_shards(checkpoint, bundles, neuron_config)
        return
    for bundle in bundles:
        check_checkpoint(checkpoint, config, bundle)


def check_shards(folder: Path, bundles: list[str], neuron_config: Gemma4NeuronConfig) -> None:
    """Looks at the headers of every rank file of every bundle.

    Raises:
        ValueError: a missing or damaged file.
    """
    for bundle in bundles:
        for file in _shard_files(folder, bundle, bundles, neuron_config):
            read_header(file)


def load_bundle_weights(
    checkpoint: Path, bundle: str, bundles: list[str], config: PretrainedConfig, neuron_config: Gemma4NeuronConfig
) -> list[dict[str, torch.Tensor]]:
    """State dicts of this node's ranks, in rank order; tensors of sharded files are mapped."""
    if not _is_sharded(checkpoint):
        return load_shards(checkpoint, config, neuron_config, bundle, _local_ranks(neuron_config))
    return [load_file(file) for file in _shard_files(checkpoint, bundle, bundles, neuron_config)]


def save_bundle_weights(
    checkpoint: Path,
    destination: Path,
    bundle: str,
    bundles: list[str],
    config: PretrainedConfig,
    neuron_config: Gemma4NeuronConfig,
) -> None:
    """Write one safetensors file per rank into the artifact, tensor by tensor, or copy those that exist."""
    target = _bundle_folder(destination, bundle, bundles)
    if not _is_sharded(checkpoint):
        convert_checkpoint(checkpoint, target, config, neuron_config, bundle)
    elif checkpoint.resolve() != destination.resolve():
        source = _bundle_folder(checkpoint, bundle, bundles)
        shutil.copytree(get_shards_path(source), get_shards_path(target), dirs_exist_ok=True)
