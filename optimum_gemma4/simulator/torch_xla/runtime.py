# SPDX-License-Identifier: Apache-2.0
"""Stand-in for torch_xla.runtime: one process, which is the only one."""


def world_size() -> int:
    """Number of processes: the simulated ranks share one."""
    return 1


def global_ordinal() -> int:
    """Ordinal of this process."""
    return 0


def local_ordinal() -> int:
    """Ordinal of this process on its host."""
    return 0
