# SPDX-License-Identifier: Apache-2.0
"""`generate()` on exported models: what it returns, and where it stops.

The oracle is a transformers model of one matrix product: `TableModel` looks up the logits that the exported model
gave, so that transformers' own `generate` (sampling, processors, stop rules, output forms) can be run on the same
numbers. How much fits, and what is refused: `test_generation_limits.py`.
"""

import pytest
import torch
from causal_lm_calls import STATIC, WITH_LOGITS
from generation_prompts import GREEDY, padded, prompts
from random_models import STOP_IDS, VOCAB_SIZE
from transformers import PretrainedConfig, PreTrainedModel
from transformers.generation import GenerationMixin
from transformers.generation.stopping_criteria import MaxTimeCriteria, StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer
from transformers.modeling_outputs import CausalLMOutput


@pytest.fixture(scope="module")
def device_static(exports, random_checkpoint):
    return exports.model(random_checkpoint, **{**STATIC, "on_device_sampling": True})


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
    assert torch.equal(device.generate(row, top_k=64, temperature=1e-5, **options), greedy)
    assert torch.equal(device.generate(row, top_k=64, top_p=1e-3, **options), greedy)
    draws = {tuple(device.generate(row, top_k=64, temperature=3.0, **options)[0].tolist()) for _ in range(4)}
    assert len(draws) > 1


def test_a_dictionary_from_on_device_sampling(exports, random_checkpoint):
    model = exports.model(random_checkpoint, **WITH_LOGITS)
    ids = prompts(6)[0][None]
    result = model.generate(
        ids, max_new_tokens=4, return_dict_in_generate=True, output_logits=True, do_sample=False, eos_token_id=None
    )
    assert torch.equal(torch.stack(result.logits, dim=1).argmax(-1), result.sequences[:, 6:])
    assert result.scores is None


def test_an_explicit_greedy_search_beats_the_checkpoints_sampling_default(device):
    """Merging defaults twice would turn do_sample=False, transformers' default too, into the checkpoint's."""
    row = prompts(9)[0][None]
    assert device.generation_config.do_sample
    results = {tuple(device.generate(row, max_new_tokens=12, **GREEDY)[0].tolist()) for _ in range(3)}
    assert len(results) == 1


def test_token_types_of_a_text_prompt_are_accepted(host):
    ids = prompts(6)[0][None]
    sequences = host.generate(ids, token_type_ids=torch.zeros_like(ids), max_new_tokens=3, **GREEDY)
    assert torch.equal(sequences, host.generate(ids, max_new_tokens=3, **GREEDY))
