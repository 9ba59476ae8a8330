# SPDX-License-Identifier: Apache-2.0
"""`generate()` on exported models: how much fits into what was compiled, and what is refused, with what to change."""

import pytest
import torch
from generation_prompts import GREEDY, LONGEST_PROMPT, SEQUENCE_LENGTH, padded, prompts
from random_models import VOCAB_SIZE
from transformers import GenerationConfig
from transformers.generation.logits_process import LogitsProcessor, LogitsProcessorList


@pytest.mark.parametrize(("length", "count"), [(LONGEST_PROMPT, SEQUENCE_LENGTH - LONGEST_PROMPT), (1, 63)])
def test_a_sequence_may_fill_the_compiled_length(host, length, count):
    row = prompts(length)[0][None]
    assert host.generate(row, max_new_tokens=count, **GREEDY).shape[1] == SEQUENCE_LENGTH
    assert host.generate(row, max_length=SEQUENCE_LENGTH, **GREEDY).shape[1] == SEQUENCE_LENGTH
    with pytest.raises(ValueError, match=f"asks for {count + 1} new tokens .* {count} fit.*--sequence_length"):
        host.generate(row, max_new_tokens=count + 1, **GREEDY)
    with pytest.raises(ValueError, match=f"max_length asks for {count + 1} new tokens"):
        host.generate(row, max_length=SEQUENCE_LENGTH + 1, **GREEDY)


def test_limits_of_a_generation_config_are_cut_with_a_warning(host, caplog):
    """A pipeline's default of 256 new tokens must not fail on every artifact that is shorter."""
    config = GenerationConfig(max_new_tokens=256, do_sample=False, eos_token_id=None, pad_token_id=0)
    sequences = host.generate(prompts(40)[0][None], generation_config=config, eos_token_id=None)
    assert sequences.shape[1] == SEQUENCE_LENGTH
    assert "max_new_tokens asks for 256 new tokens" in caplog.text and "at most 24" in caplog.text


def test_without_a_limit_there_are_20_new_tokens_as_in_transformers(host):
    assert host.generate(prompts(5)[0][None], **GREEDY).shape[1] == 25
    assert host.generate(prompts(40)[0][None], **GREEDY).shape[1] == 60


def test_padding_takes_no_room_in_the_compiled_length(host):
    batch = padded([prompts(4)[0]], "left")
    wide = {name: torch.nn.functional.pad(values, (100, 0)) for name, values in batch.items()}
    assert torch.equal(
        host.generate(**wide, max_new_tokens=50, **GREEDY)[:, 104:],
        host.generate(**batch, max_new_tokens=50, **GREEDY)[:, 4:],
    )


@pytest.mark.parametrize(
    ("length", "message"),
    [
        (41, "prompt of 41 tokens is longer than the 40 that were compiled"),
        (64, "longer than the 40"),
    ],
)
def test_prompts_that_do_not_fit_are_refused(host, length, message):
    with pytest.raises(ValueError, match=message):
        host.generate(prompts(length)[0][None], max_new_tokens=1)


def test_a_prompt_of_the_compiled_length_leaves_no_room(exports, random_checkpoint):
    model = exports.model(random_checkpoint, sequence_length=16, on_device_sampling=False)
    assert model.generate(prompts(15)[0][None], max_new_tokens=1, **GREEDY).shape[1] == 16
    with pytest.raises(ValueError, match="16 tokens and .* sequences of 16: there is no room"):
        model.generate(prompts(16)[0][None], max_new_tokens=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_ids": None}, "expected a tensor of token ids"),
        ({"input_ids": torch.empty(1, 0).long()}, "no token"),
        ({"input_ids": torch.zeros(1, 4).long()}, r"prompts \[0\] have no token"),  # nothing but pad tokens
        ({"input_ids": torch.full((4, 2), 5)}, "4 prompts exceed the compiled batch size of 3.*--batch_size 4"),
        ({"input_ids": torch.full((1, 2), VOCAB_SIZE)}, "token ids must be from 0 to 127"),
        ({"input_ids": torch.full((1, 2), 5.0)}, "dtype torch.float32"),
        ({"num_return_sequences": 4, "do_sample": True}, "1 prompts x 4 num_return_sequences"),
        ({"max_length": 3}, "max_length is 3 and the prompt has 4 columns"),
        ({"num_beams": 2, "do_sample": False}, "beam_search: .* num_beams"),
        ({"penalty_alpha": 0.5, "top_k": 4, "do_sample": False}, "contrastive_search"),
        ({"prompt_lookup_num_tokens": 3}, "assisted_generation"),
        ({"assistant_model": "any"}, "assistant_model is not supported"),
        ({"inputs_embeds": torch.ones(1, 4, 32)}, "inputs_embeds is not supported .* token ids"),
        ({"past_key_values": ()}, "past_key_values is not supported"),
        ({"negative_prompt_ids": torch.ones(1, 1).long()}, "negative_prompt_ids is not supported"),
        ({"guidance_scale": 1.5}, "guidance_scale=1.5 is not supported"),
        ({"use_cache": False}, "use_cache=False is not supported"),
        ({"cache_implementation": "static"}, "cache_implementation='static' is not supported"),
        ({"output_attentions": True, "return_dict_in_generate": True}, "output_attentions=True is not supported"),
        ({"output_hidden_states": True, "return_dict_in_generate": True}, "output_hidden_states=True"),
        ({"prefill_chunk_size": 2}, "prefill_chunk_size=2 is not supported"),
        ({"custom_generate": "some/repo"}, "custom_generate is not supported"),
        ({"position_ids": torch.arange(4)[None]}, r"does not know \['position_ids'\]"),
        ({"pixel_values": torch.ones(1)}, r"pixel_values marks images.*exported for text-generation"),
        ({"max_tokens": 5}, r"does not know \['max_tokens'\]"),
        ({"mm_token_type_ids": torch.tensor([[0, 1, 1, 0]])}, "--task image-text-to-text"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
@pytest.mark.parametrize("model", ["host", "device"])
def test_requests_that_the_graphs_cannot_serve_are_refused(request, model, arguments, message):
    arguments = {"input_ids": torch.tensor([[3, 4, 5, 6]]), "max_new_tokens": 2, **arguments}
    if "max_length" in arguments:
        del arguments["max_new_tokens"]
    with pytest.raises(ValueError, match=message):
        request.getfixturevalue(model).generate(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"repetition_penalty": 1.2}, "RepetitionPenaltyLogitsProcessor cannot be applied"),
        ({"min_new_tokens": 1}, "MinNewTokensLength"),
        ({"logits_processor": LogitsProcessorList([LogitsProcessor()])}, "LogitsProcessor cannot be applied"),
        ({"do_sample": True, "top_k": 0}, "top_k is 0: on-device sampling chooses among 1 to 64"),
        ({"do_sample": True, "top_k": 65}, "top_k is 65"),
        ({"do_sample": True, "min_p": 0.1}, "MinPLogitsWarper cannot be applied"),
        ({"return_dict_in_generate": True, "output_scores": True}, "output_scores and output_logits need the logits"),
        ({"return_dict_in_generate": True, "output_logits": True}, "output_scores and output_logits need the logits"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_what_needs_the_logits_says_how_to_get_them(device, arguments, message):
    with pytest.raises(ValueError, match=f"(?s){message}.*--no_on_device_sampling"):
        device.generate(torch.tensor([[3, 4, 5]]), max_new_tokens=2, **arguments)
