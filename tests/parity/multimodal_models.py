# SPDX-License-Identifier: Apache-2.0
"""Random Gemma 4 models that see, and prompts with pictures, the same in the reference environment and here.

A model is a configuration in the Hub's spelling; text weights are drawn as for `greedy_models`, those of the vision
tower as for `tests/modeling/vision`. The vocabulary of 64 ids lets the goldens keep every logit; a continuation then
also holds ids of placeholders, which transformers embeds as padding. Every picture has more soft tokens than the
window of 32. Used by `tools/make_multimodal_reference.py` and by the tests.
"""

from dataclasses import dataclass

import numpy as np
import PIL.Image
import torch

from tests.modeling.processing.toy_images import drawn_image
from tests.modeling.vision.toy_vision import CONFIGS as VISION_CONFIGS
from tests.modeling.vision.toy_vision import draw_weight
from tests.parity.greedy_models import GREEDY_CONFIGS, greedy_weight


NEW_TOKENS = 48
VOCAB_SIZE, WINDOW = 64, 32
BOS, FIRST_TEXT_ID = 2, 3
SPECIAL_IDS = {
    "boa_token_id": 57,
    "eoa_token_index": 58,
    "audio_token_id": 59,
    "image_token_id": 60,
    "boi_token_id": 61,
    "eoi_token_id": 62,
    "video_token_id": 63,
}


def _config(text_config: dict, vision_config: dict) -> dict:
    return {
        "model_type": "gemma4",
        "architectures": ["Gemma4ForConditionalGeneration"],
        "dtype": "float32",
        "text_config": {
            **text_config,
            "vocab_size": VOCAB_SIZE,
            "sliding_window": WINDOW,
            "max_position_embeddings": 1024,
        },
        "vision_config": vision_config,
        "audio_config": None,
        **SPECIAL_IDS,
    }


MULTIMODAL_CONFIGS = {
    # As the 31B: K = V on global layers, images seen in both directions on sliding ones, a standardised tower.
    "like_31b": _config(GREEDY_CONFIGS["like_31b"], VISION_CONFIGS["standardized"]),
    # As E2B without its extras: causal images, a tower with clipped linear layers, no softcap, V projected everywhere.
    "causal_images": _config(GREEDY_CONFIGS["own_v_proj"], VISION_CONFIGS["clipped"]),
}


