# SPDX-License-Identifier: Apache-2.0
"""Attention for head dims 128, 256 and 512: NKI kernels, their torch twins and the table that chooses.

Importing this needs torch alone; a kernel module imports `neuronxcc` and is imported when a kernel is called.
"""

from .dispatch import DISPATCH, Call, Rule, choose, dispatch_record, render_dispatch
from .entry_points import cached_attention, prefill_attention
from .schedules.decode_cuts import decode_fits


__all__ = [
    "DISPATCH",
    "Call",
    "Rule",
    "cached_attention",
    "choose",
    "decode_fits",
    "dispatch_record",
    "prefill_attention",
    "render_dispatch",
]
