# SPDX-License-Identifier: Apache-2.0
"""The export of one Gemma 4, step by step: configuration, task, dtype, checks, plan, compilation, artifact.

What can fail for a reason of the user's is looked at before the compiler starts, because a compilation takes minutes
to hours: the options, the sharding, the checkpoint's headers, the memory of the cores, the space at the output.
"""

import logging
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from optimum.exporters.tasks import TasksManager
from optimum.neuron.models.auto_model import get_neuron_model_class
from optimum.neuron.utils import DTYPE_MAPPER
from optimum.neuron.utils.instance import align_compilation_target
from transformers import AutoConfig, PretrainedConfig

from ..nki import render_dispatch
from .artifact import Staging
from .checkpoint import check_checkpoint
from .kernel_record import kernel_record
from .memory_planner import plan_memory
from .options import IMAGE_OPTIONS, given_flags, given_options
from .side_files import check_side_files, copy_side_files
from .tasks import IMAGE_TASK, TEXT_TASK, gemma4_task


logger = logging.getLogger(__name__)

# Options of optimum-neuron's parser that a Gemma 4 export has no use for, and their defaults
_WITHOUT_EFFECT = {
    "atol": None,
    "audio_sequence_length": None,
    "auto_cast": None,
    "auto_cast_type": "bf16",
    "compiler_workdir": None,
    "controlnet_ids": None,
    "disable_neuron_cache": False,
    "dynamic_batch_size": False,
    "height": None,
    "image_batch_size": None,
    "image_size": None,
    "inline_weights_neff": False,
    "ip_adapter_id": None,
    "lora_model_ids": None,
    "num_beams": None,
    "num_channels": None,
    "num_choices": None,
    "O1": False,
    "O3": False,
    "num_images_per_prompt": None,
    "output_attentions": False,
    "output_hidden_states": False,
    "patch_size": None,
    "text_batch_size": None,
    "unet": None,
    "width": None,
}


def export_gemma4(args: Namespace, config_dict: dict[str, Any]) -> None:
    """Exports `args.model` to `args.output`.

    Args:
        args: The parsed command line; `torch_dtype` is None unless it was given.
        config_dict: Content of the model's `config.json`.

    Raises:
        ValueError: an argument that must change, by name.
        OSError: the output cannot be written.
    """
    _warn_without_effect(args)
    task = _task(args, config_dict)
    _refuse_image_options(args, config_dict, task)
    source = Path(args.model, args.subfolder)
    is_local = source.is_dir()
    if args.subfolder and not is_local:
        raise ValueError(f"--subfolder {args.subfolder} works for a local --model only")
    model = str(source) if is_local else args.model
    if args.instance_type is not None:
        align_compilation_target(args.instance_type, override=True)

    config = _config(model, args, task)
    model_class = get_neuron_model_class(config.model_type, task=task, mode="inference")
    neuron_config = model_class.get_neuron_config(
        model,
        config=config,
        instance_type=args.instance_type,
        batch_size=args.batch_size,
        sequence_length=args.sequence_length,
        tensor_parallel_size=args.tensor_parallel_size,
        **given_options(args),
    )
    _warn_beyond_training(config, neuron_config.sequence_length)
    bundles = ("text", "vision") if task == IMAGE_TASK else ("text",)
    if is_local:
        _check_weights(source, config, bundles)
    hub = {"revision": neuron_config.checkpoint_revision, "cache_dir": args.cache_dir}
    check_side_files(model, neuron_config.max_soft_tokens, **hub)
    plan = plan_memory(config, neuron_config, bundles)
    logger.info("%s", plan.describe())
    if args.verbose:
        logger.info("%s", render_dispatch(kernel_record(config, neuron_config)))
    plan.check(config, neuron_config)

    with Staging(args.output, plan.checkpoint_bytes if is_local else 0) as staging:
        compiled = model_class.export(
            model, config=config, neuron_config=neuron_config, cache_dir=args.cache_dir, load_weights=False
        )
        compiled.save_pretrained(str(staging.folder))
        copy_side_files(model, staging.folder, neuron_config.max_soft_tokens, **hub)
        staging.commit()
    logger.info("Exported %s for %s to %s", args.model, task, args.output)


def _warn_without_effect(args: Namespace) -> None:
    given = [name for name, default in _WITHOUT_EFFECT.items() if getattr(args, name) != default]
    if given:
        logger.warning("Without effect on Gemma 4: %s", ", ".join(given))


def _warn_beyond_training(config: PretrainedConfig, sequence_length: int) -> None:
    trained = config.get_text_config().max_position_embeddings
    if sequence_length > trained:
        logger.warning(
            "--sequence_length is %d, and the model was made for sequences of up to %d (max_position_embeddings): "
            "expect worse answers beyond that",
            sequence_length,
            trained,
        )


def _task(args: Namespace, config_dict: dict[str, Any]) -> str:
    if args.task == "auto":
        return gemma4_task(config_dict)
    task = TasksManager.map_from_synonym(args.task)
    known = [TEXT_TASK] if config_dict.get("vision_config") is None else [TEXT_TASK, IMAGE_TASK]
    if task not in known:
        raise ValueError(f"--task {args.task}: {args.model} is exported for {' or '.join(known)}")
    return task


def _refuse_image_options(args: Namespace, config_dict: dict[str, Any], task: str) -> None:
    flags = given_flags(args, IMAGE_OPTIONS)
    if task == IMAGE_TASK or not flags:
        return
    if config_dict.get("vision_config") is None:
        raise ValueError(f"{', '.join(flags)}: --model {args.model} has no vision encoder; leave it out")
    raise ValueError(f"{', '.join(flags)}: --task {args.task} exports the text model alone; use --task {IMAGE_TASK}")


def _check_weights(source: Path, config: PretrainedConfig, bundles: tuple[str, ...]) -> None:
    for bundle in bundles:
        try:
            check_checkpoint(source, config, bundle)
        except ValueError as error:
            if bundle == "vision":
                raise ValueError(f"{error}; --task {TEXT_TASK} exports the text model alone") from error
            raise


def _config(model: str, args: Namespace, task: str) -> PretrainedConfig:
    """The configuration that is compiled, with its dtype settled and the place of its weights noted."""
    full = AutoConfig.from_pretrained(model, cache_dir=args.cache_dir)
    config = full.get_text_config() if task == TEXT_TASK else full
    dtype = args.torch_dtype or config.dtype or full.dtype
    if dtype is None:
        raise ValueError(f"--model {args.model} does not say its dtype; give --torch_dtype")
    config.dtype = DTYPE_MAPPER.pt(dtype)
    if config.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        raise ValueError(f"--model {args.model} has dtype {dtype}; give --torch_dtype bfloat16 or float32")
    # optimum-neuron finds a local checkpoint again by this name when it saves
    config._name_or_path = model
    return config
