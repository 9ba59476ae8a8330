# SPDX-License-Identifier: Apache-2.0
"""A trace refuses to mix tensors of the host with those of the graph where torch_xla 2.8.1 was seen to refuse it."""

import pytest
import torch
from sim_bundles import trace_module
from torch import nn

from optimum_gemma4.simulator.engine.errors import GraphError


X = torch.zeros(4, 4)


class Calls(nn.Module):
    """Calls a function of the input, a buffer and a tensor that is a plain attribute."""

    def __init__(self, function):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4, 4))
        self.register_buffer("steps", torch.arange(4), persistent=False)
        self.plain = torch.arange(4)
        self.function = function

    def forward(self, x):
        return self.function(self, x + self.weight)


def trace(function, folder):
    return trace_module(lambda: Calls(function), X, folder=folder)


def written(tensor, value):
    tensor[0] = value
    return tensor


REFUSED = {
    "where": lambda self, x: torch.where(x > 0, x, torch.zeros(4, 4)),
    "cat": lambda self, x: torch.cat([x, torch.ones(1, 4)]),
    "matmul": lambda self, x: x @ torch.eye(4),
    "lt": lambda self, x: (x < torch.arange(4)).float(),
    "maximum": lambda self, x: torch.maximum(x, torch.tensor(1.0)),
    "index_select": lambda self, x: x.index_select(0, torch.arange(2) + 1),
    "index_copy": lambda self, x: x.index_copy(0, self.plain, x),
    "embedding": lambda self, x: nn.functional.embedding(self.plain, x),
    "copy_": lambda self, x: torch.zeros(4, 4).copy_(x),
    "__setitem__": lambda self, x: written(torch.zeros(4, 4), x[0]),
    "add_": lambda self, x: torch.zeros(4, 4).add_(x),
}


@pytest.mark.parametrize("name", REFUSED)
def test_mixing_is_refused_by_name_and_place(tmp_path, name):
    with pytest.raises(GraphError, match=rf"^{name} mixes a tensor that was made on the host.*test_sim_host_tensors"):
        trace(REFUSED[name], tmp_path)


ALLOWED = {
    "arithmetic": lambda self, x: 2 - (x + torch.ones(4)) * torch.arange(4) / torch.tensor(2.0),
    "index": lambda self, x: written(x.clone(), torch.ones(4))[torch.arange(2)],
    "buffer": lambda self, x: x.index_select(0, self.steps),
    "number": lambda self, x: torch.where(x > 0, x, float(torch.tensor(2.0))),
    "device": lambda self, x: x.index_select(0, torch.arange(4, device=x.device)),
    "moved": lambda self, x: x.index_select(0, self.plain.to(x.device)),
    "like": lambda self, x: torch.cat([x, torch.zeros_like(x), x.new_ones(1, 4)]),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_what_the_device_takes_is_taken(tmp_path, name):
    assert trace(ALLOWED[name], tmp_path) is not None
