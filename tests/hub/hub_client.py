# SPDX-License-Identifier: Apache-2.0
"""Processes that use the small Hub as a user's would use the real one.

`run_at` runs a command to its end. `Client` is a process that is asked again and again, since each start costs seconds
of imports; it forgets what it has downloaded between two questions.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from hub_handler import TOKEN


def _environment(url: str, home: Path) -> dict[str, str]:
    return os.environ | {
        "HF_ENDPOINT": url,
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(home),
        "HF_TOKEN": TOKEN,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NEURON_PLATFORM_TARGET_OVERRIDE": "trn2",
    }


def run_at(url: str, folder: Path, *command: object) -> str:
    """Runs a command in `folder` with a Hub and a cache of its own, and returns the last line of its output."""
    words = [str(word) for word in command]
    environment = _environment(url, folder / "cache")
    finished = subprocess.run(words, env=environment, cwd=folder, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    return (finished.stdout.splitlines() or [""])[-1]


class Client:
    """The process of `client_process.py`.

    Args:
        url: the Hub's.
        folder: for its downloads and its messages.
    """

    def __init__(self, url: str, folder: Path):
        self._home = folder / "home"
        self._messages = folder / "messages"
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("client_process.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._messages.open("w"),
            env=_environment(url, self._home),
            cwd=folder,
            text=True,
        )

    def __call__(self, *steps: tuple, token: str = TOKEN, forget: bool = True) -> list:
        """The result of each step, in a string that begins with the error's class where it failed.

        Args:
            *steps: what to do and its arguments, see `client_process.py`.
            token: the one that the client signs in with.
            forget: start without any download.
        """
        if forget:
            shutil.rmtree(self._home, ignore_errors=True)
        self._process.stdin.write(json.dumps({"token": token, "steps": steps}) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, self._messages.read_text()
        return json.loads(answer)

    def close(self) -> None:
        """Ends the process."""
        self._process.stdin.close()
        self._process.wait(60)
