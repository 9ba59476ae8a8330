# SPDX-License-Identifier: Apache-2.0
"""How a cache is cut for decode attention: the static schedule of `decode_attention`.

A section is read in one go: 128 partitions with the same number of consecutive slots each, so that every partition
reads one contiguous piece of HBM (8 KiB for 8 slots of V at head dim 512). Slots of one partition that share an index
form a block of up to 128 keys for the PE. What does not fill 128 partitions is a last section of its own.
Pure Python, shared by the kernel and its torch twin.
"""

from typing import NamedTuple


TILE = 128
SECTION_BLOCKS = 8  # blocks of 128 slots in a section: 1024 slots, 8 KiB a partition of V at head dim 512


class Section(NamedTuple):
    """`partitions` x `blocks` consecutive slots from `start` on."""

    start: int
    partitions: int
    blocks: int


class Step(NamedTuple):
    """One section of one key head of one sequence, in the order in which the kernel reads them."""

    sequence: int
    head: int
    section: int


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


def sections(slots: int, section_blocks: int = SECTION_BLOCKS) -> tuple[Section, ...]:
    """Cut `slots` consecutive slots into sections, in order."""
    result, start = [], 0
    while start < slots:
        blocks = min(section_blocks, (slots - start) // TILE)
        result.append(Section(start, TILE, blocks) if blocks else Section(start, slots - start, 1))
        start += result[-1].partitions * result[-1].blocks
    return tuple(result)


def decode_steps(sequences: int, heads: int, num_sections: int) -> tuple[Step, ...]:
    """Every section of every key head of every sequence."""
    return tuple(
        Step(sequence, head, section)
        for sequence in range(sequences)
        for head in range(heads)
        for section in range(num_sections)
    )


def unrotated_columns(head_dim: int, rotated: int) -> tuple[Columns, ...]:
    """The contraction steps that cover the dims of V which RoPE leaves alone, each of at most 128 dims.

    The rotated dims are the first `rotated` / 2 of each half of the head. At (512, 128) the 384 others take three steps
    instead of the four of the whole head: the middle one joins the end of the first half to the second half's start.

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
