# SPDX-License-Identifier: Apache-2.0
"""The model class: what `forward` does with the graphs.

Everything goes through a real export that was saved and loaded again. The oracle of `forward` is the model itself on
one row at a time: rows, padding, batch places and earlier conversations must not change a bit of it.
"""

import pytest
import torch
from causal_lm_calls import BUCKETS, CONTINUOUS, ON_DEVICE, STATIC, WITH_LOGITS, prefill, prompt, rows_of
from random_models import VOCAB_SIZE, WINDOW

from optimum_gemma4 import NeuronModelForCausalLM


def step(model, tokens: list[int], positions: list[int], seq_ids: list[int]) -> torch.Tensor:
    columns = torch.tensor(tokens)[:, None], torch.tensor(positions)[:, None]
    return model(*columns, seq_ids=torch.tensor(seq_ids))


def greedy(model, ids: torch.Tensor, count: int, seq_id: int) -> list[torch.Tensor]:
    """Logits [V] of `count` greedy steps of one sequence that has the model to itself."""
    logits = [prefill(model, ids, seq_ids=[seq_id])[0, 0]]
    for position in range(len(ids), len(ids) + count - 1):
        logits.append(step(model, [int(logits[-1].argmax())], [position], [seq_id])[0, 0])
    return logits


@pytest.fixture(scope="module")
def static(exports, random_checkpoint):
    return exports.model(random_checkpoint, **STATIC)


@pytest.fixture(params=["host", "static"])
def model(request):
    return request.getfixturevalue(request.param)


def test_forward_returns_float32_logits_of_the_last_token(model):
    logits = prefill(model, prompt(5), prompt(9))
    assert logits.shape == (2, 1, VOCAB_SIZE) and logits.dtype == torch.float32
    assert step(model, [7, 8], [5, 9], [0, 1]).shape == (2, 1, VOCAB_SIZE)


def test_on_device_sampling_returns_the_greedy_tokens(exports, random_checkpoint, host):
    sampling = exports.model(random_checkpoint, **ON_DEVICE)
    tokens = prefill(sampling, prompt(5), prompt(20))
    assert tokens.shape == (2,)
    assert tokens.tolist() == prefill(host, prompt(5), prompt(20))[:, 0].argmax(-1).tolist()


