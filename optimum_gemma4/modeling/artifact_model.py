# SPDX-License-Identifier: Apache-2.0
"""Export, save and load of Gemma 4 models: what lies between a model object and its folder.

Takes the place of optimum-neuron's `NxDPreTrainedModel._export`, `_from_pretrained` and `_save_pretrained`, which know
one bundle, hold the whole state dict in memory to shard it, and fail late. A subclass names its bundles and their
graph builders; weights stream (`exporters/weights.py`), and an artifact that cannot run here is refused before
anything large is read.
"""

import copy
import logging
import os
from pathlib import Path
from typing import Any

import torch
from optimum.neuron.cache.entries.single_model import SingleModelCacheEntry
from optimum.neuron.cache.hub_cache import hub_neuronx_cache
from optimum.neuron.models.inference.backend.graph_builder import NxDGraphBuilder
from optimum.neuron.utils.instance import align_compilation_target
from transformers import AutoConfig, GenerationConfig, PretrainedConfig
from transformers.utils import GENERATION_CONFIG_NAME

from ..exporters.artifact import NEURON_CONFIG, check_artifact
from ..exporters.backend import bundle_file_name, initialize_bundle, load_bundle, save_bundle, trace_bundle
from ..exporters.download import download
from ..exporters.hub import push_artifact
from ..exporters.kernel_record import kernel_record
from ..exporters.neuron_config import Gemma4NeuronConfig
from ..exporters.weights import check_weights, find_checkpoint, load_bundle_weights, save_bundle_weights
from .artifact_checks import check_instance, refuse_arguments
from .geometry import TextGeometry


__all__ = ["Gemma4ArtifactMixin"]

logger = logging.getLogger("Neuron")


