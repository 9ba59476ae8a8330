# SPDX-License-Identifier: Apache-2.0
"""optimum-neuron's own models, unmodified, give transformers' greedy tokens on the simulator."""

import pytest
import torch


PROMPTS = [[7, 301, 44, 19, 260], [5, 6], [111, 94, 17, 3, 3, 250, 12, 30, 41, 99, 100], [8]]
NEW_TOKENS = 24


def expected(upstream, name: str, prompts: list[list[int]]) -> list[list[int]]:
    reference = upstream.reference(name)
    return [
        reference.generate(torch.tensor([ids]), max_new_tokens=NEW_TOKENS, do_sample=False)[0].tolist()
        for ids in prompts
    ]


def check(upstream, name: str, **options) -> None:
    model = upstream.model(name, **options)
    for ids, wanted in zip(PROMPTS, expected(upstream, name, PROMPTS), strict=True):
        found = model.generate(torch.tensor([ids]), max_new_tokens=NEW_TOKENS, do_sample=False)[0].tolist()
        assert found == wanted


@pytest.mark.parametrize("tp", [1, 2, 4])
@pytest.mark.parametrize("name", ["llama", "qwen3", "granite"])
def test_greedy_tokens_equal_transformers(upstream, name, tp):
    check(upstream, name, tp_degree=tp)


@pytest.mark.parametrize(
    "options",
    [
        {"fused_qkv": True},
        {"fused_qkv": True, "tp_degree": 2},
        {"on_device_sampling": False},
        {"on_device_sampling": False, "tp_degree": 2},
        {"tp_degree": 8},  # heads are padded
        {"max_context_length": 16, "tp_degree": 2},
    ],
    ids=lambda o: "-".join(f"{k}={v}" for k, v in o.items()),
)
def test_options_of_the_export_do_not_change_the_tokens(upstream, options):
    check(upstream, "llama", **options)


@pytest.mark.parametrize("tp", [1, 2])
def test_continuous_batching_serves_rows_of_unequal_lengths(upstream, tp):
    model = upstream.model("llama", batch_size=4, continuous_batching=True, tp_degree=tp)
    prompts = [*PROMPTS[:3], [8, 77]]  # upstream cannot tell a padded prompt of one token from its padding
    length = max(len(ids) for ids in prompts)
    ids = torch.tensor([row + [0] * (length - len(row)) for row in prompts])
    mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in prompts])
    found = model.generate(ids, attention_mask=mask, max_new_tokens=NEW_TOKENS, do_sample=False)
    for row, prompt, wanted in zip(found.tolist(), prompts, expected(upstream, "llama", prompts), strict=True):
        assert row[length:] == wanted[len(prompt) :]


def test_sampling_follows_the_seed_and_its_parameters(upstream):
    model = upstream.model("llama", tp_degree=2)
    ids = torch.tensor([PROMPTS[0]])

    def sample(seed, **options):
        torch.manual_seed(seed)
        options = {"do_sample": True, "top_k": 40, "temperature": 5.0, **options}
        return model.generate(ids, max_new_tokens=NEW_TOKENS, **options)[0].tolist()

    assert sample(0) == sample(0) != sample(1)
    assert sample(0, top_k=1) == sample(1, top_k=1) == expected(upstream, "llama", PROMPTS[:1])[0]
