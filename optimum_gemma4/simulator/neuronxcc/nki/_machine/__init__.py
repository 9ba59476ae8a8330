# SPDX-License-Identifier: Apache-2.0
"""What a NeuronCore is: limits, costs, data types, operators, and what it refuses."""
