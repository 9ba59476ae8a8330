# SPDX-License-Identifier: Apache-2.0
"""Which attention runs as an NKI kernel: one declared table, first match wins.

The thresholds follow optimum-neuron's for its own flash kernel where nothing better is known: no row was measured on a
device. A row's reason goes into the artifact with the choice.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from .schedules.blocks import HEAD_DIMS


NKI, COMPILER = "nki", "compiler"


@dataclass(frozen=True)
class Rule:
    """One row: the calls it matches and what runs them.

    Attributes:
        phase: "prefill" or "decode"; "any" matches both.
        head_dims: Head dims it matches; empty matches all.
        min_length: Fewest queries (prefill) or slots (decode).
        max_length: Most of them.
        lnc: Physical cores of a logical NeuronCore; empty matches all.
        platforms: Instance families; empty matches all.
        choice: "nki", or "compiler" for what the compiler makes of the torch twin.
        reason: Why.
        fits: False matches only what exceeds the kernel's own limits.
    """

    phase: str
    head_dims: tuple[int, ...]
    min_length: int
    max_length: int
    lnc: tuple[int, ...]
    platforms: tuple[str, ...]
    choice: str
    reason: str
    fits: bool = True

    def matches(self, phase: str, head_dim: int, length: int, lnc: int, platform: str, fits: bool) -> bool:
        """Whether this row decides a call."""
        return (
            self.phase in ("any", phase)
            and (self.fits or not fits)
            and (not self.head_dims or head_dim in self.head_dims)
            and self.min_length <= length <= self.max_length
            and (not self.lnc or lnc in self.lnc)
            and (not self.platforms or platform in self.platforms)
        )


_NO_LIMIT = 2**31

DISPATCH: tuple[Rule, ...] = (
    Rule(
        "any", (), 1, _NO_LIMIT, (2,), ("trn1", "inf2"), COMPILER, "these chips have no logical cores of two"
    ),
    Rule(
        "prefill", HEAD_DIMS, 1024, _NO_LIMIT, (1, 2), ("trn1", "inf2", "trn2"), NKI,
        "K and V are read once, masks cost nothing, and scores stay on chip",
    ),
    Rule(
        "prefill", (), 1, _NO_LIMIT, (), (), COMPILER, "short prompts, whose scores fit on chip, or another head dim"
    ),
    Rule(
        "decode", HEAD_DIMS, 1, _NO_LIMIT, (), (), COMPILER, "more query heads or rotated dims than the kernel takes",
        fits=False,
    ),
    Rule(
        "decode", HEAD_DIMS, 512, 131072, (1, 2), ("trn1", "inf2", "trn2"), NKI,
        "the cache is read once, and in the K = V form one copy of V serves both products",
    ),
    Rule(
        "decode", (), 131073, _NO_LIMIT, (), (), COMPILER,
        "the kernel is unrolled over the cache and would be too long",
    ),
    Rule(
        "decode", (), 1, _NO_LIMIT, (), (), COMPILER,
        "a small cache, where starting a kernel costs more, or another head dim",
    ),
)  # fmt: skip


def choose(phase: str, head_dim: int, length: int, lnc: int = 1, platform: str = "trn2", fits: bool = True) -> Rule:
    """The row that decides a call.

    Args:
        phase: "prefill" or "decode".
        head_dim: Of the layer.
        length: Queries of the prefill graph, or slots of the layer's cache.
        lnc: Physical cores of a logical NeuronCore.
        platform: "trn1", "inf2" or "trn2".
        fits: Whether the kernel takes the layer's heads (`decode_fits`).

    Raises:
        ValueError: If the phase is unknown.
    """
    if phase not in ("prefill", "decode"):
        raise ValueError(f"phase {phase!r}: expected 'prefill' or 'decode'.")
    return next(rule for rule in DISPATCH if rule.matches(phase, head_dim, length, lnc, platform, fits))


class Call(NamedTuple):
    """Attention of one layer in one graph.

    Attributes:
        graph: Name of the graph.
        layer: Index of the layer.
        phase: "prefill" or "decode".
        head_dim: Of the layer.
        length: Queries of the prefill graph, or slots of the layer's cache.
        fits: Whether the kernel takes the layer's heads.
    """

    graph: str
    layer: int
    phase: str
    head_dim: int
    length: int
    fits: bool = True


def dispatch_record(calls: Iterable[Call], lnc: int, platform: str, off: str | None = None) -> list[dict]:
    """What an artifact says about its attention: one entry for the layers of a graph that make the same call.

    Args:
        calls: Of every layer of every graph.
        lnc: Physical cores of a logical NeuronCore.
        platform: "trn1", "inf2" or "trn2".
        off: Why no kernel may be used, if so.

    Returns:
        JSON-ready dictionaries with `graph`, `layers`, `phase`, `head_dim`, `length`, `runs` ("nki" or "compiler") and
        `reason`, in order of first appearance.
    """
    layers: dict[Call, list[int]] = {}
    for call in calls:
        layers.setdefault(call._replace(layer=-1), []).append(call.layer)
    record = []
    for call, indices in layers.items():
        rule = choose(call.phase, call.head_dim, call.length, lnc, platform, call.fits)
        choice = {"runs": COMPILER if off else rule.choice, "reason": off or rule.reason}
        what = {name: getattr(call, name) for name in ("graph", "phase", "head_dim", "length")}
        record.append({**what, **choice, "layers": indices})
    return record


def render_dispatch(record: Iterable[dict]) -> str:
    """The record as lines for a verbose export."""
    return "\n".join(
        f"{entry['graph']:<22} {entry['phase']:<8} head_dim {entry['head_dim']:>3}  length {entry['length']:>7}  "
        f"{entry['runs']:<8} layers {_ranges(entry['layers'])}: {entry['reason']}"
        for entry in record
    )


def _ranges(indices: list[int]) -> str:
    """0-4, 6-10 for [0, 1, 2, 3, 4, 6, 7, 8, 9, 10]."""
    starts = [i for n, i in enumerate(indices) if n == 0 or indices[n - 1] != i - 1]
    stops = [i for n, i in enumerate(indices) if n + 1 == len(indices) or indices[n + 1] != i + 1]
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, stops))
