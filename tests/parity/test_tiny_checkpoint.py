# SPDX-License-Identifier: Apache-2.0
"""From export to generate(): the trained checkpoint answers as transformers does, token for token.

The artifact is exported, saved and loaded back; goldens are those of `tools/make_reference.py`. The checks of a served
model (smoke, generation, token match, chat, coherence, time to first token, throughput) are here as assertions that
can fail: nothing looks for a word that the prompt holds, and speed is counted in graph calls.
"""

from pathlib import Path

import pytest
import torch
from goldens import load_golden
from parity_prompts import COMPILED_LENGTH, SERVED, chats
from transformers import AutoTokenizer

from optimum_gemma4.modeling.text_graphs import _TextGraph


CHECKPOINT = Path(__file__).parents[2] / "examples" / "gemma4-tiny"
NAMES = ["capital", "sum", "two turns", "one", "short", "window", "window + 1", "long", "compiled - 1"]
TOLERANCE = 1e-3
SECRET = "river"
FILLER = (
    "The cat sleeps in the sun. A train leaves the station at noon. The old man reads a long letter. Rain falls on "
    "the roof of the barn. The shop sells bread and milk. A bird sings in the tall tree. The road goes over the hill."
)
GREEDY = {"do_sample": False, "eos_token_id": None}
OPTIONS = {"sequence_length": COMPILED_LENGTH, "prefill_buckets": [32, COMPILED_LENGTH], "torch_dtype": "float32"}
ONE_GRAPH = {**OPTIONS, "prefill_buckets": [COMPILED_LENGTH]}


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    return load_golden("gemma4-tiny")


@pytest.fixture(scope="module")
def host(exports):
    """One rank, logits on the host."""
    return exports.model(CHECKPOINT, **OPTIONS, on_device_sampling=False)


@pytest.fixture(scope="module")
def answers(exports):
    """As most users export it: bf16, tokens chosen on the device."""
    return exports.model(CHECKPOINT, **SERVED)


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(CHECKPOINT)


def assert_follows(golden, names: list[str], output, width: int) -> None:
    """Every token is the reference's, and so are the logits it was chosen from."""
    for row, name in enumerate(names):
        expected = golden[f"{name}.tokens"]
        assert output.sequences[row, width : width + len(expected)].tolist() == expected.tolist(), name
        logits = torch.stack([step[row] for step in output.logits])[: len(expected)]
        torch.testing.assert_close(logits, golden[f"{name}.logits"], atol=TOLERANCE, rtol=0)


