# SPDX-License-Identifier: Apache-2.0
"""Which task a checkpoint is exported for when the user names none.

optimum's `TasksManager` answers from the Hub's pipeline tag and refuses local folders; a Gemma 4 `config.json` says it
itself: with a vision_config the model takes images and text, without one it takes text.
"""

from typing import Any

from optimum.exporters.tasks import TasksManager
from optimum.neuron.models.auto_model import has_neuron_model_class
from transformers import PretrainedConfig

from .registration import MODEL_TYPES


TEXT_TASK = "text-generation"
IMAGE_TASK = "image-text-to-text"


def is_gemma4(config_dict: dict[str, Any]) -> bool:
    """Whether a `config.json` is one of a Gemma 4 that this package exports."""
    return config_dict.get("model_type") in MODEL_TYPES


def read_config_dict(model: str, **hub_kwargs: Any) -> dict[str, Any]:
    """The content of `config.json` of a local folder or a Hub id, without a configuration class.

    Raises:
        OSError: there is no such file, folder or repository.
    """
    config_dict, _ = PretrainedConfig.get_config_dict(model, **hub_kwargs)
    return config_dict


def gemma4_task(config_dict: dict[str, Any]) -> str:
    """The task of a Gemma 4 configuration: image-text-to-text if it has a vision encoder, else text-generation."""
    sees = config_dict.get("vision_config") is not None
    if sees and has_neuron_model_class(config_dict["model_type"], IMAGE_TASK, "inference"):
        return IMAGE_TASK
    return TEXT_TASK


def infer_task(model: str, **hub_kwargs: Any) -> str:
    """The task of a local folder or Hub id.

    Args:
        model: Folder or Hub id, of any architecture.
        hub_kwargs: `revision`, `token`, `cache_dir`, `subfolder`.

    Raises:
        OSError: no configuration can be read.
        KeyError, RuntimeError: another architecture for which optimum cannot tell.
    """
    config_dict = read_config_dict(model, **hub_kwargs)
    if is_gemma4(config_dict):
        return gemma4_task(config_dict)
    return TasksManager.infer_task_from_model(model, **hub_kwargs)
