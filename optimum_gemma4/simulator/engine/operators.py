# SPDX-License-Identifier: Apache-2.0
"""The simulator's torch operators: collectives between ranks, and XLA's dynamic update slice.

A graph of one rank records them as single nodes. Their vmap rules act across the rank axis, which is how a graph of
one rank becomes one of all ranks: an all-reduce over everybody gives a value without rank axis, so that what is
replicated afterwards is computed once. `mesh` travels flat, as `ranks` with `group_size` entries a group.
"""

import torch

from .fabric import TracingFabric, current_fabric


NAMESPACE = "optimum_gemma4_simulator"
_library = torch.library.Library(NAMESPACE, "DEF")
_library.define("all_reduce(Tensor x, str reduction, int[] ranks, int group_size) -> Tensor")
_library.define("all_gather(Tensor x, int dim, int[] ranks, int group_size) -> Tensor")
_library.define("reduce_scatter(Tensor x, str reduction, int dim, int[] ranks, int group_size) -> Tensor")
_library.define("dynamic_update_slice(Tensor x, Tensor update, Tensor[] starts) -> Tensor")
_library.define("dynamic_update_slice_(Tensor(a!) x, Tensor update, Tensor[] starts) -> Tensor(a!)")
_REDUCTIONS = {"sum": torch.sum, "max": torch.amax, "min": torch.amin}


def _mesh(ranks: list[int], group_size: int) -> list[list[int]]:
    return [ranks[i : i + group_size] for i in range(0, len(ranks), group_size)]


def _transport():
    fabric = current_fabric()
    if fabric is None or isinstance(fabric, TracingFabric):
        raise RuntimeError(
            "A collective of several ranks needs all of them: trace the model with ModelBuilder, or run it with "
            "optimum_gemma4.simulator.engine.ranks.run_on_ranks."
        )
    return fabric


def _reduced_shape(x: torch.Tensor, dim: int, group_size: int) -> list[int]:
    shape = list(x.shape)
    if shape[dim] % group_size != 0:
        raise RuntimeError(
            f"unable to create {group_size} partitions along dim {dim} of a tensor of shape {tuple(x.shape)}: "
            "not evenly divisible."
        )
    shape[dim] //= group_size
    return shape


@torch.library.impl(_library, "all_reduce", "CompositeExplicitAutograd")
def _all_reduce(x, reduction, ranks, group_size):
    return _transport().all_reduce(x, reduction, _mesh(ranks, group_size))


@torch.library.register_fake(f"{NAMESPACE}::all_reduce", lib=_library)
def _all_reduce_fake(x, reduction, ranks, group_size):
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@torch.library.impl(_library, "all_gather", "CompositeExplicitAutograd")
def _all_gather(x, dim, ranks, group_size):
    return _transport().all_gather(x, dim, _mesh(ranks, group_size))


@torch.library.register_fake(f"{NAMESPACE}::all_gather", lib=_library)
def _all_gather_fake(x, dim, ranks, group_size):
    shape = list(x.shape)
    shape[dim] *= group_size
    return x.new_empty(shape)


@torch.library.impl(_library, "reduce_scatter", "CompositeExplicitAutograd")
def _reduce_scatter(x, reduction, dim, ranks, group_size):
    return _transport().reduce_scatter(x, reduction, dim, _mesh(ranks, group_size))


@torch.library.register_fake(f"{NAMESPACE}::reduce_scatter", lib=_library)
def _reduce_scatter_fake(x, reduction, dim, ranks, group_size):
    return x.new_empty(_reduced_shape(x, dim, group_size))


def _by_group(x: torch.Tensor, ranks: list[int], group_size: int) -> torch.Tensor:
    """Sorts the leading rank axis into groups: [ranks, ...] -> [groups, group_size, ...]."""
    if ranks != list(range(len(ranks))):
        x = x[torch.tensor(ranks)]
    return x.reshape(-1, group_size, *x.shape[1:])


