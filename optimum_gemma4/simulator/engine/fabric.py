# SPDX-License-Identifier: Apache-2.0
"""What the simulated ranks of this thread are, and how a collective of one rank reaches the others.

A `Fabric` is the transport of collectives: `TracingFabric` while a graph of rank 0 is recorded (nothing is exchanged),
`ReplicatedFabric` where all ranks run as one vmapped axis and a value without that axis is the same on every rank.
The tests add one with a thread for each rank. Without a fabric a collective of more than one rank is an error.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

import torch


class Fabric(Protocol):
    """Transport of collectives between simulated ranks; `mesh` holds the ranks of each group."""

    world_size: int
    rank: int

    def all_reduce(self, tensor: torch.Tensor, reduction: str, mesh: list[list[int]]) -> torch.Tensor:
        """Sum, max or min over the group, on every rank of it."""

    def all_gather(self, tensor: torch.Tensor, dim: int, mesh: list[list[int]]) -> torch.Tensor:
        """Concatenation along `dim` in the order of the group, on every rank of it."""

    def reduce_scatter(self, tensor: torch.Tensor, reduction: str, dim: int, mesh: list[list[int]]) -> torch.Tensor:
        """The rank's own part, along `dim`, of the all-reduce."""


class ReplicatedFabric:
    """All ranks hold the same value: the case of a tensor without the rank axis."""

    rank = 0

    def __init__(self, world_size: int):
        self.world_size = world_size

    def all_reduce(self, tensor: torch.Tensor, reduction: str, mesh: list[list[int]]) -> torch.Tensor:
        return tensor * len(mesh[0]) if reduction == "sum" else tensor.clone()

    def all_gather(self, tensor: torch.Tensor, dim: int, mesh: list[list[int]]) -> torch.Tensor:
        return torch.cat([tensor] * len(mesh[0]), dim=dim)

    def reduce_scatter(self, tensor: torch.Tensor, reduction: str, dim: int, mesh: list[list[int]]) -> torch.Tensor:
        raise RuntimeError(
            "reduce_scatter of a value that is the same on every rank has a result that is not: scale it on one rank "
            "and use the slice that this rank needs instead."
        )


class TracingFabric:
    """A graph of rank 0 is being recorded: collectives become nodes of it and exchange nothing."""

    rank = 0

    def __init__(self, world_size: int):
        self.world_size = world_size


_fabric: ContextVar[Fabric | None] = ContextVar("fabric", default=None)


def current_fabric() -> Fabric | None:
    """The fabric of this thread, if there is one."""
    return _fabric.get()


def current_rank() -> int:
    """Rank of this thread: 0 outside of a fabric and while tracing."""
    fabric = _fabric.get()
    return 0 if fabric is None else fabric.rank


def world_size() -> int:
    """Number of simulated ranks: 1 outside of a fabric."""
    fabric = _fabric.get()
    return 1 if fabric is None else fabric.world_size


@contextmanager
def use_fabric(fabric: Fabric | None) -> Iterator[Fabric | None]:
    """Makes `fabric` the transport of this thread's collectives; None for none."""
    token = _fabric.set(fabric)
    try:
        yield fabric
    finally:
        _fabric.reset(token)
