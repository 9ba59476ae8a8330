# SPDX-License-Identifier: Apache-2.0
"""Stand-in for libneuronxla: the compile cache that optimum-neuron writes its registry entries to."""

from optimum_gemma4.simulator.versions import LIBNEURONXLA as __version__  # noqa: F401
