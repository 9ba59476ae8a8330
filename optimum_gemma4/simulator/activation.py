# SPDX-License-Identifier: Apache-2.0
"""Turns the simulator on, once per process, when the policy says so.

The decision is taken on the first call and kept. Activation is refused when a part of the SDK's names is already
imported from somewhere else, because half a simulator is worse than none: the modules of one side would call the
other's.
"""

import logging
import sys
import threading

from .finder import ROOT, SimulatorFinder
from .platform import rebind_loaded_modules
from .policy import BACKEND_VARIABLE, SDK_MODULES, choose_backend, requested_backend


logger = logging.getLogger(__name__)
_lock = threading.RLock()
_backend: str | None = None


def _refuse_foreign_modules() -> None:
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] not in SDK_MODULES or module is None:
            continue
        origin = getattr(module, "__file__", None) or str(list(getattr(module, "__path__", ["?"]))[:1])
        if not str(origin).startswith(str(ROOT)):
            raise RuntimeError(
                f"Cannot simulate the Neuron SDK: {name!r} is already imported from {origin}. Import optimum_gemma4 "
                f"before it, or set {BACKEND_VARIABLE}=neuron to use what is installed."
            )


def activate() -> str:
    """Chooses the backend of this process and, for the simulator, installs its finder. Idempotent and thread-safe.

    Returns:
        `neuron` when the installed SDK is used, `simulator` otherwise.

    Raises:
        ValueError: OPTIMUM_GEMMA4_BACKEND holds an unknown value.
        RuntimeError: `neuron` is asked for without an SDK, or a module of the SDK's names is already imported from
            elsewhere.
    """
    global _backend
    with _lock:
        if _backend is not None:
            return _backend
        chosen = choose_backend()
        if chosen == "simulator":
            _refuse_foreign_modules()
            sys.meta_path.insert(0, SimulatorFinder())
            rebind_loaded_modules()
            reason = "as asked" if requested_backend() == "simulator" else "no Neuron SDK is installed"
            logger.warning("Simulating the Neuron SDK on the CPU: %s (%s decides).", reason, BACKEND_VARIABLE)
        _backend = chosen
        return chosen


def backend_name() -> str:
    """Returns `neuron` or `simulator`: the backend of this process, which this call fixes if nothing did before."""
    return activate()
