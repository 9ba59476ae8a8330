# SPDX-License-Identifier: Apache-2.0
"""The oracle: a thread for each rank, without any graph, gives the tokens and the KV cache of the artifact."""

import pytest
import torch
from optimum.neuron.models.inference.backend.config import NxDNeuronConfig
from safetensors.torch import load_file
from sim_threads import ThreadRanks
from sim_upstream import DEFAULTS, MODELS

from optimum_gemma4.simulator.engine.run.runtime import loaded


PROMPT = [7, 301, 44, 19, 260]
STEPS = 6


def run_rank(name: str, config: NxDNeuronConfig, weights: dict[str, torch.Tensor]) -> tuple[list[int], list]:
    """Prefill and decoding on one rank: the module's own forward, with its aliased outputs put back each time."""
    graphs = MODELS[name].model_class.create_graph_builders(MODELS[name].config, config)
    modules = {}
    for key, builder in graphs.items():
        instance = builder.get_model_instance()
        instance.load_module()
        modules[key], aliases = instance.get(0)
        missing, unexpected = modules[key].load_state_dict(weights, strict=False)
        assert not unexpected and all("past_key_values" in missed for missed in missing)

    def call(key, *inputs):
        states = modules[key].kv_mgr.past_key_values
        token, *new = modules[key](*inputs)
        for other in modules.values():
            for state, value in zip(other.kv_mgr.past_key_values, new, strict=True):
                state.data.copy_(value)
        return token, states

    length = config.max_context_length
    ids = torch.tensor([PROMPT + [0] * (length - len(PROMPT))], dtype=torch.int32)
    positions = torch.tensor([[*range(len(PROMPT)), *[1] * (length - len(PROMPT))]], dtype=torch.int32)
    row, greedy = torch.tensor([0], dtype=torch.int32), torch.tensor([[1.0, 1.0, 1.0]])
    token, states = call("context_encoding", ids, positions, row, greedy)
    tokens = [token.item()]
    for step in range(STEPS):
        position = torch.tensor([[len(PROMPT) + step]], dtype=torch.int32)
        token, states = call("token_generation", token.view(1, 1).to(torch.int32), position, row, greedy)
        tokens.append(token.item())
    return tokens, [state.detach().clone() for state in states]


@pytest.mark.parametrize("tp", [1, 2, 4])
@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_tokens_and_cache_equal_those_of_threads(upstream, name, tp):
    folder = upstream.artifact(name, tp_degree=tp)
    ranks = [load_file(folder / f"checkpoint/weights/tp{r}_sharded_checkpoint.safetensors") for r in range(tp)]
    config = NxDNeuronConfig(**{**DEFAULTS, "tp_degree": tp})
    results = ThreadRanks(tp).run(lambda rank: run_rank(name, config, ranks[rank]))

    model = upstream.model(name, tp_degree=tp)
    found = model.generate(torch.tensor([PROMPT]), max_new_tokens=STEPS + 1, do_sample=False)[0, len(PROMPT) :]
    states = list(loaded(model._traced_model.nxd_model.blob).states.values())
    written = len(PROMPT) + STEPS
    for rank, (tokens, cache) in enumerate(results):
        assert tokens == found.tolist()
        for ours, theirs in zip(states, cache, strict=True):
            ours = ours if tp == 1 else ours[rank]
            torch.testing.assert_close(ours[:, :, :written], theirs[:, :, :written])


def test_a_rank_that_fails_stops_the_others():
    def fails(rank):
        if rank == 1:
            raise KeyError("rank 1")
        return torch.ops.optimum_gemma4_simulator.all_reduce(torch.ones(1), "sum", [0, 1], 2)

    with pytest.raises(KeyError, match="rank 1"):
        ThreadRanks(2).run(fails)