@pytest.mark.parametrize("lengths", [(2, 12), (13, 39), (1, 40), (12, 1, 12), (BUCKETS[-1], 2, 3)])
def test_rows_of_a_batch_do_not_see_each_other(model, lengths):
    prompts = [prompt(length) for length in lengths]
    batch = prefill(model, *prompts)
    for row, ids in enumerate(prompts):
        torch.testing.assert_close(batch[row], prefill(model, ids, seq_ids=[row])[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("length", [1, WINDOW - 1, WINDOW, WINDOW + 1, BUCKETS[0], BUCKETS[0] + 1])
def test_a_prompt_gives_what_its_tokens_give_one_by_one(model, length):
    """Prefill of all tokens and of all but the last, decoded: also PEERS D9, a prompt that fills its graph."""
    ids = prompt(length + 1)
    whole = prefill(model, ids, seq_ids=[1])
    prefill(model, ids[:-1], seq_ids=[1])
    torch.testing.assert_close(step(model, [int(ids[-1])], [length], [1]), whole, rtol=0, atol=1e-4)


def test_d14_a_prompt_of_one_token_is_the_same_alone_and_padded(model):
    """PEERS D14: with valid positions as padding, a one-token prompt takes its logits from the padding."""
    alone = prefill(model, prompt(1), seq_ids=[0])
    padded = prefill(model, prompt(1), prompt(7))
    torch.testing.assert_close(padded[:1], alone, rtol=0, atol=1e-5)


def test_longer_padding_than_the_graph_is_cut(model):
    input_ids, position_ids = rows_of(prompt(6))
    wide = torch.nn.functional.pad(input_ids, (0, 50)), torch.nn.functional.pad(position_ids, (0, 50), value=-1)
    assert torch.equal(model(*wide), model(input_ids, position_ids))


def test_zeros_after_the_first_column_are_padding_too(model):
    """vLLM pads positions with 0."""
    input_ids, position_ids = rows_of(prompt(6), prompt(3))
    assert torch.equal(model(input_ids, position_ids.clamp(min=0)), model(input_ids, position_ids))


def test_the_shortest_graph_that_holds_the_prompt_runs(model):
    assert [model.context_encoding_model.bucket(length) for length in (1, 12, 13, 40)] == [12, 12, 40, 40]


@pytest.mark.parametrize("order", [[2], [2, 0], [1, 2, 0], [0, 2]])
def test_sequences_keep_their_rows_in_any_order_and_number(model, order):
    alone = {seq_id: greedy(model, prompt(9 + seq_id), 4, seq_id) for seq_id in order}
    logits = {0: prefill(model, *(prompt(9 + seq_id) for seq_id in order), seq_ids=order)}
    for count in range(1, 4):
        tokens = [int(alone[seq_id][count - 1].argmax()) for seq_id in order]
        logits[count] = step(model, tokens, [9 + seq_id + count - 1 for seq_id in order], order)
    for count, values in logits.items():
        for row, seq_id in enumerate(order):
            torch.testing.assert_close(values[row, 0], alone[seq_id][count], rtol=0, atol=1e-4)


def test_a_new_prompt_beside_a_running_sequence_leaves_it_alone(model):
    """Continuous batching: a row is given to a new prompt while another one is in the middle of its answer."""
    expected = greedy(model, prompt(10), 6, 0)
    newcomer = greedy(model, prompt(14), 3, 2)
    logits = [prefill(model, prompt(10), prompt(25), seq_ids=[0, 2])[0, 0]]
    for count in range(1, 6):
        if count == 3:
            joined = [prefill(model, prompt(14), seq_ids=[2])[0, 0]]
        if count < 3:
            logits.append(step(model, [int(logits[-1].argmax())], [9 + count], [0])[0, 0])
            continue
        tokens = [int(joined[-1].argmax()), int(logits[-1].argmax())]
        both = step(model, tokens, [14 + count - 3, 9 + count], [2, 0])[:, 0]
        joined.append(both[0])
        logits.append(both[1])
    torch.testing.assert_close(torch.stack(logits), torch.stack(expected), rtol=0, atol=1e-4)
    torch.testing.assert_close(torch.stack(joined[:3]), torch.stack(newcomer), rtol=0, atol=1e-4)


def test_a_second_conversation_finds_no_trace_of_the_first(exports, random_checkpoint):
    """A short prompt in a row whose rings and caches are full of a long one, against a model that was just loaded."""
    folder = exports.artifact(random_checkpoint, **CONTINUOUS)
    fresh, used = (NeuronModelForCausalLM.from_pretrained(str(folder)) for _ in range(2))
    greedy(used, prompt(30), 20, 1)
    assert torch.equal(torch.stack(greedy(used, prompt(3), 12, 1)), torch.stack(greedy(fresh, prompt(3), 12, 1)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_ids": [[VOCAB_SIZE]], "position_ids": [[0]]}, f"holds .{VOCAB_SIZE}.: token ids must be from 0 to"),
        (
            {"input_ids": [[5]], "position_ids": [[64]]},
            "compiled for positions 0 to 63. Export with --sequence_length 65",
        ),
        ({"input_ids": [[5]], "position_ids": [[-1]]}, "positions 0 to 63"),
        ({"input_ids": [[5], [6]], "position_ids": [[0], [0]], "seq_ids": [1, 1]}, "one different cache row for each"),
        ({"input_ids": [[5]], "position_ids": [[0]], "seq_ids": [3]}, r"0 to 2 \(--batch_size\)"),
        ({"input_ids": [[5]] * 4, "position_ids": [[0]] * 4}, r"0 to 2 \(--batch_size\)"),
        ({"input_ids": [[5, 6]], "position_ids": [[4, 5]]}, "must be 0, 1, 2"),
        ({"input_ids": [[0, 5, 6]], "position_ids": [[-1, 0, 1]]}, "padded on the right"),
        ({"input_ids": [[5, 6, 7]], "position_ids": [[0, -1, 2]]}, "must be 0, 1, 2"),
        ({"input_ids": [[5, 6, 7]], "position_ids": [[0, 1, 1]]}, "must be 0, 1, 2"),
        ({"input_ids": [list(range(41))], "position_ids": [list(range(41))]}, "longer than the 40 that were compiled"),
    ],
)
def test_calls_that_the_graphs_cannot_take_are_refused(host, arguments, message):
    with pytest.raises(ValueError, match=message):
        host(**{name: torch.tensor(value) for name, value in arguments.items()})


@pytest.mark.parametrize("name", ["output_attentions", "output_hidden_states"])
def test_outputs_that_the_graphs_do_not_have_are_refused(host, name):
    with pytest.raises(ValueError, match=name):
        host(*rows_of(prompt(3)), **{name: True})


def test_sampling_parameters_are_checked_and_no_filter_means_the_widest_one(exports, random_checkpoint):
    sampling = exports.model(random_checkpoint, **ON_DEVICE)
    assert sampling.neuron_config.max_topk == VOCAB_SIZE // 2  # what one of two ranks can rank
    arguments = rows_of(prompt(9))
    with pytest.raises(ValueError, match="top-k"):
        sampling(*arguments, sampling_params=torch.tensor([[65.0, 1.0, 1.0]]))
    # At a low temperature the best token wins; drawn evenly from the 64 best it would not, 20 times.
    cold = torch.tensor([[-1.0, 1.0, 1e-3]])
    best = sampling(*arguments).item()
    assert all(sampling(*arguments, sampling_params=cold).item() == best for _ in range(20))


def test_output_logits_come_with_the_tokens(exports, random_checkpoint, host):
    model = exports.model(random_checkpoint, **WITH_LOGITS)
    tokens, logits = prefill(model, prompt(11))
    torch.testing.assert_close(logits, prefill(host, prompt(11)), rtol=0, atol=1e-4)
    assert tokens.tolist() == logits[:, 0].argmax(-1).tolist()
