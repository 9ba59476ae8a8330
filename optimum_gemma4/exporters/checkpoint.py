# SPDX-License-Identifier: Apache-2.0
"""From a checkpoint in the Hub's layout to one state dict per rank, a few megabytes at a time.

optimum-neuron loads the whole state dict, converts it in memory and lets the SDK shard it, which drops unknown keys
with a warning and skips missing ones in silence. Here the key table decides: every tensor of the file must have its
row and the other way round, with the shape that the configuration gives it. The rank files' headers follow from the
table, so they are written first and the tensors are appended to them piece by piece, cast to the compiled dtype.
"""

import json
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from transformers import PretrainedConfig

from ..modeling.geometry import TextGeometry
from ..modeling.vision.spec import VisionSpec
from .key_table import TEXT_TABLE, VISION_TABLE, Target, TensorSpec, matches, text_specs, vision_specs
from .neuron_config import Gemma4NeuronConfig
from .safetensors_source import SafetensorsSource


__all__ = ["check_checkpoint", "convert_checkpoint", "load_shards", "shard_file_name"]

MULTIMODAL_PREFIX = "model."
MULTIMODAL_TEXT_PREFIX = "model.language_model."
TEXT_ONLY_PREFIX = "model."
RANK_TENSOR = "rank_util.rank"
PIECE_BYTES = 32 * 2**20  # copied at a time; bounds the anonymous memory whatever the model's size
FLOAT_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_STORED_NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int32: "I32"}
_SHOWN = 6  # names shown of each kind of fault


@dataclass(frozen=True)
class Bundle:
    """A bundle's tensors in one checkpoint, and how to tell that a name belongs to another bundle.

    `has_rank`: the module takes its rank as a weight, which the checkpoint does not hold.
    """

    specs: list[TensorSpec]
    is_of_another: Callable[[str], bool]
    has_rank: bool

    def targets(self) -> Iterator[tuple[TensorSpec, Target]]:
        """Every parameter, with the tensor that it comes from."""
        return ((spec, target) for spec in self.specs for target in spec.targets)


def shard_file_name(rank: int) -> str:
    """File of one rank below the `weights` folder: the SDK's name."""
    return f"tp{rank}_sharded_checkpoint.safetensors"


def check_checkpoint(source: Path, config: PretrainedConfig, bundle: str) -> None:
    """Compares the files' headers with the key table; reads no tensor.

    Args:
        source: Folder in the Hub's layout.
        config: Configuration that the bundle is built from.
        bundle: "text" or "vision".

    Raises:
        ValueError: unreadable files, or tensors that are unused, missing, misshapen or not of a float dtype, by name.
    """
    _open_checked(source, config, bundle)


def convert_checkpoint(
    source: Path, destination: Path, config: PretrainedConfig, neuron_config: Gemma4NeuronConfig, bundle: str
) -> None:
    """Writes `destination/weights/tp{rank}_sharded_checkpoint.safetensors` for every rank.

    Args:
        source: Folder in the Hub's layout.
        destination: Checkpoint folder of the artifact.
        config: Configuration that the bundle is built from.
        neuron_config: Gives the ranks and the dtype.
        bundle: "text" or "vision".

    Raises:
        ValueError: as `check_checkpoint`.
    """
    opened, tensors = _open_checked(source, config, bundle)
    tp, dtype = neuron_config.tp_degree, neuron_config.torch_dtype
    folder = Path(destination) / "weights"
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / shard_file_name(rank) for rank in range(tp)]
    try:
        with ExitStack() as stack:
            files = [stack.enter_context(open(path, "wb")) for path in paths]
            for rank, file in enumerate(files):
                file.write(_header(tensors, tp, dtype))
                if tensors.has_rank:
                    file.write(_bytes(torch.tensor([rank], dtype=torch.int32)))
            for spec, target in tensors.targets():
                for rank, file in enumerate(files):
                    for piece in _pieces(opened, spec.source, target.rank_slices(rank, tp), dtype):
                        file.write(_bytes(piece))
    except BaseException:
        for path in paths:
            path.unlink(missing_ok=True)
        raise
    finally:
        opened.close()


