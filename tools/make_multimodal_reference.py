# SPDX-License-Identifier: Apache-2.0
"""Writes `tests/parity/golden/multimodal_*.npz`: what transformers' own Gemma 4 makes of prompts with pictures.

Run in the reference environment, from the repository's root:

    python -m tools.make_multimodal_reference [--out tests/parity/golden]

For each random model and prompt of `tests/parity/multimodal_models.py`, in fp32 with eager attention, one prompt at a
time and without padding: `prompt` (ids), `tokens` (greedy, no stop ids) and `logits` of every step, and of some
prompts those of every position (`whole`) and the root mean square that they are off in bf16 (`bf16_error`). And
`features`: soft tokens of pictures of five shapes for three budgets.
"""

import numpy as np
import torch
from transformers import Gemma4Config, Gemma4ForConditionalGeneration
from transformers.models.gemma4.image_processing_pil_gemma4 import Gemma4ImageProcessorPil

from tests.parity.multimodal_models import (
    ASPECTS,
    BUDGETS,
    MULTIMODAL_CONFIGS,
    NEW_TOKENS,
    PROMPTS,
    PROMPTS_OF,
    WHOLE,
    kept_rows,
    multimodal_weight,
)
from tools.reference_models import cast, golden_folder, greedy, write


def build(values: dict) -> Gemma4ForConditionalGeneration:
    """A model in fp32, from a configuration in the Hub's spelling."""
    config = Gemma4Config(**{key: value for key, value in values.items() if key != "architectures"})
    config._attn_implementation = "eager"
    model = Gemma4ForConditionalGeneration(config).eval()
    stored = model.model.state_dict()
    weights = {key: multimodal_weight(key, tuple(value.shape)) for key, value in stored.items()}
    model.model.load_state_dict(weights)
    model.tie_weights()
    return model


def features(model: Gemma4ForConditionalGeneration) -> dict[str, np.ndarray]:
    """Some soft tokens of every picture at every budget."""
    found = {}
    for budget in BUDGETS:
        pictures = [picture.draw() for picture in ASPECTS.values()]
        images = Gemma4ImageProcessorPil()(pictures, max_soft_tokens=budget, return_tensors="pt")
        outputs = model.get_image_features(images["pixel_values"], images["image_position_ids"]).pooler_output
        for aspect, rows in zip(ASPECTS, outputs, strict=True):
            found[f"{aspect} {budget}.features"] = rows[torch.from_numpy(kept_rows(len(rows)))].numpy()
    return found


@torch.no_grad()
def reference(name: str) -> dict[str, np.ndarray]:
    """Everything that is kept of one model."""
    model = build(MULTIMODAL_CONFIGS[name])
    golden = features(model)
    for key in PROMPTS_OF[name]:
        inputs = PROMPTS[key].inputs(Gemma4ImageProcessorPil())
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        output = greedy(model, inputs, NEW_TOKENS)
        golden[f"{key}.prompt"] = inputs["input_ids"][0].numpy().astype(np.int16)
        golden[f"{key}.tokens"] = output.sequences[0, inputs["input_ids"].shape[1] :].numpy().astype(np.int16)
        golden[f"{key}.logits"] = torch.cat(output.logits).numpy()
        if key in WHOLE:
            golden[f"{key}.whole"] = model(**inputs).logits[0].numpy()
    cast(model, torch.bfloat16)
    for key in WHOLE:
        if key in PROMPTS_OF[name]:
            logits = model(**PROMPTS[key].inputs(Gemma4ImageProcessorPil())).logits[0].float().numpy()
            golden[f"{key}.bf16_error"] = np.sqrt(((logits - golden[f"{key}.whole"]) ** 2).mean())
    return golden


def main() -> None:
    """Write one file for each model."""
    folder = golden_folder(__doc__)
    torch.set_num_threads(1)
    for name in MULTIMODAL_CONFIGS:
        write(folder, f"multimodal_{name}", reference(name))


if __name__ == "__main__":
    main()
