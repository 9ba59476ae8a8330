# SPDX-License-Identifier: Apache-2.0
"""Writes the goldens of `tests/parity`: what transformers' own Gemma 4 generates from the trained checkpoint.

Run in the reference environment (transformers >= 5.5), from the repository's root:

    python -m tools.make_reference [--out tests/parity/golden]

For each prompt of `tests/parity/parity_prompts.py`: the ids, the greedy continuation and the soft-capped logits of
every step, in fp32 with eager attention, one prompt at a time and without padding. The weights of the checkpoint are
bf16, so fp32 has the same ones.
"""

import numpy as np
import torch

from tests.parity.parity_prompts import COMPILED_LENGTH, NEW_TOKENS, chats, of_length
from tools.reference_models import golden_folder, greedy, trained, write


def prompts(tokenizer) -> dict[str, list[int]]:
    """Ids of every prompt, by name."""
    found = {}
    for name, messages in chats().items():
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        found[name] = tokenizer(text, add_special_tokens=False).input_ids
    for name, (text, length) in of_length().items():
        found[name] = tokenizer(text, add_special_tokens=False).input_ids[:length]
    return found


@torch.no_grad()
def main() -> None:
    """Write one file for the checkpoint."""
    folder = golden_folder(__doc__)
    torch.set_num_threads(1)
    model, tokenizer = trained()
    golden = {}
    for name, ids in prompts(tokenizer).items():
        output = greedy(model, {"input_ids": torch.tensor([ids])}, min(NEW_TOKENS, COMPILED_LENGTH - len(ids)))
        golden |= {
            f"{name}.prompt": np.array(ids),
            f"{name}.tokens": output.sequences[0, len(ids) :].numpy(),
            f"{name}.logits": torch.cat(output.logits).float().numpy(),
        }
    write(folder, "gemma4-tiny", golden)


if __name__ == "__main__":
    main()
