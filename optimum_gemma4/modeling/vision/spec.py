# SPDX-License-Identifier: Apache-2.0
"""Geometry of the vision encoder, read once from the configuration; no other file of this folder reads it.

The 31B and 26B have a wide tower (27 layers, 1152) with standardised output, E2B and E4B a small one (16 layers, 768)
with clipped linear layers. Mirrors how transformers 5.23 `Gemma4VisionModel` reads `Gemma4VisionConfig`.
"""

from dataclasses import dataclass

from ..configuration import Gemma4VisionConfig
from ..geometry import MAX_TENSOR_PARALLEL_SIZE, RopeSpec


__all__ = ["VisionSpec"]

_RGB_CHANNELS = 3
_ROPE_TYPES = ("default", "axial")  # two spellings of the same: half of a head per axis
_ACTIVATION = "gelu_pytorch_tanh"


@dataclass(frozen=True)
class VisionSpec:
    """Geometry of the whole encoder, before sharding.

    Attributes:
        hidden_size, intermediate_size, num_layers, num_heads, head_dim: of the transformer.
        text_hidden_size: width of the soft tokens that come out.
        eps: of the norms.
        rope: rotary embedding of one axis, over half a head.
        patch_size: side of a patch, in pixels.
        pooling_kernel_size: side of a pooling cell, in patches; a cell becomes one soft token.
        position_embedding_size: rows of the position table of one axis.
        standardize: the output is shifted and scaled by `std_bias` and `std_scale`.
        clipped_linears: every linear layer clamps its input and output to stored bounds.
    """

    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    head_dim: int
    text_hidden_size: int
    eps: float
    rope: RopeSpec
    patch_size: int
    pooling_kernel_size: int
    position_embedding_size: int
    standardize: bool
    clipped_linears: bool

    @classmethod
    def from_config(cls, config: Gemma4VisionConfig, text_hidden_size: int) -> "VisionSpec":
        """Reads the configuration.

        Args:
            config: the `vision_config` of a checkpoint.
            text_hidden_size: `hidden_size` of its text model.

        Raises:
            ValueError: the configuration asks for something the encoder does not have.
        """
        if config.num_key_value_heads != config.num_attention_heads:
            raise ValueError(
                f"vision_config has {config.num_attention_heads} heads and {config.num_key_value_heads} key/value "
                "heads; Gemma 4's vision attention has as many of both."
            )
        if config.hidden_activation != _ACTIVATION or config.attention_bias:
            raise ValueError(
                f"vision_config has hidden_activation {config.hidden_activation!r} and attention_bias "
                f"{config.attention_bias}; expected {_ACTIVATION!r} and no bias."
            )
        parameters = config.rope_parameters
        missing = [name for name in ("rope_type", "rope_theta") if name not in parameters]
        if missing or parameters["rope_type"] not in _ROPE_TYPES:
            raise ValueError(
                f"vision_config.rope_parameters is {parameters}; expected a rope_type of {_ROPE_TYPES} and a "
                "rope_theta."
            )
        if config.head_dim % 4:
            raise ValueError(f"vision_config.head_dim is {config.head_dim}; 2-D RoPE needs a multiple of 4.")
        axis_dim = config.head_dim // 2
        return cls(
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_layers=config.num_hidden_layers,
            num_heads=config.num_attention_heads,
            head_dim=config.head_dim,
            text_hidden_size=text_hidden_size,
            eps=config.rms_norm_eps,
            rope=RopeSpec(theta=parameters["rope_theta"], head_dim=axis_dim, num_rotated_angles=axis_dim // 2),
            patch_size=config.patch_size,
            pooling_kernel_size=config.pooling_kernel_size,
            position_embedding_size=config.position_embedding_size,
            standardize=config.standardize,
            clipped_linears=config.use_clipped_linears,
        )

    @property
    def pixels_per_patch(self) -> int:
        """Length of one patch vector: 768 for 16 x 16 x 3."""
        return _RGB_CHANNELS * self.patch_size**2

    @property
    def patches_per_cell(self) -> int:
        """Patches that are averaged into one soft token."""
        return self.pooling_kernel_size**2

    def check_tp(self, tp_degree: int) -> None:
        """Refuses a tensor parallel size that does not divide the encoder.

        Raises:
            ValueError: naming the sizes that do.
        """
        sizes = range(1, MAX_TENSOR_PARALLEL_SIZE + 1)
        valid = [tp for tp in sizes if self.num_heads % tp == 0 and self.intermediate_size % tp == 0]
        if tp_degree not in valid:
            raise ValueError(
                f"--tensor_parallel_size {tp_degree} cannot split the {self.num_heads} heads and the intermediate "
                f"size {self.intermediate_size} of the vision encoder: use one of {valid}."
            )
