# SPDX-License-Identifier: Apache-2.0
"""Stand-in for neuronx_distributed.operators: distributed top-k and argmax."""
