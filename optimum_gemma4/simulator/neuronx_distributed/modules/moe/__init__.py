# SPDX-License-Identifier: Apache-2.0
"""Stand-in for neuronx_distributed.modules.moe: names only."""
