# SPDX-License-Identifier: Apache-2.0
"""From export to generate() with pictures: the trained checkpoint describes what it is shown, as transformers does.

Goldens are those of `tools/make_picture_reference.py`. Prompts and pictures go through the processor, pixels and all.
"""

import logging
from pathlib import Path

import pytest
import torch
from goldens import load_golden
from picture_prompts import ASKED, ENCODED, NEW_TOKENS, PROMPTS, QUESTION, conversation, seeds

from optimum_gemma4.modeling.processing import Gemma4Processor, soft_token_counts
from tools.tiny_pictures import draw


CHECKPOINT = Path(__file__).parents[2] / "examples" / "gemma4-tiny"
LOGITS_TOLERANCE = 1e-3
FEATURES_TOLERANCE = 1e-4  # largest difference over largest value
OPTIONS = {"sequence_length": 432, "prefill_buckets": [384], "max_soft_tokens": [70], "torch_dtype": "float32"}
ROWS = 4
GREEDY = {"max_new_tokens": NEW_TOKENS, "do_sample": False, "eos_token_id": None}

logger = logging.getLogger(__name__)


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    loaded = load_golden("gemma4-tiny-pictures")
    return {key: value.float() if value.is_floating_point() else value.long() for key, value in loaded.items()}


@pytest.fixture(scope="module")
def processor() -> Gemma4Processor:
    return Gemma4Processor.from_pretrained(CHECKPOINT)


def prepared(processor, prompts: list[list[str | int]]):
    """Inputs of several prompts, from the pictures themselves."""
    texts = [
        processor.apply_chat_template(conversation(parts), tokenize=False, add_generation_prompt=True)
        for parts in prompts
    ]
    images = [[draw(seed)[0] for seed in seeds(parts)] for parts in prompts]
    return processor(text=texts, images=images, return_tensors="pt")


def assert_follows(model, processor, golden, names: tuple[str, ...]) -> None:
    """Every token is the reference's, and so are the largest logits that it was chosen from."""
    inputs = prepared(processor, [PROMPTS[name] for name in names])
    output = model.generate(**inputs, **GREEDY, return_dict_in_generate=True, output_logits=True)
    for row, name in enumerate(names):
        new = output.sequences[row, inputs["input_ids"].shape[1] :]
        assert new.tolist() == golden[f"{name}.tokens"].tolist(), name
        logits = torch.stack([step[row] for step in output.logits]).gather(1, golden[f"{name}.top_ids"])
        torch.testing.assert_close(logits, golden[f"{name}.top_logits"], atol=LOGITS_TOLERANCE, rtol=0)


@pytest.mark.parametrize("name", PROMPTS)
def test_the_prompts_are_those_of_the_goldens(processor, golden, name):
    inputs = prepared(processor, [PROMPTS[name]])
    assert inputs["input_ids"][0].tolist() == golden[f"{name}.prompt"].tolist()
    assert sum(soft_token_counts(inputs["image_position_ids"])) == inputs["mm_token_type_ids"].sum()


@pytest.mark.parametrize("name", ["first", "last", "middle", "wide"])
def test_the_reference_describes_what_is_drawn(processor, golden, name):
    """Else the goldens would be those of a model that guesses. (Of several pictures it mixes up which is which.)"""
    answer = processor.tokenizer.decode(golden[f"{name}.tokens"]).split("<turn|>")[0]
    assert answer == " ".join(draw(seed)[1] for seed in seeds(PROMPTS[name]))


@pytest.mark.parametrize("names", [("first", "two"), ("five", "middle")], ids=" + ".join)
def test_tokens_and_logits_of_a_batch(image_exports, processor, golden, names):
    model = image_exports.model(CHECKPOINT, **OPTIONS, batch_size=2, tensor_parallel_size=2, on_device_sampling=False)
    assert_follows(model, processor, golden, names)


def test_soft_tokens(image_exports, processor, golden):
    """Five pictures of several aspect ratios."""
    model = image_exports.model(CHECKPOINT, **OPTIONS, batch_size=2, tensor_parallel_size=2, on_device_sampling=False)
    inputs = prepared(processor, [PROMPTS[ENCODED]])
    features = model.get_image_features(inputs["pixel_values"], inputs["image_position_ids"])
    wanted = golden[f"{ENCODED}.features"].split([len(rows) for rows in features])
    for rows, expected in zip(features, wanted, strict=True):
        assert (rows - expected).abs().max() < FEATURES_TOLERANCE * expected.abs().max()


@pytest.mark.slow
@pytest.mark.parametrize("tp", [1, 4])
def test_tokens_and_logits_of_every_prompt(image_exports, processor, golden, tp):
    model = image_exports.model(CHECKPOINT, **OPTIONS, tensor_parallel_size=tp, on_device_sampling=False)
    for name in PROMPTS:
        assert_follows(model, processor, golden, (name,))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_hundred_fresh_pictures_are_described(image_exports, processor, golden, dtype):
    """At least 95 are described as they were drawn; in fp32 every answer is transformers', right or wrong."""
    options = {**OPTIONS, "sequence_length": 128, "prefill_buckets": [112], "torch_dtype": dtype}
    model = image_exports.model(CHECKPOINT, **options, batch_size=ROWS)
    right, alike = 0, 0
    for start in range(0, len(ASKED), ROWS):
        asked = ASKED[start : start + ROWS]
        inputs = prepared(processor, [[seed, QUESTION] for seed in asked])
        sequences = model.generate(**inputs, max_new_tokens=golden["answers"].shape[1] + 1, do_sample=False)
        for row, seed in enumerate(asked):
            answer = processor.tokenizer.decode(sequences[row, inputs["input_ids"].shape[1] :]).split("<turn|>")[0]
            theirs = golden["answers"][start + row]
            alike += answer == processor.tokenizer.decode(theirs[theirs >= 0])
            right += answer == draw(seed)[1]
    logger.info("%s: %d of %d right, %d as transformers in fp32", dtype, right, len(ASKED), alike)
    assert right >= 95
    assert alike == len(ASKED) or dtype != "float32"
