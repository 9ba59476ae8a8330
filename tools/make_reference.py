# SPDX-License-Identifier: Apache-2.0
"""Writes the goldens of `tests/parity`: what transformers' own Gemma 4 generates from the trained checkpoint.

Run in the reference environment (transformers >= 5.5), from the repository's root:

    python tools/make_reference.py [--out tests/parity/golden]

For each prompt of `tests/parity/prompts.py`: the ids, the greedy continuation and the soft-capped logits of every step,
in fp32 with eager attention, one prompt at a time and without padding. The weights of the checkpoint are bf16, so fp32
has the same ones.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForImageTextToText, AutoTokenizer


ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "parity"))

from parity_prompts import COMPILED_LENGTH, NEW_TOKENS, chats, of_length  # noqa: E402


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
def continued(model, ids: list[int]) -> tuple[list[int], np.ndarray]:
    """The greedy continuation of a prompt and the logits it was chosen from, [steps, vocab]."""
    steps = min(NEW_TOKENS, COMPILED_LENGTH - len(ids))
    output = model.generate(
        torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        max_new_tokens=steps,
        do_sample=False,
        eos_token_id=None,
        return_dict_in_generate=True,
        output_logits=True,
    )
    return output.sequences[0, len(ids) :].tolist(), torch.cat(output.logits).float().numpy()


def main() -> None:
    """Write one file for the checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "tests" / "parity" / "golden")
    parser.add_argument("--model", type=Path, default=ROOT / "examples" / "gemma4-tiny")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    model = AutoModelForImageTextToText.from_pretrained(
        arguments.model, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    model.generation_config.eos_token_id = None
    golden = {}
    for name, ids in prompts(tokenizer).items():
        tokens, logits = continued(model, ids)
        golden |= {f"{name}.prompt": np.array(ids), f"{name}.tokens": np.array(tokens), f"{name}.logits": logits}
    arguments.out.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(arguments.out / "gemma4-tiny.npz", **golden)


if __name__ == "__main__":
    main()
