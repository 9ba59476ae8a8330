# SPDX-License-Identifier: Apache-2.0
"""Tensors in the memories of a NeuronCore, and the instructions that read and write them."""
