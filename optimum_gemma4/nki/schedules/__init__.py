# SPDX-License-Identifier: Apache-2.0
"""The static schedules of the kernels, in pure Python: what is read, in which order, and what is never read."""
