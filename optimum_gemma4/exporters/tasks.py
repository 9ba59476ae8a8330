# SPDX-License-Identifier: Apache-2.0
"""Which task a checkpoint is exported for when the user names none.

optimum's `TasksManager` answers from the Hub's pipeline tag and refuses local folders; a Gemma 4 `config.json` says it
itself: with a vision_config the model takes images and text, without one it takes text.
"""

from typing import Any

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
    return TEXT_TASK if config_dict.get("vision_config") is None else IMAGE_TASK
