# SPDX-License-Identifier: Apache-2.0
"""Stand-in for the torch_xla.core package."""
