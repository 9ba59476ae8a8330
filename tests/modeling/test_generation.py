# SPDX-License-Identifier: Apache-2.0
"""`generate()` on exported models: what it returns, and what it refuses.

The oracle is a transformers model of one matrix product: `TableModel` looks up the logits that the exported model gave,
so that transformers' own `generate` (sampling, processors, stop rules, output forms) can be run on the same numbers.
"""

import pytest
import torch
from random_models import STOP_IDS, VOCAB_SIZE
from transformers import GenerationConfig, PretrainedConfig, PreTrainedModel
from transformers.generation import GenerationMixin
from transformers.generation.logits_process import LogitsProcessor, LogitsProcessorList
from transformers.generation.stopping_criteria import MaxTimeCriteria, StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer
from transformers.modeling_outputs import CausalLMOutput


SEQUENCE_LENGTH = 64
LONGEST_PROMPT = 40
OPTIONS = {"batch_size": 3, "sequence_length": SEQUENCE_LENGTH, "prefill_buckets": [LONGEST_PROMPT]}
GREEDY = {"do_sample": False, "eos_token_id": None}


@pytest.fixture(scope="module")
def host(exports, random_checkpoint):
    return exports.model(random_checkpoint, **OPTIONS, on_device_sampling=False)


@pytest.fixture(scope="module")
def device(exports, random_checkpoint):
    return exports.model(random_checkpoint, **OPTIONS, on_device_sampling=True, tensor_parallel_size=2)


@pytest.fixture(scope="module")
def device_static(exports, random_checkpoint):
    return exports.model(random_checkpoint, **OPTIONS, on_device_sampling=True, continuous_batching=False)


def prompts(*lengths: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(sum(lengths))
    return [torch.randint(3, VOCAB_SIZE, (length,), generator=generator) for length in lengths]


def padded(rows: list[torch.Tensor], side: str) -> dict[str, torch.Tensor]:
    width = max(len(row) for row in rows)
    input_ids, attention_mask = torch.zeros(2, len(rows), width).long()
    for index, row in enumerate(rows):
        columns = slice(width - len(row), width) if side == "left" else slice(0, len(row))
        input_ids[index, columns], attention_mask[index, columns] = row, 1
    return {"input_ids": input_ids, "attention_mask": attention_mask}


def alone(model, row: torch.Tensor, count: int) -> torch.Tensor:
    return model.generate(row[None], max_new_tokens=count, **GREEDY)[0, len(row) :]


class TableModel(PreTrainedModel, GenerationMixin):
    """transformers' generation over the exported model's own logits, asked for one sequence at a time from scratch."""

    config_class = PretrainedConfig
    _supports_default_dynamic_cache = staticmethod(lambda: False)

    def __init__(self, compiled):
        super().__init__(PretrainedConfig(vocab_size=VOCAB_SIZE))
        self.compiled = compiled
        self.generation_config = compiled.generation_config
        self.anchor = torch.nn.Parameter(torch.zeros(1))

    def prepare_inputs_for_generation(self, input_ids, attention_mask=None, **kwargs):
        return {"input_ids": input_ids, "attention_mask": attention_mask}

    def forward(self, input_ids, attention_mask=None, return_dict=True):
        logits = []
        for row, mask in zip(input_ids, attention_mask.bool()):
            ids = row[mask][None]
            logits.append(self.compiled(ids, torch.arange(ids.shape[1])[None]))
        return CausalLMOutput(logits=torch.cat(logits))


def both(model, **arguments):
    """Results of the exported model and of transformers with the same random numbers."""
    torch.manual_seed(11)
    ours = model.generate(**arguments)
    torch.manual_seed(11)
    return ours, TableModel(model).generate(**arguments)


# --- the same as transformers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"do_sample": False},
        {},  # the checkpoint's own defaults: sampling with top_k 64 and top_p 0.95
        {"do_sample": True, "temperature": 0.7, "top_k": 0, "top_p": 1.0},
        {"do_sample": True, "temperature": 1.5, "top_k": 5, "top_p": 0.5},
        {"do_sample": True, "min_p": 0.2, "top_k": 0},
        {"do_sample": False, "repetition_penalty": 1.8},
        {"do_sample": False, "no_repeat_ngram_size": 1},
        {"do_sample": False, "min_new_tokens": 12, "eos_token_id": list(range(60))},
        {"do_sample": False, "suppress_tokens": list(range(0, VOCAB_SIZE, 2))},
        {"do_sample": False, "max_length": 27},
    ],
    ids=lambda options: " ".join(f"{key}" for key in options) or "defaults",
)
@pytest.mark.parametrize("side", ["left", "right"])
def test_host_path_equals_transformers(host, options, side):
    """Lengths around the window of 8, so that the rings turn in prefill and in decoding."""
    batch = padded(prompts(5, 20, 9), side)
    limit = {} if "max_length" in options else {"max_new_tokens": 16}
    ours, theirs = both(host, **batch, **limit, **options)
    assert torch.equal(ours, theirs)


def test_outputs_as_a_dictionary_equal_transformers(host):
    arguments = {"return_dict_in_generate": True, "output_scores": True, "output_logits": True, "max_new_tokens": 6}
    ours, theirs = both(host, **padded(prompts(4, 12), "left"), **arguments, top_k=3)
    assert type(ours).__name__ == "GenerateDecoderOnlyOutput"
    assert torch.equal(ours.sequences, theirs.sequences)
    for name in ("scores", "logits"):
        assert len(ours[name]) == len(theirs[name]) == ours.sequences.shape[1] - 12
        torch.testing.assert_close(torch.stack(ours[name]), torch.stack(theirs[name]), rtol=0, atol=1e-4)


