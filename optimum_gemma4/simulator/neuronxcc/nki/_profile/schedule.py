# SPDX-License-Identifier: Apache-2.0
"""Timeline of one program in program order: when each instruction would run on a NeuronCore of a given generation.

Each compute engine takes its instructions as the kernel issues them; one starts when its engine is free and the
instructions it depends on are done. `reorder.py` is the other model, of a compiler that reorders. Tiles made in a loop
body are renamed from iteration to iteration as long as memory allows: a tile may only be filled once SBUF has room, or
a PSUM bank is free. DMAs share the bandwidth of the 16 engines, start as early as their data and memory allow, and
arrive a fixed latency later. Not modelled: semaphore and dispatch overheads, bank conflicts, HBM contention between
cores. The result is a bound from below with realistic overlap.
"""

import bisect
import heapq
from dataclasses import dataclass

from .._machine import hardware
from .._machine.hardware import DMA, PSUM_BANKS, Generation
from .trace import Trace


@dataclass(frozen=True)
class Timeline:
    """Scheduled program.

    Attributes:
        starts: Start of each instruction, ns.
        ends: End of each instruction, ns.
        total: End of the last one, ns.
        busy: Busy time of each engine, ns; for `dma` the time the bandwidth is used.
    """

    starts: list[float]
    ends: list[float]
    total: float
    busy: dict[str, float]


class _Bandwidth:
    """The time line of the DMA engines together: reservations fill the earliest gaps."""

    def __init__(self):
        self.begins, self.ends = [], []

    def reserve(self, ready: float, length: float) -> tuple[float, float]:
        """Take `length` of free time from `ready` on, in pieces if need be; (first start, last end)."""
        first = index = bisect.bisect_right(self.ends, ready)
        start, time = None, ready
        while True:
            if index < len(self.begins) and self.begins[index] <= time:
                time = max(time, self.ends[index])
                index += 1
                continue
            if start is None:
                start = time
            gap = self.begins[index] - time if index < len(self.begins) else float("inf")
            if gap >= length:
                time += length
                break
            length -= gap
            time = self.begins[index]
        # All that lies between the first interval passed and the end is busy now.
        begin = min(start, self.begins[first]) if index > first else start
        self.begins[first:index] = [begin]
        self.ends[first:index] = [time]
        return start, time


class _Pool:
    """Free SBUF bytes over time: space comes back when the last reader of a tile is done."""

    def __init__(self, size: int):
        self.free = size
        self.returns: list[tuple[float, int]] = []

    def take(self, size: int) -> float:
        """Earliest time at which `size` bytes are free; takes them."""
        moment = 0.0
        while self.free < size and self.returns:
            moment, back = heapq.heappop(self.returns)
            self.free += back
        self.free -= size
        return moment

    def give(self, moment: float, size: int) -> None:
        """Return space at a time."""
        heapq.heappush(self.returns, (moment, size))


def dma_time(transfer, generation: Generation) -> float:
    """Bandwidth time of a transfer in ns; short descriptor rows waste it in proportion.

    The published curve says: near peak from 2 KiB a row, "severely overhead-bound" below 256 bytes. Rows of at least
    512 bytes are taken at peak, shorter ones as if they were 512 bytes long.
    """
    row = max(1, transfer.row_bytes)
    return transfer.bytes * max(1.0, 512 / row) / generation.dma_bytes_per_ns


def schedule(trace: Trace, generation: Generation, fast: bool = False) -> Timeline:
    """Schedule a program.

    Args:
        trace: Its instructions and allocations.
        generation: The core.
        fast: Use the bf16 performance modes of NeuronCore-v3's Vector Engine.
    """
    opens: dict[int, list] = {}
    closes: dict[int, list] = {}
    for allocation in trace.allocations:
        if allocation.first is not None:
            opens.setdefault(allocation.first, []).append(allocation)
            closes.setdefault(allocation.last, []).append(allocation)
    sbuf, psum, bandwidth = _Pool(generation.sbuf_bytes), _Pool(PSUM_BANKS), _Bandwidth()
    free = dict.fromkeys(hardware.ENGINES, 0.0)
    busy = dict.fromkeys(hardware.ENGINES, 0.0)
    ports = dict.fromkeys((memory for memory, _, _ in generation.shared_ports), 0.0)
    starts, ends = [], []
    for position, instruction in enumerate(trace.instructions):
        ready = max((ends[d] for d in instruction.depends), default=0.0)
        for allocation in opens.get(position, ()):
            pool, size = (sbuf, allocation.bytes) if allocation.memory == "sbuf" else (psum, 1)
            ready = max(ready, pool.take(size))
        engine = instruction.engine
        if engine == DMA:
            length = dma_time(instruction.dma, generation)
            start, finished = bandwidth.reserve(ready, length)
            end = finished + generation.dma_latency_ns
        else:
            length = (instruction.fast_cycles if fast else instruction.cycles) / generation.clocks[engine]
            start = max(ready, free[engine])
            used = [m for m, a, b in generation.shared_ports if engine in (a, b) and m in instruction.memories]
            start = max([start] + [ports[m] for m in used])
            end = free[engine] = start + length
            for memory in used:
                ports[memory] = end
        busy[engine] += length
        starts.append(start)
        ends.append(end)
        for allocation in closes.get(position, ()):
            pool, size = (sbuf, allocation.bytes) if allocation.memory == "sbuf" else (psum, 1)
            pool.give(end, size)
    return Timeline(starts, ends, max(ends, default=0.0), busy)
