# SPDX-License-Identifier: Apache-2.0
"""Judges the tiny Gemma 4: how many facts it answers and how many fresh pictures it describes exactly right.

Greedy decoding by transformers on the stored (bf16-rounded) weights, after the chat template has been compared with
the markers that the training texts use. `python -m tools.tiny_eval examples/gemma4-tiny` judges a saved checkpoint.
"""

import argparse
import logging
from pathlib import Path

import numpy as np
import torch
from transformers import AutoTokenizer, Gemma4ForConditionalGeneration

from tools.tiny_data import preprocess
from tools.tiny_pictures import draw
from tools.tiny_text import EACH, IMAGE, KEYS, QUESTION, Segments, Turn, continuations, conversation, facts, haystack


logger = logging.getLogger("tiny_eval")
FRESH = 5_000_000  # the first seed of the pictures that are never trained on


def check_template(folder: Path) -> None:
    """Raise when `chat_template.jinja` and the training texts disagree."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    turns = [("One?", "Two."), ("Three?", "Four.")]
    for system, thought in (("", None), ("Be short.", None), ("", "Hm."), ("Be short.", "Hm.")):
        messages = [{"role": "system", "content": system}] if system else []
        for question, answer in turns:
            messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        rendered = tokenizer.apply_chat_template(
            messages[:-1], tokenize=False, add_generation_prompt=True, enable_thinking=thought is not None
        )
        head = conversation(turns, system, thought)[0][0]
        if rendered != head:
            raise ValueError(f"the chat template gives {rendered!r}, the training texts have {head!r}")


@torch.no_grad()
def answer(
    model: Gemma4ForConditionalGeneration, tokenizer, prompts: list[str], images: list | None = None
) -> list[str]:
    """Greedy answers to prompts of one length class, left-padded; `images` holds one list of pictures a prompt."""
    extra = {}
    if images is not None:
        patches, positions, counts = preprocess([image for row in images for image in row], 70)
        soft = iter(counts)
        prompts = [
            p.split(IMAGE)[0]
            + "".join("<|image>" + IMAGE * next(soft) + "<image|>" + piece for piece in p.split(IMAGE)[1:])
            for p in prompts
        ]
        extra = {"pixel_values": patches, "image_position_ids": positions}
    inputs = tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
    if images is not None:
        extra["mm_token_type_ids"] = (inputs["input_ids"] == model.config.image_token_id).long()
    out = model.generate(
        **inputs, **extra, max_new_tokens=200, do_sample=False, eos_token_id=[1, 106, 50], pad_token_id=0
    )
    return tokenizer.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def _score(model, tokenizer, name: str, turns: list[Turn], size: int = 64) -> float:
    """Share of exact answers to (prompt, answer) pairs."""
    turns = sorted(turns, key=lambda turn: len(turn[1]))
    right = 0
    for start in range(0, len(turns), size):
        part = turns[start : start + size]
        for (prompt, wanted), got in zip(part, answer(model, tokenizer, [p for p, _ in part])):
            right += got == wanted
            if got != wanted:
                logger.info("%s: wrong after %r: %r", name, prompt[-60:], got)
    logger.info("%s: %d of %d", name, right, len(turns))
    return right / len(turns)


def _ask(segments: Segments) -> Turn:
    return segments[0][0], segments[1][0].removesuffix("<turn|>")


def judge(model: Gemma4ForConditionalGeneration, folder: Path, pictures: int = 100) -> dict[str, float]:
    """Score every skill; pictures are drawn from seeds that training never uses.

    Returns:
        Share of exact answers by skill.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder)
    scores = {}
    for name, turns in facts().items():
        scores[name] = _score(model, tokenizer, name, [_ask(conversation([turn])) for turn in turns])
    scores["continuations"] = _score(model, tokenizer, "continuations", [("<bos>" + a, b) for a, b in continuations()])
    rng = np.random.default_rng(FRESH)
    hay = [_ask(conversation([haystack(rng, n, key)])) for key in KEYS for n in (4, 12, 23)]
    scores["haystack"] = _score(model, tokenizer, "haystack", hay, 20)
    seen = [draw(FRESH + i) for i in range(pictures)]
    prompt = conversation([(IMAGE + QUESTION, "")])[0][0]
    pair = conversation([(IMAGE * 2 + EACH, "")])[0][0]
    for name, per_row, text in (("pictures", 1, prompt), ("pairs of pictures", 2, pair)):
        rows = [seen[i : i + per_row] for i in range(0, pictures, per_row)]
        right = 0
        for start in range(0, len(rows), 10):
            part = rows[start : start + 10]
            got = answer(model, tokenizer, [text] * len(part), [[image for image, _ in row] for row in part])
            for row, said in zip(part, got):
                wanted = " ".join(description for _, description in row)
                right += said == wanted
                if said != wanted:
                    logger.info("%s: wanted %r, got %r", name, wanted, said)
        scores[name] = right / max(1, len(rows))
        logger.info("%s: %d of %d", name, right, len(rows))
    return scores


def main() -> None:
    """Judge a saved checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pictures", type=int, default=100)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    model = Gemma4ForConditionalGeneration.from_pretrained(arguments.folder, dtype=torch.float32).eval()
    judge(model, arguments.folder, arguments.pictures)


if __name__ == "__main__":
    main()
