# SPDX-License-Identifier: Apache-2.0
"""How messages of the export put errors and sizes."""

__all__ = ["GIB", "MIB", "one_line", "size"]

MIB, GIB = 2**20, 2**30


def one_line(error: Exception) -> str:
    """What an error says, without line breaks."""
    return " ".join(str(error).split())


def size(count: int) -> str:
    """A number of bytes, in MiB or GiB."""
    return f"{count / GIB:.2f} GiB" if count >= GIB / 10 else f"{count / MIB:.2f} MiB"
