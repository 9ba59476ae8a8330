# SPDX-License-Identifier: Apache-2.0
"""From a module to a graph of all ranks: recording on rank 0, the checks, and the lowering."""
