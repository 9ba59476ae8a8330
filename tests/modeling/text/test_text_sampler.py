# SPDX-License-Identifier: Apache-2.0
"""On-device sampling: the tokens that can be drawn, and how often, are those of transformers' warpers."""

import pytest
import torch
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from optimum_gemma4.exporters.neuron_config import Gemma4NeuronConfig
from optimum_gemma4.modeling.text.sampler import Gemma4Sampler
from optimum_gemma4.simulator.engine.ranks import run_on_ranks, tensor_parallel


DRAWS, VOCABULARY, TP = 4096, 32, 2


class SamplerOfARank(torch.nn.Module):
    """A rank's part of the logits, as its weight, is sampled."""

    def __init__(self):
        super().__init__()
        self.logits = torch.nn.Parameter(torch.zeros(VOCABULARY // TP), requires_grad=False)
        config = Gemma4NeuronConfig(
            batch_size=DRAWS, sequence_length=8, tp_degree=TP, target="trn2", on_device_sampling=True, max_topk=16
        )
        self.sampler = Gemma4Sampler(config, do_sample=True)

    def forward(self, sampling_params: torch.Tensor, rank_id: torch.Tensor) -> torch.Tensor:
        return self.sampler(self.logits.expand(len(sampling_params), -1), sampling_params, rank_id=rank_id)


@pytest.mark.parametrize(
    ("top_k", "top_p", "temperature"),
    [
        (1, 1.0, 1.0),
        (5, 1.0, 1.0),
        (16, 0.95, 1.0),
        (16, 0.6, 1.7),
        (16, 0.3, 1.0),
        (3, 0.9, 0.5),
        (16, 0.01, 2.0),
        (16, 0.9, 1e-3),
    ],
)
def test_tokens_are_drawn_as_in_transformers(top_k, top_p, temperature):
    torch.manual_seed(0)
    logits = 3 * torch.randn(VOCABULARY) - 20  # no sign is special
    warped = logits[None]
    for warper in (TemperatureLogitsWarper(temperature), TopKLogitsWarper(top_k), TopPLogitsWarper(top_p)):
        warped = warper(None, warped)
    wanted = torch.softmax(warped[0], dim=-1)
    with tensor_parallel(TP):
        parameters = torch.tensor([[float(top_k), top_p, temperature]]).expand(DRAWS, -1)
        ranks = [{"logits": part} for part in logits.chunk(TP)]
        drawn = run_on_ranks(SamplerOfARank(), ranks, parameters, torch.tensor([0]))[0]
    share = torch.bincount(drawn, minlength=VOCABULARY) / DRAWS
    assert not share[wanted == 0].any()
    # Five standard deviations
    assert ((share - wanted).abs() <= 5 * (wanted * (1 - wanted) / DRAWS).sqrt() + 1e-4).all()


def test_a_number_beyond_the_rounded_sum_draws_the_last_token_that_is_left(monkeypatch):
    """Otherwise the gather would be out of bounds: an error here, and on the device at best a token that was cut."""
    monkeypatch.setattr(
        Gemma4Sampler, "_rand_selector", lambda self, cumsum, samples=1: torch.full((len(cumsum), 1), 1.1)
    )
    logits = torch.arange(VOCABULARY).float()
    with tensor_parallel(TP):
        ranks = [{"logits": part} for part in logits.chunk(TP)]
        parameters = torch.tensor([[16.0, 1.0, 1.0], [3.0, 1.0, 1.0], [1.0, 1.0, 1.0], [16.0, 0.7, 1.0]])
        drawn = run_on_ranks(SamplerOfARank(), ranks, parameters, torch.tensor([0]))[0]
    best = VOCABULARY - 1
    assert drawn.tolist() == [best - 15, best - 2, best, best - 1]
