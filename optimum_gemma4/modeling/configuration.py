# SPDX-License-Identifier: Apache-2.0
"""Gemma 4 configurations for transformers 4.57, which has none.

Mirrors transformers 5.23 `Gemma4Config`, `Gemma4TextConfig` and `Gemma4VisionConfig`, defaults included. Two spellings
exist for the geometry of the global layers: the Hub's (`global_head_dim`, `num_global_key_value_heads`, vision
`rope_type: "default"`) and that of transformers >= 5.15 (`per_layer_config`, `rope_type: "axial"`). Both are read; the
Hub's is held in memory and written back, since transformers of every version reads it.
"""

import copy
from typing import Any

from transformers import PretrainedConfig

from .config_spelling import global_overrides, resolve_layer_types


__all__ = ["Gemma4Config", "Gemma4TextConfig", "Gemma4VisionConfig"]

DEFAULT_GLOBAL_HEAD_DIM = 512
DEFAULT_TEXT_ROPE_PARAMETERS = {
    "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
    "full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1_000_000.0},
}
DEFAULT_VISION_ROPE_PARAMETERS = {"rope_type": "default", "rope_theta": 100.0}


class Gemma4TextConfig(PretrainedConfig):
    """Configuration of the text decoder (`model_type` "gemma4_text").

    Args:
        global_head_dim (`int`, *optional*, defaults to 512): head dim of the full_attention layers.
        num_global_key_value_heads (`int`, *optional*): KV heads of the full_attention layers; counts only when
            `attention_k_eq_v` is true, as in transformers.
        per_layer_config (`dict`, *optional*): the same two values in the spelling of transformers >= 5.15.
        rope_parameters (`dict`, *optional*): RoPE parameters keyed by layer type.
        kwargs: every other key of the file, kept and written back.

    Raises:
        ValueError: `layer_types` or `per_layer_config` do not describe the layers.
    """

    model_type = "gemma4_text"
    base_config_key = "text_config"
    keys_to_ignore_at_inference = ["past_key_values"]

    def __init__(
        self,
        vocab_size: int = 262_144,
        hidden_size: int = 2304,
        intermediate_size: int = 9216,
        num_hidden_layers: int = 30,
        num_attention_heads: int = 8,
        num_key_value_heads: int = 4,
        head_dim: int = 256,
        global_head_dim: int | None = None,
        num_global_key_value_heads: int | None = None,
        hidden_activation: str = "gelu_pytorch_tanh",
        max_position_embeddings: int = 131_072,
        initializer_range: float = 0.02,
        rms_norm_eps: float = 1e-6,
        use_cache: bool = True,
        pad_token_id: int | None = 0,
        eos_token_id: int | list[int] | None = 1,
        bos_token_id: int | None = 2,
        tie_word_embeddings: bool = True,
        rope_parameters: dict | None = None,
        attention_bias: bool = False,
        attention_dropout: float | None = 0.0,
        sliding_window: int = 512,
        layer_types: list[str] | None = None,
        final_logit_softcapping: float | None = None,
        use_bidirectional_attention: str | None = None,
        vocab_size_per_layer_input: int = 262_144,
        hidden_size_per_layer_input: int = 256,
        attention_k_eq_v: bool = False,
        num_kv_shared_layers: int = 0,
        enable_moe_block: bool = False,
        use_double_wide_mlp: bool = False,
        num_experts: int | None = None,
        top_k_experts: int | None = None,
        moe_intermediate_size: int | None = None,
        per_layer_config: dict | None = None,
        **kwargs,
    ):
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.intermediate_size = intermediate_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.num_key_value_heads = num_key_value_heads
        self.head_dim = head_dim
        self.hidden_activation = hidden_activation
        self.max_position_embeddings = max_position_embeddings
        self.initializer_range = initializer_range
        self.rms_norm_eps = rms_norm_eps
        self.use_cache = use_cache
        self.rope_parameters = copy.deepcopy(rope_parameters or DEFAULT_TEXT_ROPE_PARAMETERS)
        self.attention_bias = attention_bias
        self.attention_dropout = attention_dropout
        self.sliding_window = sliding_window
        self.layer_types = resolve_layer_types(layer_types, num_hidden_layers)
        self.final_logit_softcapping = final_logit_softcapping
        self.use_bidirectional_attention = use_bidirectional_attention
        self.vocab_size_per_layer_input = vocab_size_per_layer_input
        self.hidden_size_per_layer_input = hidden_size_per_layer_input
        self.attention_k_eq_v = attention_k_eq_v
        self.num_kv_shared_layers = num_kv_shared_layers
        self.enable_moe_block = enable_moe_block
        self.use_double_wide_mlp = use_double_wide_mlp
        self.num_experts = num_experts
        self.top_k_experts = top_k_experts
        self.moe_intermediate_size = moe_intermediate_size
        if per_layer_config is None:
            self.global_head_dim = DEFAULT_GLOBAL_HEAD_DIM if global_head_dim is None else global_head_dim
            self.num_global_key_value_heads = num_global_key_value_heads
        else:
            overrides = global_overrides(per_layer_config, self.layer_types)
            self.global_head_dim = overrides.get("head_dim", head_dim)
            self.num_global_key_value_heads = overrides.get("num_key_value_heads")
            if not attention_k_eq_v and self.num_global_key_value_heads not in (None, num_key_value_heads):
                raise ValueError(
                    f"per_layer_config gives the full_attention layers {self.num_global_key_value_heads} key/value "
                    f"heads instead of {num_key_value_heads}: that needs attention_k_eq_v = true."
                )
        super().__init__(
            pad_token_id=pad_token_id,
            bos_token_id=bos_token_id,
            eos_token_id=eos_token_id,
            tie_word_embeddings=tie_word_embeddings,
            **kwargs,
        )


