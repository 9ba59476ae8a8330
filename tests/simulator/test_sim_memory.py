# SPDX-License-Identifier: Apache-2.0
"""Tracing touches no weight, and running holds each weight at most once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_sim_activation import ALONE


WEIGHT_MIB = 128
# Anonymous memory only (RssAnon): pages of mapped checkpoint files can be dropped and do not count.
RUN = """
import json, os, sys, threading, time
activate()
import torch
from pathlib import Path
from safetensors.torch import load_file, save_file
from sim_bundles import Instance, builder
from neuronx_distributed.parallel_layers.layers import ColumnParallelLinear, RowParallelLinear

torch.set_num_threads(1)
folder, tp, mib = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
width, layers = 2048, mib * 2**20 // (2 * 2048 * 4096 * 2)


class Layer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.up = ColumnParallelLinear(width, 4096, bias=False, gather_output=False, dtype=torch.bfloat16)
        self.down = RowParallelLinear(4096, width, bias=False, input_is_parallel=True, dtype=torch.bfloat16)

    def forward(self, x):
        return x + self.down(self.up(x))


class Stack(torch.nn.Sequential):
    def __init__(self):
        super().__init__(*(Layer() for _ in range(layers)))
        self.cache = torch.nn.Parameter(torch.zeros(1, width, dtype=torch.bfloat16), requires_grad=False)

    def forward(self, x):
        for layer in list(self.children()):
            x = layer(x)
        return [x, self.cache + x[:1]]


def anonymous():
    for line in open("/proc/self/status"):
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024


class Peak:
    def __enter__(self):
        self.start = self.peak = anonymous()
        self.running = True
        self.thread = threading.Thread(target=self.sample)
        self.thread.start()
        return self

    def sample(self):
        while self.running:
            self.peak = max(self.peak, anonymous())
            time.sleep(0.002)

    def __exit__(self, *error):
        self.running = False
        self.thread.join()
        self.ratio = (max(self.peak, anonymous()) - self.start) / mib


shapes = {"up.weight": (4096, width), "down.weight": (width, 4096)}
checkpoint = {f"{i}.{k}": torch.zeros(s, dtype=torch.bfloat16) for i in range(layers) for k, s in shapes.items()}
save_file(checkpoint, folder / "model.safetensors")
del checkpoint
examples = [(torch.zeros(rows, width, dtype=torch.bfloat16),) for rows in (1, 8)]
load = lambda: load_file(folder / "model.safetensors")


def traced(folder, loader=load):
    made = builder(folder, tp).add("stack", Instance(Stack, ["cache"]), examples)
    made.checkpoint_loader = loader
    return made


builder(folder, tp).add("warm", Instance(Layer, []), [(torch.zeros(1, width, dtype=torch.bfloat16),)]).trace(False)
with Peak() as tracing:
    model = traced(folder).trace(initialize_model_weights=False)
with Peak() as sharding:
    traced(folder).shard_checkpoint(str(folder / "ranks"))
weights = [load_file(folder / f"ranks/tp{rank}_sharded_checkpoint.safetensors") for rank in range(tp)]
with Peak() as loading:
    model.nxd_model.initialize(weights, torch.tensor([0], dtype=torch.int32))
    del weights
with Peak() as running:
    for example in examples:
        model(*example)
print(json.dumps({name: globals()[name].ratio for name in ("tracing", "sharding", "loading", "running")}))
"""


@pytest.mark.parametrize("tp", [1, 2])
def test_memory_as_a_multiple_of_the_weights(tmp_path, tp):
    package = Path(__file__).parents[2] / "optimum_gemma4"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "OPTIMUM_GEMMA4_BACKEND": "simulator"}
    code = ALONE.format(path=str(package)) + RUN
    arguments = [sys.executable, "-c", code, str(tmp_path), str(tp), str(WEIGHT_MIB)]
    result = subprocess.run(arguments, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    ratios = json.loads(result.stdout.splitlines()[-1])
    assert ratios["tracing"] < 0.1
    assert ratios["sharding"] < (0.1 if tp == 1 else 0.6)  # one rank's row-parallel shards are copied to be contiguous
    assert ratios["loading"] < (0.1 if tp == 1 else 1.2)  # one rank uses the mapped files as they are
    assert ratios["running"] < 0.3
