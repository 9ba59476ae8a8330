# SPDX-License-Identifier: Apache-2.0
"""The world that a model is traced or sharded in: rank 0 of a number of ranks that do not exist.

`torch.distributed` is initialised with its fake backend for that time, unless something else initialised it before, so
that a model that asks for its world gets the answer it gets under the SDK's tracer.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed
from torch.testing._internal.distributed.fake_pg import FakeStore

from .fabric import TracingFabric, use_fabric


@contextmanager
def tracing_world(
    world_size: int, tp_degree: int, pp_degree: int = 1, ep_degree: int = 1, lnc_size: int = 1
) -> Iterator[None]:
    """Rank 0 of `world_size` ranks, with the parallel state set up; what was set up before is back afterwards."""
    from neuronx_distributed.parallel_layers import parallel_state

    before = parallel_state.snapshot()
    excepthook = sys.excepthook  # init_process_group wraps it, to prefix tracebacks with the rank
    own_distributed = not torch.distributed.is_initialized()
    if own_distributed:
        torch.distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=world_size)
    try:
        with use_fabric(TracingFabric(world_size)):
            parallel_state.initialize_model_parallel(
                tensor_model_parallel_size=tp_degree,
                pipeline_model_parallel_size=pp_degree,
                expert_model_parallel_size=ep_degree,
                skip_collective_init=True,
                lnc_size=lnc_size,
            )
            yield
    finally:
        parallel_state.restore(before)
        if own_distributed:
            torch.distributed.destroy_process_group()
            sys.excepthook = excepthook
