# SPDX-License-Identifier: Apache-2.0
"""Gemma 4 on AWS Trainium and Inferentia, as an extension of optimum-neuron.

Importing the package registers it, once: the configurations with `AutoConfig`, the model classes with optimum-neuron,
the export configurations with optimum. Without the Neuron SDK its simulator takes the SDK's place, unless
`OPTIMUM_GEMMA4_BACKEND` says otherwise. The public classes are imported when they are first asked for.
"""

import importlib

from .version import __version__


_PUBLIC = {
    "Gemma4Config": "optimum_gemma4.modeling.configuration",
    "Gemma4TextConfig": "optimum_gemma4.modeling.configuration",
    "Gemma4VisionConfig": "optimum_gemma4.modeling.configuration",
    "Gemma4NeuronConfig": "optimum_gemma4.exporters.neuron_config",
    "Gemma4ImageProcessor": "optimum_gemma4.modeling.processing",
    "Gemma4Processor": "optimum_gemma4.modeling.processing",
    "NeuronModelForCausalLM": "optimum.neuron",
    "pipeline": "optimum_gemma4.modeling.pipelines",
    "NeuronModelForImageTextToText": "optimum_gemma4.modeling.auto_image_text_to_text",
}

__all__ = [*_PUBLIC, "register", "__version__"]


def __getattr__(name: str):
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)


from .exporters.registration import register  # noqa: E402  (the lazy names above must exist while it runs)


register()
