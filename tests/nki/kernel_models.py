# SPDX-License-Identifier: Apache-2.0
"""Random bf16 models of few layers whose attention the table gives to the kernels, and what their graphs call.

Head dims 128, 256 and 512, K = V layers and plain ones, a window of 512, prefill graphs of 1024 and of 128 tokens, of
which the table takes the long one. Prompts were chosen for wide gaps between the best tokens and for tokens that vary.
"""

import json
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import torch
from random_models import write_random_checkpoint, write_random_image_checkpoint
from safetensors.torch import load_file, save_file

from optimum_gemma4.simulator.engine.nki_call import NkiCall, parse_call
from optimum_gemma4.simulator.engine.nki_operator import NKI_KERNEL
from optimum_gemma4.simulator.engine.run.bundle import Bundle


STEPS = 12
VOCABULARY = 16
_COMMON = {
    "dtype": "bfloat16",
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "sliding_window": 512,
}
MODELS = {
    "256 and 512": {
        **_COMMON,
        "num_hidden_layers": 3,
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
        "head_dim": 256,
        "global_head_dim": 512,
        "num_global_key_value_heads": 1,
    },
    "128": {
        **_COMMON,
        "num_hidden_layers": 2,
        "layer_types": ["sliding_attention", "full_attention"],
        "head_dim": 128,
        "global_head_dim": 128,
        "attention_k_eq_v": False,
    },
}
# model -> (tokens, seed) of its prompts: beyond the window, all of the long graph, and one for the short graph
PROMPTS = {"256 and 512": [(700, 7), (1024, 12), (100, 1)], "128": [(900, 8), (1024, 16), (100, 9)]}
OPTIONS = {"sequence_length": 1088, "prefill_buckets": [128, 1024], "on_device_sampling": False}


def prompts(name: str) -> list[torch.Tensor]:
    """Prompts of a model, [1, S] each."""
    return [
        torch.randint(3, VOCABULARY, (1, length), generator=torch.Generator().manual_seed(seed))
        for length, seed in PROMPTS[name]
    ]


def write_checkpoint(folder: Path, name: str) -> Path:
    """A checkpoint of `MODELS`."""
    return _with_small_queries(write_random_checkpoint(folder, **MODELS[name]))


def write_image_checkpoint(folder: Path) -> Path:
    """The first model with a vision encoder, and a vocabulary that has image tokens."""
    return _with_small_queries(write_random_image_checkpoint(folder, **{**MODELS["256 and 512"], "vocab_size": 128}))


def _with_small_queries(folder: Path) -> Path:
    """Scores of a few units: at ten times that softmax would pick single keys, and turn on the rounding of scores."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    small = {name: tensor / 4 if name.endswith("q_norm.weight") else tensor for name, tensor in tensors.items()}
    save_file(small, file, metadata={"format": "pt"})
    return folder


def greedy(model, ids: torch.Tensor, **inputs) -> tuple[list[int], torch.Tensor]:
    """New tokens and the logits that they were chosen by, [STEPS, V]."""
    output = model.generate(
        input_ids=ids, max_new_tokens=STEPS, do_sample=False, eos_token_id=None, return_dict_in_generate=True,
        output_logits=True, **inputs,
    )  # fmt: skip
    return output.sequences[0, ids.shape[1] :].tolist(), torch.cat(output.logits).float()


def smallest_gap(logits: torch.Tensor) -> float:
    """Between the best and the second best token of any step."""
    return logits.topk(2).values.diff(dim=-1).abs().min().item()


def calls_in_graphs(artifact: Path, file: str = "model.pt") -> list[Counter]:
    """How often each kernel is called, for every graph of a bundle: prompt lengths ascending, then decode."""
    bundle = Bundle.from_bytes(torch.jit.load(str(artifact / file)).nxd_model.blob.numpy().tobytes())
    graphs = sorted(bundle.graphs, key=lambda graph: (graph.inputs[0].shape[1] == 1, graph.inputs[0].shape[1]))
    return [
        Counter(
            parse_call(node.args[0]).kernel for node in graph.graph_module.graph.nodes if node.target is NKI_KERNEL
        )
        for graph in graphs
    ]


def recorded_calls(artifact: Path) -> list[Counter]:
    """The same, by the record in `neuron_config.json`."""
    kernels = {
        "prefill": "optimum_gemma4.nki.flash_prefill:flash_prefill",
        "decode": "optimum_gemma4.nki.decode_attention:decode_attention",
    }
    graphs: dict[str, Counter] = {}
    for entry in json.loads((artifact / "neuron_config.json").read_text())["attention_kernels"]:
        counter = graphs.setdefault(entry["graph"], Counter())
        if entry["runs"] == "nki":
            counter[kernels[entry["phase"]]] += len(entry["layers"])
    return list(graphs.values())


@contextmanager
def captured_calls(monkeypatch):
    """Collects (call, operands) of the kernels that graphs run by their twins, on one rank."""
    calls, run_twin = [], NkiCall.run_twin

    def spy(call, operands):
        calls.append((call, [operand.clone() for operand in operands]))
        return run_twin(call, operands)

    with monkeypatch.context() as patch:
        patch.setattr(NkiCall, "run_twin", spy)
        yield calls


def assert_kernel_equals_twin(call: NkiCall, operands: list[torch.Tensor]) -> None:
    """Equal but for sums in another order, after which a weight may round to the next fp16, a result to the next bf16.

    98 % of the results are equal bit for bit; no other differs by more than its own ulp and 2^-12 of the largest,
    which counts where terms cancel. Measured: 98.5 %, and 2^-13.5.
    """
    (kernel,), (twin,) = call.run_simulated(operands), call.run_twin(operands)
    assert kernel.dtype == twin.dtype and kernel.shape == twin.shape
    difference, largest = (kernel - twin).abs().float(), twin.abs().max().float()
    if kernel.dtype == torch.float32:  # parts of the slots, which are joined outside
        assert difference.max() <= 1e-4 * largest
        return
    ulp = 2.0 ** (twin.abs().float().clamp(min=1e-30).log2().floor() - 7)
    assert (difference <= ulp + 2**-12 * largest).all()
    assert (difference == 0).float().mean() >= 0.98
