# SPDX-License-Identifier: Apache-2.0
"""The door to the SDK's trace API: trace a bundle, save and load it, give it its weights.

A bundle is one traced program that holds several graphs over one set of weights and states; an artifact holds one
(`model.pt`) or two (`model_text.pt`, `model_vision.pt`). Goes through optimum-neuron's `NxDPreTrainedModel.compile`,
so the SDK (or the simulator) is reached as its own models reach it. Nothing here reads the checkpoint: tracing needs
the modules' shapes only, weights come rank by rank when the artifact is loaded.
"""

import os
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from neuronx_distributed.trace.hlo_utils import NXD_LAYOUT_TRANSFORMATION_OPTIONS
from neuronx_distributed.trace.model_builder import BaseModelInstance
from optimum.neuron.models.inference.backend.graph_builder import NxDGraphBuilder
from optimum.neuron.models.inference.backend.pretrained_model import NxDPreTrainedModel

from .export_config import GraphSpec
from .neuron_config import Gemma4NeuronConfig


__all__ = ["BundleGraphs", "bundle_file_name", "initialize_bundle", "load_bundle", "save_bundle", "trace_bundle"]

SINGLE_BUNDLE_FILE = NxDPreTrainedModel.COMPILED_MODEL_FILE_NAME
WORK_DIR_VARIABLE = "BASE_COMPILE_WORK_DIR"

# What the module is called with while tracing. optimum-neuron's sampler, which ours extends, leaves out the
# temperature and the top-p step when its examples make them pointless, so these do not.
EXAMPLE_SAMPLING_PARAMS = (1.0, 0.5, 0.5)


class _SharedModuleInstance(BaseModelInstance):
    """One module for all graphs of a builder: the SDK loads it once and traces it once per example input."""

    def __init__(self, make_module: Callable[[], torch.nn.Module], dtype: torch.dtype, num_outputs: int):
        self._make_module = make_module
        self._dtype = dtype
        self._num_outputs = num_outputs
        self.module = None

    def load_module(self) -> None:
        module = self._make_module().eval()
        for parameter in module.parameters():
            # Buffers (rotary frequencies) keep the precision that they were made with.
            if parameter.is_floating_point():
                parameter.data = parameter.data.to(self._dtype)
        self.module = module

    def get(self, bucket_rank: int, **kwargs) -> tuple[torch.nn.Module, dict[torch.nn.Parameter, int]]:
        """The module and which output updates which of its states; the same for every graph."""
        cache = getattr(self.module, "kv_mgr", None)
        states = [] if cache is None else cache.past_key_values
        return self.module, {state: self._num_outputs + index for index, state in enumerate(states)}


class BundleGraphs(NxDGraphBuilder):
    """Graphs that differ in their input shapes alone, traced from one module.

    Args:
        graphs: their declarations; all have the same outputs.
        make_module: builds the module, for the current tensor parallel group.
        dtype: of its parameters.
        optimizes_layout: whether the compiler chooses the weights' layout for the first of these graphs.
    """

    def __init__(
        self,
        graphs: list[GraphSpec],
        make_module: Callable[[], torch.nn.Module],
        dtype: torch.dtype,
        optimizes_layout: bool = False,
    ):
        super().__init__(priority_model_idx=0 if optimizes_layout else None)
        self.graphs = graphs
        self._make_module = make_module
        self._dtype = dtype

    def input_generator(self) -> list[tuple[torch.Tensor, ...]]:
        """Example inputs, one tuple per graph."""
        return [tuple(_example(spec) for spec in graph.inputs) for graph in self.graphs]

    def get_model_instance(self) -> BaseModelInstance:
        return _SharedModuleInstance(self._make_module, self._dtype, len(self.graphs[0].outputs))


def _example(spec) -> torch.Tensor:
    """Values of a plausible call: they decide nothing but the sampler's steps (see `EXAMPLE_SAMPLING_PARAMS`)."""
    if spec.name in ("position_ids", "end"):
        return torch.arange(spec.shape[-1], dtype=spec.dtype).expand(spec.shape).contiguous()
    if spec.name == "seq_ids":
        return torch.arange(spec.shape[0], dtype=spec.dtype)
    if spec.name == "sampling_params":
        return torch.tensor(EXAMPLE_SAMPLING_PARAMS, dtype=spec.dtype).repeat(spec.shape[0], 1)
    if spec.name == "feature_index":
        return torch.full(spec.shape, -1, dtype=spec.dtype)
    return torch.zeros(spec.shape, dtype=spec.dtype)


def bundle_file_name(bundle: str, bundles: list[str]) -> str:
    """File of a bundle: optimum-neuron's own name when the artifact holds one, `model_<bundle>.pt` otherwise."""
    return SINGLE_BUNDLE_FILE if len(bundles) == 1 else f"model_{bundle}.pt"


@contextmanager
def _own_work_dir():
    """A compiler directory of this process: the SDK empties the shared default, also under another export's feet."""
    if WORK_DIR_VARIABLE in os.environ:
        yield
        return
    with TemporaryDirectory(prefix="nxd_model_") as work_dir:
        os.environ[WORK_DIR_VARIABLE] = os.path.join(work_dir, "")
        try:
            yield
        finally:
            del os.environ[WORK_DIR_VARIABLE]


def trace_bundle(
    builders: dict[str, NxDGraphBuilder], neuron_config: Gemma4NeuronConfig, compiler_args: str
) -> torch.jit.ScriptModule:
    """Trace and compile the graphs of one bundle, without weights.

    Raises:
        ValueError: the environment asks for weights that are laid out when they are saved.
    """
    if NXD_LAYOUT_TRANSFORMATION_OPTIONS in os.environ:
        # The SDK would then leave the layout to whoever saves the weights, and here they are saved as they are.
        raise ValueError(
            f"{NXD_LAYOUT_TRANSFORMATION_OPTIONS} is {os.environ[NXD_LAYOUT_TRANSFORMATION_OPTIONS]!r}: the weights "
            "of Gemma 4 are brought into the compiler's layout when they are loaded. Unset it."
        )
    with _own_work_dir():
        return NxDPreTrainedModel.compile(neuron_config, builders, compiler_args)


def save_bundle(traced: torch.jit.ScriptModule, path: Path) -> None:
    """Write one bundle, without weights."""
    torch.jit.save(traced, str(path))


def load_bundle(path: Path) -> torch.jit.ScriptModule:
    """Read one bundle; it runs once it has its weights."""
    return torch.jit.load(str(path))


def initialize_bundle(
    traced: torch.jit.ScriptModule, shards: list[dict[str, torch.Tensor]], neuron_config: Gemma4NeuronConfig
) -> None:
    """Put the weights of this node's ranks on the device; `shards` has one state dict per rank, in rank order."""
    start_rank = torch.tensor([neuron_config.start_rank_id], dtype=torch.int32)
    traced.nxd_model.initialize(shards, start_rank)