def load_shards(
    source: Path, config: PretrainedConfig, neuron_config: Gemma4NeuronConfig, bundle: str, ranks: Iterable[int]
) -> list[dict[str, torch.Tensor]]:
    """The state dicts of `ranks`, straight from a checkpoint in the Hub's layout.

    Args:
        source: Folder in the Hub's layout.
        config: Configuration that the bundle is built from.
        neuron_config: Gives the number of ranks and the dtype.
        bundle: "text" or "vision".
        ranks: Those to load.

    Raises:
        ValueError: as `check_checkpoint`.
    """
    opened, tensors = _open_checked(source, config, bundle)
    tp, dtype = neuron_config.tp_degree, neuron_config.torch_dtype
    shards = []
    for rank in ranks:
        shard = {RANK_TENSOR: torch.tensor([rank], dtype=torch.int32)} if tensors.has_rank else {}
        for spec, target in tensors.targets():
            tensor = torch.empty(prod(target.rank_shape(tp)), dtype=dtype)
            filled = 0
            for piece in _pieces(opened, spec.source, target.rank_slices(rank, tp), dtype):
                tensor[filled : filled + piece.numel()] = piece.flatten()
                filled += piece.numel()
            shard[target.name] = tensor.view(target.rank_shape(tp))
        shards.append(shard)
    opened.close()
    return shards


def _bundle(source: SafetensorsSource, config: PretrainedConfig, bundle: str) -> Bundle:
    is_multimodal = any(name.startswith(MULTIMODAL_TEXT_PREFIX) for name in source.tensors)
    if bundle == "text":
        prefix = MULTIMODAL_TEXT_PREFIX if is_multimodal else TEXT_ONLY_PREFIX
        return Bundle(
            list(text_specs(TextGeometry.from_config(config), prefix)),
            lambda name: is_multimodal and matches(name, VISION_TABLE, MULTIMODAL_PREFIX),
            has_rank=True,
        )
    if bundle == "vision":
        spec = VisionSpec.from_config(config.vision_config, config.get_text_config().hidden_size)
        return Bundle(
            list(vision_specs(spec, MULTIMODAL_PREFIX)),
            lambda name: matches(name, TEXT_TABLE, MULTIMODAL_TEXT_PREFIX),
            has_rank=False,
        )
    raise ValueError(f"bundle is {bundle!r}: expected 'text' or 'vision'")


def _open_checked(source: Path, config: PretrainedConfig, bundle: str) -> tuple[SafetensorsSource, Bundle]:
    opened = SafetensorsSource(source)
    tensors = _bundle(opened, config, bundle)
    _check(opened, tensors)
    return opened, tensors


def _check(source: SafetensorsSource, bundle: Bundle) -> None:
    """Raises one error that names every kind of fault."""
    expected = {spec.source: spec for spec in bundle.specs}
    stored = source.tensors
    present = [spec for spec in bundle.specs if spec.source in stored]
    faults = {
        "missing": [name for name in expected if name not in stored],
        "not used by this model": [name for name in stored if name not in expected and not bundle.is_of_another(name)],
        "of another shape than the configuration says": [
            f"{spec.source} {list(stored[spec.source].shape)} instead of {list(spec.shape)}"
            for spec in present
            if stored[spec.source].shape != spec.shape
        ],
        "of a dtype other than F32, F16 or BF16": [
            f"{spec.source} {stored[spec.source].dtype}"
            for spec in present
            if source.torch_dtype(spec.source) not in FLOAT_DTYPES
        ],
    }
    found = [f"{len(names)} {kind}: {_shortened(names)}" for kind, names in faults.items() if names]
    if found:
        raise ValueError(f"tensors of {source.folder} do not fit its configuration (--model): {'; '.join(found)}")


def _shortened(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _header(tensors: Bundle, tp: int, dtype: torch.dtype) -> bytes:
    """Header of a rank file; the same for every rank, since all hold the same shapes."""
    entries, offset = {}, 0
    # The int32 rank comes first: every later tensor is then aligned to its own size
    layout = [(RANK_TENSOR, (1,), torch.int32)] if tensors.has_rank else []
    layout += [(target.name, target.rank_shape(tp), dtype) for _, target in tensors.targets()]
    for name, shape, stored_dtype in layout:
        end = offset + prod(shape) * stored_dtype.itemsize
        entries[name] = {"dtype": _STORED_NAMES[stored_dtype], "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps({"__metadata__": {"format": "pt"}, **entries}).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _pieces(
    source: SafetensorsSource, name: str, slices: tuple[slice, ...], dtype: torch.dtype
) -> Iterator[torch.Tensor]:
    """The sliced tensor in the compiled dtype, as contiguous runs of rows of at most PIECE_BYTES."""
    if not slices:
        yield source.read(name, slices).to(dtype)
        return
    rows = slices[0]
    row_bytes = prod(part.stop - part.start for part in slices[1:]) * torch.float32.itemsize
    step = max(PIECE_BYTES // row_bytes, 1)
    for start in range(rows.start, rows.stop, step):
        part = slice(start, min(start + step, rows.stop))
        yield source.read(name, (part, *slices[1:])).to(dtype).contiguous()


def _bytes(tensor: torch.Tensor) -> memoryview:
    return memoryview(tensor.flatten().view(torch.uint8).numpy())
