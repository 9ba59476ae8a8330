# SPDX-License-Identifier: Apache-2.0
"""NKI kernels as a torch operator: the node that a traced model gets where the SDK's graph has a custom call.

On several ranks the node runs once for each, as every rank of a device runs its own kernel: operands that differ
between ranks carry the rank axis, `on_ranks` says which. OPTIMUM_GEMMA4_NKI chooses what runs (`policy.nki_mode`).
"""

import torch

from ..policy import nki_mode
from .nki_call import NkiCall, parse_call
from .operators import NAMESPACE


_library = torch.library.Library(NAMESPACE, "FRAGMENT")
_library.define("nki_kernel(str call, Tensor[] operands, bool[] on_ranks) -> Tensor[]")
NKI_KERNEL = torch.ops.optimum_gemma4_simulator.nki_kernel.default


def record_kernel(kernel, grid, args: tuple, kwargs: dict):
    """Put a call of a `Kernel` into the graph that is being recorded.

    Returns:
        What the kernel returns; with `nki_jit`'s convention the arguments that it stored to, which now hold the
        results.
    """
    from torch_neuronx.utils import get_platform_target

    target = kernel.platform_target or get_platform_target()
    call, operands = NkiCall.of(kernel, grid, target, args, kwargs)
    results = NKI_KERNEL(call.to_json(), operands, [False] * len(operands))
    if call.stored is not None:
        results = [operands[index].copy_(result) for index, result in zip(call.stored, results, strict=True)]
    return results[0] if len(results) == 1 else tuple(results)


def _without_ranks(operands: list[torch.Tensor], on_ranks: list[bool]) -> list[torch.Tensor]:
    return [operand[0] if flag else operand for operand, flag in zip(operands, on_ranks, strict=True)]


@torch.library.impl(_library, "nki_kernel", "CompositeExplicitAutograd")
def _nki_kernel(call, operands, on_ranks):
    parsed = parse_call(call)
    by_twin = nki_mode() == "twin" and parsed.twin() is not None
    run = parsed.run_twin if by_twin else parsed.run_simulated
    if not any(on_ranks):
        return run(operands)
    if by_twin:
        in_dims = tuple(0 if flag else None for flag in on_ranks)
        return [result.contiguous() for result in torch.vmap(lambda *own: run(own), in_dims)(*operands)]
    ranks = next(operand.shape[0] for operand, flag in zip(operands, on_ranks) if flag)
    results = [run([o[rank] if flag else o for o, flag in zip(operands, on_ranks)]) for rank in range(ranks)]
    return [torch.stack(parts) for parts in zip(*results, strict=True)]


@torch.library.register_fake(f"{NAMESPACE}::nki_kernel", lib=_library)
def _nki_kernel_fake(call, operands, on_ranks):
    results = parse_call(call).outputs(_without_ranks(operands, on_ranks), nki_mode() == "simulate")
    ranks = [operand.shape[0] for operand, flag in zip(operands, on_ranks) if flag][:1]
    return [result.new_empty((*ranks, *result.shape)) for result in results]


@torch.library.register_vmap(f"{NAMESPACE}::nki_kernel", lib=_library)
def _nki_kernel_vmap(info, in_dims, call, operands, on_ranks):
    dims = in_dims[1]
    operands = [operand if dim is None else operand.movedim(dim, 0) for operand, dim in zip(operands, dims)]
    results = NKI_KERNEL(call, operands, [dim is not None for dim in dims])
    return results, [0] * len(results)
