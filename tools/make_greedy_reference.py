# SPDX-License-Identifier: Apache-2.0
"""Writes `tests/parity/golden/greedy_models.npz`: what transformers' own Gemma 4 generates from random models.

Run in the reference environment, from the repository's root:

    python -m tools.make_greedy_reference [--out tests/parity/golden]

For each model and prompt of `tests/parity/greedy_models.py`: the ids, the greedy continuation and the soft-capped
logits of every step, in fp32 with eager attention, one prompt at a time and without padding.
"""

import numpy as np
import torch
from transformers import Gemma4Config, Gemma4ForConditionalGeneration

from tests.parity.greedy_models import GREEDY_CONFIGS, NEW_TOKENS, greedy_prompts, greedy_weight
from tools.reference_models import golden_folder, greedy, write


def build(name: str) -> Gemma4ForConditionalGeneration:
    """A model without vision tower, in fp32."""
    config = Gemma4Config(text_config=dict(GREEDY_CONFIGS[name]), vision_config=None, audio_config=None)
    config._attn_implementation = "eager"
    model = Gemma4ForConditionalGeneration(config).eval()
    text = model.model.language_model
    stored = {**dict(text.named_parameters()), **{key: b for key, b in text.named_buffers() if "layer_scalar" in key}}
    text.load_state_dict({key: greedy_weight(key, tuple(value.shape)) for key, value in stored.items()}, strict=False)
    model.tie_weights()
    return model


@torch.no_grad()
def reference(name: str) -> dict[str, np.ndarray]:
    """Prompts, continuations and logits of one model."""
    model = build(name)
    golden = {}
    for row, prompt in enumerate(greedy_prompts(name)):
        output = greedy(model, {"input_ids": prompt[None]}, NEW_TOKENS)
        golden[f"{name}.{row}.prompt"] = prompt.numpy()
        golden[f"{name}.{row}.tokens"] = output.sequences[0, len(prompt) :].numpy()
        golden[f"{name}.{row}.logits"] = torch.cat(output.logits).numpy()
    return golden


def main() -> None:
    """Write one file for all models."""
    folder = golden_folder(__doc__)
    torch.set_num_threads(1)
    write(folder, "greedy_models", {key: value for name in GREEDY_CONFIGS for key, value in reference(name).items()})


if __name__ == "__main__":
    main()
