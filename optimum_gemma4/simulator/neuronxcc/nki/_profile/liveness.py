# SPDX-License-Identifier: Apache-2.0
"""Peak use of SBUF and PSUM by the life of every tile, and the refusal when it does not fit.

A tile lives from the first to the last instruction that touches it, in program order: what a compiler with liveness
analysis reaches without reordering. SBUF is counted in bytes a partition, PSUM in banks (one tile, one bank). Tensors
of a loop body are counted once for each iteration that is alive, so buffers that carry no data across iterations
share their space; multi-buffering beyond that is modelled by the timeline.
"""

from dataclasses import dataclass

from .._machine.errors import CapacityError
from .._machine.hardware import PSUM_BANKS, Generation
from .trace import Allocation, Trace


@dataclass(frozen=True)
class Peak:
    """Greatest simultaneous use of one memory.

    Attributes:
        size: Bytes a partition (SBUF) or banks (PSUM).
        live: The tiles alive then, the largest first, tiles of one name added up as (name, size, count).
    """

    size: int
    live: tuple[tuple[str, int, int], ...]


def peak(trace: Trace, memory: str) -> Peak:
    """Find the peak of `sbuf` (bytes a partition) or `psum` (banks)."""
    tiles = [a for a in trace.allocations if a.memory == memory and a.first is not None]
    events = []
    for tile in tiles:
        size = tile.bytes if memory == "sbuf" else 1
        events.append((tile.first, 1, size))
        # A tile's space is free after its last instruction, which may read it while another is written.
        events.append((tile.last + 0.5, 0, -size))
    use = best = 0
    moment = 0.0
    for position, _, change in sorted(events):
        use += change
        if use > best:
            best, moment = use, position
    return Peak(best, _named([t for t in tiles if t.first <= moment <= t.last], memory))


def _named(tiles: list[Allocation], memory: str):
    sums: dict[str, list[int]] = {}
    for tile in tiles:
        entry = sums.setdefault(tile.name, [0, 0])
        entry[0] += tile.bytes if memory == "sbuf" else 1
        entry[1] += 1
    return tuple(sorted(((n, s, c) for n, (s, c) in sums.items()), key=lambda x: -x[1]))


def check_capacity(trace: Trace, generation: Generation, kernel: str) -> None:
    """Refuse a program whose live data exceeds SBUF or PSUM.

    Raises:
        CapacityError: With the largest tensors alive at the peak.
    """
    for memory, limit, unit in (("sbuf", generation.sbuf_bytes, "bytes a partition"), ("psum", PSUM_BANKS, "banks")):
        found = peak(trace, memory)
        if found.size > limit:
            largest = ", ".join(f"{n} {s}" + (f" ({c} tiles)" if c > 1 else "") for n, s, c in found.live[:6])
            raise CapacityError(
                f"kernel {kernel}: live data needs {found.size} {unit} of {memory.upper()}, {generation.name} has "
                f"{limit}; largest: {largest}"
            )
