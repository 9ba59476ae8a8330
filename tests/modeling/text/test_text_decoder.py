# SPDX-License-Identifier: Apache-2.0
"""The whole decoder against transformers' logits: conversations in buckets and token by token, on 1 to 8 ranks.

Cache states start as random garbage and prompts are padded, so that nothing passes because a buffer is zero.
"""

import pytest
import torch
from text_models import (
    IMAGE_BLOCKS,
    SEQUENCE,
    TEXT_CONFIGS,
    golden,
    image_case,
    random_tokens,
    random_weights,
)
from text_runner import TextRunner


MODELS = list(TEXT_CONFIGS)
LOGITS_ATOL = 2e-4  # logits reach 30, so this is a relative 7e-6


def assert_follows(name: str, logits: list[torch.Tensor], lengths: list[int], key: str = "logits.fp32", rows=None):
    """Logits of every sequence from its prompt's last token on equal the reference's."""
    reference = golden(name)[key]
    for row, ours, length in zip(rows or range(len(lengths)), logits, lengths):
        expected = reference[row, length - 1 : length - 1 + len(ours)]
        torch.testing.assert_close(ours, expected, atol=LOGITS_ATOL, rtol=0)


@pytest.mark.parametrize("tp", [1, 2, 4, 8])
@pytest.mark.parametrize("name", MODELS)
def test_conversations_of_unequal_length(name, tp):
    """Prompts shorter than, equal to and longer than the window; all cross it while decoding."""
    window = TEXT_CONFIGS[name]["sliding_window"]
    lengths = [window - 6, window, window + 17]
    run = TextRunner(name, tp, rows=3)
    assert_follows(name, run.teacher_forced(random_tokens(name), lengths, bucket=64, steps=28), lengths)


@pytest.mark.parametrize("length", [1, 2, 15, 16, 17, 31, 32, 33, 47, 48])
def test_prompt_lengths_around_the_window_and_the_bucket(length):
    """The last one fills its bucket."""
    run = TextRunner("like_31b")
    logits = run.teacher_forced(random_tokens("like_31b")[:1], [length], bucket=48, steps=20)
    assert_follows("like_31b", logits, [length])


@pytest.mark.parametrize("name", MODELS)
def test_everything_through_the_decode_graph(name):
    """From an empty cache, one token after the other: a one-token prompt needs no prefill."""
    tokens = random_tokens(name)[:1]
    run = TextRunner(name)
    logits = [run.decode(tokens[:, position], [position]) for position in range(40)]
    assert_follows(name, [torch.cat(logits)], [1])


def test_sequence_that_fills_the_compiled_length():
    run = TextRunner("like_31b", sequence_length=SEQUENCE)
    logits = run.teacher_forced(random_tokens("like_31b")[:1], [SEQUENCE - 1], bucket=SEQUENCE, steps=1)
    assert_follows("like_31b", logits, [SEQUENCE - 1])


def test_compiled_length_below_the_window():
    """The ring then has a slot for every position and never turns."""
    run = TextRunner("own_v_proj", sequence_length=20)
    assert run.model.kv_mgr.past_key_values[0].shape[2] == 20
    assert_follows("own_v_proj", run.teacher_forced(random_tokens("own_v_proj")[:1], [6], bucket=12, steps=14), [6])


@pytest.mark.parametrize("tp", [1, 4])
def test_second_conversation_on_the_same_cache(tp):
    tokens = random_tokens("like_31b")
    run = TextRunner("like_31b", tp)
    run.teacher_forced(tokens[:1], [40], bucket=48, steps=20)
    assert_follows("like_31b", run.teacher_forced(tokens[1:2], [5], bucket=48, steps=20), [5], rows=[1])


def test_d14_one_token_prompt_takes_its_own_position():
    """Padding at position 0 or 1 would be taken for the prompt's last token."""
    tokens = random_tokens("like_31b")
    run = TextRunner("like_31b", rows=3)
    logits = run.prefill([row[:1] for row in tokens], bucket=16)
    assert_follows("like_31b", list(logits[:, None]), [1, 1, 1])


