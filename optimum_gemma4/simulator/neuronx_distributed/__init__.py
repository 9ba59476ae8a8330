# SPDX-License-Identifier: Apache-2.0
"""Stand-in for neuronx_distributed: parallel layers, distributed sampling operators, tracing and sharding."""

from optimum_gemma4.simulator.versions import NEURONX_DISTRIBUTED as __version__  # noqa: F401

from . import operators, parallel_layers, trace, utils  # noqa: F401
