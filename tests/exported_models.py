# SPDX-License-Identifier: Apache-2.0
"""Exports for tests: made once per session for each set of options, saved, and loaded back from their folder."""

from pathlib import Path

from optimum.neuron.models.auto_model import get_neuron_model_class

from optimum_gemma4 import NeuronModelForCausalLM


class Exports:
    """Exports checkpoints below `folder` and keeps what it made.

    Args:
        folder: where artifacts go.
        auto_class: `NeuronModelForCausalLM` or `NeuronModelForImageTextToText`.

    Attributes:
        OPTIONS: what is compiled when a test does not say otherwise.
    """

    OPTIONS = {"instance_type": "trn2", "batch_size": 1, "sequence_length": 64, "tensor_parallel_size": 1}

    def __init__(self, folder: Path, auto_class: type = NeuronModelForCausalLM):
        self._folder = folder
        self._auto_class = auto_class
        self._artifacts: dict[str, Path] = {}
        self._models = {}

    def artifact(self, checkpoint: Path, **options) -> Path:
        """The folder of an export with these options of `get_neuron_config`."""
        options = {**self.OPTIONS, **options}
        key = f"{checkpoint} {sorted(options.items())}"
        if key not in self._artifacts:
            model_class = get_neuron_model_class("gemma4", self._auto_class.task, "inference")
            neuron_config = model_class.get_neuron_config(checkpoint, **options)
            model = self._auto_class.export(str(checkpoint), neuron_config=neuron_config)
            folder = self._folder / f"export_{len(self._artifacts)}"
            model.save_pretrained(str(folder))
            self._artifacts[key] = folder
        return self._artifacts[key]

    def model(self, checkpoint: Path, **options):
        """The loaded model; tests share it, since every prompt starts anew."""
        folder = self.artifact(checkpoint, **options)
        if folder not in self._models:
            self._models[folder] = self._auto_class.from_pretrained(str(folder))
        return self._models[folder]