def test_d9_prompt_that_fills_its_bucket_keeps_its_last_token():
    tokens = random_tokens("like_31b")
    run = TextRunner("like_31b", rows=3)
    lengths = [16, 15, 16]
    assert_follows("like_31b", run.teacher_forced(tokens, lengths, bucket=16, steps=3), lengths)


def test_d1_d2_far_beyond_the_window():
    """Prompt of three windows, then decode to the end: global layers need token 0, sliding ones the last window."""
    run = TextRunner("like_31b")
    logits = run.teacher_forced(random_tokens("like_31b")[:1], [50], bucket=64, steps=SEQUENCE - 50)
    assert_follows("like_31b", logits, [50])


def test_rows_come_and_go():
    """Continuous batching: prompts enter one row at a time, in any order, between tokens of the others."""
    tokens = random_tokens("like_31b")
    run = TextRunner("like_31b", tp=2, rows=3)
    at = {}

    def enter(row, length):
        assert_follows("like_31b", [run.prefill([tokens[row, :length]], 48, seq_ids=[row])], [length], rows=[row])
        at[row] = length

    def step(rows):
        logits = run.decode([tokens[row, at[row]] for row in rows], [at[row] for row in rows], seq_ids=rows)
        for row, ours in zip(rows, logits):
            at[row] += 1
            assert_follows("like_31b", [ours[None]], [at[row]], rows=[row])

    enter(2, 20)
    step([2])
    enter(0, 3)
    for _ in range(3):
        step([2, 0])  # not in the order of the cache's rows
    enter(1, 33)
    for _ in range(16):
        step([1, 2, 0])
    step([0])
    enter(2, 9)  # a second conversation in a row that others surround
    step([0, 1, 2])


def test_unused_rows_of_a_batch():
    """Rows at position -1 change nothing, and the cache they belong to stays as it is."""
    tokens = random_tokens("like_31b")
    run = TextRunner("like_31b", rows=3)
    prompt = torch.stack([tokens[0, :20], torch.zeros(20, dtype=torch.int64), tokens[2, :20]])
    positions = torch.arange(20).expand(3, 20).clone()
    positions[1] = -1
    before = [state[:, 1] for state in run.states()]
    logits = run.call(prompt, positions)[0][:, 0]
    assert logits.isfinite().all()
    assert_follows("like_31b", [logits[:1], logits[2:]], [20, 20], rows=[0, 2])
    logits = run.decode([tokens[0, 20], 0, tokens[2, 20]], [20, -1, 20])
    assert logits.isfinite().all()
    assert_follows("like_31b", [logits[:1], logits[2:]], [21, 21], rows=[0, 2])
    assert all(state[:, 1].equal(old) for state, old in zip(run.states(), before))


@pytest.mark.parametrize("tp", [1, 4])
@pytest.mark.parametrize("name", ["like_31b", "one_global_head"])
def test_image_blocks(name, tp):
    """Soft tokens in place of embeddings; inside a block sliding layers look ahead, within the window behind."""
    ids, types, features = image_case(name)
    end = torch.arange(SEQUENCE).expand(2, SEQUENCE).clone()
    for row, blocks in enumerate(IMAGE_BLOCKS):
        for first, last in blocks:
            end[row, first : last + 1] = last
    index = torch.where(types == 1, types.flatten().cumsum(0).view_as(types) - 1, -1)
    reference = golden(name)["logits.images"]
    run = TextRunner(name, tp, rows=2, max_soft_tokens=[30])
    for length in (SEQUENCE, 51, 16):  # prompts that end on an image, after one, and before the second
        inputs = {"image_features": features, "feature_index": index.int(), "end": end.int()}
        positions = torch.arange(SEQUENCE).expand(2, SEQUENCE).clone()
        positions[:, length:] = -1
        inputs["end"] = torch.where(positions >= 0, inputs["end"], -1).int()
        logits = run.call(ids, positions, **inputs)[0][:, 0]
        torch.testing.assert_close(logits, reference[:, length - 1], atol=LOGITS_ATOL, rtol=0)
    for position in (16, 17):  # text after the first image: causal, and without image inputs
        logits = run.decode(ids[:, position], [position, -1])
        torch.testing.assert_close(logits[0], reference[0, position], atol=LOGITS_ATOL, rtol=0)


