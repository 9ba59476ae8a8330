# SPDX-License-Identifier: Apache-2.0
"""Which backend this process uses: the installed Neuron SDK or the simulator.

The environment variable OPTIMUM_GEMMA4_BACKEND says `auto` (default), `neuron` or `simulator`. The SDK counts as
installed when `torch_neuronx` and `neuronx_distributed` each have a module and distribution metadata, which is the
check of optimum-neuron itself: the placeholder `libneuronxla` on PyPI, or a stray folder of one of these names in the
working directory, is not an SDK. OPTIMUM_GEMMA4_NKI says how the simulator runs NKI kernels.
"""

import importlib.machinery
import importlib.metadata
import os


BACKEND_VARIABLE = "OPTIMUM_GEMMA4_BACKEND"
BACKEND_CHOICES = ("auto", "neuron", "simulator")
SDK_MODULES = ("torch_neuronx", "neuronx_distributed", "neuronxcc", "libneuronxla", "torch_xla")
_DECISIVE_MODULES = ("torch_neuronx", "neuronx_distributed")
NKI_VARIABLE = "OPTIMUM_GEMMA4_NKI"
NKI_MODES = ("twin", "simulate")


def requested_backend() -> str:
    """Returns the backend that the environment asks for.

    Raises:
        ValueError: the variable holds none of `auto`, `neuron`, `simulator`.
    """
    value = os.environ.get(BACKEND_VARIABLE, "").strip().lower() or "auto"
    if value not in BACKEND_CHOICES:
        raise ValueError(
            f"{BACKEND_VARIABLE}={os.environ[BACKEND_VARIABLE]!r} is not a backend: set it to one of "
            f"{', '.join(BACKEND_CHOICES)}, or unset it for auto."
        )
    return value


def _is_installed(name: str) -> bool:
    spec = importlib.machinery.PathFinder.find_spec(name)
    if spec is None or spec.loader is None or spec.origin is None:
        return False  # a namespace package is a folder that happens to have the name
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def missing_sdk_modules() -> list[str]:
    """Names of the SDK packages that decide and that are not installed (module and distribution metadata)."""
    return [name for name in _DECISIVE_MODULES if not _is_installed(name)]


def choose_backend() -> str:
    """Returns `neuron` or `simulator`.

    Raises:
        ValueError: the environment variable holds an unknown value.
        RuntimeError: `neuron` is asked for and the SDK is not installed.
    """
    requested = requested_backend()
    if requested == "simulator":
        return "simulator"
    missing = missing_sdk_modules()
    if not missing:
        return "neuron"
    if requested == "neuron":
        raise RuntimeError(
            f"{BACKEND_VARIABLE}=neuron, but the Neuron SDK is not installed: no {' and no '.join(missing)} with "
            f"distribution metadata. Install the SDK (on a Neuron instance), or set {BACKEND_VARIABLE}=simulator."
        )
    return "simulator"


def nki_mode() -> str:
    """How the simulator runs the NKI kernels of a traced model: `twin` (torch, the default) or `simulate`.

    Raises:
        ValueError: the variable holds neither.
    """
    value = os.environ.get(NKI_VARIABLE, "").strip().lower() or "twin"
    if value not in NKI_MODES:
        raise ValueError(
            f"{NKI_VARIABLE}={os.environ[NKI_VARIABLE]!r}: set it to twin (kernels run as their torch twins, fast) or "
            "simulate (they run on the NKI simulator, slow), or unset it for twin."
        )
    return value
