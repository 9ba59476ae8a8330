# SPDX-License-Identifier: Apache-2.0
"""A process that converts a checkpoint and reports its peak anonymous memory, run by test_conversion_memory.py.

Usage: `python conversion_process.py SOURCE DESTINATION TP WAY DTYPE [WAY DTYPE]`. For each way a line of two numbers
in bytes: RssAnon before the conversion and its largest value during it (pages of mapped files do not count). Ways are
"ours" and "upstream", written to the folder of that name below the destination. "upstream" is optimum-neuron's own
way: its `load_state_dict`, the renaming and the tied head in memory, and the slices of every rank from there.
"""

import sys
import threading
from pathlib import Path

import torch

from optimum_gemma4 import Gemma4NeuronConfig
from optimum_gemma4.exporters.checkpoint import convert_checkpoint
from optimum_gemma4.exporters.key_table import text_specs
from optimum_gemma4.modeling.geometry import TextGeometry


SAMPLE_SECONDS = 0.002
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


def anonymous_bytes() -> int:
    """RssAnon of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status has no RssAnon")


class Peak(threading.Thread):
    """Samples RssAnon until it is stopped."""

    def __init__(self):
        super().__init__(daemon=True)
        self.bytes = anonymous_bytes()
        self._stopped = threading.Event()

    def run(self):
        while not self._stopped.wait(SAMPLE_SECONDS):
            self.bytes = max(self.bytes, anonymous_bytes())

    def stop(self) -> int:
        self.bytes = max(self.bytes, anonymous_bytes())
        self._stopped.set()
        self.join()
        return self.bytes


def convert_like_upstream(source: Path, destination: Path, config, neuron_config: Gemma4NeuronConfig) -> None:
    """optimum-neuron's `get_state_dict` and the SDK's `shard_checkpoint`: all tensors, then all ranks."""
    from optimum.neuron.models.inference.backend.modules.checkpoint import load_state_dict
    from safetensors.torch import save_file

    state_dict = load_state_dict(str(source))
    state_dict = {name.replace("model.language_model.", "", 1): tensor for name, tensor in state_dict.items()}
    state_dict["lm_head.weight"] = state_dict["embed_tokens.weight"].clone()
    tp = neuron_config.tp_degree
    targets = [t for spec in text_specs(TextGeometry.from_config(config), "") for t in spec.targets]
    (destination / "weights").mkdir(parents=True)
    for rank in range(tp):
        shard = {t.name: state_dict[t.name][t.rank_slices(rank, tp)].clone().contiguous() for t in targets}
        save_file(shard, destination / "weights" / f"tp{rank}_sharded_checkpoint.safetensors")


def main(source: Path, destination: Path, tp: int, way: str, dtype: str) -> None:
    """Converts and reports."""
    from transformers import AutoConfig

    torch.set_num_threads(1)
    config = AutoConfig.from_pretrained(source)
    neuron_config = Gemma4NeuronConfig(
        batch_size=1, sequence_length=64, tp_degree=tp, torch_dtype=DTYPES[dtype], target="trn2"
    )
    before = anonymous_bytes()
    peak = Peak()
    peak.start()
    if way == "ours":
        convert_checkpoint(source, destination / way, config, neuron_config, "text")
    else:
        convert_like_upstream(source, destination / way, config, neuron_config)
    sys.stdout.write(f"{before} {peak.stop()}\n")


if __name__ == "__main__":
    arguments = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    for index in range(4, len(sys.argv), 2):
        main(*arguments, *sys.argv[index : index + 2])
