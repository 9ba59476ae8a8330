# SPDX-License-Identifier: Apache-2.0
"""The declared table from checkpoint tensors to the parameters of the graphs, and how each one is sharded.

Every tensor of a Gemma 4 checkpoint has one row: its name below the bundle's prefix, its shape in symbols, and the
parameters it becomes with the axis on which each is cut. Nothing is inferred from what a file happens to hold: a name
without a row is an error, and so is a row without a tensor (see `checkpoint.py`). The names are those of transformers
5.23, `Gemma4ForConditionalGeneration` (text below `model.language_model.`) and `Gemma4ForCausalLM` (below `model.`).
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

from ..modeling.geometry import LayerSpec, TextGeometry
from ..modeling.vision.spec import VisionSpec


class Shard(Enum):
    """How a parameter is cut over the tensor-parallel ranks."""

    REPLICATED = "replicated"  # the same tensor on every rank
    ROWS = "rows"  # axis 0 (ColumnParallelLinear, whose weight is [out, in])
    COLUMNS = "columns"  # axis 1 (RowParallelLinear; the embedding, cut along the hidden size)
    KV_ROWS = "kv_rows"  # axis 0 by KV heads, each repeated when there are fewer heads than ranks


@dataclass(frozen=True)
class Row:
    """One line of the table: a source name pattern, its symbolic shape and its targets."""

    source: str
    dims: tuple[str, ...]
    targets: tuple[tuple[str, Shard], ...]
    exists: Callable[[LayerSpec | VisionSpec], bool] | None = None  # for what kind of layer; None for every one


def _same(name: str, dims: tuple[str, ...], shard: Shard, exists: Callable | None = None) -> Row:
    return Row(name, dims, ((name, shard),), exists)


_NORMS = (
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
)

# V vocabulary, D hidden, I intermediate, Q query heads x head dim, K KV heads x head dim, H head dim
TEXT_TABLE: tuple[Row, ...] = (
    Row(
        "embed_tokens.weight",
        ("V", "D"),
        (("embed_tokens.weight", Shard.COLUMNS), ("lm_head.weight", Shard.ROWS)),
    ),
    _same("norm.weight", ("D",), Shard.REPLICATED),
    *(_same(f"layers.{{N}}.{norm}.weight", ("D",), Shard.REPLICATED) for norm in _NORMS),
    _same("layers.{N}.layer_scalar", ("1",), Shard.REPLICATED),
    _same("layers.{N}.self_attn.q_proj.weight", ("Q", "D"), Shard.ROWS),
    _same("layers.{N}.self_attn.k_proj.weight", ("K", "D"), Shard.KV_ROWS),
    _same("layers.{N}.self_attn.v_proj.weight", ("K", "D"), Shard.KV_ROWS, lambda layer: not layer.k_eq_v),
    _same("layers.{N}.self_attn.o_proj.weight", ("D", "Q"), Shard.COLUMNS),
    _same("layers.{N}.self_attn.q_norm.weight", ("H",), Shard.REPLICATED),
    _same("layers.{N}.self_attn.k_norm.weight", ("H",), Shard.REPLICATED),
    _same("layers.{N}.mlp.gate_proj.weight", ("I", "D"), Shard.ROWS),
    _same("layers.{N}.mlp.up_proj.weight", ("I", "D"), Shard.ROWS),
    _same("layers.{N}.mlp.down_proj.weight", ("D", "I"), Shard.COLUMNS),
)

_VISION_LINEARS = {
    "self_attn.q_proj": (("A", "C"), Shard.ROWS),
    "self_attn.k_proj": (("A", "C"), Shard.ROWS),
    "self_attn.v_proj": (("A", "C"), Shard.ROWS),
    "self_attn.o_proj": (("C", "A"), Shard.COLUMNS),
    "mlp.gate_proj": (("M", "C"), Shard.ROWS),
    "mlp.up_proj": (("M", "C"), Shard.ROWS),
    "mlp.down_proj": (("C", "M"), Shard.COLUMNS),
}
_VISION_LAYER = "vision_tower.encoder.layers.{N}"
_CLIP_BOUNDS = ("input_min", "input_max", "output_min", "output_max")

# C hidden, M intermediate, A heads x head dim, h head dim, X pixels of a patch, E positions an axis, D text hidden
VISION_TABLE: tuple[Row, ...] = (
    _same("vision_tower.patch_embedder.input_proj.weight", ("C", "X"), Shard.REPLICATED),
    _same("vision_tower.patch_embedder.position_embedding_table", ("2", "E", "C"), Shard.REPLICATED),
    _same("vision_tower.std_bias", ("C",), Shard.REPLICATED, lambda spec: spec.standardize),
    _same("vision_tower.std_scale", ("C",), Shard.REPLICATED, lambda spec: spec.standardize),
    _same("embed_vision.embedding_projection.weight", ("D", "C"), Shard.REPLICATED),
    *(_same(f"{_VISION_LAYER}.{norm}.weight", ("C",), Shard.REPLICATED) for norm in _NORMS),
    *(_same(f"{_VISION_LAYER}.self_attn.{norm}.weight", ("h",), Shard.REPLICATED) for norm in ("q_norm", "k_norm")),
    *(
        _same(f"{_VISION_LAYER}.{linear}.linear.weight", dims, shard)
        for linear, (dims, shard) in _VISION_LINEARS.items()
    ),
    *(
        _same(f"{_VISION_LAYER}.{linear}.{bound}", (), Shard.REPLICATED, lambda spec: spec.clipped_linears)
        for linear in _VISION_LINEARS
        for bound in _CLIP_BOUNDS
    ),
)

LAYER_NUMBER = "{N}"


@dataclass(frozen=True)
class Target:
    """One parameter of a graph: its name, its full shape, how it is cut, and its KV heads where they matter."""

    name: str
    shape: tuple[int, ...]
    shard: Shard
    num_heads: int = 0

    def rank_shape(self, tp: int) -> tuple[int, ...]:
        """Shape of the tensor that one rank holds: the full one's where it is not cut, and [1] for a scalar.

        Args:
            tp: Number of ranks.

        Raises:
            ValueError: When the axis does not divide by `tp`.
        """
        if self.shard is Shard.REPLICATED:
            # No parameter has no axis: torch_xla makes one input of the graph of all such that are equal in the trace.
            return self.shape or (1,)
        if self.shard is Shard.KV_ROWS:
            start, stop = self._kv_rows(0, tp)
            return (stop - start, *self.shape[1:])
        axis = 0 if self.shard is Shard.ROWS else 1
        if self.shape[axis] % tp:
            raise ValueError(
                f"{self.name}: axis {axis} of {list(self.shape)} does not divide by {tp}; "
                "change --tensor_parallel_size"
            )
        return tuple(size // tp if i == axis else size for i, size in enumerate(self.shape))

    def rank_slices(self, rank: int, tp: int) -> tuple[slice, ...]:
        """The part of the full tensor that `rank` holds, one slice per axis."""
        full = [slice(0, size) for size in self.shape]
        if self.shard is Shard.KV_ROWS:
            full[0] = slice(*self._kv_rows(rank, tp))
        elif self.shard is not Shard.REPLICATED:
            axis = 0 if self.shard is Shard.ROWS else 1
            size = self.rank_shape(tp)[axis]
            full[axis] = slice(rank * size, (rank + 1) * size)
        return tuple(full)

    def _kv_rows(self, rank: int, tp: int) -> tuple[int, int]:
        if max(self.num_heads, tp) % min(self.num_heads, tp):
            raise ValueError(
                f"{self.name}: {self.num_heads} KV heads cannot be spread over {tp} ranks; "
                "change --tensor_parallel_size"
            )
        head_dim = self.shape[0] // self.num_heads
        heads = max(self.num_heads // tp, 1)
        # The KV head that this rank's own query heads read: contiguous query heads, so contiguous KV heads
        first = rank * self.num_heads // tp
        return first * head_dim, (first + heads) * head_dim


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of the checkpoint: full name, shape as stored, and the parameters that it becomes."""

    source: str
    shape: tuple[int, ...]
    targets: tuple[Target, ...]


