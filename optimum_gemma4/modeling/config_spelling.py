# SPDX-License-Identifier: Apache-2.0
"""From the layer description of transformers >= 5.15 to the Hub's spelling.

transformers 5.23 `Gemma4TextConfig` saves `per_layer_config: {"5": {"head_dim": 512, "num_key_value_heads": 4}, ...}`;
the Hub's files say `global_head_dim` and `num_global_key_value_heads`, once for all global layers.
"""

import logging
from typing import Any


__all__ = ["global_overrides", "resolve_layer_types"]

logger = logging.getLogger(__name__)

SLIDING_WINDOW_PATTERN = 6


def resolve_layer_types(layer_types: list[str] | None, num_hidden_layers: int) -> list[str]:
    """Layer types of every layer: by default every sixth is global, and the last one always is.

    Raises:
        ValueError: an unknown type, or not one entry per layer.
    """
    if layer_types is None:
        layer_types = [
            "sliding_attention" if (index + 1) % SLIDING_WINDOW_PATTERN else "full_attention"
            for index in range(num_hidden_layers)
        ]
    layer_types = list(layer_types)
    if len(layer_types) != num_hidden_layers:
        raise ValueError(
            f"layer_types has {len(layer_types)} entries but num_hidden_layers is {num_hidden_layers}: "
            "give one entry per layer in config.json."
        )
    unknown = sorted(set(layer_types) - {"sliding_attention", "full_attention"})
    if unknown:
        raise ValueError(f"layer_types contains {unknown}: expected 'sliding_attention' or 'full_attention'.")
    if layer_types and layer_types[-1] != "full_attention":
        logger.warning("The last Gemma 4 layer always uses full_attention: overriding '%s'.", layer_types[-1])
        layer_types[-1] = "full_attention"
    return layer_types


def global_overrides(per_layer_config: dict, layer_types: list[str]) -> dict[str, Any]:
    """Reduce the `per_layer_config` of transformers >= 5.15 to the one set of overrides that the Hub's keys express.

    Args:
        per_layer_config: overrides (`head_dim`, `num_key_value_heads`) by layer number.
        layer_types: "sliding_attention" or "full_attention" per layer.

    Raises:
        ValueError: overrides that the Hub's keys cannot express.
    """
    by_layer = {int(index): dict(overrides) for index, overrides in per_layer_config.items()}
    for index, overrides in by_layer.items():
        unknown = sorted(set(overrides) - {"head_dim", "num_key_value_heads"})
        if unknown:
            raise ValueError(
                f"per_layer_config['{index}'] overrides {unknown}: only head_dim and num_key_value_heads are known."
            )
        if not 0 <= index < len(layer_types) or (overrides and layer_types[index] != "full_attention"):
            raise ValueError(f"per_layer_config names layer {index}, which is not a full_attention layer.")
    per_global_layer = [by_layer.get(index, {}) for index, kind in enumerate(layer_types) if kind == "full_attention"]
    if any(overrides != per_global_layer[0] for overrides in per_global_layer):
        raise ValueError(
            f"per_layer_config differs between the full_attention layers: {by_layer}. "
            "All of them must have one head_dim and one num_key_value_heads."
        )
    return per_global_layer[0] if per_global_layer else {}
