# SPDX-License-Identifier: Apache-2.0
"""`NeuronModelForImageTextToText`: finds a model's class for images and text, as optimum-neuron's classes do.

optimum-neuron 0.4.5 has no such class; its main branch has one of this name, and where it is there, this one derives
from it. Unlike `NeuronModelForCausalLM` it hands the whole configuration on, since the vision encoder's shape is not
in the text configuration, and `get_neuron_config` takes the options of the model class.
"""

import inspect
from pathlib import Path
from typing import Any

from optimum.neuron.models.auto_model import has_neuron_model_class
from optimum.neuron.models.inference import modeling_utils
from optimum.neuron.models.inference.modeling_utils import NeuronPreTrainedModel
from transformers import AutoConfig, PretrainedConfig


__all__ = ["NeuronModelForImageTextToText"]

TASK = "image-text-to-text"


class NeuronModelForImageTextToText(getattr(modeling_utils, "NeuronModelForImageTextToText", NeuronPreTrainedModel)):
    """Auto class for "image-text-to-text": the model's class for `from_pretrained`, `export`, `get_neuron_config`."""

    task = TASK

    @classmethod
    def _get_neuron_model_class(cls, config: PretrainedConfig) -> type:
        if not has_neuron_model_class(config.model_type, TASK, "inference"):
            raise ValueError(
                f"The model type {config.model_type} takes no images here. If this is an artifact that was exported "
                "for text-generation, load it with NeuronModelForCausalLM; to use images, export its checkpoint with "
                f"--task {TASK}."
            )
        return super()._get_neuron_model_class(config)

    @classmethod
    def get_neuron_config(
        cls, model_name_or_path: str | Path, config: PretrainedConfig | None = None, *args: Any, **options: Any
    ) -> Any:
        """What to compile for; see `Gemma4NxDModelForCausalLM.get_neuron_config`.

        Args:
            model_name_or_path: folder or Hub id.
            config: of the whole model; read from there when absent.
            args, options: those of the model class, for Gemma 4 `max_soft_tokens` and `max_images` among them.
        """
        if not inspect.isabstract(cls):
            return super().get_neuron_config(model_name_or_path, config, *args, **options)
        if config is None:
            hub = {name: options.get(name) for name in ("token", "revision")}
            config = AutoConfig.from_pretrained(model_name_or_path, **hub)
        return cls._get_neuron_model_class(config).get_neuron_config(model_name_or_path, config, *args, **options)

    @classmethod
    def export(
        cls,
        model_id: str,
        neuron_config: Any,
        config: PretrainedConfig | None = None,
        token: bool | str | None = None,
        revision: str | None = None,
        load_weights: bool | None = False,
        **kwargs: Any,
    ) -> "NeuronModelForImageTextToText":
        """Compile a checkpoint; arguments as in optimum-neuron's `NeuronPreTrainedModel.export`."""
        if config is None:
            config = AutoConfig.from_pretrained(model_id, token=token, revision=revision)
        return super().export(
            model_id, neuron_config, config, token=token, revision=revision, load_weights=load_weights, **kwargs
        )
