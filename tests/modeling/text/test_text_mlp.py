# SPDX-License-Identifier: Apache-2.0
"""MLP against transformers, on one rank and split over several."""

import pytest
import torch
from text_models import TEXT_CONFIGS, golden, random_weights

from optimum_gemma4.modeling.text.mlp import Gemma4TextMLP
from optimum_gemma4.simulator.engine.ranks import run_on_ranks, tensor_parallel


@pytest.mark.parametrize("tp", [1, 2, 8])
@pytest.mark.parametrize("name", TEXT_CONFIGS)
def test_equals_transformers(name, tp):
    config, reference, weights = TEXT_CONFIGS[name], golden(name), random_weights(name)
    keys = [key[:-3] for key in reference if key.endswith("mlp.in")]
    for key in keys:
        parts = {
            f"{projection}.weight": weights[f"layers.{key}.{projection}.weight"].chunk(tp, dim)
            for projection, dim in (("gate_proj", 0), ("up_proj", 0), ("down_proj", 1))
        }
        ranks = [{part: chunks[rank] for part, chunks in parts.items()} for rank in range(tp)]
        with tensor_parallel(tp):
            module = Gemma4TextMLP(config["hidden_size"], config["intermediate_size"], torch.float32).eval()
            output = run_on_ranks(module, ranks, reference[f"{key}.in"])[0]
        torch.testing.assert_close(output, reference[f"{key}.out"], atol=1e-5, rtol=1e-5)
    assert len(keys) == 2
