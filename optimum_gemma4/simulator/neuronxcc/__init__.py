# SPDX-License-Identifier: Apache-2.0
"""Stand-in for the Neuron compiler package: the version, and the NKI simulator in `nki`."""

from optimum_gemma4.simulator.versions import NEURONX_CC as __version__  # noqa: F401
