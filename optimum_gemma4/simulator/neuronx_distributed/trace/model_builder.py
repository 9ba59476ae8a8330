# SPDX-License-Identifier: Apache-2.0
"""Stand-in for neuronx_distributed.trace.model_builder: traces model instances into one executable bundle.

`trace` records each graph on rank 0 and lowers it to all ranks (`engine/tracing.py`); `shard_checkpoint` divides a
checkpoint as the SDK does (`sharding.py`). As with the SDK, the working directory is deleted and made anew, and holds
what was made of each graph, here as readable text.
"""

import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from neuronx_distributed.parallel_layers import parallel_state
from safetensors.torch import load_file, save_file
from torch import nn

from optimum_gemma4.simulator.engine.run.executor import make_executor
from optimum_gemma4.simulator.engine.trace.recorder import meta_parameters
from optimum_gemma4.simulator.engine.trace.tracing import RankGraph, build_bundle, record_graph
from optimum_gemma4.simulator.engine.world import tracing_world
from optimum_gemma4.simulator.versions import TORCH_NEURONX

from .sharding import cast_weights, preprocess_checkpoint, shard_for_rank


logger = logging.getLogger("Neuron")
_DEFAULT_COMPILER_ARGS = "--enable-saturate-infinity --auto-cast=none --model-type=transformer -O1"


class BaseModelInstance:
    """How to make a module, and which of its outputs are new values of which of its parameters."""

    def __init__(self, module_cls: Callable[[], nn.Module], input_output_aliases: dict[torch.Tensor, int]):
        self.module_cls = module_cls
        self.module = None
        self.input_output_aliases = [input_output_aliases]

    def load_module(self) -> None:
        """Makes the module."""
        self.module = self.module_cls()

    def get(self, bucket_rank: int, **kwargs) -> tuple[nn.Module, dict[torch.Tensor, int]]:
        """The module and its aliases, for one of the example inputs."""
        return self.module, self.input_output_aliases[0]


@dataclass
class ModelContainer:
    """What was added to a builder under one key."""

    model_instance: BaseModelInstance
    example_inputs: list[tuple[torch.Tensor, ...]]
    compiler_args: str
    bucket_config: Any
    priority_model_idx: int | None

    def get(self, bucket_rank: int) -> tuple[nn.Module, dict[torch.Tensor, int]]:
        """The module and aliases of one bucket."""
        keywords = {}
        if self.bucket_config is not None:
            keywords = dict(self.bucket_config.get_func_kwargs_for_bucket_rank(bucket_rank))
            keywords.pop("bucket_rank", None)
        return self.model_instance.get(bucket_rank, **keywords)


def append_default_compiler_flags(compiler_args: str | None = "") -> str:
    """Adds the flags that the SDK adds to a user's compiler flags."""
    compiler_args = compiler_args or _DEFAULT_COMPILER_ARGS
    if "--auto-cast" not in compiler_args:
        compiler_args += " --auto-cast=none "
    elif "--auto-cast=none" not in compiler_args:
        logger.warning("Compiler argument --auto-cast=none not found: other values might result in lower accuracy")
    if not re.search(r"-O\d+", compiler_args):
        compiler_args += " -O1 "
    return compiler_args


