# SPDX-License-Identifier: Apache-2.0
"""Stand-in for torch_neuronx.xla_impl: custom operators and the HLO builder's API."""
