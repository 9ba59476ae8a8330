# SPDX-License-Identifier: Apache-2.0
"""Trains `examples/gemma4-tiny`, a Gemma 4 of 2.6 M parameters that answers about facts and pictures.

Runs in the reference environment (transformers >= 5.5, its own Gemma 4 classes) on texts and pictures that the
sibling modules generate: first the decoder on text and, beside it in a second process, the vision tower on labels of
the pictures; then both together. The weights are rounded to bf16, saved with the Hub's layout, and then judged.

    python -m tools.train_tiny --out examples/gemma4-tiny

`--decoder FOLDER` takes the decoder of a checkpoint that has been trained on text already.
"""

import argparse
import logging
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.multiprocessing as mp
from torch.nn import functional
from transformers import Gemma4ForConditionalGeneration

from tools.tiny_checkpoint import HUB_CONFIG, build, reload_rounded, save
from tools.tiny_data import IGNORE, Batch, Encoder, picture_batches, text_batches, tower_batches
from tools.tiny_eval import check_template, judge
from tools.tiny_pictures import COLOURS, COUNTS, SHAPES, SIDES
from tools.tiny_text import corpus
from tools.tiny_tokenizer import train_tokenizer, write_tokenizer


logger = logging.getLogger("train_tiny")
SMALL_BUDGETS = (16, 24, 24, 36)  # soft tokens a picture: smaller than the processor's, for speed
ALL_BUDGETS = (24, 36, 70, 70)


def optimise(
    name: str,
    parameters: list[torch.nn.Parameter],
    losses: Iterator[torch.Tensor],
    steps: int,
    peak: float,
) -> None:
    """AdamW over `steps` losses: a short warm-up, then a cosine to 1 % of the peak learning rate."""

    def factor(step: int) -> float:
        warm = min(1.0, (step + 1) / 50)
        return warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / steps)))

    optimiser = torch.optim.AdamW(parameters, lr=peak, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
    start, mean = time.time(), 0.0
    for step in range(steps):
        loss = next(losses)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad(set_to_none=True)
        mean += (loss.item() - mean) / min(step + 1, 50)
        if (step + 1) % 50 == 0 or step + 1 == steps:
            logger.info("%s: step %d of %d, loss %.4f, %.0f s", name, step + 1, steps, mean, time.time() - start)


def answer_loss(model: Gemma4ForConditionalGeneration, batch: Batch) -> torch.Tensor:
    """Cross entropy of the soft-capped logits at the target positions."""
    extra = {}
    if batch.patches is not None:
        types = (batch.ids == model.config.image_token_id).long()
        extra = {
            "pixel_values": batch.patches,
            "image_position_ids": batch.positions,
            "mm_token_type_ids": types,
        }
    hidden = model.model(input_ids=batch.ids, use_cache=False, **extra).last_hidden_state
    wanted = batch.targets[:, 1:]
    chosen = wanted != IGNORE
    cap = model.config.text_config.final_logit_softcapping
    logits = torch.tanh(model.lm_head(hidden[:, :-1][chosen]) / cap) * cap
    return functional.cross_entropy(logits, wanted[chosen])


def train_tower(steps: int, seed: int, weights: Path, threads: int) -> None:
    """Train tower and projector so that every soft token tells what the picture shows; write their weights.

    Four linear heads (shape, colour, count, side) read the soft tokens; they are thrown away afterwards.
    """
    torch.set_num_threads(threads)
    model = build(HUB_CONFIG, seed).model
    torch.manual_seed(seed)
    sizes = (len(SHAPES), len(COLOURS), len(COUNTS), len(SIDES))
    head = torch.nn.Linear(model.config.text_config.hidden_size, sum(sizes))

    def losses() -> Iterator[torch.Tensor]:
        for patches, positions, labels in tower_batches(seed, 24, SMALL_BUDGETS):
            soft = model.get_image_features(patches, positions).pooler_output
            scores = head(torch.stack(soft)).split(sizes, dim=-1)  # 4 x [N, T, classes]
            yield sum(
                functional.cross_entropy(s.flatten(0, 1), labels[:, i].repeat_interleave(s.shape[1]))
                for i, s in enumerate(scores)
            )

    trained = [*model.vision_tower.parameters(), *model.embed_vision.parameters()]
    optimise("tower", [*trained, *head.parameters()], losses(), steps, 2e-3)
    torch.save({"tower": model.vision_tower.state_dict(), "projector": model.embed_vision.state_dict()}, weights)


def in_background(target: Callable[..., None], *arguments: object) -> mp.Process:
    """Start `target` in a fresh process."""
    process = mp.get_context("spawn").Process(target=_logged, args=(target, *arguments))
    process.start()
    return process


def _logged(target: Callable[..., None], *arguments: object) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    target(*arguments)


def main() -> None:
    """Train, save, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=1500, help="steps of the decoder on text")
    parser.add_argument("--tower-steps", type=int, default=1500, help="steps of the vision tower on labels")
    parser.add_argument("--joint-steps", type=int, default=500, help="steps of both together")
    parser.add_argument(
        "--decoder", type=Path, help="checkpoint whose decoder is taken instead of training one on text"
    )
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    start = time.time()

    arguments.out.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer(corpus())
    write_tokenizer(tokenizer, arguments.out)
    check_template(arguments.out)
    encode = Encoder(tokenizer)

    tower_weights = arguments.out / "tower.pt"
    half = max(1, arguments.threads // 2)
    tower = None
    if arguments.tower_steps:
        tower = in_background(train_tower, arguments.tower_steps, arguments.seed, tower_weights, half)
    torch.set_num_threads(half)
    model = build(HUB_CONFIG, arguments.seed)
    if arguments.decoder:
        reload_rounded(model, arguments.decoder)
    else:
        texts = text_batches(encode, arguments.seed, 2048)
        decoder = list(model.model.language_model.parameters())
        optimise("text", decoder, (answer_loss(model, b) for b in texts), arguments.steps, 3e-3)

    torch.set_num_threads(arguments.threads)
    if tower is not None:
        tower.join()
        if tower.exitcode:
            raise RuntimeError(f"training of the vision tower ended with status {tower.exitcode}")
        stored = torch.load(tower_weights)
        model.model.vision_tower.load_state_dict(stored["tower"])
        model.model.embed_vision.load_state_dict(stored["projector"])
    if arguments.joint_steps:
        pictures = picture_batches(encode, arguments.seed + 1, 12, ALL_BUDGETS)
        texts = text_batches(encode, arguments.seed + 1, 1024)
        both = (answer_loss(model, next(texts)) + answer_loss(model, next(pictures)) for _ in iter(int, 1))
        optimise("joint", list(model.parameters()), both, arguments.joint_steps, 1e-3)

    tower_weights.unlink(missing_ok=True)
    count = save(model, HUB_CONFIG, arguments.out)
    logger.info("saved %d parameters after %.1f minutes", count, (time.time() - start) / 60)
    reload_rounded(model, arguments.out)
    judge(model.eval(), arguments.out)


if __name__ == "__main__":
    main()
