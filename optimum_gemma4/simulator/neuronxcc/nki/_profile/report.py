# SPDX-License-Identifier: Apache-2.0
"""Cost reports of kernel launches: counts, engine cycles, DMA bytes, peak memory and timelines, for each core.

All figures are simulated: cycles by the documented formulas, times at the published clocks and bandwidths. Programs of
a grid that share a core are added up; cores run side by side. Nothing here was measured on a device.
"""

from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field

from .._frontend.launch import Launch, simulate
from .._machine.hardware import DMA, DMA_SMALL_ROW, ENGINES, Generation, generation
from .liveness import peak
from .reorder import reordered
from .schedule import Timeline, schedule
from .trace import Trace


@dataclass
class CoreReport:
    """What one core did in one launch.

    Attributes:
        core: Number of the physical core.
        traces: Its programs, in order.
        target: Platform the kernel was compiled for.
    """

    core: int
    traces: list[Trace]
    target: str
    _timelines: dict = field(default_factory=dict, repr=False)

    def _instructions(self):
        return (i for trace in self.traces for i in trace.instructions)

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Instructions by engine and name."""
        found: dict[str, Counter] = {engine: Counter() for engine in ENGINES}
        for instruction in self._instructions():
            found[instruction.engine][instruction.name] += 1
        return {engine: dict(names) for engine, names in found.items()}

    def count(self, name: str) -> int:
        """Instructions of one name."""
        return sum(names.get(name, 0) for names in self.counts.values())

    def cycles(self, engine: str, fast: bool = False) -> float:
        """Cycles of one engine; `fast` with the Vector performance modes of NeuronCore-v3."""
        chosen = (i for i in self._instructions() if i.engine == engine)
        return sum(i.fast_cycles if fast else i.cycles for i in chosen)

    def engine_ns(self, target: str | None = None, fast: bool = False) -> dict[str, float]:
        """Busy time of each compute engine at its clock, ns."""
        core = generation(target or self.target)
        return {e: self.cycles(e, fast) / core.clocks[e] for e in ENGINES if e != DMA}

    @property
    def dma_bytes(self) -> dict[tuple[str, str], int]:
        """Bytes by (tensor, direction); direction is `read`, `write` or `local`."""
        moved: Counter = Counter()
        for instruction in self._instructions():
            if instruction.dma is not None:
                moved[instruction.dma.tensor, instruction.dma.direction] += instruction.dma.bytes
        return dict(moved)

    def bytes_of(self, *tensors: str) -> int:
        """HBM bytes read and written of some tensors."""
        return sum(size for (name, _), size in self.dma_bytes.items() if name in tensors)

    @property
    def small_row_bytes(self) -> int:
        """Bytes moved in descriptor rows below 256 bytes."""
        return sum(i.dma.bytes for i in self._instructions() if i.dma and i.dma.row_bytes < DMA_SMALL_ROW)

    @property
    def peak_sbuf(self) -> int:
        """Greatest SBUF use, bytes a partition."""
        return max((peak(trace, "sbuf").size for trace in self.traces), default=0)

    @property
    def peak_psum(self) -> int:
        """Greatest PSUM use, banks."""
        return max((peak(trace, "psum").size for trace in self.traces), default=0)

    def timelines(self, target: str | None = None, fast: bool = False, reorder: bool = True) -> list[Timeline]:
        """Schedules of the programs on a generation.

        Args:
            target: Platform; the one the kernel was compiled for by default.
            fast: With the Vector performance modes of NeuronCore-v3.
            reorder: Let the compiler reorder independent instructions; otherwise engines keep program order.
        """
        core: Generation = generation(target or self.target)
        key = (core.name, fast, reorder)
        if key not in self._timelines:
            plan = reordered if reorder else schedule
            self._timelines[key] = [plan(trace, core, fast) for trace in self.traces]
        return self._timelines[key]

    def total_ns(self, target: str | None = None, fast: bool = False, reorder: bool = True) -> float:
        """Length of the timeline, ns."""
        return sum(t.total for t in self.timelines(target, fast, reorder))

    def busy_ns(self, engine: str, target: str | None = None, fast: bool = False) -> float:
        """Busy time of an engine in the timeline, ns; for `dma` the time its bandwidth is used."""
        return sum(t.busy[engine] for t in self.timelines(target, fast))

    @property
    def relaxed(self) -> dict[str, int]:
        """Rules that the kernel broke with permission, and how often."""
        return dict(sum((Counter(trace.relaxed) for trace in self.traces), Counter()))

    @property
    def unwritten(self) -> dict[str, int]:
        """Elements of outputs that no instruction wrote."""
        return {name: count for trace in self.traces for name, count in trace.unwritten.items()}


class NkiReport:
    """Reports of the launches made inside `profile`."""

    def __init__(self, target: str):
        self.target = target
        self.launches: list[Launch] = []

    def cores(self, launch: int = -1) -> list[CoreReport]:
        """Reports of the cores of one launch, the last one by default.

        Raises:
            ValueError: If no kernel was launched.
        """
        if not self.launches:
            raise ValueError("no kernel was launched inside nki_profile; call the kernel within the with block")
        programs = self.launches[launch].programs
        cores = sorted({core for _, core, _ in programs})
        return [
            CoreReport(c, [t for _, core, t in programs if core == c], self.launches[launch].target) for c in cores
        ]

    @property
    def core(self) -> CoreReport:
        """Report of the busiest core (by PE cycles) of the last launch."""
        return max(self.cores(), key=lambda c: c.cycles("pe"))


@contextmanager
def profile(target: str = "trn2", relaxed=()):
    """Collect the cost of the kernels called in a with block.

    Args:
        target: `trn1`, `inf2` or `trn2`; a kernel's own `platform_target` wins.
        relaxed: Rules that kernels may break, see `context.RELAXATIONS`.

    Yields:
        An `NkiReport`.
    """
    report = NkiReport(generation(target).name)
    with simulate(target=target, relaxed=relaxed, observer=report.launches.append):
        yield report
