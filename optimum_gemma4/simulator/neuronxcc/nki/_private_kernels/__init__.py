# SPDX-License-Identifier: Apache-2.0
"""Stand-ins, in torch, for the compiler's own kernels that optimum-neuron calls."""
