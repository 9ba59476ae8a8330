# SPDX-License-Identifier: Apache-2.0
"""Modules of the SDK that can be imported, and of which nothing can be used: training and mixture of experts.

optimum-neuron's model registry imports the mixture-of-experts classes by name, and its `pipeline()` and
`NeuronConfig.from_pretrained()` its training models and with them the SDK's training stack. The simulator runs dense
inference, so every name of these modules is a class that says so when it is made, and that other classes may derive
from.
"""

from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType


# module -> whether it is a package
NOT_SIMULATED_MODULES = {
    "libneuronxla.neuron_cc_wrapper": False,
    "neuronx_distributed.kernels": True,
    "neuronx_distributed.kernels.flash_attn": False,
    "neuronx_distributed.modules.moe": True,
    "neuronx_distributed.modules.moe.expert_mlps": False,
    "neuronx_distributed.modules.moe.expert_mlps_v2": False,
    "neuronx_distributed.modules.moe.model": False,
    "neuronx_distributed.modules.moe.moe_configs": False,
    "neuronx_distributed.modules.moe.routing": False,
    "neuronx_distributed.modules.moe.shared_experts": False,
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


class NotSimulated:
    """Base of what stands for a name of these modules."""

    def __init__(self, *args: object, **kwargs: object):
        raise NotImplementedError(
            f"{type(self).__qualname__}: the simulator runs dense inference, no training and no mixture of experts."
        )


def not_simulated(module: str, name: str) -> type[NotSimulated]:
    """The class that stands for one name."""
    return type(name, (NotSimulated,), {"__module__": module, "__qualname__": f"{module}.{name}"})


class NotSimulatedLoader(Loader):
    """Fills such a module: any public name is a class that cannot be made."""

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        def missing(name: str) -> type[NotSimulated]:
            if name.startswith("__"):
                raise AttributeError(name)
            return not_simulated(module.__name__, name)

        module.__getattr__ = missing