def _by_rank(x: torch.Tensor, ranks: list[int]) -> torch.Tensor:
    """Undoes the order of `_by_group`, for a tensor with one entry a rank."""
    if ranks != list(range(len(ranks))):
        x = x[torch.tensor(ranks).argsort()]
    return x


def _shared(x: torch.Tensor, ranks: list[int], group_size: int) -> tuple[torch.Tensor, int | None]:
    """One value a group, [groups, ...] -> what each rank sees; without rank axis when there is one group."""
    if x.shape[0] == 1:
        return x[0], None
    return _by_rank(x.repeat_interleave(group_size, dim=0), ranks), 0


@torch.library.register_vmap(f"{NAMESPACE}::all_reduce", lib=_library)
def _all_reduce_vmap(info, in_dims, x, reduction, ranks, group_size):
    grouped = _by_group(x.movedim(in_dims[0], 0), ranks, group_size)
    return _shared(_REDUCTIONS[reduction](grouped, dim=1), ranks, group_size)


@torch.library.register_vmap(f"{NAMESPACE}::all_gather", lib=_library)
def _all_gather_vmap(info, in_dims, x, dim, ranks, group_size):
    grouped = _by_group(x.movedim(in_dims[0], 0), ranks, group_size)
    dim = dim % (grouped.dim() - 2)
    return _shared(grouped.movedim(1, dim + 1).flatten(dim + 1, dim + 2), ranks, group_size)


@torch.library.register_vmap(f"{NAMESPACE}::reduce_scatter", lib=_library)
def _reduce_scatter_vmap(info, in_dims, x, reduction, dim, ranks, group_size):
    grouped = _by_group(x.movedim(in_dims[0], 0), ranks, group_size)
    dim = dim % (grouped.dim() - 2)
    reduced = _REDUCTIONS[reduction](grouped, dim=1)  # [groups, ...]
    _reduced_shape(reduced[0], dim, group_size)
    chunks = reduced.unflatten(dim + 1, (group_size, -1)).movedim(dim + 1, 1)  # [groups, group_size, ...]
    return _by_rank(chunks.flatten(0, 1), ranks), 0


def _update_window(x: torch.Tensor, update: torch.Tensor, starts: list[torch.Tensor]) -> torch.Tensor:
    """The part of `x` that the update replaces; starts are clamped so that it fits, as XLA does."""
    for dim, (start, size) in enumerate(zip(starts, update.shape, strict=True)):
        if size != x.shape[dim]:
            x = x.narrow(dim, min(max(int(start), 0), x.shape[dim] - size), size)
    return x


@torch.library.impl(_library, "dynamic_update_slice", "CompositeExplicitAutograd")
def _dynamic_update_slice(x, update, starts):
    result = x.clone(memory_format=torch.contiguous_format)
    _update_window(result, update, starts).copy_(update)
    return result


@torch.library.impl(_library, "dynamic_update_slice_", "CompositeExplicitAutograd")
def _dynamic_update_slice_in_place(x, update, starts):
    _update_window(x, update, starts).copy_(update)
    return x


@torch.library.register_fake(f"{NAMESPACE}::dynamic_update_slice", lib=_library)
def _dynamic_update_slice_fake(x, update, starts):
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@torch.library.register_vmap(f"{NAMESPACE}::dynamic_update_slice", lib=_library)
def _dynamic_update_slice_vmap(info, in_dims, x, update, starts):
    if any(dim is not None for dim in in_dims[2]):
        raise NotImplementedError("dynamic_update_slice at a position that differs between ranks")
    x, update = (
        t.expand(info.batch_size, *t.shape) if dim is None else t.movedim(dim, 0)
        for t, dim in ((x, in_dims[0]), (update, in_dims[1]))
    )
    first = torch.zeros((), dtype=starts[0].dtype)
    return torch.ops.optimum_gemma4_simulator.dynamic_update_slice(x, update, [first, *starts]), 0
