# SPDX-License-Identifier: Apache-2.0
"""The parallel layers, one a file; `layers.py` has them under the SDK's module name."""
