# SPDX-License-Identifier: Apache-2.0
"""Stand-in for neuronx_distributed.modules.moe.expert_mlps, which optimum-neuron's model registry imports by name."""

from .unsupported import NotSimulated


class ExpertMLPs(NotSimulated):
    """Mixture of experts is not simulated."""
