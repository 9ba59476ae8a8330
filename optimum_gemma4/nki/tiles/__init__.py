# SPDX-License-Identifier: Apache-2.0
"""Sub-kernels: what happens on chip to one tile of queries or one section of the cache."""
