# SPDX-License-Identifier: Apache-2.0
"""Published limits and clocks of the NeuronCore generations that the simulator models.

NeuronCore-v2 is Trn1 and Inf2, NeuronCore-v3 is Trn2. Sources: SDK 2.26 `arch/trainium_inferentia2_arch.rst` and
`nki_direct_allocation_guide.rst` (SBUF: 192 KiB a partition of which the compiler keeps 16), SDK 2.29
`trainium2_arch.rst` (SBUF 224 KiB, clocks) and `nki-dma-bandwidth-guide.rst` (DMA engines and rates).
"""

from dataclasses import dataclass


PARTITIONS = 128
PSUM_BANKS = 8
PSUM_BANK_BYTES = 2048
MATMUL_STATIONARY_FREE = 128
MATMUL_MOVING_FREE = 512
PE_TRANSPOSE = 128
VECTOR_TRANSPOSE = 32
# Shortest time between two instructions of one engine, in its cycles ("roughly 64", SDK 2.26 isa stubs).
MIN_INTERVAL = 64
GPSIMD_START = 150
# Descriptors below this many bytes are "severely overhead-bound" (SDK 2.29 nki-dma-bandwidth-guide.rst).
DMA_SMALL_ROW = 256
DMA_FULL_ROW = 2048

PE = "pe"
VECTOR = "vector"
SCALAR = "scalar"
GPSIMD = "gpsimd"
DMA = "dma"
ENGINES = (PE, VECTOR, SCALAR, GPSIMD, DMA)


@dataclass(frozen=True)
class Generation:
    """One NeuronCore generation.

    Attributes:
        name: Platform name as NKI spells it (`platform_target`).
        version: NeuronCore version, as `nisa.get_nc_version()` gives it.
        sbuf_bytes: SBUF bytes a partition that a kernel may use.
        clocks: Clock of each compute engine in GHz (cycles a nanosecond).
        dma_bytes_per_ns: Sustained rate of the 16 DMA engines of one core together.
        dma_latency_ns: Time from issuing a DMA to its first byte arriving.
        shared_ports: Pairs of engines that cannot access the named memory at the same time.
    """

    name: str
    version: int
    sbuf_bytes: int
    clocks: dict[str, float]
    dma_bytes_per_ns: float
    dma_latency_ns: float
    shared_ports: tuple[tuple[str, str, str], ...]


TRN1 = Generation(
    name="trn1",
    version=2,
    sbuf_bytes=176 * 1024,
    clocks={PE: 2.8, VECTOR: 1.12, SCALAR: 1.4, GPSIMD: 1.4},
    dma_bytes_per_ns=272.0,
    dma_latency_ns=2000.0,
    shared_ports=(("sbuf", VECTOR, GPSIMD), ("psum", VECTOR, SCALAR)),
)
# The reserve of the compiler on NeuronCore-v3 is not published; the 16 KiB of NeuronCore-v2 are assumed.
TRN2 = Generation(
    name="trn2",
    version=3,
    sbuf_bytes=208 * 1024,
    clocks={PE: 2.4, VECTOR: 0.96, SCALAR: 1.2, GPSIMD: 1.2},
    dma_bytes_per_ns=368.0,
    dma_latency_ns=1300.0,
    shared_ports=(),
)
GENERATIONS = {"trn1": TRN1, "inf2": TRN1, "gen2": TRN1, "trn2": TRN2, "gen3": TRN2}


def generation(name: str) -> Generation:
    """Look a platform up by name.

    Args:
        name: `trn1`, `inf2` or `trn2` (also `gen2`, `gen3`).

    Raises:
        ValueError: If the platform is not modelled.
    """
    if name not in GENERATIONS:
        raise ValueError(f"NKI target {name!r} is not modelled; expected one of {sorted(GENERATIONS)}")
    return GENERATIONS[name]
