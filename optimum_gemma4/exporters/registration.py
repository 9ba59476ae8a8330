# SPDX-License-Identifier: Apache-2.0
"""Makes transformers, optimum and optimum-neuron know Gemma 4: the only side effect of `import optimum_gemma4`.

Order matters. The backend is chosen first (the simulator must be in place before anything imports the SDK), then the
configurations, since optimum-neuron reads them, then the processing classes, the model classes and the export
configurations. A transformers that knows a model type already keeps its own class.
"""

import threading

from ..simulator import activate


MODEL_TYPES = ("gemma4", "gemma4_text")

_lock = threading.RLock()
_registered = False


def register() -> None:
    """Registers Gemma 4 everywhere; calling it again changes nothing.

    Raises:
        RuntimeError: `OPTIMUM_GEMMA4_BACKEND=neuron` without the SDK, or a part of the SDK was imported before.
    """
    global _registered
    with _lock:
        if _registered:
            return
        _registered = True
        try:
            activate()
            _register_configurations()
            _register_processing()
            _register_models()
            _register_export_configurations()
        except BaseException:
            _registered = False
            raise


def _register_configurations() -> None:
    from transformers import AutoConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    from ..modeling.configuration import Gemma4Config, Gemma4TextConfig, Gemma4VisionConfig

    for config_class in (Gemma4Config, Gemma4TextConfig, Gemma4VisionConfig):
        if config_class.model_type not in CONFIG_MAPPING:
            AutoConfig.register(config_class.model_type, config_class)


def _register_processing() -> None:
    from ..modeling import processing

    processing.register()


def _register_models() -> None:
    from optimum.neuron.models.auto_model import register_neuron_model

    from ..modeling.causal_lm import Gemma4NeuronModelForCausalLM
    from ..modeling.image_text_to_text import Gemma4NeuronModelForImageTextToText

    for model_type in MODEL_TYPES:
        register_neuron_model(model_type, "text-generation", "inference")(Gemma4NeuronModelForCausalLM)
    register_neuron_model("gemma4", "image-text-to-text", "inference")(Gemma4NeuronModelForImageTextToText)


def _register_export_configurations() -> None:
    from optimum.exporters.tasks import TasksManager

    from .export_config import Gemma4NeuronExportConfig, Gemma4TextNeuronExportConfig

    register_for_neuron = TasksManager.create_register("neuron")
    register_for_neuron("gemma4_text", "text-generation")(Gemma4TextNeuronExportConfig)
    register_for_neuron("gemma4", "text-generation", "image-text-to-text")(Gemma4NeuronExportConfig)
