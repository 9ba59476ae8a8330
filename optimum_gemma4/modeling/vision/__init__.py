# SPDX-License-Identifier: Apache-2.0
"""Gemma 4 vision encoder: start at `model.py`, then `patches.py`, `encoder.py`, `pooler.py` and `projector.py`."""