class ModelBuilder:
    """Traces and shards models that share weights, for `tp_degree` ranks.

    Args:
        router: unused, as in the SDK: graphs are told apart by their input shapes.
        checkpoint_loader: returns the full checkpoint, for `shard_checkpoint`.
        compiler_workdir: deleted and made anew by `trace`.

    Raises:
        ValueError: `world_size` without `local_ranks_size`.
    """

    def __init__(
        self,
        router,
        tp_degree: int,
        checkpoint_loader: Callable[[], dict[str, torch.Tensor]] | None,
        start_rank_id: int = 0,
        pp_degree: int = 1,
        ep_degree: int = 1,
        local_ranks_size: int | None = None,
        world_size: int | None = None,
        compiler_workdir: str | None = None,
        master_proc_env_vars: dict[str, str] | None = None,
        debug: bool = False,
        num_cores_per_group: int = 1,
        init_custom_process_group_fn: Callable[[], None] | None = None,
        logical_nc_config: int = 1,
        weights_to_skip_layout_optimization: set[str] = frozenset(),
        compiler_flag_hook: Callable | None = None,
    ):
        if world_size is None:
            world_size = tp_degree * pp_degree * ep_degree
        elif local_ranks_size is None:
            raise ValueError("`world_size` is specified, but `local_ranks_size` is None.")
        if num_cores_per_group > 1:
            raise NotImplementedError("num_cores_per_group > 1 (flash decoding) is not simulated")
        self.router = router
        self.tp_degree = tp_degree
        self.pp_degree = pp_degree
        self.ep_degree = ep_degree
        self.world_size = world_size
        self.start_rank_id = start_rank_id
        self.local_ranks_size = world_size if local_ranks_size is None else local_ranks_size
        self.checkpoint_loader = checkpoint_loader
        self.compiler_workdir = compiler_workdir if compiler_workdir else "/tmp/nxd_model/"
        self.model_collection: dict[str, ModelContainer] = {}
        self.master_proc_env_vars = master_proc_env_vars
        self.debug = debug
        self.init_custom_process_group_fn = init_custom_process_group_fn
        self.logical_nc_config = logical_nc_config
        self.weights_to_skip_layout_optimization = weights_to_skip_layout_optimization
        self.compiler_flag_hook = compiler_flag_hook

    def add(
        self,
        key: str,
        model_instance: BaseModelInstance,
        example_inputs: list[tuple[torch.Tensor, ...]],
        compiler_args: str | None = None,
        bucket_config=None,
        priority_model_idx: int | None = None,
    ) -> "ModelBuilder":
        """Adds a model, with one graph for each of its example inputs."""
        compiler_args = append_default_compiler_flags(compiler_args)
        if bucket_config:
            bucket_config.store_example_inputs(example_inputs)
        self.model_collection[key] = ModelContainer(
            model_instance, example_inputs, compiler_args, bucket_config, priority_model_idx
        )
        return self

    def trace(self, initialize_model_weights: bool = True, dry_run: bool = False) -> torch.jit.ScriptModule | None:
        """Traces everything that was added into one executable module.

        Raises:
            GraphError: a model does what a compiled graph cannot.
            ValueError: the graphs do not fit together.
        """
        os.environ.update(self.master_proc_env_vars or {})
        shutil.rmtree(self.compiler_workdir, ignore_errors=True)
        logger.info(f"Generating HLOs for the following models: {list(self.model_collection)}")
        with self._world():
            parallel_state.set_aot_mode(True)
            properties = {"torch": torch.__version__, "torch_neuronx": TORCH_NEURONX}
            bundle, num_outputs = build_bundle(self._rank_graphs(), self.world_size, properties)
        if dry_run:
            return None
        executor = make_executor(bundle.to_bytes(), len(bundle.graphs[0].inputs), num_outputs)
        if initialize_model_weights:
            if self.local_ranks_size < self.world_size:
                raise RuntimeError("initialize_model_weights argument must be False when tracing for multi-node")
            self.shard_checkpoint(self.compiler_workdir)
            ranks = range(self.start_rank_id, self.start_rank_id + self.local_ranks_size)
            weights = [load_file(_shard_path(self.compiler_workdir, rank)) for rank in ranks]
            executor.nxd_model.initialize(weights, torch.tensor([self.start_rank_id], dtype=torch.int32))
        return executor

    def shard_checkpoint(self, serialize_path: str | None = None) -> list[dict[str, torch.Tensor]]:
        """Shards the checkpoint for the first model that was added.

        Args:
            serialize_path: folder for `tp{rank}_sharded_checkpoint.safetensors`.

        Returns:
            The weights of each local rank, by name.
        """
        if serialize_path is not None:
            os.makedirs(serialize_path, exist_ok=True)
        container = next(iter(self.model_collection.values()))
        shards = []
        with self._world():
            parallel_state.set_aot_mode(True)  # only shapes are read: no full weight is made to be thrown away
            with meta_parameters():
                container.model_instance.load_module()
            model, _ = container.get(0)
            checkpoint = self.checkpoint_loader()
            preprocess_checkpoint(model, checkpoint)
            cast_weights(model, checkpoint)
            for rank in range(self.start_rank_id, self.start_rank_id + self.local_ranks_size):
                shard = shard_for_rank(model, checkpoint, rank)
                if serialize_path is not None:
                    contiguous = {name: tensor.contiguous() for name, tensor in shard.items()}
                    save_file(contiguous, _shard_path(serialize_path, rank))
                shards.append(shard)
        return shards

    def transform_weight_layout_with_overriden_option(self, sharded_checkpoint_dir: str) -> None:
        """The simulator has one weight layout, so there is nothing to transform."""

    def _world(self):
        return tracing_world(
            self.world_size, self.tp_degree, self.pp_degree, self.ep_degree, lnc_size=self.logical_nc_config
        )

    def _rank_graphs(self) -> Iterator[RankGraph]:
        if self.init_custom_process_group_fn:
            self.init_custom_process_group_fn()
        order = None
        for key, container in self.model_collection.items():
            with meta_parameters():
                container.model_instance.load_module()
            for bucket_rank, examples in enumerate(container.example_inputs):
                module, aliases = container.get(bucket_rank)
                graph = record_graph(key, bucket_rank, module, aliases, tuple(examples), self.world_size, order)
                order = order or [*graph.weights, *graph.states]
                self._write_text(key, bucket_rank, graph)
                yield graph

    def _write_text(self, key: str, bucket_rank: int, graph: RankGraph) -> None:
        folder = os.path.join(self.compiler_workdir, key, f"_tp0_bk{bucket_rank}", "model")
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "graph.txt"), "w", encoding="utf-8") as file:
            file.write(graph.graph_module.code)


def _shard_path(folder: str, rank: int) -> str:
    return os.path.join(folder, f"tp{rank}_sharded_checkpoint.safetensors")