class Gemma4VisionConfig(PretrainedConfig):
    """Configuration of the vision encoder (`model_type` "gemma4_vision").

    `rope_parameters` with `rope_type` "axial" (transformers >= 5.15) is the Hub's "default": two axes, half a head
    each.
    """

    model_type = "gemma4_vision"
    base_config_key = "vision_config"

    def __init__(
        self,
        hidden_size: int = 768,
        intermediate_size: int = 3072,
        num_hidden_layers: int = 16,
        num_attention_heads: int = 12,
        num_key_value_heads: int = 12,
        head_dim: int = 64,
        hidden_activation: str = "gelu_pytorch_tanh",
        rms_norm_eps: float = 1e-6,
        max_position_embeddings: int = 131_072,
        attention_bias: bool | None = False,
        attention_dropout: float | None = 0.0,
        rope_parameters: dict | None = None,
        pooling_kernel_size: int = 3,
        patch_size: int = 16,
        position_embedding_size: int = 10_240,
        use_clipped_linears: bool = False,
        standardize: bool = False,
        initializer_range: float = 0.02,
        **kwargs,
    ):
        self.hidden_size = hidden_size
        self.intermediate_size = intermediate_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.num_key_value_heads = num_key_value_heads
        self.head_dim = head_dim
        self.hidden_activation = hidden_activation
        self.rms_norm_eps = rms_norm_eps
        self.max_position_embeddings = max_position_embeddings
        self.attention_bias = attention_bias
        self.attention_dropout = attention_dropout
        self.rope_parameters = copy.deepcopy(rope_parameters or DEFAULT_VISION_ROPE_PARAMETERS)
        if self.rope_parameters.get("rope_type") == "axial":
            self.rope_parameters["rope_type"] = "default"
        self.pooling_kernel_size = pooling_kernel_size
        self.patch_size = patch_size
        self.position_embedding_size = position_embedding_size
        self.use_clipped_linears = use_clipped_linears
        self.standardize = standardize
        self.initializer_range = initializer_range
        super().__init__(**kwargs)


class Gemma4Config(PretrainedConfig):
    """Configuration of a multimodal Gemma 4 (`model_type` "gemma4").

    Args:
        text_config (`Gemma4TextConfig` or `dict`, *optional*): the decoder; its defaults when absent.
        vision_config (`Gemma4VisionConfig` or `dict`, *optional*): `None` means a model without a vision encoder.
        audio_config (`dict`, *optional*): kept as read, audio is not exported.
        kwargs: every other key of the file, kept and written back.
    """

    model_type = "gemma4"
    sub_configs = {"text_config": Gemma4TextConfig, "vision_config": Gemma4VisionConfig}

    def __init__(
        self,
        text_config: Gemma4TextConfig | dict[str, Any] | None = None,
        vision_config: Gemma4VisionConfig | dict[str, Any] | None = None,
        audio_config: dict[str, Any] | None = None,
        boi_token_id: int | None = 255_999,
        eoi_token_id: int | None = 258_882,
        image_token_id: int | None = 258_880,
        video_token_id: int | None = 258_884,
        boa_token_id: int | None = 256_000,
        eoa_token_index: int | None = 258_883,
        audio_token_id: int | None = 258_881,
        initializer_range: float | None = 0.02,
        tie_word_embeddings: bool = True,
        **kwargs,
    ):
        if text_config is None:
            text_config = {}
        self.text_config = Gemma4TextConfig(**text_config) if isinstance(text_config, dict) else text_config
        self.vision_config = Gemma4VisionConfig(**vision_config) if isinstance(vision_config, dict) else vision_config
        self.audio_config = audio_config
        self.boi_token_id = boi_token_id
        self.eoi_token_id = eoi_token_id
        self.image_token_id = image_token_id
        self.video_token_id = video_token_id
        self.boa_token_id = boa_token_id
        self.eoa_token_index = eoa_token_index
        self.audio_token_id = audio_token_id
        self.initializer_range = initializer_range
        super().__init__(tie_word_embeddings=tie_word_embeddings, **kwargs)
        if not tie_word_embeddings:
            # transformers goes by the whole model's, and the text decoder is built from its own configuration alone.
            self.text_config.tie_word_embeddings = False
        # The file states the dtype at either level: the sub-configs are what the graphs are built from.
        for sub_config in (self.text_config, self.vision_config):
            if sub_config is not None and sub_config.dtype is None:
                sub_config.dtype = self.dtype
        if self.dtype is None:
            self.dtype = self.text_config.dtype

    def to_diff_dict(self) -> dict[str, Any]:
        """Serialise; an absent sub-config is written as null, which the method of transformers 4.57 cannot do."""
        present = copy.copy(self)
        absent = [name for name in self.sub_configs if getattr(self, name) is None]
        for name in absent:
            delattr(present, name)
        return {**super(Gemma4Config, present).to_diff_dict(), **dict.fromkeys(absent)}
