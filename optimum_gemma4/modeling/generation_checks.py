# SPDX-License-Identifier: Apache-2.0
"""What a `generate()` call may ask for, and how many tokens it may produce.

optimum-neuron warns about arguments that it then ignores; here an argument that would have no effect, or another
effect than its documentation says, is refused by name. Works on the keyword arguments and the merged
`GenerationConfig`; no tensors except the all-zero token types that some tokenizers add.
"""

import logging
from typing import Any

import torch
from transformers import GenerationConfig
from transformers.generation.configuration_utils import GenerationMode


__all__ = ["check_generation_request", "new_token_budget"]

logger = logging.getLogger("Neuron")

_LOOP_ARGUMENTS = ("logits_processor", "stopping_criteria", "prefix_allowed_tokens_fn", "streamer", "tokenizer")
_TOKEN_TYPES = ("token_type_ids", "mm_token_type_ids")
_IMAGE_ARGUMENTS = ("pixel_values", "image_position_ids", "pixel_values_videos", "video_position_ids")
_REFUSED_ARGUMENTS = {
    "inputs_embeds": "the graphs take token ids",
    "past_key_values": "the KV cache lives on the device",
    "assistant_model": "assisted generation needs a cache that can be rolled back",
    "assistant_tokenizer": "assisted generation needs a cache that can be rolled back",
    "negative_prompt_ids": "classifier-free guidance needs a second cache",
    "negative_prompt_attention_mask": "classifier-free guidance needs a second cache",
    "custom_generate": "only greedy search and sampling drive the compiled graphs",
    "synced_gpus": "there are no GPUs to keep in step",
}
# GenerationConfig fields that the compiled graphs cannot honour, and the values that ask for nothing.
_REFUSED_FIELDS = {
    "output_attentions": (False, None),
    "output_hidden_states": (False, None),
    "use_cache": (True, None),
    "cache_implementation": (None,),
    "cache_config": (None,),
    "guidance_scale": (None, 1, 1.0),
    "prefill_chunk_size": (None,),
    "token_healing": (False, None),
    "compile_config": (None,),
    "prompt_lookup_num_tokens": (None,),
}


def check_generation_request(
    kwargs: dict[str, Any], model_arguments: tuple[str, ...], config: GenerationConfig | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split the arguments of `generate()` and refuse what cannot be done.

    Args:
        kwargs: keyword arguments, or what is left of them when `config` has taken its own.
        model_arguments: names that the model itself takes.
        config: the merged generation config, once there is one.

    Returns:
        The arguments of the decoding loop, and the rest.

    Raises:
        ValueError: names the argument, and says why.
    """
    given = {name: value for name, value in kwargs.items() if value is not None and value is not False}
    for name, reason in _REFUSED_ARGUMENTS.items():
        if name in given:
            raise ValueError(f"{name} is not supported by compiled Gemma 4 models: {reason}. Leave it out.")
    for name in set(_TOKEN_TYPES) - set(model_arguments):
        types = kwargs.pop(name, None)
        given.pop(name, None)
        if types is not None and torch.as_tensor(types).any():
            raise ValueError(_no_images(name, model_arguments))
    for name in _IMAGE_ARGUMENTS:
        if name in given and name not in model_arguments:
            raise ValueError(_no_images(name, model_arguments))
    if config is not None:
        _check_config(config)
        unknown = sorted(set(given) - set(model_arguments))
        if unknown:
            raise ValueError(f"generate() does not know {unknown}: check the spelling, or leave them out.")
    loop_arguments = {name: kwargs[name] for name in _LOOP_ARGUMENTS if kwargs.get(name) is not None}
    rest = {name: value for name, value in kwargs.items() if name not in (*_LOOP_ARGUMENTS, *_REFUSED_ARGUMENTS)}
    return loop_arguments, rest


def _no_images(name: str, model_arguments: tuple[str, ...]) -> str:
    if "pixel_values" in model_arguments:
        return f"{name} is not how Gemma 4 marks images: pass the mm_token_type_ids that Gemma4Processor returns."
    return (
        f"{name} marks images, and this artifact was exported for text-generation: export the checkpoint with --task "
        "image-text-to-text."
    )


def _check_config(config: GenerationConfig) -> None:
    mode = config.get_generation_mode()
    if mode not in (GenerationMode.GREEDY_SEARCH, GenerationMode.SAMPLE):
        raise ValueError(
            f"The options ask for {mode.value}: compiled Gemma 4 models do greedy search and sampling. Leave out "
            "num_beams, num_beam_groups, penalty_alpha, dola_layers and constraints."
        )
    for name, accepted in _REFUSED_FIELDS.items():
        value = getattr(config, name, None)
        if value not in accepted:
            raise ValueError(f"{name}={value!r} is not supported by compiled Gemma 4 models: leave it out.")


def new_token_budget(
    config: GenerationConfig, named: dict[str, Any], longest: int, width: int, sequence_length: int
) -> int:
    """How many tokens to generate at most.

    Args:
        config: the merged generation config.
        named: the options of the call; a limit among them must fit, others are cut.
        longest: tokens of the longest prompt.
        width: columns of the given batch, which `max_length` counts as transformers does.
        sequence_length: positions that were compiled.

    Raises:
        ValueError: there is no room for a new token, or for those that were asked for.
    """
    room = sequence_length - longest
    change = "Shorten the prompt, or export with a larger --sequence_length"
    if room < 1:
        raise ValueError(
            f"The prompt has {longest} tokens and the artifact was compiled for sequences of {sequence_length}: there "
            f"is no room for a new token. {change}."
        )
    default_length = GenerationConfig().max_length
    if config.max_new_tokens is not None:
        name, wanted = "max_new_tokens", config.max_new_tokens
    elif named.get("max_length") is None and config.max_length in (None, default_length):
        name, wanted = "the default", default_length
    else:
        name, wanted = "max_length", config.max_length - width
    if wanted < 1:
        raise ValueError(
            f"max_length is {config.max_length} and the prompt has {width} columns: raise it, or use max_new_tokens."
        )
    if wanted <= room:
        return wanted
    message = (
        f"{name} asks for {wanted} new tokens after a prompt of {longest}, and the artifact was compiled for "
        f"sequences of {sequence_length}"
    )
    if named.get(name) is not None:
        raise ValueError(f"{message}: {room} fit. {change}, or ask for fewer.")
    logger.warning("%s: generating at most %d.", message, room)
    return room
