# SPDX-License-Identifier: Apache-2.0
"""Writes the goldens of `tests/modeling/processing`, from transformers >= 5.23's own Gemma 4 classes.

Run in the reference environment, from the repository's root:
    python -m tools.make_processing_reference [FOLDER]
Images are drawn by numpy from their index, so only hashes of the results are kept. The full reference processor needs
torchvision for its video half; here it is assembled without, which leaves the image half untouched.
"""

import hashlib
import json
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from transformers import GemmaTokenizer
from transformers.models.gemma4.image_processing_pil_gemma4 import Gemma4ImageProcessorPil
from transformers.models.gemma4.processing_gemma4 import Gemma4Processor

from tests.modeling.processing.toy_checkpoint import write_toy_checkpoint
from tests.modeling.processing.toy_images import PROMPTS, drawn_image, image_cases, mode_images


GOLDEN = Path("tests/modeling/processing/golden")


class ImageOnlyProcessor(Gemma4Processor):
    """The reference without audio and video parts."""

    def __init__(self, image_processor, tokenizer, chat_template=None):
        self.image_processor, self.tokenizer, self.chat_template = image_processor, tokenizer, chat_template
        for name in (
            "image_token",
            "image_token_id",
            "boi_token",
            "eoi_token",
            "audio_token",
            "boa_token",
            "eoa_token",
        ):
            setattr(self, name, getattr(tokenizer, name))
        self.audio_token_id = tokenizer.audio_token_id
        self.video_token, self.video_token_id = "<|video|>", tokenizer.convert_tokens_to_ids("<|video|>")


def digest(array) -> str:
    """First 16 hex digits of the sha256 of an array's bytes."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


def summary(outputs) -> list:
    """What is kept of one image: hashes of pixel_values and position ids, number of soft tokens."""
    return [
        digest(outputs["pixel_values"]),
        digest(outputs["image_position_ids"]),
        int(outputs["num_soft_tokens_per_image"][0]),
    ]


def main(target: Path) -> None:
    """Writes images.json and prompts.json."""
    images = Gemma4ImageProcessorPil()
    sizes = [
        [height, width, budget, *summary(images(drawn_image(index, height, width), max_soft_tokens=budget))]
        for index, (height, width, budget) in enumerate(image_cases())
    ]
    modes = {name: summary(images(image, max_soft_tokens=70)) for name, image in mode_images().items()}
    with tempfile.TemporaryDirectory() as folder:
        write_toy_checkpoint(Path(folder))
        tokenizer = GemmaTokenizer.from_pretrained(folder)
        processor = ImageOnlyProcessor(images, tokenizer)
        prompts = []
        for text, sizes_of_prompts in PROMPTS:
            drawn = [[drawn_image(h, h, w) for h, w in sizes_of_prompt] for sizes_of_prompt in sizes_of_prompts]
            outputs = processor(text=text, images=drawn if any(drawn) else None, max_soft_tokens=70)
            kept = {"input_ids": outputs["input_ids"], "mm_token_type_ids": outputs["mm_token_type_ids"]}
            kept["attention_mask"] = outputs["attention_mask"]
            prompts.append({name: [list(map(int, row)) for row in rows] for name, rows in kept.items()})
        metadata = SimpleNamespace(fps=2.0, timestamps=[0.0, 30.5, 61.0, 3725.0])
        video_inputs = {"num_soft_tokens_per_video": [3], "video_metadata": [metadata]}
        video = processor.replace_video_token(video_inputs, 0)
    target.mkdir(parents=True, exist_ok=True)
    rows = ",\n  ".join(json.dumps(row) for row in sizes)
    (target / "images.json").write_text(f'{{"modes": {json.dumps(modes)},\n "sizes": [\n  {rows}\n ]}}\n')
    (target / "prompts.json").write_text(json.dumps({"prompts": prompts, "video": video}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else GOLDEN)
