# SPDX-License-Identifier: Apache-2.0
"""How kernels are launched and traced: grids, loops, the rewriting of kernel functions."""
