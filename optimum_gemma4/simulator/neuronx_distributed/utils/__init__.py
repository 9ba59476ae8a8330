# SPDX-License-Identifier: Apache-2.0
"""Stand-in for neuronx_distributed.utils."""

from .utils import hardware  # noqa: F401


def cpu_mode() -> bool:
    """Whether NxD runs without a device; a traced model never does."""
    return False
