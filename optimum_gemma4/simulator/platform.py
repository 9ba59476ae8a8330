# SPDX-License-Identifier: Apache-2.0
"""A simulated Neuron instance, for the few modules that look at the machine.

`optimum.neuron.utils.system` learns which instance it is on from /proc, /dev and the DMI table, and
`optimum.neuron.utils.neuron_device_memory` reads sysfs. Their code runs first, unmodified; then the four functions
and the one path that look at the machine are replaced. The instance is the one that NEURON_PLATFORM_TARGET_OVERRIDE
names, and trn2 without it, so that the check of an artifact's target against the platform still means something.
transformers and accelerate take a torch_xla that can be imported for an XLA device: they are told that there is none.
"""

import os
import sys
from collections.abc import Callable
from importlib.abc import Loader
from pathlib import Path
from types import ModuleType


DEFAULT_INSTANCE = "trn2"
SIMULATED_MAJOR = 1
_INSTANCE_SIZES = {"trn1": "32xlarge", "trn1n": "32xlarge", "inf2": "48xlarge", "trn2": "48xlarge"}
_DEVICES = {"trn1": 16, "trn1n": 16, "inf2": 12, "trn2": 16}
# Logical cores: on trn2 optimum-neuron counts the physical cores in pairs (logical_nc_config 2).
_CORES_PER_DEVICE = {"trn1": 2, "trn1n": 2, "inf2": 2, "trn2": 4}


def instance_family() -> str:
    """Family of the simulated instance, such as `trn2`; an unknown one is left to optimum-neuron to refuse."""
    return os.environ.get("NEURON_PLATFORM_TARGET_OVERRIDE") or DEFAULT_INSTANCE


def _system(module: ModuleType) -> dict[str, object]:
    def get_neuron_major() -> int:
        return SIMULATED_MAJOR

    def get_instance_name() -> str:
        family = instance_family()
        return f"{family}.{_INSTANCE_SIZES.get(family, 'simulated')}"

    def cores_per_device() -> int:
        return _CORES_PER_DEVICE.get(instance_family(), 2)

    def get_neuron_devices_count() -> int:
        return _DEVICES.get(instance_family(), 1)

    return {f.__name__: f for f in (get_neuron_major, get_instance_name, cores_per_device, get_neuron_devices_count)}


def _device_memory(module: ModuleType) -> dict[str, object]:
    # An existing folder without neuron* entries: the report is then one of no device memory, instead of an error.
    return {"SYSFS_NEURON_BASE": Path(__file__).parent / "torch_xla"}


def _no_xla_device(module: ModuleType) -> dict[str, object]:
    return {"_torch_xla_available": False}


PLATFORM_MODULES: dict[str, Callable[[ModuleType], dict[str, object]]] = {
    "optimum.neuron.utils.system": _system,
    "optimum.neuron.utils.neuron_device_memory": _device_memory,
    "accelerate.utils.imports": _no_xla_device,
    "transformers.utils.import_utils": _no_xla_device,
}


class PlatformLoader(Loader):
    """Runs a module's own loader, then puts the simulated platform in."""

    def __init__(self, loader: Loader, replacements: Callable[[ModuleType], dict[str, object]]):
        self._loader = loader
        self._replacements = replacements

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        vars(module).update(self._replacements(module))


def rebind_loaded_modules() -> None:
    """Puts the simulated platform into modules that were imported before the simulator was activated.

    Other modules of optimum hold references that they took with `from .system import ...`: these are replaced too.
    """
    for name, replacements in PLATFORM_MODULES.items():
        module = sys.modules.get(name)
        if module is None:
            continue
        for attribute, value in replacements(module).items():
            original = getattr(module, attribute)
            if original == value:
                continue
            for holder_name, holder in list(sys.modules.items()):
                if holder_name.startswith("optimum.") and vars(holder).get(attribute) is original:
                    setattr(holder, attribute, value)
