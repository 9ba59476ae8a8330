# SPDX-License-Identifier: Apache-2.0
"""The files of a checkpoint that an artifact keeps beside its graphs: tokenizer, chat template, generation defaults,
and the processor where images are taken.

All are copied as they are, but for one value: a processor pads every image to its default budget, and an artifact runs
the budgets that were compiled, so the default becomes one of those. `AutoProcessor.from_pretrained(artifact)` then
works without a network and fits the graphs.
"""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

from ..modeling.processing import Gemma4ImageProcessor
from .download import download


__all__ = ["KEPT_FILES", "check_side_files", "copy_side_files"]

logger = logging.getLogger(__name__)

SIDE_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "generation_config.json",
)
PROCESSOR_CONFIG = "processor_config.json"  # nests the image processor's; published checkpoints have this one
OLDER_PROCESSOR_CONFIG = "preprocessor_config.json"  # the image processor's alone
KEPT_FILES = (*SIDE_FILES, PROCESSOR_CONFIG, OLDER_PROCESSOR_CONFIG)


def check_side_files(model: str, budgets: list[int] | None, **hub_kwargs: str | None) -> None:
    """Reads what `copy_side_files` will copy, since a compilation is too long to find out after it.

    Args:
        model, budgets, hub_kwargs: as for `copy_side_files`.

    Raises:
        ValueError: a file that should hold a JSON object does not.
    """
    source, present = _present(model, budgets, **hub_kwargs)
    for name in present:
        if name.endswith(".json"):
            _read_json(source / name)
    if "tokenizer.json" not in present:
        logger.warning("%s has no tokenizer.json: the artifact will have no tokenizer.", model)


def copy_side_files(model: str, folder: Path, budgets: list[int] | None, **hub_kwargs: str | None) -> list[str]:
    """Copies tokenizer, chat template, generation and processor configuration beside the compiled graphs.

    Args:
        model: Local folder or Hub id.
        folder: The artifact; its config.json is there already.
        budgets: The image budgets that were compiled, ascending. None for an artifact without images, which gets no
            processor: a pipeline would take it for the tokenizer.
        hub_kwargs: `cache_dir`, `revision`, `token` for a Hub id.

    Returns:
        The names of the files that the checkpoint has.

    Raises:
        ValueError: a processor configuration that is not JSON.
    """
    source, present = _present(model, budgets, **hub_kwargs)
    for name in present:
        shutil.copyfile(source / name, folder / name)
    if budgets:
        _fit_processor(folder, budgets)
    return present


def _present(model: str, budgets: list[int] | None, **hub_kwargs: str | None) -> tuple[Path, list[str]]:
    names = KEPT_FILES if budgets else SIDE_FILES
    source = Path(model)
    if not source.is_dir():
        source = download(model, allow_patterns=list(names), **hub_kwargs)
    return source, [name for name in names if (source / name).is_file()]


def _fit_processor(folder: Path, budgets: list[int]) -> None:
    """Makes the processor's default budget one that was compiled: the checkpoint's own, or else the largest."""
    if not (folder / PROCESSOR_CONFIG).is_file() and not (folder / OLDER_PROCESSOR_CONFIG).is_file():
        logger.info("The checkpoint has no %s: the published Gemma 4 processor is assumed.", PROCESSOR_CONFIG)
        _write_json(folder / PROCESSOR_CONFIG, _assumed_processor(_read_json(folder / "config.json")))
    for file in (folder / PROCESSOR_CONFIG, folder / OLDER_PROCESSOR_CONFIG):
        if not file.is_file():
            continue
        settings = _read_json(file)
        image_settings = settings.get("image_processor", {}) if file.name == PROCESSOR_CONFIG else settings
        if (
            image_settings
            and image_settings.get("max_soft_tokens", Gemma4ImageProcessor().max_soft_tokens) not in budgets
        ):
            image_settings["max_soft_tokens"] = budgets[-1]
            for part in (settings, image_settings):
                if "image_seq_length" in part:
                    part["image_seq_length"] = budgets[-1]
            _write_json(file, settings)


def _assumed_processor(config: dict[str, Any]) -> dict[str, Any]:
    vision = config["vision_config"]
    image_processor = Gemma4ImageProcessor(
        patch_size=vision["patch_size"], pooling_kernel_size=vision["pooling_kernel_size"]
    )
    return {"image_processor": image_processor.to_dict(), "processor_class": "Gemma4Processor"}


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file.name} of the checkpoint (--model) is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file.name} of the checkpoint (--model) holds a {type(content).__name__}, not an object")
    return content


def _write_json(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
