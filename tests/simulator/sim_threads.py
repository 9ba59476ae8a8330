# SPDX-License-Identifier: Apache-2.0
"""The oracle: every rank in a thread of its own, eagerly, with collectives that wait for each other.

No graph, no vmap, no functionalisation, no lowering: a module, its shard of the weights and its states on each rank.
"""

import threading
from collections.abc import Callable

import torch
from neuronx_distributed.parallel_layers import parallel_state

from optimum_gemma4.simulator.engine.fabric import use_fabric


_REDUCE = {"sum": torch.sum, "max": torch.amax, "min": torch.amin}


class ThreadFabric:
    """The collectives of one rank; `slots` and `barrier` are shared by all ranks."""

    def __init__(self, rank: int, slots: list, barrier: threading.Barrier):
        self.rank = rank
        self.world_size = len(slots)
        self._slots = slots
        self._barrier = barrier

    def _exchange(self, tensor: torch.Tensor, mesh: list[list[int]]) -> list[torch.Tensor]:
        self._slots[self.rank] = tensor
        self._barrier.wait()
        group = next(group for group in mesh if self.rank in group)
        tensors = [self._slots[rank] for rank in group]
        self._barrier.wait()
        return tensors

    def all_reduce(self, tensor, reduction, mesh):
        return _REDUCE[reduction](torch.stack(self._exchange(tensor, mesh)), dim=0)

    def all_gather(self, tensor, dim, mesh):
        return torch.cat(self._exchange(tensor, mesh), dim=dim)

    def reduce_scatter(self, tensor, reduction, dim, mesh):
        group = next(group for group in mesh if self.rank in group)
        return self.all_reduce(tensor, reduction, mesh).chunk(len(group), dim)[group.index(self.rank)]


class ThreadRanks:
    """Runs a function on every rank, each in its thread."""

    def __init__(self, tp_degree: int):
        self.tp_degree = tp_degree

    def run(self, function: Callable[[int], object]) -> list:
        """Results of `function(rank)`, by rank; the first error of a rank is raised."""
        slots, results, errors = [None] * self.tp_degree, [None] * self.tp_degree, []
        barrier = threading.Barrier(self.tp_degree)

        def one(rank: int) -> None:
            try:
                with use_fabric(ThreadFabric(rank, slots, barrier)), torch.no_grad():
                    results[rank] = function(rank)
            except threading.BrokenBarrierError:
                pass
            except Exception as error:
                errors.append(error)
                barrier.abort()

        before = parallel_state.snapshot()
        try:
            with use_fabric(ThreadFabric(0, slots, barrier)):
                parallel_state.initialize_model_parallel(tensor_model_parallel_size=self.tp_degree)
            threads = [threading.Thread(target=one, args=(rank,)) for rank in range(self.tp_degree)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            parallel_state.restore(before)
        if errors:
            raise errors[0]
        return results
