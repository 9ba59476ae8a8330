# SPDX-License-Identifier: Apache-2.0
"""The record of a run, and what is computed from it: memory peaks, timelines, reports."""
