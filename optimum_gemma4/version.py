# SPDX-License-Identifier: Apache-2.0
"""The version, in a file that imports nothing: the build reads it without torch."""

__version__ = "0.1.0"
