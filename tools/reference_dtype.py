# SPDX-License-Identifier: Apache-2.0
"""Casts a reference model as `from_pretrained(dtype=...)` would load it, for models whose weights are drawn.

`Module.to(dtype)` alone would also round the rotary frequencies, which transformers keeps in float32.
"""

import torch
from torch import nn


__all__ = ["cast"]


def cast(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The model itself, with its parameters and buffers but for the rotary frequencies in `dtype`."""
    frequencies = {name: buffer for name, buffer in model.named_buffers() if "inv_freq" in name}
    model.to(dtype)
    for name, buffer in frequencies.items():
        owner, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(owner), attribute, buffer)
    return model
