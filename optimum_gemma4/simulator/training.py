# SPDX-License-Identifier: Apache-2.0
"""The SDK's training modules: they can be imported, and nothing of them can be used.

optimum-neuron's `pipeline()` and `NeuronConfig.from_pretrained()` import its training models on the way to the
inference ones, and those import the SDK's training stack by name. The simulator is for inference, so every name of
these modules is a class that says so when it is made, and that other classes may derive from.
"""

from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType


# module -> whether it is a package
TRAINING_MODULES = {
    "libneuronxla.neuron_cc_wrapper": False,
    "neuronx_distributed.kernels": True,
    "neuronx_distributed.kernels.flash_attn": False,
    "neuronx_distributed.modules.qkv_linear": False,
    "neuronx_distributed.optimizer": True,
    "neuronx_distributed.parallel_layers.grads": False,
    "neuronx_distributed.pipeline": True,
    "neuronx_distributed.pipeline.partition": False,
    "neuronx_distributed.pipeline.trace": False,
    "neuronx_distributed.utils.activation_checkpoint": False,
    "neuronx_distributed.utils.model_utils": False,
    "torch_neuronx.parallel_compile": True,
    "torch_neuronx.parallel_compile.neuron_parallel_compile": False,
    "torch_xla.distributed": True,
    "torch_xla.distributed.parallel_loader": False,
    "torch_xla.distributed.xla_backend": False,
    "torch_xla.utils": True,
    "torch_xla.utils.checkpoint": False,
    "torch_xla.utils.serialization": False,
}


class TrainingName:
    """Base of what stands for a name of the training stack."""

    def __init__(self, *args: object, **kwargs: object):
        raise NotImplementedError(f"{type(self).__qualname__}: the simulator runs inference, not training.")


def training_name(module: str, name: str) -> type[TrainingName]:
    """The class that stands for one name of a training module."""
    return type(name, (TrainingName,), {"__module__": module, "__qualname__": f"{module}.{name}"})


class TrainingLoader(Loader):
    """Fills a training module: any public name is a class that cannot be made."""

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        def missing(name: str) -> type[TrainingName]:
            if name.startswith("__"):
                raise AttributeError(name)
            return training_name(module.__name__, name)

        module.__getattr__ = missing
