# SPDX-License-Identifier: Apache-2.0
"""Stand-in for neuronx_distributed.trace.hlo_utils: the environment variable of weight-layout options."""

NXD_LAYOUT_TRANSFORMATION_OPTIONS = "NXD_LAYOUT_TRANSFORMATION_OPTIONS"