def text_specs(geometry: TextGeometry, prefix: str) -> Iterator[TensorSpec]:
    """Every tensor of the text decoder.

    Args:
        geometry: The text geometry; one LayerSpec per layer.
        prefix: What precedes the names in the checkpoint, "model.language_model." or "model.".
    """
    sizes = {"V": geometry.vocab_size, "D": geometry.hidden_size, "I": geometry.intermediate_size, "1": 1}
    for row in TEXT_TABLE:
        if not _of_a_layer(row):
            yield _spec(row, prefix, sizes)
    for layer in geometry.layers:
        for row in TEXT_TABLE:
            if _of_a_layer(row) and (row.exists is None or row.exists(layer)):
                yield _spec(row, prefix, sizes | _layer_sizes(layer), layer.index, layer.num_kv_heads)


def vision_specs(spec: VisionSpec, prefix: str) -> Iterator[TensorSpec]:
    """Every tensor of the vision encoder and its projector.

    Args:
        spec: The vision geometry.
        prefix: What precedes the names in the checkpoint, "model.".
    """
    sizes = {
        "C": spec.hidden_size,
        "M": spec.intermediate_size,
        "A": spec.num_heads * spec.head_dim,
        "h": spec.head_dim,
        "X": spec.pixels_per_patch,
        "E": spec.position_embedding_size,
        "D": spec.text_hidden_size,
        "2": 2,
    }
    for row in VISION_TABLE:
        if row.exists is None or row.exists(spec):
            for index in range(spec.num_layers if _of_a_layer(row) else 1):
                yield _spec(row, prefix, sizes, index)


def _of_a_layer(row: Row) -> bool:
    return LAYER_NUMBER in row.source


def _layer_sizes(layer: LayerSpec) -> dict[str, int]:
    return {
        "Q": layer.num_heads * layer.head_dim,
        "K": layer.num_kv_heads * layer.head_dim,
        "H": layer.head_dim,
    }


def _spec(row: Row, prefix: str, sizes: dict[str, int], index: int = 0, num_kv_heads: int = 0) -> TensorSpec:
    shape = tuple(sizes[dim] for dim in row.dims)
    number = str(index)
    targets = tuple(
        Target(name.replace(LAYER_NUMBER, number), shape, shard, num_kv_heads) for name, shard in row.targets
    )
    return TensorSpec(prefix + row.source.replace(LAYER_NUMBER, number), shape, targets)


def matches(name: str, table: tuple[Row, ...], prefix: str) -> bool:
    """Whether `name` is one that `table` declares under `prefix`, for any layer."""
    if not name.startswith(prefix):
        return False
    return any(
        re.fullmatch(re.escape(row.source).replace(re.escape(LAYER_NUMBER), r"\d+"), name[len(prefix) :]) is not None
        for row in table
    )
