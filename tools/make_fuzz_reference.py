# SPDX-License-Identifier: Apache-2.0
"""Writes what transformers' own Gemma 4 generates for random cases, for `tests/parity/test_fuzz.py`; nothing is kept.

Run in the reference environment, from the repository's root:

    python -m tools.make_fuzz_reference FOLDER SEED [SEED ...]

For each seed of `tests/parity/fuzz_cases.py` a file `<seed>.npz`: for each prompt `ids`, `tokens` (greedy, no stop
ids) and the `logits` of every step, in fp32 with eager attention, one prompt at a time and without padding.
"""

import copy
import sys
from pathlib import Path

import numpy as np
import torch
from transformers.models.gemma4.image_processing_pil_gemma4 import Gemma4ImageProcessorPil

from tests.parity.fuzz_cases import draw_case
from tools.make_multimodal_reference import build
from tools.reference_models import greedy


@torch.no_grad()
def reference(seed: int) -> dict[str, np.ndarray]:
    """Everything about one case."""
    case = draw_case(seed)
    model = build(copy.deepcopy(case.config))
    golden = {}
    for name, prompt in case.prompts().items():
        inputs = prompt.inputs(Gemma4ImageProcessorPil())
        length = inputs["input_ids"].shape[1]
        if case.config["vision_config"] is None:
            del inputs["mm_token_type_ids"]
        most = case.new_tokens[int(name.split(".")[0])]
        output = greedy(model, inputs, min(most, case.options["sequence_length"] - length))
        golden[f"{name}.ids"] = inputs["input_ids"][0].numpy()
        golden[f"{name}.tokens"] = output.sequences[0, length:].numpy()
        golden[f"{name}.logits"] = torch.cat(output.logits).numpy()
    return golden


if __name__ == "__main__":
    torch.set_num_threads(1)
    for seed in sys.argv[2:]:
        np.savez(Path(sys.argv[1]) / f"{seed}.npz", **reference(int(seed)))
