# SPDX-License-Identifier: Apache-2.0
"""The loop nest of prefill attention: which keys are in SBUF while which queries are computed.

Queries are taken in chunks of up to 1024. Where the keys of some chunks fit in SBUF they form a resident group: K and
V are loaded once for all of them, and a row of scores is complete, so softmax needs no rescaling. Other chunks (a
global layer beyond 4096 keys) form streamed groups: few queries, all heads, keys in passes of 2048, softmax carried
from pass to pass. Equal chunks or passes in a row are one loop, which keeps the program small: a sliding layer has
nine kinds of tile whatever its length.
"""

from typing import NamedTuple

from .blocks import CHUNK, TILE, Tile, key_range, tile_banks, widest


ROW_KEYS = 4096  # longest row of scores: 16 KiB a partition in fp32
RESIDENT_BYTES = 64 * 1024  # K and V of a group, a partition; twice that when the next head's are loaded meanwhile
PASS_KEYS = 2048
ACCUMULATOR_BYTES = 64 * 1024  # fp32 outputs of a streamed group, a partition


class Chunk(NamedTuple):
    """Queries loaded together; `repeat` equal chunks in a row, each CHUNK queries and CHUNK keys further."""

    first: int
    queries: int
    repeat: int
    tiles: tuple[Tile, ...]

    @property
    def width(self) -> int:
        """Longest row of scores."""
        return widest(self.tiles)


class Pass(NamedTuple):
    """Keys held in SBUF and the chunks computed with them; `repeat` equal passes in a row, each `keys` further."""

    start: int
    keys: int
    repeat: int
    chunks: tuple[Chunk, ...]


class Group(NamedTuple):
    """Queries computed together. A streamed group has one chunk, seen in each of its passes."""

    streamed: bool
    passes: tuple[Pass, ...]


class Shape(NamedTuple):
    """What a plan depends on; `lanes` cores take alternate tiles of 128 queries."""

    queries: int
    num_keys: int
    head_dim: int
    heads_per_key: int
    window: int = 0
    offset: int = 0
    max_lookahead: int = 0
    lanes: int = 1

    def keys(self, first: int, queries: int) -> tuple[int, int]:
        """Keys that `queries` queries from `first` on read, the first one a multiple of 128."""
        position = self.offset + first
        low, high = key_range(position, position + queries - 1, self.window, self.max_lookahead, self.num_keys)
        return low // TILE * TILE, high

    def tiles(self, first: int, queries: int, section: tuple[int, int]) -> tuple[Tile, ...]:
        """The tiles of a chunk against one section of the keys."""
        step = TILE * self.lanes
        result = []
        for row in range(0, queries, step):
            size = min(step, queries - row)
            position = self.offset + first + row
            banks = tile_banks(position, position + size - 1, self.window, self.max_lookahead, self.num_keys, section)
            result.append(Tile(row, size // self.lanes, banks))
        return tuple(result)


def plan_prefill(shape: Shape) -> tuple[Group, ...]:
    """The groups that compute all queries, in order.

    Raises:
        ValueError: If the queries cannot be dealt to the cores.
    """
    if shape.lanes > 1 and shape.queries % (TILE * shape.lanes):
        raise ValueError(
            f"{shape.queries} queries on {shape.lanes} cores with a single head each: expected a multiple of "
            f"{TILE * shape.lanes}; pad the queries or launch the kernel on one core."
        )
    groups, first = [], 0
    while first < shape.queries:
        queries = _resident_queries(shape, first)
        if queries:
            groups.append(_resident_group(shape, first, queries))
        else:
            tiles = max(1, min(CHUNK // TILE, ACCUMULATOR_BYTES // (shape.heads_per_key * shape.head_dim * 4)))
            queries = min(tiles * TILE, CHUNK // shape.lanes) * shape.lanes
            queries = min(queries, shape.queries - first)
            groups.append(_streamed_group(shape, first, queries))
        first += queries
    return tuple(groups)


def _resident_queries(shape: Shape, first: int) -> int:
    """Queries from `first` on whose keys fit in SBUF together; 0 if not even one chunk's do."""
    key_bytes = shape.head_dim // TILE * 4  # of K and V, bf16, a partition
    queries = 0
    while first + queries < shape.queries:
        size = min(CHUNK, shape.queries - first - queries)
        low, high = shape.keys(first, queries + size)
        row = widest(shape.tiles(first + queries, size, (low, high)))
        if (high - low) * key_bytes > RESIDENT_BYTES or row > ROW_KEYS:
            break
        queries += size
    return queries


def _resident_group(shape: Shape, first: int, queries: int) -> Group:
    section = shape.keys(first, queries)
    chunks: list[Chunk] = []
    for start in range(first, first + queries, CHUNK):
        size = min(CHUNK, first + queries - start)
        tiles = shape.tiles(start, size, section)
        last = chunks[-1] if chunks else None
        if last and last.queries == size and _shifted(tiles, -CHUNK * last.repeat) == last.tiles:
            chunks[-1] = last._replace(repeat=last.repeat + 1)
        else:
            chunks.append(Chunk(start, size, 1, tiles))
    return Group(False, (Pass(section[0], section[1] - section[0], 1, tuple(chunks)),))


def _streamed_group(shape: Shape, first: int, queries: int) -> Group:
    low, high = shape.keys(first, queries)
    passes: list[Pass] = []
    for start in range(low, high, PASS_KEYS):
        size = min(PASS_KEYS, high - start)
        chunk = Chunk(first, queries, 1, shape.tiles(first, queries, (start, start + size)))
        last = passes[-1] if passes else None
        # Tiles are equal only where nothing is masked, or where the masks are at the same distance from the queries.
        if last and last.keys == size and last.chunks[0].tiles == chunk.tiles:
            passes[-1] = last._replace(repeat=last.repeat + 1)
        else:
            passes.append(Pass(start, size, 1, (chunk,)))
    return Group(True, tuple(passes))


def _shifted(tiles: tuple[Tile, ...], columns: int) -> tuple[Tile, ...]:
    return tuple(
        tile._replace(banks=tuple(bank._replace(column=bank.column + columns) for bank in tile.banks))
        for tile in tiles
    )
