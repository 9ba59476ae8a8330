# SPDX-License-Identifier: Apache-2.0
"""Gemma 4 text decoder: start at `decoder.py`, then `attention.py`, `kv_cache.py` and `masks.py`."""
