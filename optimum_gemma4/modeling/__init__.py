# SPDX-License-Identifier: Apache-2.0
"""Gemma 4 modules for optimum-neuron: configuration, geometry, text decoder, vision encoder and their runtime.

Shape letters, the same in every file: `B` batch, `S` query length, `T` cache length, `N` query heads, `K` key/value
heads, `H` head dim, `D` hidden size, `G` query heads per key/value head, `R` rotated angles.
Nothing is imported here: `configuration` and `geometry` work without the Neuron SDK, the rest needs it (or the
simulator).
"""
