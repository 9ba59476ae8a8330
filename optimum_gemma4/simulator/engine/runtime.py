# SPDX-License-Identifier: Apache-2.0
"""The runtime of a traced model."""
