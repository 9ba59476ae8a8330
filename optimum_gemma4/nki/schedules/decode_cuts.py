# SPDX-License-Identifier: Apache-2.0
"""How a cache is read for decode attention: the static schedule of `decode_attention`.

Slots lie on the partitions, as many consecutive ones on each: slot = partition x columns + column. A section is a
range of columns, the same in every partition, so that a partition reads one contiguous piece of HBM; the slots of one
column are a block of 128 keys for the PE. What does not fill 128 partitions is a section of its own. All key heads
whose query heads fit in 32 rows are read together: one softmax chain for all of them.
Pure Python, shared by the kernel and its torch twin.
"""

from typing import NamedTuple


TILE = 128
ROWS = 32  # query heads of one softmax chain: what a Vector transpose takes
SECTION_BYTES = 32 * 1024  # K and V of a section, a partition; three sections are in SBUF
SECTION_BLOCKS = 8
PSUM_SCORES = 512  # fp32 scores of a partition in one PSUM bank


class Section(NamedTuple):
    """Columns `first` ... of all partitions; `partitions` < 128 only for the slots that fill no column."""

    first: int
    blocks: int
    partitions: int = TILE


class Step(NamedTuple):
    """One section of some key heads of one sequence; `first` and `last` of those heads' sections."""

    sequence: int
    head: int
    section: Section
    first: bool
    last: bool


class Plan(NamedTuple):
    """Key heads read together, columns of the widest section, and the steps in order."""

    heads: int
    blocks: int
    steps: tuple[Step, ...]


class Columns(NamedTuple):
    """Head dims contracted in one PE step: `count` runs of `width` dims, `stride` apart."""

    start: int
    count: int
    stride: int
    width: int

    @property
    def size(self) -> int:
        """Dims in the step."""
        return self.count * self.width


def plan_decode(sequences: int, heads: int, group: int, slots: int, slot_bytes: int) -> Plan:
    """The order in which one core reads its cache.

    Args:
        sequences: Sequences of this core.
        heads: Key heads of this core.
        group: Query heads of a key head, at most 32.
        slots: Slots of this core.
        slot_bytes: Bytes of a slot of one key head, K and V.
    """
    fitting = [n for n in range(1, heads + 1) if heads % n == 0 and n * group <= ROWS]
    together = max([n for n in fitting if n * slot_bytes <= SECTION_BYTES], default=1)
    widest = max(1, min(SECTION_BLOCKS, SECTION_BYTES // (together * slot_bytes), PSUM_SCORES // (together * group)))
    cuts = sections(slots, widest)
    steps = tuple(
        Step(sequence, head, cut, cut is cuts[0], cut is cuts[-1])
        for sequence in range(sequences)
        for head in range(0, heads, together)
        for cut in cuts
    )
    return Plan(together, max(cut.blocks for cut in cuts), steps)


def sections(slots: int, widest: int) -> tuple[Section, ...]:
    """Cut `slots` slots into sections of at most `widest` columns, as equal as they get."""
    columns = slots // TILE
    count = -(-columns // widest)
    edges = [index * columns // count for index in range(count + 1)] if count else []
    cuts = [Section(first, last - first) for first, last in zip(edges, edges[1:])]
    return tuple(cuts + ([Section(columns, 1, slots % TILE)] if slots % TILE else []))


def unrotated_columns(head_dim: int, rotated: int) -> tuple[Columns, ...]:
    """The contraction steps that cover the dims of V which RoPE leaves alone, each of at most 128 dims.

    The rotated dims are the first `rotated` / 2 of each half of the head. At (512, 128) the 384 others take three
    steps instead of the four of the whole head: the middle one joins the first half's end to the second half's start.

    Args:
        head_dim: Width of V.
        rotated: Number of rotated dims R; 0 covers the whole head.
    """
    half, skip = head_dim // 2, rotated // 2
    if not rotated:
        return tuple(Columns(start, 1, 0, TILE) for start in range(0, head_dim, TILE))
    rest = (half - skip) % TILE
    first = [Columns(start, 1, 0, TILE) for start in range(skip, half - rest, TILE)]
    second = [Columns(start, 1, 0, TILE) for start in range(half + skip + rest, head_dim, TILE)]
    if not rest:
        return tuple(first + second)
    if 2 * rest <= TILE:
        return tuple(first + [Columns(half - rest, 2, rest + skip, rest)] + second)
    middle = [Columns(half - rest, 1, 0, rest), Columns(half + skip, 1, 0, rest)]
    return tuple(first + middle + second)


def decode_fits(head_dim: int, rotated: int, heads: int, group: int) -> bool:
    """Whether the kernel takes such a layer; others are refused by it, and left to the compiler by the dispatch table.

    Args:
        head_dim: One of the kernel's.
        rotated: Rotated dims of the K = V form; 0 for the plain one.
        heads: Query heads.
        group: Query heads of a key head.
    """
    contractions = len(unrotated_columns(head_dim, rotated)) + (1 if rotated else 0)
    return rotated <= TILE and contractions <= PSUM_SCORES // TILE and group <= ROWS and heads <= TILE


def check_decode(q_shape, k_shape, v_shape, age_shape, q_rot_shape, key_parts: int) -> None:
    """Refuse shapes that decode attention does not define.

    Args:
        q_shape: [B, N, H].
        k_shape: [B, K, T, H], or [B, K, T, R] in the K = V form.
        v_shape: [B, K, T, H].
        age_shape: [B, T].
        q_rot_shape: [B, N, R] in the K = V form, else None.
        key_parts: Parts of the slots with separate results.

    Raises:
        ValueError: Naming the value, what was expected and what to change.
    """
    batch, heads, head_dim = q_shape
    _, kv_heads, slots, _ = v_shape
    if tuple(v_shape) != (batch, kv_heads, slots, head_dim):
        raise ValueError(f"v has shape {tuple(v_shape)}: expected [B, K, T, H] with B={batch}, H={head_dim} as in q.")
    width = head_dim if q_rot_shape is None else q_rot_shape[-1]
    if tuple(k_shape) != (batch, kv_heads, slots, width):
        raise ValueError(
            f"k has shape {tuple(k_shape)}: expected {(batch, kv_heads, slots, width)}; the K = V form (q_rot given) "
            "keeps the rotated dims only, the plain form all of them."
        )
    if q_rot_shape is not None and (tuple(q_rot_shape) != (batch, heads, width) or width % 2 or width > head_dim):
        raise ValueError(f"q_rot has shape {tuple(q_rot_shape)}: expected {(batch, heads)} + an even R <= {head_dim}.")
    if tuple(age_shape) != (batch, slots):
        raise ValueError(f"age has shape {tuple(age_shape)}: expected {(batch, slots)}, one value for every slot.")
    if heads % kv_heads:
        raise ValueError(f"{heads} query heads over {kv_heads} key heads: expected a multiple; repeat or pad heads.")
    if key_parts < 1 or slots % key_parts:
        raise ValueError(f"{slots} slots in {key_parts} parts: expected equal parts; use key_parts=1.")
