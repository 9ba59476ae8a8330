# SPDX-License-Identifier: Apache-2.0
"""Shape of every text layer, read once from the configuration: nothing else in the text model reads it.

Gemma 4 layers are not alike: sliding and global layers differ in head dim, KV heads, RoPE and window, and global
layers may use one projection for K and V. Mirrors how transformers 5.23 `Gemma4TextAttention` and
`Gemma4TextRotaryEmbedding` read the config. Sharding rule: query heads are split contiguously over the ranks, KV heads
likewise, and replicated only where a rank would hold less than one.
"""

from dataclasses import dataclass

from .configuration import Gemma4Config, Gemma4TextConfig


__all__ = ["LayerShard", "LayerSpec", "RopeSpec", "TextGeometry", "supported_tp"]

MAX_TENSOR_PARALLEL_SIZE = 64
_SIZES = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "global_head_dim", "sliding_window",
)  # fmt: skip


@dataclass(frozen=True)
class RopeSpec:
    """Rotary embedding of one layer kind: angle `i` is `theta ** (-2 i / head_dim) / factor` for the rotated ones.

    Attributes:
        theta: base wavelength.
        head_dim: the denominator of the exponent, the full head dim also where only a part is rotated.
        num_rotated_angles: angles that rotate; angle `i` acts on dims `i` and `i + head_dim / 2`, the others are
            fixed.
        factor: divides every frequency.
    """

    theta: float
    head_dim: int
    num_rotated_angles: int
    factor: float = 1.0


@dataclass(frozen=True)
class LayerShard:
    """What one rank holds of a layer's heads; `kv_replication` ranks hold the same KV heads."""

    num_heads: int
    num_kv_heads: int
    kv_replication: int


