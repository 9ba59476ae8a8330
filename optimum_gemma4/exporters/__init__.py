# SPDX-License-Identifier: Apache-2.0
"""From a Gemma 4 checkpoint to a folder of compiled graphs and sharded weights, and the command line that does it.

Start with `main.py` (the export command, step by step), then `export_config.py` (what the graphs take and return),
`key_table.py` (where every weight goes) and `backend.py` (the only file that calls the SDK's trace API).
"""
