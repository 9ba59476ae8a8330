# SPDX-License-Identifier: Apache-2.0
"""Timeline of one program as a scheduling compiler would run it: greedy list scheduling within a window.

The Neuron compiler reorders independent instructions unless told not to (SDK 2.26 `nki.compiler.no_reorder`), which
overlaps one tile's softmax with the next tile's matmuls. Here an engine takes, of the instructions within `WINDOW`
positions of the oldest unfinished one, the first whose inputs are ready. Running ahead may only use the SBUF bytes and
PSUM banks that program order does not need at its peak, so that the oldest instruction can always proceed.
"""

import heapq

from .._machine import hardware
from .._machine.hardware import DMA, PSUM_BANKS, Generation
from .liveness import peak
from .schedule import Timeline, dma_time
from .trace import Trace


# Instructions the scheduler looks ahead. The compiler's own horizon is not published; a few tiles suffice to overlap.
WINDOW = 512


class _Memory:
    """Space of one memory that instructions ahead of program order may take."""

    def __init__(self, capacity: int, needed: int):
        self.spare = capacity - needed
        self.ahead = 0


class _Scheduler:
    def __init__(self, trace: Trace, generation: Generation, fast: bool):
        self.trace, self.generation, self.fast = trace, generation, fast
        self.memories = {
            "sbuf": _Memory(generation.sbuf_bytes, peak(trace, "sbuf").size),
            "psum": _Memory(PSUM_BANKS, peak(trace, "psum").size),
        }
        size = len(trace.instructions)
        self.starts, self.ends = [0.0] * size, [None] * size
        self.missing = [len(i.depends) for i in trace.instructions]
        self.ready_at = [0.0] * size
        self.followers: list[list[int]] = [[] for _ in range(size)]
        for position, instruction in enumerate(trace.instructions):
            for dependency in instruction.depends:
                self.followers[dependency].append(position)
        self.opens: dict[int, list] = {}
        self.closes: dict[int, list] = {}
        self.left = {}
        for allocation in trace.allocations:
            if allocation.first is not None:
                self.opens.setdefault(allocation.first, []).append(allocation)
                self.left[id(allocation)] = len(allocation.uses)
                for use in allocation.uses:
                    self.closes.setdefault(use, []).append(allocation)
        self.oldest = 0
        self.free = dict.fromkeys(hardware.ENGINES, 0.0)
        self.busy = dict.fromkeys(hardware.ENGINES, 0.0)
        self.ports = dict.fromkeys((memory for memory, _, _ in generation.shared_ports), 0.0)
        # Ready instructions by engine: those whose inputs are there by position, the others by time.
        self.waiting = {engine: [] for engine in hardware.ENGINES}
        self.available = {engine: [] for engine in hardware.ENGINES}
        self.beyond: list[int] = []
        self.blocked: list[int] = []
        # Allocations opened ahead of program order, by opener; and space that comes back at a time.
        self.held_ahead: dict[int, list] = {}
        self.releases: list[tuple[float, str, int]] = []
        for position in range(size):
            if not self.missing[position]:
                self._admit(position)

    def _admit(self, position: int) -> None:
        if position >= self.oldest + WINDOW:
            heapq.heappush(self.beyond, position)
            return
        engine = self.trace.instructions[position].engine
        heapq.heappush(self.waiting[engine], (self.ready_at[position], position))

    def _candidate(self, engine: str):
        """(start, position) of what an engine would run next."""
        waiting, available, free = self.waiting[engine], self.available[engine], self.free[engine]
        while waiting and waiting[0][0] <= free:
            heapq.heappush(available, heapq.heappop(waiting)[1])
        if available:
            return free, available[0]
        return waiting[0] if waiting else None

    def _remove(self, engine: str, position: int) -> None:
        if self.available[engine] and self.available[engine][0] == position:
            heapq.heappop(self.available[engine])
        else:
            heapq.heappop(self.waiting[engine])

    def _room(self, position: int, start: float) -> bool:
        """Whether the tiles that an instruction opens may be opened at `start`; takes the space."""
        while self.releases and self.releases[0][0] <= start:
            _, memory, size = heapq.heappop(self.releases)
            self.memories[memory].ahead -= size
        tiles = self.opens.get(position)
        if not tiles or position == self.oldest:
            return True
        need = {"sbuf": 0, "psum": 0}
        for tile in tiles:
            need[tile.memory] += tile.bytes if tile.memory == "sbuf" else 1
        if any(self.memories[m].ahead + size > self.memories[m].spare for m, size in need.items() if size):
            return False
        for memory, size in need.items():
            self.memories[memory].ahead += size
        for tile in tiles:
            self.held_ahead[id(tile)] = tile
        return True

    def run(self) -> Timeline:
        """Schedule everything."""
        instructions = self.trace.instructions
        for _ in instructions:
            while True:
                options = [(c, e) for e in hardware.ENGINES if (c := self._candidate(e)) is not None]
                if options:
                    (start, position), engine = min(options)
                    self._remove(engine, position)
                    if self._room(position, start):
                        break
                    self.blocked.append(position)
                else:
                    self._wake()
            self._place(position, engine, start)
        return Timeline(self.starts, self.ends, max(self.ends, default=0.0), self.busy)

    def _wake(self) -> None:
        """Nothing can start: wait for the next release of space, or let the oldest instruction through."""
        if self.releases:
            moment = self.releases[0][0]
            for position in self.blocked:
                self.ready_at[position] = max(self.ready_at[position], moment)
            while self.releases and self.releases[0][0] <= moment:
                _, memory, size = heapq.heappop(self.releases)
                self.memories[memory].ahead -= size
        blocked, self.blocked = self.blocked, []
        for position in blocked:
            self._admit(position)

    def _place(self, position: int, engine: str, start: float) -> None:
        instruction = self.trace.instructions[position]
        if engine == DMA:
            length = dma_time(instruction.dma, self.generation)
            self.free[engine] = start + length
            end = start + length + self.generation.dma_latency_ns
        else:
            cycles = instruction.fast_cycles if self.fast else instruction.cycles
            length = cycles / self.generation.clocks[engine]
            for memory, first, second in self.generation.shared_ports:
                if engine in (first, second) and memory in instruction.memories:
                    start = max(start, self.ports[memory])
                    self.ports[memory] = start + length
            end = self.free[engine] = start + length
        self.busy[engine] += length
        self.starts[position], self.ends[position] = start, end
        for tile in self.closes.get(position, ()):
            self.left[id(tile)] -= 1
            if not self.left[id(tile)] and id(tile) in self.held_ahead:
                del self.held_ahead[id(tile)]
                size = tile.bytes if tile.memory == "sbuf" else 1
                heapq.heappush(self.releases, (end, tile.memory, size))
        for follower in self.followers[position]:
            self.missing[follower] -= 1
            self.ready_at[follower] = max(self.ready_at[follower], end)
            if not self.missing[follower]:
                self._admit(follower)
        if position == self.oldest:
            self._advance()

    def _advance(self) -> None:
        """Move the oldest unfinished position on: tiles it passes are part of program order's own need now."""
        size = len(self.ends)
        while self.oldest < size and self.ends[self.oldest] is not None:
            for tile in self.opens.get(self.oldest, ()):
                if self.held_ahead.pop(id(tile), None) is not None:
                    self.memories[tile.memory].ahead -= tile.bytes if tile.memory == "sbuf" else 1
            self.oldest += 1
        while self.beyond and self.beyond[0] < self.oldest + WINDOW:
            self._admit(heapq.heappop(self.beyond))
        blocked, self.blocked = self.blocked, []
        for position in blocked:
            self.ready_at[position] = max(self.ready_at[position], 0.0)
            self._admit(position)


def reordered(trace: Trace, generation: Generation, fast: bool = False) -> Timeline:
    """Schedule a program with reordering.

    Args:
        trace: Its instructions and allocations.
        generation: The core.
        fast: Use the bf16 performance modes of NeuronCore-v3's Vector Engine.
    """
    return _Scheduler(trace, generation, fast).run()
