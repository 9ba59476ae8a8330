# SPDX-License-Identifier: Apache-2.0
"""A random Gemma 4 of the 31B's widths: one sliding and one global layer, a cut vocabulary, a short window, bf16.

About 1.1 billion parameters. `python big_model.py ARTIFACT_OR_CHECKPOINT OUT.npy [float32|bfloat16]` computes the
logits of `TOKENS` from the prompt's last token on: from an artifact with a prefill and one decode call per token; from
a checkpoint, in the reference environment, with transformers' own class in the dtype that is given.
"""

import sys
from pathlib import Path

import numpy as np
import torch


WINDOW, PROMPT, STEPS, VOCABULARY = 32, 40, 24, 16_384
SEQUENCE_LENGTH = 96
BIG_CONFIG = {
    "model_type": "gemma4",
    "dtype": "bfloat16",
    "vision_config": None,
    "text_config": {
        "model_type": "gemma4_text",
        "dtype": "bfloat16",
        "vocab_size": VOCABULARY,
        "hidden_size": 5376,
        "intermediate_size": 21504,
        "num_hidden_layers": 2,
        "num_attention_heads": 32,
        "num_key_value_heads": 16,
        "num_global_key_value_heads": 4,
        "head_dim": 256,
        "global_head_dim": 512,
        "sliding_window": WINDOW,
        "layer_types": ["sliding_attention", "full_attention"],
        "attention_k_eq_v": True,
        "use_bidirectional_attention": "vision",
        "hidden_size_per_layer_input": 0,
        "final_logit_softcapping": 30.0,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": True,
    },
}
TOKENS = torch.from_numpy(np.random.default_rng(3).integers(3, VOCABULARY, PROMPT + STEPS))


def compiled_logits(folder: str) -> torch.Tensor:
    """Of an artifact: [1 + STEPS, V]."""
    from optimum_gemma4 import NeuronModelForCausalLM

    model = NeuronModelForCausalLM.from_pretrained(folder)
    logits = [model(TOKENS[None, :PROMPT], torch.arange(PROMPT)[None])]
    for position in range(PROMPT, PROMPT + STEPS):
        logits.append(model(TOKENS[None, position : position + 1], torch.tensor([[position]])))
    return torch.cat(logits)[:, 0]


def reference_logits(folder: str, dtype: str) -> torch.Tensor:
    """Of a checkpoint, by transformers: [1 + STEPS, V]."""
    from transformers import Gemma4ForConditionalGeneration

    model = Gemma4ForConditionalGeneration.from_pretrained(
        folder, dtype=getattr(torch, dtype), attn_implementation="eager"
    ).eval()
    types = torch.zeros(1, len(TOKENS), dtype=torch.long)
    return model(TOKENS[None], mm_token_type_ids=types).logits[0, PROMPT - 1 :]


if __name__ == "__main__":
    source, output, *dtype = sys.argv[1:]
    torch.set_num_threads(1)
    with torch.no_grad():
        logits = reference_logits(source, *dtype) if dtype else compiled_logits(source)
    np.save(Path(output), logits.float().numpy())
