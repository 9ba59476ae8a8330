# SPDX-License-Identifier: Apache-2.0
"""Which keys a tile of queries reads: the static schedule of prefill attention.

A tile is up to 128 queries; its keys are read in banks of up to 512 (one PSUM bank of fp32 scores), each starting at a
multiple of 128 so that V blocks are never split. A bank outside the window or beyond the last key that any query of
the tile may see is not in the schedule; a bank that every query sees whole is not masked. Positions that are only
known at run time (the end of an image) enter as `max_lookahead`, the largest distance a query may look ahead.
Pure Python: the kernel and its torch twin read the same functions.
"""

from typing import NamedTuple


TILE = 128  # partitions: queries in a tile, keys in a V block, head dims in a contraction step
BANK = 512  # fp32 scores in one PSUM bank, and the widest moving operand of the PE
CHUNK = 1024  # queries loaded in one go: 2 KiB a row, from where DMA is efficient
HEAD_DIMS = (128, 256, 512)
# Softmax weights are fp16 and relative to the peak: 2048 at most, so that rounding the exponent of the largest score
# (at any magnitude) cannot overflow 65504, and down to 3e-8 of the peak above fp16's subnormals (the PE may flush).
WEIGHT_SCALE = 2048.0


class Bank(NamedTuple):
    """Keys scored by one PSUM bank: where they are in SBUF, how many, and which of their 128-blocks need a mask."""

    column: int  # first key, counted from the first key in SBUF
    width: int
    position: int  # position of that key minus the position of the tile's first query; 0 if nothing is masked
    masked: tuple[int, ...]  # offsets, in the bank, of the 128-blocks that need a mask


class Tile(NamedTuple):
    """Queries of one PE pass and the banks of keys they read."""

    row: int  # first query, counted from the first query of the chunk
    rows: int
    banks: tuple[Bank, ...]

    @property
    def width(self) -> int:
        """Scores in one row of this tile."""
        return sum(bank.width for bank in self.banks)


def key_range(first: int, last: int, window: int, max_lookahead: int, num_keys: int) -> tuple[int, int]:
    """Keys that queries at positions first..last may read.

    Args:
        first: Position of the first query.
        last: Position of the last query.
        window: Keys a query sees including itself; 0 is no limit.
        max_lookahead: How far beyond its own position a query may see.
        num_keys: Keys that exist; key j has position j.

    Returns:
        (low, high): the first key and one past the last.
    """
    low = max(0, first - window + 1) if window else 0
    return low, min(num_keys, last + max_lookahead + 1)


def is_open(first: int, last: int, low: int, high: int, window: int) -> bool:
    """Whether every query in first..last sees every key in low..high-1 whatever the run-time ends are.

    A query always sees itself and what precedes it (end(i) >= i); beyond that, only the run-time end tells.
    """
    return high - 1 <= first and (not window or low > last - window)


def tile_banks(
    first: int, last: int, window: int, max_lookahead: int, num_keys: int, section: tuple[int, int] | None = None
) -> tuple[Bank, ...]:
    """The banks of keys that a tile of queries reads from one section of the keys.

    Args:
        first: Position of the tile's first query.
        last: Position of its last query.
        window: Keys a query sees including itself; 0 is no limit.
        max_lookahead: How far beyond its own position a query may see.
        num_keys: Keys that exist.
        section: The keys held in SBUF (start, stop), start a multiple of 128; all of them when None.

    Returns:
        Banks in key order; empty when the tile reads nothing of the section.
    """
    start, stop = section or (0, num_keys)
    low, high = key_range(first, last, window, max_lookahead, num_keys)
    low, high = max(low // TILE * TILE, start), min(high, stop)
    banks = []
    for bank_low in range(low, high, BANK):
        bank_high = min(bank_low + BANK, high)
        masked = tuple(
            block - bank_low
            for block in range(bank_low, bank_high, TILE)
            if not is_open(first, last, block, min(block + TILE, bank_high), window)
        )
        banks.append(Bank(bank_low - start, bank_high - bank_low, bank_low - first if masked else 0, masked))
    return tuple(banks)


def masked_blocks(banks: tuple[Bank, ...]) -> int:
    """Number of 128-blocks that need a mask."""
    return sum(len(bank.masked) for bank in banks)


def masked_before(tiles: tuple[Tile, ...], index: int) -> int:
    """Number of 128-blocks that need a mask in the tiles before one of them."""
    return sum(masked_blocks(tile.banks) for tile in tiles[:index])


def visited(tiles: tuple[Tile, ...]) -> tuple[int, ...]:
    """The tiles that read any key."""
    return tuple(index for index, tile in enumerate(tiles) if tile.banks)


def widest(tiles: tuple[Tile, ...]) -> int:
    """Longest row of scores."""
    return max(tile.width for tile in tiles)


def check_prefill(q_shape, k_shape, v_shape, window: int, offset: int, max_lookahead: int) -> None:
    """Refuse shapes that prefill attention does not define.

    Args:
        q_shape: [B, N, H, S].
        k_shape: [B, K, H, T].
        v_shape: [B, K, T, H].
        window: 0 or a positive number of keys.
        offset: Position of the first query.
        max_lookahead: How far a query may look ahead.

    Raises:
        ValueError: Naming the value, what was expected and what to change.
    """
    batch, heads, head_dim, queries = q_shape
    _, kv_heads, _, num_keys = k_shape
    if tuple(k_shape) != (batch, kv_heads, head_dim, num_keys):
        raise ValueError(f"k has shape {tuple(k_shape)}: expected [B, K, H, T] with B={batch}, H={head_dim} as in q.")
    if tuple(v_shape) != (batch, kv_heads, num_keys, head_dim):
        raise ValueError(
            f"v has shape {tuple(v_shape)}: expected {(batch, kv_heads, num_keys, head_dim)}; V is [B, K, T, H] and "
            "K is [B, K, H, T]."
        )
    if heads % kv_heads:
        raise ValueError(f"{heads} query heads over {kv_heads} key heads: expected a multiple; repeat or pad heads.")
    if window < 0 or offset < 0 or max_lookahead < 0:
        raise ValueError(
            f"window={window}, offset={offset}, max_lookahead={max_lookahead}: expected values >= 0 (0 is no limit)."
        )
    if num_keys < offset + queries:
        raise ValueError(
            f"{num_keys} keys for {queries} queries at offset {offset}: expected at least {offset + queries}; the "
            "keys of the queries themselves are part of k and v."
        )
