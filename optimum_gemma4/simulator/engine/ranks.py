# SPDX-License-Identifier: Apache-2.0
"""Running a module eagerly on all ranks at once, as one vmapped axis: for tests and for trying things out.

    with tensor_parallel(2):
        module = MyLayer(...).eval()
        outputs = run_on_ranks(module, [weights_of_rank_0, weights_of_rank_1], x)

What a traced model does on the ranks, without tracing it. The restrictions of vmap apply (no in-place write of a
sharded value into a replicated tensor); a trace has none of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.utils import _pytree as pytree

from .fabric import ReplicatedFabric, current_fabric, use_fabric


@contextmanager
def tensor_parallel(tp_degree: int) -> Iterator[None]:
    """Sets up the parallel state for `tp_degree` ranks in this thread, and takes it down."""
    from neuronx_distributed.parallel_layers import parallel_state

    with use_fabric(ReplicatedFabric(tp_degree)):
        parallel_state.initialize_model_parallel(tensor_model_parallel_size=tp_degree)
        try:
            yield
        finally:
            parallel_state.destroy_model_parallel()


def run_on_ranks(module: nn.Module, weights: Sequence[Mapping[str, torch.Tensor]], *args, **kwargs):
    """Calls `module` on every rank, each with its own weights and with the same arguments.

    Args:
        module: made inside `tensor_parallel`.
        weights: for each rank, its tensor for each parameter (and for any buffer that differs between ranks).

    Returns:
        The module's output with a leading rank axis on every tensor.

    Raises:
        RuntimeError: called outside of `tensor_parallel`, or with another number of ranks.
    """
    fabric = current_fabric()
    if fabric is None or fabric.world_size != len(weights):
        expected = "no" if fabric is None else fabric.world_size
        raise RuntimeError(f"run_on_ranks got weights of {len(weights)} ranks inside tensor_parallel of {expected}")
    stacked = {name: torch.stack([rank[name] for rank in weights]) for name in weights[0]}

    def call(state):
        return torch.func.functional_call(module, state, args, kwargs)

    with torch.no_grad():
        if len(weights) == 1:
            output = call({name: tensor[0] for name, tensor in stacked.items()})
            return pytree.tree_map_only(torch.Tensor, lambda t: t[None], output)
        return torch.vmap(call, randomness="same")(stacked)
