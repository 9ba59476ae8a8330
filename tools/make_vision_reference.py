# SPDX-License-Identifier: Apache-2.0
"""Soft tokens of transformers >= 5.23's own Gemma 4 vision tower and projector.

Run in the reference environment, from the repository's root:
    python -m tools.make_vision_reference golden [FOLDER]    writes tests/modeling/vision/golden/soft_tokens.npz
    python -m tools.make_vision_reference full OUT DTYPE BUDGET    the 31B's tower with drawn weights, about 3 GB
Weights and images are drawn by numpy from their names, so only the soft tokens are kept.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from transformers import Gemma4TextConfig, Gemma4VisionConfig
from transformers.models.gemma4.modeling_gemma4 import Gemma4MultimodalEmbedder, Gemma4VisionModel

from tests.config_31b import CONFIG_31B, VISION_CONFIG_31B
from tests.modeling.vision.toy_vision import (
    CONFIGS,
    GRIDS,
    TEXT_HIDDEN_SIZE,
    draw_weight,
    image_inputs,
    weight_shapes,
)
from tools.reference_models import cast


GOLDEN = Path("tests/modeling/vision/golden")


def load(config: dict, text_hidden_size: int, dtype: torch.dtype):
    """The reference's tower and projector with drawn weights."""
    vision_config = Gemma4VisionConfig(**config, attn_implementation="eager")
    text_config = Gemma4TextConfig(hidden_size=text_hidden_size)
    tower = cast(Gemma4VisionModel(vision_config), dtype).eval()
    projector = Gemma4MultimodalEmbedder(vision_config, text_config).to(dtype).eval()
    parts = {"vision_tower": tower, "embed_vision": projector}
    left = {f"{part}.{name}" for part, module in parts.items() for name in module.state_dict()}
    for name, shape in weight_shapes(config, text_hidden_size).items():
        part, inner = name.split(".", 1)
        left.remove(name)
        parts[part].state_dict()[inner].copy_(torch.from_numpy(np.asarray(draw_weight(name, shape))))
    if left:
        raise ValueError(f"No weights were drawn for {sorted(left)}")
    return tower, projector


@torch.no_grad()
def soft_tokens(model, pixels: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Soft tokens of all images, one after another: float32 [sum of n_i, D]."""
    tower, projector = model
    features = tower(torch.from_numpy(pixels), torch.from_numpy(positions)).last_hidden_state
    return projector(features).float().numpy()


def main() -> None:
    """Writes what the arguments ask for."""
    torch.set_num_threads(1)
    if sys.argv[1] == "full":
        output, dtype, budget = sys.argv[2:]
        model = load(VISION_CONFIG_31B, CONFIG_31B["hidden_size"], getattr(torch, dtype))
        pixels, positions = image_inputs(int(budget))
        np.save(output, soft_tokens(model, pixels[-1:], positions[-1:]))
        return
    outputs = {}
    for name, config in CONFIGS.items():
        model = load(config, TEXT_HIDDEN_SIZE, torch.float32)
        for budget in GRIDS if config["standardize"] else (70,):
            outputs[f"{name} {budget}"] = soft_tokens(model, *image_inputs(budget))
        outputs[f"{name} black"] = soft_tokens(model, *image_inputs(70, black=True))
    folder = Path(sys.argv[2]) if len(sys.argv) > 2 else GOLDEN
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / "soft_tokens.npz", **outputs)


if __name__ == "__main__":
    main()
