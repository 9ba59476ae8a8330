# SPDX-License-Identifier: Apache-2.0
"""The artifact: the folder that an export writes, whole or not at all, and that loading checks.

It holds config.json, neuron_config.json (shapes, options, backend and versions), one or two compiled bundles, the
sharded weights below checkpoint/ (for a checkpoint from a local folder; those of a Hub model come from the Hub) and
the side files of the checkpoint: tokenizer, chat template, generation and processor configuration.
"""

import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from zipfile import is_zipfile

from .neuron_config import Gemma4NeuronConfig
from .side_files import KEPT_FILES
from .weights import check_shards
from .wording import size


NEURON_CONFIG = "neuron_config.json"
CHECKPOINT_FOLDER = "checkpoint"
# What an export writes; whatever else lies in an output is somebody's, and not to be replaced
_OWN_NAMES = {"config.json", NEURON_CONFIG, CHECKPOINT_FOLDER, *KEPT_FILES}
_OWN_BUNDLES = "model*.pt"


class Staging:
    """A folder beside the output that takes its place on `commit`, and leaves nothing behind otherwise.

    Args:
        output: Where the artifact goes; an artifact that is there is replaced, anything else is not.
        required_bytes: What the weights will take.

    Raises:
        ValueError: the output is a file or a folder of something else, or there is no space for the weights.
    """

    def __init__(self, output: Path, required_bytes: int):
        self.output = Path(os.path.abspath(output))
        self._required_bytes = required_bytes
        self._made_parents: list[Path] = []
        self.folder: Path = None
        self._check_output()

    def _check_output(self) -> None:
        if self.output.is_symlink() or (self.output.exists() and not self.output.is_dir()):
            what = "is a symbolic link" if self.output.is_symlink() else "exists and is not a folder"
            raise ValueError(f"output {self.output} {what}; give another one")
        if not self.output.is_dir() or not any(self.output.iterdir()):
            return
        if not (self.output / NEURON_CONFIG).is_file():
            raise ValueError(
                f"output {self.output} is a folder that holds something else than an export; give another one"
            )
        others = sorted(
            path.name for path in self.output.iterdir() if path.name not in _OWN_NAMES and not path.match(_OWN_BUNDLES)
        )
        if others:
            raise ValueError(
                f"output {self.output} would be replaced, and holds {', '.join(others)} beside an export; move that "
                "away, or give another output"
            )

    def __enter__(self) -> "Staging":
        parent = self.output.parent
        try:
            missing = [folder for folder in (parent, *parent.parents) if not folder.exists()]
            parent.mkdir(parents=True, exist_ok=True)
            self._made_parents = missing
            free = shutil.disk_usage(parent).free
            if free < self._required_bytes:
                raise ValueError(
                    f"output {self.output}: the weights take {size(self._required_bytes)} and "
                    f"{size(free)} are free; give an output on another disk"
                )
            self.folder = Path(tempfile.mkdtemp(prefix=f".{self.output.name}.", dir=parent))
        except OSError as error:
            self._remove()
            raise ValueError(f"output {self.output} cannot be written: {error}") from error
        except ValueError:
            self._remove()
            raise
        return self

    def commit(self) -> None:
        """Puts the folder in the output's place."""
        umask = os.umask(0)
        os.umask(umask)
        self.folder.chmod(0o777 & ~umask)
        replaced = self.folder.with_name(self.folder.name + ".replaced")
        if self.output.exists():
            os.rename(self.output, replaced)
        os.rename(self.folder, self.output)
        shutil.rmtree(replaced, ignore_errors=True)
        self._made_parents = []

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()
        if isinstance(error, OSError) and error.errno is not None:
            raise ValueError(f"output {self.output} cannot be written: {error.strerror}") from error

    def _remove(self) -> None:
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
        for parent in self._made_parents:
            try:
                parent.rmdir()
            except OSError:
                break


def check_artifact(folder: Path, neuron_config: Gemma4NeuronConfig, bundles: dict[str, str]) -> None:
    """Makes sure that a local artifact is complete before anything is loaded from it.

    Args:
        folder: The artifact.
        neuron_config: Its own, already read.
        bundles: Name and file of every compiled bundle that it must hold.

    Raises:
        ValueError: a missing or damaged file, by name.
    """
    missing = [name for name in bundles.values() if not (folder / name).is_file()]
    faults = [f"{', '.join(missing)} missing"] if missing else []
    # A bundle is a zip archive: the list of what it holds is at its end
    faults += [
        f"{name} is cut short" for name in bundles.values() if name not in missing and not is_zipfile(folder / name)
    ]
    if not faults and (folder / CHECKPOINT_FOLDER).is_dir():
        try:
            check_shards(folder, list(bundles), neuron_config)
        except ValueError as error:
            faults.append(str(error))
    if faults:
        raise ValueError(f"{folder} is not a complete export: {'; '.join(faults)}; export again")
