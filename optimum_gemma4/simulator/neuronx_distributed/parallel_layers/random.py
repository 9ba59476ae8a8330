# SPDX-License-Identifier: Apache-2.0
"""Stand-in for neuronx_distributed.parallel_layers.random: seeding."""

import torch


def model_parallel_xla_manual_seed(seed: int) -> None:
    """Seeds the one generator that all simulated ranks draw from."""
    torch.manual_seed(seed)
