# SPDX-License-Identifier: Apache-2.0
"""Stand-in for neuronx_distributed.parallel_layers.pad: how many heads must be added for a tensor-parallel degree."""

from .utils import get_padding_length


def get_number_of_extra_heads(n_head: int, tp_degree: int) -> int:
    """Returns how many heads to add to `n_head` to make it a multiple of `tp_degree`."""
    return get_padding_length(n_head, tp_degree)