def test_softcap_holds_the_logits():
    tokens = random_tokens("like_31b")[:1]
    capped = TextRunner("like_31b").prefill([tokens[0, :20]], 32)
    free = TextRunner("like_31b", config={**TEXT_CONFIGS["like_31b"], "final_logit_softcapping": None})
    free = free.prefill([tokens[0, :20]], 32)
    assert free.abs().max() > 30 > capped.abs().max()
    torch.testing.assert_close(capped, torch.tanh(free / 30) * 30)


@pytest.mark.parametrize("tp", [1, 2, 8])
def test_on_device_sampling_takes_the_best_token(tp):
    """From logits that are split over the ranks; `output_logits` gathers them."""
    tokens = random_tokens("like_31b")
    run = TextRunner("like_31b", tp, rows=3, on_device_sampling=True, output_logits=True, max_topk=8)
    chosen, logits = run.call(tokens[:, :20], torch.arange(20).expand(3, 20))
    torch.testing.assert_close(logits[:, 0], golden("like_31b")["logits.fp32"][:, 19], atol=LOGITS_ATOL, rtol=0)
    assert chosen.tolist() == logits[:, 0].argmax(-1).tolist()
    chosen, logits = run.call(tokens[:, 20:21], torch.full((3, 1), 20))
    assert chosen.tolist() == golden("like_31b")["logits.fp32"][:, 20].argmax(-1).tolist()


def test_logits_are_float32():
    run = TextRunner("like_31b", dtype=torch.bfloat16)
    assert run.prefill([random_tokens("like_31b")[0, :4]], 8).dtype == torch.float32


@pytest.mark.parametrize("tp", [1, 4])
@pytest.mark.parametrize("name", MODELS)
def test_bf16_is_as_near_to_fp32_as_transformers_bf16(name, tp):
    """Root mean square over prefill and 28 decode steps of 3 conversations, softmax and norms in fp32 as there."""
    window = TEXT_CONFIGS[name]["sliding_window"]
    lengths, steps = [window - 6, window, window + 17], 28
    run = TextRunner(name, tp, rows=3, dtype=torch.bfloat16)
    ours = run.teacher_forced(random_tokens(name), lengths, bucket=64, steps=steps)
    exact, theirs = golden(name)["logits.fp32"], golden(name)["logits.bf16"]
    spans = [(row, slice(length - 1, length + steps)) for row, length in enumerate(lengths)]
    error = torch.cat([ours[row] - exact[row, span] for row, span in spans]).pow(2).mean().sqrt()
    allowed = torch.cat([theirs[row, span] - exact[row, span] for row, span in spans]).pow(2).mean().sqrt()
    assert error <= 1.2 * allowed


@pytest.mark.parametrize("name", MODELS)
def test_d6_embedding_scale_is_rounded_to_bf16(name):
    """Bit for bit transformers' scaled embeddings: sqrt(96) = 9.798 is 9.8125 in bf16, sqrt(5376) is 73.5."""
    run = TextRunner(name, dtype=torch.bfloat16)
    assert run.model.embed_scale == 9.8125
    run.model.embed_tokens.weight.data = random_weights(name)["embed_tokens.weight"].bfloat16()
    embedded = run.model._embed(random_tokens(name)[:1, :8].int())
    assert embedded.dtype == torch.bfloat16
    assert embedded.float().equal(golden(name)["embeddings.bf16"])
    assert torch.tensor(5376**0.5).bfloat16().item() == 73.5