def ask(model, tokenizer, question: str, **options) -> str:
    """The answer alone: text of the new tokens."""
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
    )
    inputs = tokenizer(text, add_special_tokens=False, return_tensors="pt")
    sequences = model.generate(**inputs, **{"do_sample": False, "max_new_tokens": 60, **options})
    return tokenizer.decode(sequences[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def test_the_prompts_are_those_of_the_goldens(tokenizer, golden):
    """The template and the tokenizer on transformers 4.57 give the ids that they give on 5.x, with one <bos>."""
    for name, messages in chats().items():
        ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True)
        assert ids == golden[f"{name}.prompt"].tolist()
        assert ids.count(tokenizer.bos_token_id) == 1


@pytest.mark.parametrize("name", NAMES)
def test_tokens_and_logits_on_one_rank(host, golden, name):
    prompt = golden[f"{name}.prompt"][None]
    steps = len(golden[f"{name}.tokens"])
    output = host.generate(prompt, max_new_tokens=steps, return_dict_in_generate=True, output_logits=True, **GREEDY)
    assert_follows(golden, [name], output, prompt.shape[1])


@pytest.mark.parametrize("tp", [pytest.param(2, marks=pytest.mark.slow), pytest.param(4, marks=pytest.mark.slow), 8])
def test_tokens_and_logits_on_several_ranks_in_a_batch(exports, golden, tp):
    """Three prompts of unequal length, left-padded: below the window, at it, and far beyond."""
    model = exports.model(CHECKPOINT, **ONE_GRAPH, on_device_sampling=False, batch_size=3, tensor_parallel_size=tp)
    names = ["short", "window", "long"]
    prompts = [golden[f"{name}.prompt"] for name in names]
    width = max(map(len, prompts))
    ids = torch.stack([torch.nn.functional.pad(prompt, (width - len(prompt), 0)) for prompt in prompts])
    mask = torch.stack([(torch.arange(width) >= width - len(prompt)).long() for prompt in prompts])
    output = model.generate(
        ids, attention_mask=mask, max_new_tokens=64, return_dict_in_generate=True, output_logits=True, **GREEDY
    )
    assert_follows(golden, names, output, width)


@pytest.mark.parametrize("batch_size", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_d21_token_match_with_tokens_chosen_on_the_device(exports, golden, batch_size):
    """PEERS.md D21: a match of new tokens, beyond the window, that a wrong cache cannot pass."""
    model = exports.model(CHECKPOINT, **ONE_GRAPH, batch_size=batch_size, tensor_parallel_size=2)
    for name in ("long", "two turns"):
        prompt = golden[f"{name}.prompt"][None].expand(batch_size, -1)
        sequences = model.generate(prompt, max_new_tokens=64, **GREEDY)
        for row in sequences[:, prompt.shape[1] :]:
            assert row.tolist() == golden[f"{name}.tokens"].tolist()


def test_smoke_and_generation(answers, golden):
    prompt = golden["short.prompt"][None]
    sequences = answers.generate(prompt, max_new_tokens=10, **GREEDY)
    assert sequences.shape == (1, prompt.shape[1] + 10)
    assert sequences[0, : prompt.shape[1]].tolist() == prompt[0].tolist()
    assert sequences.min() >= 0 and sequences.max() < answers.vocab_size


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What is the capital of France?", "The capital of France is Paris."),
        ("What is the capital of Japan?", "The capital of Japan is Tokyo."),
        ("What is 2 + 2?", "2 + 2 = 4."),
        ("What is 9 - 4?", "9 - 4 = 5."),
    ],
)
def test_chat(answers, tokenizer, question, answer):
    """In bf16, by the chat template, stopped by <turn|> of generation_config.json: only new tokens are looked at."""
    assert ask(answers, tokenizer, question) == answer


def test_coherence_over_several_windows(answers, tokenizer):
    """What stands at the start of a text of three windows is known at its end: global layers keep everything."""
    question = f"The secret word is {SECRET}. {FILLER} What is the secret word?"
    assert len(tokenizer(question)["input_ids"]) > 3 * 32
    assert ask(answers, tokenizer, question, max_new_tokens=20) == f"The secret word is {SECRET}."


def test_d15_text_without_on_device_sampling_are_float32_logits(host, golden):
    prompt = golden["short.prompt"][None]
    logits = host.forward(prompt, torch.arange(prompt.shape[1])[None])
    assert logits.dtype == torch.float32 and logits.shape == (1, 1, host.vocab_size)
    assert logits[0, 0].argmax() == golden["short.tokens"][0]


def test_a_second_conversation_sees_nothing_of_the_first(answers, tokenizer):
    alone = ask(answers, tokenizer, "What is 2 + 2?")
    ask(answers, tokenizer, "Count from 1 to 16.")
    assert ask(answers, tokenizer, "What is 2 + 2?") == alone


@pytest.mark.parametrize(("name", "bucket"), [("short", 32), ("window", 32), ("window + 1", COMPILED_LENGTH)])
def test_time_to_first_token_and_throughput_in_graph_calls(host, golden, monkeypatch, name, bucket):
    """One call of the shortest prefill graph that holds the prompt, then one decode call per token, and no more."""
    shapes = []
    run = _TextGraph._run

    def counted(self, input_ids, *arguments):
        shapes.append(tuple(input_ids.shape))
        return run(self, input_ids, *arguments)

    monkeypatch.setattr(_TextGraph, "_run", counted)
    host.generate(golden[f"{name}.prompt"][None], max_new_tokens=12, **GREEDY)
    assert shapes == [(1, bucket), *[(1, 1)] * 11]
