# SPDX-License-Identifier: Apache-2.0
"""Attention as the model calls it: the compiler's own, or the NKI kernel, whose torch twin runs off a Neuron device.

A kernel is called as `@nki.jit` documents it (SDK 2.26 `framework_custom_op`) and as NxD Inference calls its own
window and token kernels in SDK 2.26-2.29: the result is returned, not passed in, which is also the only convention of
the newer `nki` package; with `kernel[(nl.nc(2),)]` on logical cores of two. Its inputs are made bf16 and contiguous
first, because a later downcast of the graph would not reach the kernel. A model is on the device while it is traced:
its tensors are torch_xla's then.
"""

import torch

from . import decode_attention_torch, flash_prefill_torch
from .native_attention import native_cached, native_prefill


def prefill_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    end: torch.Tensor | None,
    *,
    window: int,
    scale: float,
    offset: int = 0,
    max_lookahead: int = 0,
    kernel: bool = True,
    lnc: int = 1,
) -> torch.Tensor:
    """Attention of S queries over T keys; arguments as `flash_prefill_torch.flash_prefill`.

    Args:
        q: [B, N, H, S].
        k: [B, K, H, T].
        v: [B, K, T, H].
        end: [B, S] integer or None.
        window: Keys a query sees including itself; 0 is no limit.
        scale: Factor of the scores.
        offset: Position of the first query.
        max_lookahead: Bound of end(i) - i.
        kernel: Whether `dispatch.choose` picked the kernel; without it the compiler-native form runs.
        lnc: Physical cores of a logical NeuronCore.

    Returns:
        [B, N, S, H].
    """
    options = {"window": window, "scale": scale, "offset": offset, "max_lookahead": max_lookahead}
    if not kernel:
        return native_prefill(q, k, v, end, **options)
    if not _on_neuron(q):
        return flash_prefill_torch.flash_prefill(q, k, v, end, **options)
    from .flash_prefill import flash_prefill

    heads, kv_heads, queries = q.shape[1], k.shape[1], q.shape[3]
    shared = kv_heads % lnc == 0 or (heads // kv_heads) % lnc == 0 or queries % (128 * lnc) == 0
    launch = _launch(flash_prefill, lnc if shared else 1)
    end = None if end is None else end.to(torch.int32).contiguous()
    return launch(_ready(q), _ready(k), _ready(v), end, **options).to(q.dtype)


def cached_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    age: torch.Tensor,
    *,
    q_rot: torch.Tensor | None = None,
    window: int,
    scale: float,
    kernel: bool = True,
    lnc: int = 1,
) -> torch.Tensor:
    """Attention of one token per sequence over its cache; arguments as `decode_attention_torch.decode_attention`.

    Args:
        q: [B, N, H].
        k: [B, K, T, H], or [B, K, T, R] in the K = V form.
        v: [B, K, T, H].
        age: [B, T] integer.
        q_rot: [B, N, R] in the K = V form.
        window: Keys the query sees including itself; 0 is no limit.
        scale: Factor of the scores.
        kernel: Whether `dispatch.choose` picked the kernel; without it the compiler-native form runs.
        lnc: Physical cores of a logical NeuronCore.

    Returns:
        [B, N, H].
    """
    options = {"window": window, "scale": scale}
    if not kernel:
        return native_cached(q, k, v, age, q_rot, **options)
    if not _on_neuron(q):
        return decode_attention_torch.decode_attention(q, k, v, age, q_rot, **options)
    from .decode_attention import decode_attention as attend

    batch, kv_heads, slots = q.shape[0], v.shape[1], v.shape[2]
    # Cores that cannot share key heads or sequences share the slots, and their results are joined here.
    whole = kv_heads % lnc == 0 or batch % lnc == 0
    parts = 1 if whole or slots % lnc else lnc
    launch = _launch(attend, lnc if whole or parts > 1 else 1)
    q_rot = None if q_rot is None else _ready(q_rot)
    age = age.to(torch.int32).contiguous()
    output = launch(_ready(q), _ready(k), _ready(v), age, q_rot, key_parts=parts, **options)
    return output.to(q.dtype) if parts == 1 else decode_attention_torch.merge_parts(output, q.dtype)


def _on_neuron(tensor: torch.Tensor) -> bool:
    from torch_xla.core import xla_model

    return xla_model.is_xla_tensor(tensor)


def _ready(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(torch.bfloat16).contiguous()


def _launch(kernel, cores: int):
    from .compat import core_grid

    return kernel[core_grid(cores)] if cores > 1 else kernel
