# SPDX-License-Identifier: Apache-2.0
"""A bundle: the graphs of one traced model that share weights and states, and how it is stored.

Stored, it is a zip of `bundle.json` and, for each graph, its constants as safetensors. Weights are described by name,
shape and dtype only.
"""

import io
import json
import zipfile
from dataclasses import asdict, dataclass, field

import safetensors.torch
import torch
from torch import fx

from . import graph_format


FORMAT = 1


@dataclass(frozen=True)
class TensorSpec:
    """A tensor on one rank.

    Args:
        name: its name in the checkpoint, or its position among the inputs.
        sharded: whether it differs between ranks.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    sharded: bool = False

    @property
    def torch_dtype(self) -> torch.dtype:
        """Its dtype."""
        return getattr(torch, self.dtype)

    @classmethod
    def of(cls, name: str, tensor: torch.Tensor, sharded: bool = False) -> "TensorSpec":
        """Describes a tensor."""
        return cls(name, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."), sharded)


@dataclass
class BundleGraph:
    """One graph: the inputs that it is compiled for, and its lowered form."""

    key: str
    inputs: list[TensorSpec]
    graph_module: fx.GraphModule


@dataclass
class Bundle:
    """Graphs that share weights and states."""

    tp_degree: int
    weights: list[TensorSpec]
    states: list[TensorSpec]
    graphs: list[BundleGraph] = field(default_factory=list)
    properties: dict[str, str] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Stores the bundle."""
        description = {
            "format": FORMAT,
            "tp_degree": self.tp_degree,
            "weights": [asdict(spec) for spec in self.weights],
            "states": [asdict(spec) for spec in self.states],
            "properties": self.properties,
            "graphs": [],
        }
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for index, graph in enumerate(self.graphs):
                data, constants = graph_format.encode(graph.graph_module)
                inputs = [asdict(spec) for spec in graph.inputs]
                description["graphs"].append({"key": graph.key, "inputs": inputs, "graph": data})
                constants = {name: tensor.contiguous() for name, tensor in constants.items()}
                archive.writestr(f"constants_{index}.safetensors", safetensors.torch.save(constants))
            archive.writestr("bundle.json", json.dumps(description))
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Bundle":
        """Reads a stored bundle.

        Raises:
            ValueError: it was written by a version of the simulator that this one cannot read.
        """
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            description = json.loads(archive.read("bundle.json"))
            if description["format"] != FORMAT:
                raise ValueError(
                    f"This artifact has the simulator's format {description['format']}, and this version of "
                    f"optimum_gemma4 reads format {FORMAT}: export the model again."
                )
            graphs = [
                BundleGraph(
                    graph["key"],
                    _specs(graph["inputs"]),
                    graph_format.decode(
                        graph["graph"], safetensors.torch.load(archive.read(f"constants_{index}.safetensors"))
                    ),
                )
                for index, graph in enumerate(description["graphs"])
            ]
        return cls(
            description["tp_degree"],
            _specs(description["weights"]),
            _specs(description["states"]),
            graphs,
            description["properties"],
        )


def _specs(data: list[dict]) -> list[TensorSpec]:
    return [TensorSpec(**{**spec, "shape": tuple(spec["shape"])}) for spec in data]
