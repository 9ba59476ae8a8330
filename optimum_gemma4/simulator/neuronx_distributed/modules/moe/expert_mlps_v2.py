# SPDX-License-Identifier: Apache-2.0
"""Stand-in for neuronx_distributed.modules.moe.expert_mlps_v2, which optimum-neuron's model registry imports by name."""

from .unsupported import NotSimulated


class ExpertMLPsV2(NotSimulated):
    """Mixture of experts is not simulated."""
