# SPDX-License-Identifier: Apache-2.0
"""Stand-in for torch_neuronx: the version, the device helpers that optimum-neuron imports, and the operators.

Importing it registers the simulator's operators with torch, as importing the real one registers the Neuron runtime's
classes; a traced artifact can be loaded by `torch.jit.load` from then on.
"""

from optimum_gemma4.simulator.engine import nki_operator, operators  # noqa: F401
from optimum_gemma4.simulator.engine.run import runtime  # noqa: F401
from optimum_gemma4.simulator.versions import TORCH_NEURONX as __version__  # noqa: F401

from . import utils, xla_impl  # noqa: F401


class DataParallel:
    """Replication of a traced model over cores, which the simulator does not offer."""

    def __init__(self, *args, **kwargs):
        raise NotImplementedError("torch_neuronx.DataParallel is not simulated: run the traced model itself.")


def move_trace_to_device(trace, device_id: int) -> None:
    """Moving a trace to a core means nothing on the CPU."""
