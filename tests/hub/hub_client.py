# SPDX-License-Identifier: Apache-2.0
"""Processes that use the small Hub as a user's would use the real one."""

import os
import subprocess
from pathlib import Path

from hub_handler import TOKEN


def run_at(url: str, folder: Path, *command: object, token: str = TOKEN, cache: str = "cache") -> str:
    """Runs a command in `folder` with a Hub and a cache of its own, and returns the last line of its output."""
    environment = os.environ | {
        "HF_ENDPOINT": url,
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(folder / cache),
        "HF_TOKEN": token,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NEURON_PLATFORM_TARGET_OVERRIDE": "trn2",
    }
    words = [str(word) for word in command]
    finished = subprocess.run(words, env=environment, cwd=folder, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    return (finished.stdout.splitlines() or [""])[-1]