@pytest.mark.parametrize("model", ["host", "device", "device_static"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_batch_is_its_prompts_as_given_and_what_each_gives_alone(request, host, model, side):
    model = request.getfixturevalue(model)
    rows = prompts(1, 40, 8)
    batch = padded(rows, side)
    sequences = model.generate(**batch, max_new_tokens=20, **GREEDY)
    assert torch.equal(sequences[:, :40], batch["input_ids"])
    for row, sequence in zip(rows, sequences):
        assert torch.equal(sequence[40:], alone(host, row, 20))


def test_without_a_mask_the_pad_token_marks_the_padding(device):
    batch = padded(prompts(5, 9), "left")
    expected = device.generate(**batch, max_new_tokens=5, **GREEDY)
    assert torch.equal(device.generate(batch["input_ids"], max_new_tokens=5, **GREEDY), expected)
    assert torch.equal(device.generate(inputs=batch["input_ids"], max_new_tokens=5, **GREEDY), expected)


def test_fewer_prompts_than_compiled_rows_and_rows_of_choice(device):
    row = prompts(9)[0]
    expected = alone(device, row, 6)
    sequences = device.generate(row[None], max_new_tokens=6, seq_ids=torch.tensor([2]), **GREEDY)
    assert torch.equal(sequences[0, 9:], expected)


def test_several_sequences_of_one_prompt(host):
    ours, theirs = both(host, input_ids=prompts(7)[0][None], num_return_sequences=3, max_new_tokens=8)
    assert ours.shape == (3, 15) and torch.equal(ours, theirs)


# --- where it stops --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["host", "device"])
def test_it_stops_at_any_stop_id_of_the_checkpoint_and_pads_behind_it(request, model):
    """The second of the three ids, as `<turn|>` is in Gemma 4; a row that has stopped is padded until all have."""
    model = request.getfixturevalue(model)
    rows = prompts(6, 11)
    answers = [alone(model, row, 20).tolist() for row in rows]
    stop = next(token for token in answers[0][4:] if token not in answers[1] and token not in answers[0][:4])
    length = answers[0].index(stop) + 1
    sequences = model.generate(
        **padded(rows, "left"), max_new_tokens=20, do_sample=False, eos_token_id=[STOP_IDS[0], stop, STOP_IDS[2]]
    )
    new = sequences[:, 11:].tolist()
    assert new[0] == answers[0][:length] + [0] * (len(new[0]) - length)
    assert new[1] == answers[1][: len(new[1])] and len(new[1]) > length
    assert model.generation_config.eos_token_id == STOP_IDS


def test_stopping_criteria_of_the_caller(device):
    class AfterThree(StoppingCriteria):
        def __call__(self, input_ids, scores, **kwargs):
            return torch.full((input_ids.shape[0],), input_ids.shape[1] >= 9 + 3)

    criteria = StoppingCriteriaList([AfterThree(), MaxTimeCriteria(100)])
    assert device.generate(prompts(9)[0][None], stopping_criteria=criteria, max_new_tokens=20, **GREEDY).shape[1] == 12


@pytest.mark.parametrize("model", ["host", "device"])
def test_a_streamer_gets_the_prompt_and_every_token(request, model):
    class Recorder(BaseStreamer):
        def __init__(self):
            self.values, self.ended = [], False

        def put(self, value):
            self.values.append(value.clone())

        def end(self):
            self.ended = True

    model = request.getfixturevalue(model)
    recorder = Recorder()
    sequences = model.generate(**padded(prompts(5, 8), "left"), streamer=recorder, max_new_tokens=5, **GREEDY)
    prompt, *tokens = recorder.values
    assert recorder.ended and torch.equal(torch.cat([prompt, torch.stack(tokens, dim=1)], dim=1), sequences)


def test_sampling_on_the_device_follows_its_parameters(device):
    row = prompts(9)[0][None]
    greedy = device.generate(row, max_new_tokens=10, **GREEDY)
    options = {"max_new_tokens": 10, "do_sample": True, "eos_token_id": None}
    assert torch.equal(device.generate(row, top_k=1, **options), greedy)
    assert torch.equal(device.generate(row, top_k=64, temperature=1e-3, **options), greedy)
    assert torch.equal(device.generate(row, top_k=64, top_p=1e-3, **options), greedy)
    draws = {tuple(device.generate(row, top_k=64, temperature=3.0, **options)[0].tolist()) for _ in range(4)}
    assert len(draws) > 1


# --- how much fits ---------------------------------------------------------------------------------------------------


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


def test_token_types_of_a_text_prompt_are_accepted(host):
    ids = prompts(6)[0][None]
    sequences = host.generate(ids, token_type_ids=torch.zeros_like(ids), max_new_tokens=3, **GREEDY)
    assert torch.equal(sequences, host.generate(ids, max_new_tokens=3, **GREEDY))


def test_a_dictionary_from_on_device_sampling(exports, random_checkpoint):
    model = exports.model(
        random_checkpoint, sequence_length=SEQUENCE_LENGTH, on_device_sampling=True, output_logits=True
    )
    ids = prompts(6)[0][None]
    result = model.generate(
        ids, max_new_tokens=4, return_dict_in_generate=True, output_logits=True, do_sample=False, eos_token_id=None
    )
    assert torch.equal(torch.stack(result.logits, dim=1).argmax(-1), result.sequences[:, 6:])
    assert result.scores is None


def test_an_explicit_greedy_search_beats_the_checkpoints_sampling_default(device):
    """Merging defaults twice would turn do_sample=False, which is also transformers' default, into the checkpoint's."""
    row = prompts(9)[0][None]
    assert device.generation_config.do_sample
    results = {tuple(device.generate(row, max_new_tokens=12, **GREEDY)[0].tolist()) for _ in range(3)}
    assert len(results) == 1
