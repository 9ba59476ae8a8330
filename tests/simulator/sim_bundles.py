# SPDX-License-Identifier: Apache-2.0
"""Small modules and their bundles: what the tests of tracing and running build on."""

from collections.abc import Callable

import torch
from neuronx_distributed.parallel_layers.layers import ColumnParallelLinear, RowParallelLinear
from neuronx_distributed.trace.model_builder import BaseModelInstance, ModelBuilder
from torch import nn


WIDTH = 4


class Instance(BaseModelInstance):
    """A model instance from a function that makes the module, and the names of its states in output order."""

    def __init__(self, make: Callable[[], nn.Module], states: list[str], first: int = 1):
        self._make = make
        self._states = states
        self._first = first
        self.module = None

    def load_module(self):
        self.module = self._make().eval()

    def get(self, bucket_rank, **kwargs):
        parameters = dict(self.module.named_parameters())
        return self.module, {parameters[name]: self._first + i for i, name in enumerate(self._states)}


class Perceptron(nn.Module):
    """Two parallel layers and no state: [batch, 4] -> [batch, 4]."""

    def __init__(self):
        super().__init__()
        self.up = ColumnParallelLinear(WIDTH, 8, bias=False, gather_output=False)
        self.down = RowParallelLinear(8, WIDTH, bias=True, input_is_parallel=True)

    def forward(self, x):
        return self.down(torch.relu(self.up(x)))


class Memory(Perceptron):
    """A perceptron that writes its result into row `position` of a ring and of a longer log, and returns their sums.

    x [1, 4] and position [1] -> [4]; the states are `ring` [2, 4] and `log` [5, 4].
    """

    def __init__(self):
        super().__init__()
        self.ring = nn.Parameter(torch.zeros(2, WIDTH), requires_grad=False)
        self.log = nn.Parameter(torch.zeros(5, WIDTH), requires_grad=False)

    def forward(self, x, position):
        y = super().forward(x)
        ring = self.ring.index_copy(0, position % 2, y)
        log = self.log.index_copy(0, position, y)
        return [ring.sum(0) + 10 * log.sum(0), ring, log]


def perceptron_weights() -> dict[str, torch.Tensor]:
    """A full checkpoint of `Perceptron` (and `Memory`)."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"up.weight": (8, WIDTH), "down.weight": (WIDTH, 8), "down.bias": (WIDTH,)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def perceptron(weights: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """What `Perceptron` computes, from its formula."""
    return torch.relu(x @ weights["up.weight"].T) @ weights["down.weight"].T + weights["down.bias"]


def builder(folder, tp: int, weights: dict[str, torch.Tensor] | None = None) -> ModelBuilder:
    """A builder with its working directory below `folder`."""
    return ModelBuilder(None, tp, lambda: dict(weights), compiler_workdir=str(folder / "work"))


def trace_module(
    make: Callable[[], nn.Module], *examples: torch.Tensor, folder, tp: int = 1, states=(), first: int = 1
):
    """Traces one graph without weights."""
    return (
        builder(folder, tp)
        .add("graph", Instance(make, list(states), first), [examples])
        .trace(initialize_model_weights=False)
    )


def run_module(
    make: Callable[[], nn.Module], weights: dict[str, torch.Tensor], *inputs: torch.Tensor, folder, tp: int = 1
):
    """Traces a module without states, shards the weights and calls it once."""
    model = builder(folder, tp, weights).add("graph", Instance(make, []), [inputs]).trace()
    return model(*inputs)
