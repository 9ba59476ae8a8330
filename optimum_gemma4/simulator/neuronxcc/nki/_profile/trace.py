# SPDX-License-Identifier: Apache-2.0
"""The record of one program: every instruction with its engine, cost and dependencies, and the life of each buffer.

The record is what the reports are computed from afterwards, for either NeuronCore generation. Costs are in cycles of
the instruction's engine (SDK 2.26 isa stubs); a DMA has bytes instead.
"""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Instruction:
    """One executed instruction.

    Attributes:
        engine: `pe`, `vector`, `scalar`, `gpsimd` or `dma`.
        name: Instruction name, as in `nki.isa`.
        cycles: Engine cycles by the SDK 2.26 formulas (0 for DMA).
        fast_cycles: Engine cycles with the bf16 performance modes of NeuronCore-v3's Vector Engine.
        depends: Positions of the instructions that must finish first.
        memories: Memories it touches: `sbuf`, `psum`, `hbm`.
        dma: What a DMA moved, if it is one.
    """

    engine: str
    name: str
    cycles: float
    fast_cycles: float
    depends: set
    memories: tuple
    dma: "Transfer | None" = None


@dataclass(slots=True)
class Transfer:
    """Bytes of one DMA.

    Attributes:
        bytes: Bytes moved.
        row_bytes: Contiguous bytes of one descriptor.
        tensor: Name of the kernel argument or HBM tensor.
        direction: `read` (from HBM), `write` (to HBM) or `local` (within the core).
    """

    bytes: int
    row_bytes: int
    tensor: str
    direction: str


@dataclass(slots=True)
class Allocation:
    """Life of one physical tile in SBUF or PSUM.

    Attributes:
        name: Name of the tensor.
        memory: `sbuf` or `psum`.
        bytes: Bytes a partition.
        first: Position of the first instruction that touches it; None if none does.
        last: Position of the last one.
        uses: Positions of the instructions that touch it.
    """

    name: str
    memory: str
    bytes: int
    first: int | None = None
    last: int | None = None
    uses: list[int] = field(default_factory=list)


@dataclass
class Trace:
    """Instructions and allocations of one program, in program order."""

    instructions: list[Instruction] = field(default_factory=list)
    allocations: list[Allocation] = field(default_factory=list)
    relaxed: dict[str, int] = field(default_factory=dict)
    unwritten: dict[str, int] = field(default_factory=dict)

    def add(self, engine, name, cycles, depends, memories=(), fast_cycles=None, dma=None) -> int:
        """Append an instruction and return its position."""
        fast = cycles if fast_cycles is None else fast_cycles
        self.instructions.append(Instruction(engine, name, cycles, fast, depends, memories, dma))
        return len(self.instructions) - 1
