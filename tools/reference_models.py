# SPDX-License-Identifier: Apache-2.0
"""Reference models of the scripts that write goldens: how they are loaded, cast, asked, and where goldens go."""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import AutoModelForImageTextToText, AutoTokenizer, PreTrainedTokenizerBase
from transformers.generation import GenerateDecoderOnlyOutput


__all__ = ["cast", "golden_folder", "greedy", "trained", "write"]

ROOT = Path(__file__).resolve().parent.parent


def golden_folder(description: str) -> Path:
    """The folder that the command line names with `--out`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "tests" / "parity" / "golden")
    return parser.parse_args().out


def write(folder: Path, name: str, golden: dict[str, np.ndarray]) -> None:
    """One file of goldens."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / f"{name}.npz", **golden)


def trained() -> tuple[nn.Module, PreTrainedTokenizerBase]:
    """The trained checkpoint in fp32 with eager attention, and its tokenizer; nothing stops a continuation."""
    folder = ROOT / "examples" / "gemma4-tiny"
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    model.generation_config.eos_token_id = None
    return model.eval(), AutoTokenizer.from_pretrained(folder)


def greedy(model: nn.Module, inputs: dict[str, torch.Tensor], new_tokens: int, stop=None) -> GenerateDecoderOnlyOutput:
    """A greedy continuation of prompts without padding, with the logits of its steps; `stop` are ids that end it."""
    return model.generate(
        **{"attention_mask": torch.ones_like(inputs["input_ids"]), **inputs},
        max_new_tokens=new_tokens,
        do_sample=False,
        eos_token_id=stop,
        return_dict_in_generate=True,
        output_logits=True,
    )


def cast(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Casts a model of drawn weights as `from_pretrained(dtype=...)` would load it.

    `Module.to(dtype)` alone would also round the rotary frequencies, which transformers keeps in float32.
    """
    frequencies = {name: buffer for name, buffer in model.named_buffers() if "inv_freq" in name}
    model.to(dtype)
    for name, buffer in frequencies.items():
        owner, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(owner), attribute, buffer)
    return model
