# SPDX-License-Identifier: Apache-2.0
"""Stand-in for torch_xla: optimum-neuron's inference path imports it and asks for nothing but the version."""

from optimum_gemma4.simulator.versions import TORCH_XLA as __version__  # noqa: F401