@dataclass(frozen=True)
class LayerSpec:
    """Geometry of one decoder layer.

    Attributes:
        index: layer number.
        kind: "sliding" or "global".
        num_heads, num_kv_heads, head_dim: of the whole layer, before sharding.
        window: keys that a query sees on a sliding layer, itself included; `None` on global layers.
        k_eq_v: K and V come from one projection.
        rope: rotary embedding.
    """

    index: int
    kind: str
    num_heads: int
    num_kv_heads: int
    head_dim: int
    window: int | None
    k_eq_v: bool
    rope: RopeSpec

    def __post_init__(self):
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"layer {self.index}: num_attention_heads ({self.num_heads}) must be a multiple of its key/value "
                f"heads ({self.num_kv_heads})."
            )

    def cache_slots(self, sequence_length: int) -> int:
        """KV slots for sequences of `sequence_length`: a window on sliding layers, everything on global ones."""
        return sequence_length if self.window is None else min(self.window, sequence_length)

    def shards_over(self, tp_degree: int) -> bool:
        """Whether `tp_degree` ranks can hold the same number of heads each."""
        evenly = self.num_kv_heads % tp_degree == 0 or tp_degree % self.num_kv_heads == 0
        return self.num_heads % tp_degree == 0 and evenly

    def shard(self, tp_degree: int) -> LayerShard:
        """Heads per rank.

        Raises:
            ValueError: `tp_degree` does not divide the heads.
        """
        if not self.shards_over(tp_degree):
            valid = [tp for tp in range(1, MAX_TENSOR_PARALLEL_SIZE + 1) if self.shards_over(tp)]
            raise ValueError(
                f"--tensor_parallel_size {tp_degree} cannot split the {self.num_heads} query and {self.num_kv_heads} "
                f"key/value heads of layer {self.index} ({self.kind}): use one of {valid}."
            )
        return LayerShard(
            num_heads=self.num_heads // tp_degree,
            num_kv_heads=max(1, self.num_kv_heads // tp_degree),
            kv_replication=max(1, tp_degree // self.num_kv_heads),
        )


@dataclass(frozen=True)
class TextGeometry:
    """Geometry of the whole text decoder.

    Attributes:
        softcap: final logits become `tanh(logits / softcap) * softcap`; `None` leaves them.
        bidirectional_vision: image tokens of a block see each other on sliding layers.
    """

    layers: tuple[LayerSpec, ...]
    hidden_size: int
    vocab_size: int
    intermediate_size: int
    rms_norm_eps: float
    softcap: float | None
    pad_token_id: int
    bidirectional_vision: bool

    @classmethod
    def from_config(cls, config: Gemma4TextConfig | Gemma4Config) -> "TextGeometry":
        """Read a configuration.

        Raises:
            ValueError: a feature that is not supported, or a RoPE parameter that is missing.
        """
        config = config.get_text_config()
        if not isinstance(config, Gemma4TextConfig):
            config = Gemma4TextConfig.from_dict(config.to_dict())
        _check_supported(config)
        return cls(
            layers=tuple(_layer_spec(config, index) for index in range(config.num_hidden_layers)),
            hidden_size=config.hidden_size,
            vocab_size=config.vocab_size,
            intermediate_size=config.intermediate_size,
            rms_norm_eps=config.rms_norm_eps,
            softcap=config.final_logit_softcapping,
            pad_token_id=config.pad_token_id,
            bidirectional_vision=config.use_bidirectional_attention == "vision",
        )

    def shards_over(self, tp_degree: int) -> bool:
        """Whether every sharded dimension divides by `tp_degree`."""
        sizes = (self.hidden_size, self.vocab_size, self.intermediate_size)
        return all(size % tp_degree == 0 for size in sizes) and all(
            spec.shards_over(tp_degree) for spec in self.layers
        )

    def check_tp(self, tp_degree: int) -> None:
        """Raise a ValueError that names the valid values unless the model shards over `tp_degree` ranks."""
        if not self.shards_over(tp_degree):
            valid = [tp for tp in range(1, MAX_TENSOR_PARALLEL_SIZE + 1) if self.shards_over(tp)]
            raise ValueError(
                f"--tensor_parallel_size {tp_degree} does not divide this model (hidden size {self.hidden_size}, "
                f"intermediate size {self.intermediate_size}, vocabulary {self.vocab_size}, heads "
                f"{sorted({(spec.num_heads, spec.num_kv_heads) for spec in self.layers})}): use one of {valid}."
            )


def supported_tp(config: Gemma4TextConfig | Gemma4Config) -> list[int]:
    """Tensor parallel sizes, up to 64, that the text decoder of `config` can be split over."""
    geometry = TextGeometry.from_config(config)
    return [tp for tp in range(1, MAX_TENSOR_PARALLEL_SIZE + 1) if geometry.shards_over(tp)]


def _check_supported(config: Gemma4TextConfig) -> None:
    """Refuse what the decoder would compute wrongly."""
    for name in _SIZES:
        value = getattr(config, name)
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} is {value!r} in config.json: expected an integer of at least 1.")
    if not isinstance(config.pad_token_id, int) or not 0 <= config.pad_token_id < config.vocab_size:
        raise ValueError(
            f"pad_token_id is {config.pad_token_id!r} in config.json: expected an id below vocab_size "
            f"({config.vocab_size})."
        )
    refused = {
        "enable_moe_block": (bool(config.enable_moe_block), "mixture-of-experts layers"),
        "hidden_size_per_layer_input": (bool(config.hidden_size_per_layer_input), "per-layer embeddings"),
        "num_kv_shared_layers": (bool(config.num_kv_shared_layers), "KV-shared layers"),
        "attention_bias": (bool(config.attention_bias), "attention biases"),
        "hidden_activation": (config.hidden_activation != "gelu_pytorch_tanh", "another activation"),
        "tie_word_embeddings": (not config.tie_word_embeddings, "an output head of its own"),
        "use_bidirectional_attention": (
            config.use_bidirectional_attention not in (None, "vision"),
            "bidirectional attention between text tokens",
        ),
        # No field of ours: transformers reads it wherever a file has it.
        "is_causal": (config.to_dict().get("is_causal") is False, "bidirectional attention between text tokens"),
    }
    found = [f"{key} = {getattr(config, key)!r} ({what})" for key, (is_set, what) in refused.items() if is_set]
    if found:
        raise ValueError(
            f"This Gemma 4 configuration is not supported: {'; '.join(found)}. "
            "Dense Gemma 4 models such as google/gemma-4-31b-it are."
        )


def _rope_spec(config: Gemma4TextConfig, layer_type: str, head_dim: int) -> RopeSpec:
    parameters = config.rope_parameters.get(layer_type)
    if not isinstance(parameters, dict):
        raise ValueError(
            f"rope_parameters has no entry '{layer_type}' (keys: {sorted(config.rope_parameters)}): "
            "Gemma 4 needs one set of RoPE parameters per layer type."
        )
    missing = [key for key in ("rope_type", "rope_theta") if key not in parameters]
    if missing:
        raise ValueError(f"rope_parameters['{layer_type}'] misses {missing}: got {parameters}.")
    rope_type = parameters["rope_type"]
    if rope_type == "default":
        return RopeSpec(parameters["rope_theta"], head_dim, head_dim // 2)
    if rope_type == "proportional":
        # Both are optional in transformers 5.23 `_compute_proportional_rope_parameters`, with these defaults.
        rotated = int(parameters.get("partial_rotary_factor", 1.0) * head_dim // 2)
        return RopeSpec(parameters["rope_theta"], head_dim, rotated, parameters.get("factor", 1.0))
    raise ValueError(f"rope_type '{rope_type}' of '{layer_type}' is unknown: expected 'default' or 'proportional'.")


def _layer_spec(config: Gemma4TextConfig, index: int) -> LayerSpec:
    layer_type = config.layer_types[index]
    is_global = layer_type == "full_attention"
    head_dim = config.global_head_dim if is_global else config.head_dim
    k_eq_v = is_global and config.attention_k_eq_v
    num_kv_heads = config.num_key_value_heads
    if k_eq_v and config.num_global_key_value_heads is not None:
        num_kv_heads = config.num_global_key_value_heads
    return LayerSpec(
        index=index,
        kind="global" if is_global else "sliding",
        num_heads=config.num_attention_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        window=None if is_global else config.sliding_window,
        k_eq_v=k_eq_v,
        rope=_rope_spec(config, layer_type, head_dim),
    )
