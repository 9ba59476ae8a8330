# SPDX-License-Identifier: Apache-2.0
"""Reads a safetensors checkpoint, one file or several with an index, without loading it.

Headers are read and checked on opening: a file that is cut short or is not safetensors is refused before anything is
compiled. Tensors come as views of the mapped file, so what a caller does not copy is never in anonymous memory.
"""

import json
import struct
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open


SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
_TORCH_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_MAX_HEADER = 100_000_000  # the limit of the safetensors library


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies and what its header says."""

    file: Path
    dtype: str
    shape: tuple[int, ...]


def read_header(file: Path) -> dict[str, StoredTensor]:
    """The tensors of one safetensors file.

    Raises:
        ValueError: the file is missing, cut short, or not safetensors; the message names it.
    """
    try:
        size = file.stat().st_size
        with open(file, "rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > min(_MAX_HEADER, size - 8):
                raise ValueError("the header is longer than the file")
            header = json.loads(stream.read(length))
        header.pop("__metadata__", None)
        end = 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0)
        tensors = {name: StoredTensor(file, e["dtype"], tuple(e["shape"])) for name, e in header.items()}
    except FileNotFoundError:
        raise ValueError(f"{file} is missing") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise ValueError(f"{file} is not a readable safetensors file ({error})") from error
    if size != end:
        raise ValueError(f"{file} is {size} bytes long, its header describes {end}")
    return tensors


class SafetensorsSource:
    """The tensors of a checkpoint folder in the Hub's layout.

    Args:
        folder: Holds `model.safetensors`, or `model.safetensors.index.json` and the files that it names.

    Raises:
        ValueError: no weights there, or a file that cannot be read.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self.tensors: dict[str, StoredTensor] = {}
        for file in self._files():
            for name, stored in self._header(file).items():
                if name in self.tensors:
                    raise ValueError(f"{name} is in {self.tensors[name].file} and in {file}; check --model")
                self.tensors[name] = stored
        self._open: dict[Path, safe_open] = {}

    def _header(self, file: Path) -> dict[str, StoredTensor]:
        try:
            return read_header(file)
        except ValueError as error:
            raise ValueError(f"{error}; download it again, or change --model") from error

    def _files(self) -> list[Path]:
        index = self.folder / INDEX_FILE
        if index.is_file():
            try:
                names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
                return [self.folder / name for name in names]
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ValueError(f"{index} is not a readable index ({error!r}); check --model") from error
        if (self.folder / SINGLE_FILE).is_file():
            return [self.folder / SINGLE_FILE]
        raise ValueError(f"{self.folder} holds neither {SINGLE_FILE} nor {INDEX_FILE}; check --model")

    def read(self, name: str, slices: tuple[slice, ...]) -> torch.Tensor:
        """A part of a tensor, as a view of the mapped file wherever the slice is contiguous."""
        file = self.tensors[name].file
        try:
            if file not in self._open:
                self._open[file] = safe_open(file, framework="pt")
            if not slices:
                return self._open[file].get_tensor(name)
            return self._open[file].get_slice(name)[slices]
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{file}: {name} cannot be read ({error}); check --model") from error

    def torch_dtype(self, name: str) -> torch.dtype | None:
        """Dtype of a tensor; `None` for the integer and 8-bit formats of quantised checkpoints."""
        return _TORCH_DTYPES.get(self.tensors[name].dtype)

    def close(self) -> None:
        """Unmaps the files."""
        self._open.clear()
