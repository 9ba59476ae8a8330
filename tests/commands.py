# SPDX-License-Identifier: Apache-2.0
"""The real command line in its own processes, and small checkpoints to export with it."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from random_models import write_random_checkpoint


TOY_FILES = Path(__file__).parent / "modeling" / "processing"
OPTIMUM_CLI = Path(sys.executable).with_name("optimum-cli")
# A picture of tools/tiny_pictures.py that training does not draw, and a question that the trained checkpoint knows
PICTURE, QUESTION = 1_000_001, "What is in the picture?"
SHAPES = ("--instance_type", "trn2", "--batch_size", "1", "--sequence_length", "64")


@dataclass(frozen=True)
class Finished:
    """A process that has ended."""

    status: int
    out: str
    err: str

    @property
    def last_line(self) -> str:
        """Last line of stderr."""
        return self.err.strip().splitlines()[-1] if self.err.strip() else ""


def run(*command: object, cwd: Path, **environment: str) -> Finished:
    """Runs a command to its end, from a folder that is not the repository's and with the default backend policy."""
    inherited = {name: value for name, value in os.environ.items() if name != "OPTIMUM_GEMMA4_BACKEND"}
    process = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, cwd=cwd, env={**inherited, **environment}
    )
    return Finished(process.returncode, process.stdout, process.stderr)


def optimum_cli(*arguments: object, cwd: Path, **environment: str) -> Finished:
    """Runs `optimum-cli` as a user does."""
    return run(OPTIMUM_CLI, *arguments, cwd=cwd, **environment)


def run_python(code: str, *arguments: object, cwd: Path, **environment: str) -> Finished:
    """Runs code in a new interpreter."""
    return run(sys.executable, "-c", code, *arguments, cwd=cwd, **environment)


def write_text_checkpoint(folder: Path, **overrides) -> Path:
    """A random text model with tokenizer, chat template and generation configuration."""
    sys.path.insert(0, str(TOY_FILES))
    try:
        from toy_checkpoint import write_toy_checkpoint
    finally:
        sys.path.remove(str(TOY_FILES))
    write_toy_checkpoint(folder)
    return write_random_checkpoint(folder, vocab_size=512, **overrides)


def read_json(path: Path) -> dict:
    """Content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))
