# SPDX-License-Identifier: Apache-2.0
"""Writes the goldens of pictures: what transformers' own Gemma 4 makes of them with the trained checkpoint.

Run in the reference environment, from the repository's root:

    python -m tools.make_picture_reference [--out tests/parity/golden]

For each prompt of `tests/parity/picture_prompts.py`, in fp32 with eager attention and one prompt at a time: `prompt`
(ids, pictures expanded), `tokens` (greedy, stop ids switched off), the largest soft-capped logits of each step
(`top_ids` and `top_logits`, [steps, 32]); of one prompt the soft tokens (`features`, [tokens, hidden]). And `answers`
to a question about each of 100 pictures, up to and without the stop id, [100, longest] with -1 behind.
"""

import numpy as np
import torch

from tests.parity.picture_prompts import (
    ASKED,
    ENCODED,
    KEPT_LOGITS,
    LONGEST_ANSWER,
    NEW_TOKENS,
    PROMPTS,
    QUESTION,
    conversation,
    seeds,
)
from tools.reference_models import golden_folder, greedy, trained, write
from tools.tiny_data import BOI, EOI, preprocess
from tools.tiny_pictures import draw
from tools.tiny_text import IMAGE


def prepared(model, tokenizer, parts: list[str | int]) -> dict[str, torch.Tensor]:
    """Inputs of the model for one prompt."""
    patches, positions, counts = preprocess([draw(seed)[0] for seed in seeds(parts)], 70)
    text = tokenizer.apply_chat_template(conversation(parts), tokenize=False, add_generation_prompt=True)
    first, *rest = text.split(IMAGE)
    text = first + "".join(BOI + IMAGE * n + EOI + piece for n, piece in zip(counts, rest, strict=True))
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
    return {
        "input_ids": ids,
        "mm_token_type_ids": (ids == model.config.image_token_id).long(),
        "pixel_values": patches,
        "image_position_ids": positions,
    }


def reference(model, tokenizer, name: str) -> dict[str, np.ndarray]:
    """What the reference makes of one prompt."""
    inputs = prepared(model, tokenizer, PROMPTS[name])
    output = greedy(model, inputs, NEW_TOKENS)
    top = torch.cat(output.logits).float().topk(KEPT_LOGITS)
    ids = inputs["input_ids"][0]
    golden = {
        "prompt": ids.numpy().astype(np.int32),
        "tokens": output.sequences[0, len(ids) :].numpy().astype(np.int32),
        "top_ids": top.indices.numpy().astype(np.int32),
        "top_logits": top.values.numpy(),
    }
    if name == ENCODED:
        features = model.get_image_features(inputs["pixel_values"], inputs["image_position_ids"]).pooler_output
        golden["features"] = torch.cat(features).float().numpy()
    return {f"{name}.{key}": value for key, value in golden.items()}


def answers(model, tokenizer) -> np.ndarray:
    """The reference's answer about each picture, [100, longest]."""
    stop = model.config.eos_token_id
    found = np.full((len(ASKED), LONGEST_ANSWER), -1, dtype=np.int32)
    for row, seed in enumerate(ASKED):
        inputs = prepared(model, tokenizer, [seed, QUESTION])
        output = greedy(model, inputs, LONGEST_ANSWER, stop)
        new = output.sequences[0, inputs["input_ids"].shape[1] :].tolist()
        length = next((index for index, token in enumerate(new) if token in stop), len(new))
        found[row, :length] = new[:length]
    return found[:, : (found >= 0).any(axis=0).sum()]


@torch.no_grad()
def main() -> None:
    """Write one file for the checkpoint."""
    folder = golden_folder(__doc__)
    torch.set_num_threads(1)
    model, tokenizer = trained()
    golden = {"answers": answers(model, tokenizer)}
    for name in PROMPTS:
        golden |= reference(model, tokenizer, name)
    write(folder, "gemma4-tiny-pictures", golden)


if __name__ == "__main__":
    main()
