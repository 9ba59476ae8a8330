# SPDX-License-Identifier: Apache-2.0
"""Two small vision encoders and their images, drawn by numpy from names: the reference and the tests draw alike.

"standardized" has the structure of the 31B's tower, "clipped" that of E2B and E4B. Every weight is away from its
neutral value, so that leaving one out changes the result.
"""

import zlib

import numpy as np


TEXT_HIDDEN_SIZE = 16
SIZES = ((224, 224), (100, 400), (1, 3000), (400, 200), (480, 640))  # height, width of five images in pixels
# rows and columns of their patches for each budget, as the processor cuts them (a test compares)
GRIDS = {
    70: ((24, 24), (12, 48), (3, 210), (33, 15), (21, 27)),
    140: ((33, 33), (15, 69), (3, 420), (48, 24), (30, 39)),
    280: ((48, 48), (24, 99), (3, 840), (69, 33), (42, 57)),
}
_SHARED = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 16,
    "position_embedding_size": 1024,
}
CONFIGS = {
    "standardized": _SHARED | {"standardize": True, "use_clipped_linears": False},
    "clipped": _SHARED | {"standardize": False, "use_clipped_linears": True},
}
_NORMS = (
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
)


def weight_shapes(config: dict, text_hidden_size: int) -> dict[str, tuple[int, ...]]:
    """Every vision tensor of a checkpoint below `model.`, with its shape."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    width = config["num_attention_heads"] * config["head_dim"]
    shapes = {
        "vision_tower.patch_embedder.input_proj.weight": (hidden, 768),
        "vision_tower.patch_embedder.position_embedding_table": (2, config["position_embedding_size"], hidden),
        "embed_vision.embedding_projection.weight": (text_hidden_size, hidden),
    }
    if config["standardize"]:
        shapes |= {"vision_tower.std_bias": (hidden,), "vision_tower.std_scale": (hidden,)}
    linears = {f"self_attn.{name}_proj": (width, hidden) for name in "qkv"}
    linears |= {"self_attn.o_proj": (hidden, width), "mlp.down_proj": (hidden, inner)}
    linears |= {f"mlp.{name}_proj": (inner, hidden) for name in ("gate", "up")}
    for layer in range(config["num_hidden_layers"]):
        prefix = f"vision_tower.encoder.layers.{layer}"
        shapes |= {f"{prefix}.{norm}.weight": (hidden,) for norm in _NORMS}
        shapes |= {f"{prefix}.self_attn.{norm}_norm.weight": (config["head_dim"],) for norm in "qk"}
        for name, shape in linears.items():
            shapes[f"{prefix}.{name}.linear.weight"] = shape
            if config["use_clipped_linears"]:
                shapes |= {
                    f"{prefix}.{name}.{side}_{end}": () for side in ("input", "output") for end in ("min", "max")
                }
    return shapes


def draw_weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """One tensor, float32, from its name alone."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    normal = random.standard_normal(shape, dtype=np.float32)
    if name.endswith(("q_norm.weight", "k_norm.weight")):
        # Scores then have a spread of about 1; at weights around 1 each query would look at a single key, and a deep
        # drawn network would amplify any rounding until nothing is left of its output.
        return (1 + 0.3 * normal) * np.float32(shape[0] ** -0.25)
    if name.endswith("norm.weight"):
        return 1 + 0.3 * normal
    if name.endswith("std_bias"):
        return 3 * normal
    if name.endswith("std_scale"):
        return np.exp(normal)
    if name.endswith(("_min", "_max")):
        return np.float32((1.5 + 0.2 * normal) * (-1 if name.endswith("_min") else 1))
    if name.endswith("position_embedding_table"):
        return 0.5 * normal
    return normal / np.float32(shape[-1] ** 0.5)


def toy_weights(config: dict) -> dict[str, np.ndarray]:
    """All weights of a small encoder."""
    return {name: draw_weight(name, shape) for name, shape in weight_shapes(config, TEXT_HIDDEN_SIZE).items()}


def image_inputs(budget: int, black: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """pixel_values [5, P, 768] and image_position_ids [5, P, 2] of the five images, in the processor's form."""
    pixels = np.zeros((len(SIZES), budget * 9, 768), dtype=np.float32)
    positions = np.full((len(SIZES), budget * 9, 2), -1, dtype=np.int64)
    for index, (rows, columns) in enumerate(GRIDS[budget]):
        y, x = np.divmod(np.arange(rows * columns), columns)
        positions[index, : rows * columns] = np.stack([x, y], axis=-1)
        if not black:
            random = np.random.default_rng([budget, index])
            pixels[index, : rows * columns] = random.random((rows * columns, 768), dtype=np.float32)
    return pixels, positions
