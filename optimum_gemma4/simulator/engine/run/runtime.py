# SPDX-License-Identifier: Apache-2.0
"""Runs a stored bundle: weights and states of all ranks, and the choice of a graph by the shapes of the inputs.

TorchScript reaches it through three operators, which take the bundle's bytes as a tensor. What is loaded lives on that
tensor object, so that it goes when the TorchScript module goes, and two modules from one file have states of their
own.
"""

import threading
from collections.abc import Sequence

import torch

from ..fabric import ReplicatedFabric, use_fabric
from ..operators import NAMESPACE
from .bundle import Bundle, TensorSpec
from .program import Program


class LoadedBundle:
    """A bundle with its programs, weights and states."""

    def __init__(self, data: bytes):
        bundle = Bundle.from_bytes(data)
        self._tp_degree = bundle.tp_degree
        self._weight_specs = bundle.weights
        self._state_specs = bundle.states
        self._inputs = {self._shapes(graph.inputs): graph.inputs for graph in bundle.graphs}
        self._programs = {
            self._shapes(graph.inputs): Program(graph.graph_module, len(bundle.weights), len(bundle.states))
            for graph in bundle.graphs
        }
        self._ranks: dict[int, dict[str, torch.Tensor]] = {}
        self._states: list[torch.Tensor] | None = None
        self._fabric = ReplicatedFabric(bundle.tp_degree)
        self._lock = threading.Lock()

    @property
    def states(self) -> dict[str, torch.Tensor]:
        """The states by name, with a leading rank axis when there are several ranks; empty before `initialize`."""
        return dict(zip((spec.name for spec in self._state_specs), self._states or []))

    @staticmethod
    def _shapes(tensors: Sequence[TensorSpec] | Sequence[torch.Tensor]) -> tuple[tuple[int, ...], ...]:
        return tuple(tuple(tensor.shape) for tensor in tensors)

    def add_rank(self, rank: int, names: list[str], tensors: list[torch.Tensor]) -> None:
        """Takes the weights of one rank; `initialize` completes the loading."""
        self._ranks[rank] = dict(zip(names, tensors, strict=True))

    def initialize(self, start_rank: int) -> None:
        """Checks and binds the weights of all ranks, and clears the states.

        Raises:
            ValueError: the number of ranks is not that of the traced model, or a weight is missing or has another
                shape or dtype, or a replicated one differs between ranks.
        """
        ranks = [self._ranks[rank] for rank in sorted(self._ranks)]
        self._ranks = {}
        if start_rank != 0 or len(ranks) != self._tp_degree:
            raise ValueError(
                f"This model was traced for {self._tp_degree} ranks, and the simulator runs all of them in one "
                f"process; got the weights of {len(ranks)} ranks, from rank {start_rank} on."
            )
        weights = [self._gather(spec, ranks) for spec in self._weight_specs]
        with torch.no_grad():
            for program in self._programs.values():
                program.bind(weights)
        self._states = [
            torch.zeros(self._with_ranks(spec.shape), dtype=spec.torch_dtype) for spec in self._state_specs
        ]

    def _with_ranks(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape if self._tp_degree == 1 else (self._tp_degree, *shape)

    def _gather(self, spec: TensorSpec, ranks: list[dict[str, torch.Tensor]]) -> torch.Tensor:
        for rank, weights in enumerate(ranks):
            if spec.name not in weights:
                raise ValueError(f"The checkpoint of rank {rank} has no {spec.name}, which the traced model needs.")
            found = TensorSpec.of(spec.name, weights[spec.name], spec.sharded)
            if found != spec:
                raise ValueError(
                    f"{spec.name} of rank {rank}: the model was traced with {spec.dtype} {list(spec.shape)}, the "
                    f"checkpoint has {found.dtype} {list(found.shape)}."
                )
        tensors = [weights[spec.name].detach() for weights in ranks]
        if len(tensors) == 1:
            return tensors[0]
        if spec.sharded:
            return torch.stack(tensors)
        for rank, tensor in enumerate(tensors):
            if tensor.data_ptr() != tensors[0].data_ptr() and not torch.equal(tensor, tensors[0]):
                raise ValueError(
                    f"{spec.name} is not sharded, and yet its values on rank {rank} differ from those on rank 0. Mark "
                    "the parameter with set_tensor_model_parallel_attributes, or give every rank the same values."
                )
        return tensors[0]

    def execute(self, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        """Runs the graph that was traced for inputs of these shapes.

        Raises:
            ValueError: there is none, an input has another dtype, or there are no weights yet.
        """
        shapes = self._shapes(inputs)
        program = self._programs.get(shapes)
        if program is None:
            known = [[list(shape) for shape in key] for key in self._programs]
            raise ValueError(f"Input shape {[list(shape) for shape in shapes]} not found in input_shape_map: {known}")
        if self._states is None:
            raise ValueError(
                "This model is not initialized, please call traced_model.nxd_model.initialize(sharded_checkpoint, "
                "start_rank)"
            )
        for index, (tensor, spec) in enumerate(zip(inputs, self._inputs[shapes], strict=True)):
            if tensor.dtype != spec.torch_dtype:
                raise ValueError(f"Input {index} is {tensor.dtype}, and the graph was traced with {spec.torch_dtype}")
        with self._lock, torch.no_grad(), use_fabric(self._fabric):
            return program(self._states, inputs)


def loaded(blob: torch.Tensor) -> LoadedBundle:
    """What is loaded from the bytes in `blob`, which is loaded on the first call."""
    bundle = getattr(blob, "_simulator_bundle", None)
    if bundle is None:
        bundle = blob._simulator_bundle = LoadedBundle(blob.numpy().tobytes())
    return bundle


_library = torch.library.Library(NAMESPACE, "FRAGMENT")
_library.define("add_rank(Tensor(a!) blob, int rank, str[] names, Tensor[] tensors) -> ()")
_library.define("initialize(Tensor(a!) blob, int start_rank) -> ()")
_library.define("execute(Tensor(a!) blob, Tensor[] inputs) -> Tensor[]")


@torch.library.impl(_library, "add_rank", "CompositeExplicitAutograd")
def _add_rank(blob, rank, names, tensors):
    loaded(blob).add_rank(rank, names, tensors)


@torch.library.impl(_library, "initialize", "CompositeExplicitAutograd")
def _initialize(blob, start_rank):
    loaded(blob).initialize(start_rank)


@torch.library.impl(_library, "execute", "CompositeExplicitAutograd")
def _execute(blob, inputs):
    return loaded(blob).execute(inputs)