class Gemma4ArtifactMixin:
    """Folder in, model out, and back. Mixed into an optimum-neuron model class, before it."""

    _bundles: dict[str, torch.jit.ScriptModule]
    _checkpoint: Path | None = None

    @classmethod
    def create_bundles(
        cls, config: PretrainedConfig, neuron_config: Gemma4NeuronConfig
    ) -> dict[str, dict[str, NxDGraphBuilder]]:
        """The graph builders of each bundle, by bundle name."""
        raise NotImplementedError

    @classmethod
    def _from_bundles(
        cls, config: PretrainedConfig, neuron_config: Gemma4NeuronConfig, bundles: dict[str, torch.jit.ScriptModule]
    ) -> "Gemma4ArtifactMixin":
        raise NotImplementedError

    @classmethod
    def _model_config(cls, config: PretrainedConfig) -> PretrainedConfig:
        """The part of a checkpoint's configuration that this class exports."""
        raise NotImplementedError

    @classmethod
    def _check_neuron_config(cls, neuron_config: Gemma4NeuronConfig) -> None:
        """Refuse what was made for another task."""
        raise NotImplementedError

    @classmethod
    def _class_of(cls, neuron_config: Gemma4NeuronConfig) -> "type[Gemma4ArtifactMixin]":
        """The class that loads an artifact."""
        return cls

    @classmethod
    def _export(
        cls,
        model_id: str | Path,
        config: PretrainedConfig | None,
        neuron_config: Gemma4NeuronConfig,
        token: bool | str | None = None,
        revision: str | None = None,
        cache_dir: str | None = None,
        force_download: bool | None = False,
        local_files_only: bool | None = False,
        trust_remote_code: bool | None = False,
        load_weights: bool | None = False,
        subfolder: str = "",
        **kwargs: Any,
    ) -> "Gemma4ArtifactMixin":
        """Trace every bundle. No weights are read unless `load_weights`.

        Raises:
            ValueError: an argument is unknown, the model cannot be split over the ranks, or this process compiles for
                another instance type.
        """
        refuse_arguments(kwargs, subfolder)
        target = align_compilation_target(neuron_config.target, override=False)
        if target != neuron_config.target:
            raise ValueError(
                f"NEURON_PLATFORM_TARGET_OVERRIDE is {target} and the export is for {neuron_config.target} "
                "(--instance_type): unset the variable, or set it to the same."
            )
        hub = {"token": token, "revision": revision, "cache_dir": cache_dir, "force_download": force_download}
        if config is None:
            config = AutoConfig.from_pretrained(model_id, **hub)
        config = copy.deepcopy(cls._model_config(config))
        parts = (config, *(getattr(config, name) for name in config.sub_configs))
        for part in filter(None, parts):
            part.torch_dtype = neuron_config.torch_dtype
        cls._check_neuron_config(neuron_config)
        TextGeometry.from_config(config).check_tp(neuron_config.tp_degree)
        neuron_config = copy.deepcopy(neuron_config)
        vocab_per_rank = config.get_text_config().vocab_size // neuron_config.tp_degree
        neuron_config.max_topk = min(neuron_config.max_topk, vocab_per_rank)
        neuron_config.attention_kernels = kernel_record(config, neuron_config)
        is_local = os.path.isdir(model_id)
        entry = None if is_local else SingleModelCacheEntry(model_id, cls.task, config, neuron_config)
        compiler_args = cls.get_compiler_args(neuron_config)
        with hub_neuronx_cache(entry=entry):
            bundles = {
                name: trace_bundle(builders, neuron_config, compiler_args)
                for name, builders in cls.create_bundles(config, neuron_config).items()
            }
        model = cls._from_bundles(config, neuron_config, bundles)
        model._read_generation_config(model_id, **hub)
        model._checkpoint = Path(model_id) if is_local else None
        if load_weights:
            model.load_weights(
                model_id, token=token, cache_dir=cache_dir, force_download=force_download,
                local_files_only=local_files_only,
            )  # fmt: skip
        return model

    @classmethod
    def _from_pretrained(
        cls,
        model_id: str | Path,
        config: PretrainedConfig,
        revision: str | None = None,
        token: bool | str | None = None,
        cache_dir: str | None = None,
        force_download: bool | None = False,
        local_files_only: bool | None = False,
        **kwargs: Any,
    ) -> "Gemma4ArtifactMixin":
        """Load an artifact from a folder or from the Hub, and its weights.

        Raises:
            ValueError: the folder is not a complete export, or was made for another backend, instance type or number
                of cores.
            ConnectionError: the download was cut.
        """
        refuse_arguments(kwargs)
        hub = {"token": token, "cache_dir": cache_dir, "force_download": force_download}
        hub["local_files_only"] = local_files_only
        if os.path.isdir(model_id):
            folder = Path(model_id)
        else:
            folder = download(str(model_id), revision=revision, **hub)
        if not (folder / NEURON_CONFIG).is_file():
            raise ValueError(
                f"{model_id} has no {NEURON_CONFIG}: it is not an exported model. Export it first with "
                f"optimum-cli export neuron --model {model_id} ..."
            )
        neuron_config = Gemma4NeuronConfig.from_pretrained(folder)
        cls = cls._class_of(neuron_config)
        cls._check_neuron_config(neuron_config)
        check_instance(neuron_config)
        names = list(cls.create_bundles(config, neuron_config))
        files = {name: bundle_file_name(name, names) for name in names}
        check_artifact(folder, neuron_config, files)
        bundles = {name: load_bundle(folder / file) for name, file in files.items()}
        model = cls._from_bundles(config, neuron_config, bundles)
        model._read_generation_config(folder)
        model.load_weights(folder, **hub)
        return model

    def load_weights(
        self,
        model_name_or_path: str | Path,
        token: bool | str | None = None,
        cache_dir: str | None = None,
        force_download: bool | None = False,
        local_files_only: bool | None = False,
    ) -> None:
        """Put the weights of this node's ranks on the device, from a folder or from the checkpoint on the Hub."""
        hub = {"token": token, "cache_dir": cache_dir, "force_download": force_download}
        self._checkpoint = find_checkpoint(
            Path(model_name_or_path), self.neuron_config, local_files_only=local_files_only, **hub
        )
        names = list(self._bundles)
        check_weights(self._checkpoint, names, self.config, self.neuron_config)
        for name, traced in self._bundles.items():
            shards = load_bundle_weights(self._checkpoint, name, names, self.config, self.neuron_config)
            initialize_bundle(traced, shards, self.neuron_config)

    def _save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Write the graphs, the generation defaults and, unless the Hub has them, the sharded weights."""
        refuse_arguments(kwargs)
        folder = Path(save_directory)
        names = list(self._bundles)
        for name, traced in self._bundles.items():
            save_bundle(traced, folder / bundle_file_name(name, names))
        self.generation_config.save_pretrained(folder)
        if self._checkpoint is None or self.neuron_config.checkpoint_id is not None:
            logger.info("The weights stay on the Hub, in %s.", self.neuron_config.checkpoint_id)
            return
        for name in names:
            save_bundle_weights(self._checkpoint, folder, name, names, self.config, self.neuron_config)

    def push_to_hub(
        self,
        save_directory: str | Path,
        repository_id: str,
        private: bool | None = None,
        revision: str | None = None,
        token: bool | str | None = True,
        endpoint: str | None = None,
    ) -> str:
        """Upload a saved artifact; see `exporters/hub.py`.

        Returns:
            The commit's hash.
        """
        return push_artifact(save_directory, repository_id, private, revision, token, endpoint)

    def _read_generation_config(self, model_id: str | Path, **hub: Any) -> None:
        """Take the checkpoint's generation defaults (all stop ids are in that file alone), if it has any."""
        try:
            self.generation_config = GenerationConfig.from_pretrained(model_id, **hub)
        except OSError as error:
            if Path(model_id, GENERATION_CONFIG_NAME).is_file():
                raise ValueError(
                    f"{model_id} has stop ids in a {GENERATION_CONFIG_NAME} that cannot be read: {error}"
                ) from error
            logger.info("%s has no generation_config.json: generation defaults come from its config.json.", model_id)