def multimodal_weight(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The float32 weights of a tensor, by its name below `model.`."""
    if name.startswith("language_model."):
        return greedy_weight(name.removeprefix("language_model."), shape)
    return torch.from_numpy(np.array(draw_weight(name, shape), dtype=np.float32))


@dataclass(frozen=True)
class Picture:
    """A drawn picture of a size in pixels, or a black one; a frame is part of the prompt's video."""

    height: int
    width: int
    is_black: bool = False
    is_frame: bool = False

    def draw(self) -> PIL.Image.Image:
        """The RGB image."""
        image = drawn_image(self.height * 1000 + self.width, self.height, self.width)
        return PIL.Image.new("RGB", image.size) if self.is_black else image


SQUARE = Picture(224, 224)
STRIP = Picture(100, 400)
LINE = Picture(1, 3000)
TALL = Picture(400, 200)
WIDE = Picture(480, 640)
BLACK = Picture(200, 300, is_black=True)
FRAMES = tuple(Picture(200, width, is_frame=True) for width in (301, 302, 303))
ASPECTS = {"square": SQUARE, "strip": STRIP, "line": LINE, "tall": TALL, "black": BLACK}


@dataclass(frozen=True)
class Prompt:
    """Parts in their order: numbers of random text ids, and pictures of at most `budget` soft tokens."""

    parts: tuple[int | Picture, ...]
    budget: int = 70

    def pictures(self) -> list[Picture]:
        """All pictures, frames too, in their order."""
        return [part for part in self.parts if isinstance(part, Picture)]

    def inputs(self, image_processor) -> dict[str, torch.Tensor]:
        """What a processor makes of the prompt; its images are prepared by `image_processor`."""
        inputs, counts = {}, {}
        for is_frame, pixels, positions in (
            (False, "pixel_values", "image_position_ids"),
            (True, "pixel_values_videos", "video_position_ids"),
        ):
            drawn = [picture.draw() for picture in self.pictures() if picture.is_frame == is_frame]
            if drawn:
                images = image_processor(drawn, max_soft_tokens=self.budget, return_tensors="pt")
                inputs |= {pixels: images["pixel_values"], positions: images["image_position_ids"]}
                counts[is_frame] = iter(map(int, images["num_soft_tokens_per_image"]))
                if is_frame:
                    inputs["num_frames_per_video"] = torch.tensor([len(drawn)])
        generator = np.random.default_rng(len(self.parts) + self.budget)
        ids = [BOS]
        for part in self.parts:
            if isinstance(part, Picture):
                placeholder = SPECIAL_IDS["video_token_id" if part.is_frame else "image_token_id"]
                soft_tokens = [placeholder] * next(counts[part.is_frame])
                ids += [SPECIAL_IDS["boi_token_id"], *soft_tokens, SPECIAL_IDS["eoi_token_id"]]
            else:
                ids += generator.integers(FIRST_TEXT_ID, SPECIAL_IDS["boa_token_id"], part).tolist()
        input_ids = torch.tensor([ids])
        types = (input_ids == SPECIAL_IDS["image_token_id"]) + 2 * (input_ids == SPECIAL_IDS["video_token_id"])
        return {"input_ids": input_ids, "mm_token_type_ids": types.long(), **inputs}


def batch_inputs(prompts: list[Prompt], image_processor) -> dict[str, torch.Tensor]:
    """What a processor makes of several prompts: left-padded, with the pictures of all of them in one list."""
    budget = max(prompt.budget for prompt in prompts)
    rows = [prompt.inputs(image_processor) for prompt in prompts]
    width = max(row["input_ids"].shape[1] for row in rows)
    missing = [width - row["input_ids"].shape[1] for row in rows]
    inputs = {"attention_mask": torch.stack([(torch.arange(width) >= columns).long() for columns in missing])}
    for key in ("input_ids", "mm_token_type_ids"):
        given = zip(rows, missing, strict=True)
        inputs[key] = torch.cat([torch.nn.functional.pad(row[key], (columns, 0)) for row, columns in given])
    for key in ("pixel_values", "image_position_ids", "pixel_values_videos", "video_position_ids"):
        given = [row[key] for row in rows if key in row]
        fill = -1 if "position" in key else 0
        padded = [torch.nn.functional.pad(t, (0, 0, 0, 9 * budget - t.shape[1]), value=fill) for t in given]
        inputs |= {key: torch.cat(padded)} if padded else {}
    counts = [row["num_frames_per_video"] for row in rows if "num_frames_per_video" in row]
    return {**inputs, "num_frames_per_video": torch.cat(counts)} if counts else inputs


PROMPTS = {
    "first": Prompt((SQUARE, 12)),
    "middle": Prompt((9, TALL, 14)),
    "last": Prompt((12, STRIP)),
    "line": Prompt((6, LINE, 8)),
    "black": Prompt((5, BLACK, 7)),
    "alone": Prompt((WIDE,)),
    "two": Prompt((5, WIDE, 3, TALL, 7)),
    "side by side": Prompt((SQUARE, STRIP, 9)),
    "five": Prompt((4, SQUARE, 2, BLACK, LINE, 3, TALL, WIDE, 6)),
    "long text after": Prompt((SQUARE, 75)),
    "long text before": Prompt((75, TALL, 3)),
    "no picture": Prompt((40,)),
    "video": Prompt((4, FRAMES[0], 3, FRAMES[1], SQUARE, 3, FRAMES[2], 5)),
    "of 140": Prompt((4, WIDE, 10), budget=140),
    "two of 140": Prompt((STRIP, 3, SQUARE), budget=140),
    "of 280": Prompt((4, TALL, 6), budget=280),
}
PROMPTS_OF = {"like_31b": tuple(PROMPTS), "causal_images": ("first", "two", "five", "no picture", "of 140")}
# Prompts whose logits are kept at every position.
WHOLE = ("two", "side by side")
BUDGETS = (70, 140, 280)
KEPT_ROWS = 32


def kept_rows(soft_tokens: int) -> np.ndarray:
    """Which soft tokens of a picture the goldens keep: evenly spread, the first and the last among them."""
    return np.unique(np.linspace(0, soft_tokens - 1, KEPT_ROWS).round().astype(int))
