# SPDX-License-Identifier: Apache-2.0
"""`pipeline("image-text-to-text", model=...)` and `pipeline("text-generation", model=...)` on exported models.

optimum-neuron 0.4.5's own `pipeline` has the second task and not the first, and imports sentence-transformers for
both. This one takes the same call, for an artifact's folder, its Hub id or a loaded model, and ends in transformers'
pipelines as that one does. What is ours is the image pipeline's handling of its input: prompts of a batch are padded
by the processor, images may be anything it takes, and no option is dropped without a word.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from optimum.neuron import NeuronModelForCausalLM
from optimum.neuron.configuration_utils import NeuronConfig
from transformers import (
    AutoProcessor,
    AutoTokenizer,
    GenerationConfig,
    ImageTextToTextPipeline,
    Pipeline,
    TextGenerationPipeline,
)
from transformers import pipeline as transformers_pipeline
from transformers.pipelines.image_text_to_text import Chat

from .processing.batching import images_per_prompt
from .processing.call_options import CALL_OPTIONS
from .processing.chat import collect_media, with_content_lists


__all__ = ["Gemma4ImageTextToTextPipeline", "Gemma4TextGenerationPipeline", "pipeline"]

TEXT_TASK, IMAGE_TASK = "text-generation", "image-text-to-text"
_CHAT_OPTIONS = ("chat_template", "documents", "enable_thinking", "tools")
_GENERATE_OPTIONS = {
    *GenerationConfig().to_dict(), "assistant_model", "logits_processor", "stopping_criteria", "streamer",
}  # fmt: skip
# Those of transformers' pipeline, without `timeout`, which has no effect on chats
_PIPELINE_OPTIONS = (
    "clean_up_tokenization_spaces", "continue_final_message", "max_new_tokens", "return_full_text", "return_tensors",
    "return_type", "skip_special_tokens", "stop_sequence",
)  # fmt: skip


def pipeline(
    task: str | None = None,
    model: str | Path | NeuronModelForCausalLM | None = None,
    tokenizer: Any = None,
    processor: Any = None,
    revision: str | None = None,
    token: str | bool | None = None,
    batch_size: int | None = None,
    **kwargs: Any,
) -> Pipeline:
    """Builds a pipeline of an exported model.

    Args:
        task: "text-generation" or "image-text-to-text"; what the artifact was exported for when absent.
        model: Folder or Hub id of an artifact, or a loaded model.
        tokenizer: For text-generation; the artifact's by default. To be given with a loaded model.
        processor: For image-text-to-text, likewise.
        revision: Of the Hub id.
        token: For the Hub.
        batch_size: Prompts that run together; the batch size that was compiled by default.
        kwargs: Options of the pipeline and of generation that become its defaults.

    Raises:
        ValueError: no artifact, a task that it was not exported for, or a loaded model without its preprocessor.
    """
    if model is None:
        raise ValueError("model is missing: give the folder or Hub id of an exported model, or a loaded one.")
    hub = {"revision": revision, "token": token}
    is_loaded = not isinstance(model, (str, Path))
    neuron_config = model.neuron_config if is_loaded else _neuron_config(str(model), hub)
    takes_images = bool(getattr(neuron_config, "max_soft_tokens", None))
    task = task or (IMAGE_TASK if takes_images else TEXT_TASK)
    if task not in (TEXT_TASK, IMAGE_TASK) or (task == IMAGE_TASK and not takes_images):
        expected = [TEXT_TASK, IMAGE_TASK] if takes_images else [TEXT_TASK]
        raise ValueError(f"task is {task!r}: this model was exported for {' and '.join(expected)}.")
    name, auto_class = ("processor", AutoProcessor) if task == IMAGE_TASK else ("tokenizer", AutoTokenizer)
    preprocessor = processor if task == IMAGE_TASK else tokenizer
    if preprocessor is None and is_loaded:
        raise ValueError(f"{name} is missing: a loaded model does not know its own, give it with the model.")
    if preprocessor is None or isinstance(preprocessor, (str, Path)):
        preprocessor = auto_class.from_pretrained(preprocessor or model, **hub)
    if not is_loaded:
        # It loads an artifact that takes images as well, with that one's own class
        model = NeuronModelForCausalLM.from_pretrained(str(model), **hub)
    return transformers_pipeline(
        task,
        model=model,
        batch_size=batch_size or neuron_config.batch_size,
        pipeline_class=Gemma4ImageTextToTextPipeline if task == IMAGE_TASK else Gemma4TextGenerationPipeline,
        device=model.device,
        **{name: preprocessor},
        **kwargs,
    )


def _neuron_config(model: str, hub: dict[str, Any]) -> NeuronConfig:
    try:
        return NeuronConfig.from_pretrained(model, token=hub["token"], revision=hub["revision"] or "main")
    except OSError as error:
        raise ValueError(
            f"model {model} is not an exported model, or cannot be reached ({error}). optimum-cli export neuron "
            "makes one."
        ) from error


class _OfNeuronModels:
    """transformers logs an error about models that are not in its own tables; optimum-neuron silences it likewise."""

    def check_model_type(self, supported_models: Any) -> None:
        """Accepts every model."""


class Gemma4TextGenerationPipeline(_OfNeuronModels, TextGenerationPipeline):
    """transformers' text-generation pipeline."""


class Gemma4ImageTextToTextPipeline(_OfNeuronModels, ImageTextToTextPipeline):
    """transformers' image-text-to-text pipeline, with batches that the processor pads.

    The input is a conversation or a list of them, as for transformers' pipeline: `pipe(messages)`,
    `pipe(text=messages, images=...)`, or raw prompts with placeholders, `pipe(images=..., text="<|image|>...")`. An
    image is whatever the processor takes: PIL image, array, path, URL, base64 string, bytes.
    Options of a call: those of transformers' pipeline, of `generate()`, of the processor (`max_soft_tokens`) and of
    the chat template (`enable_thinking`).
    """

    def _sanitize_parameters(self, generate_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> tuple[dict, ...]:
        unknown = sorted(kwargs.keys() - _GENERATE_OPTIONS - {*_PIPELINE_OPTIONS, *_CHAT_OPTIONS, *CALL_OPTIONS})
        if unknown:
            raise ValueError(
                f"{', '.join(unknown)}: no option of this pipeline, of generate(), of the processor or of the chat "
                "template; leave it out."
            )
        own = {name: kwargs.pop(name) for name in list(kwargs) if name in _PIPELINE_OPTIONS}
        generation = {name: kwargs.pop(name) for name in list(kwargs) if name in _GENERATE_OPTIONS}
        return super()._sanitize_parameters(generate_kwargs={**(generate_kwargs or {}), **generation}, **own, **kwargs)

    def get_iterator(
        self,
        inputs: Iterable[Any],
        num_workers: int,
        batch_size: int,
        preprocess_params: dict[str, Any],
        forward_params: dict[str, Any],
        postprocess_params: dict[str, Any],
    ) -> Iterator[list[dict[str, Any]]]:
        """Runs several inputs, `batch_size` at a time; one list of results for each."""
        rest = iter(inputs)
        while batch := [_as_chat(element) for element in islice(rest, batch_size)]:
            outputs = self.forward(self._preprocess_batch(batch, **preprocess_params), **forward_params)
            for row, inputs_of_row in enumerate(batch):
                part = {name: outputs[name][row : row + 1] for name in ("generated_sequence", "input_ids")}
                yield self.postprocess({**part, "prompt_text": [_text_of(inputs_of_row)]}, **postprocess_params)

    def preprocess(self, inputs: Any = None, **options: Any) -> dict[str, Any]:
        """One conversation, one prompt, or one mapping of images to one or several prompts."""
        batch = [_as_chat(inputs)]
        if isinstance(inputs, dict) and not isinstance(inputs["text"], str):
            pairs = images_per_prompt(inputs["text"], inputs["images"], self.processor.image_token)
            batch = [{"text": text, "images": images} for text, images in zip(*pairs, strict=True)]
        return self._preprocess_batch(batch, **options)

    def _preprocess_batch(
        self, batch: list[Any], continue_final_message: bool | None = None, **options: Any
    ) -> dict[str, Any]:
        chat_options = {name: options.pop(name) for name in _CHAT_OPTIONS if name in options}
        prompts, images, videos = [], [], []
        for inputs in batch:
            if isinstance(inputs, Chat):
                conversation = with_content_lists(inputs.messages)
                prompts.append(self._render(inputs.messages, continue_final_message, chat_options))
                (own_images,), (own_videos,) = collect_media(conversation)
            else:
                prompts.append(_text_of(inputs))
                own_images, own_videos = _images_of(inputs), []
            images.append(own_images)
            videos += own_videos
        encoded = self.processor(
            text=prompts, images=images if any(images) else None, videos=videos or None, return_tensors="pt", **options
        )
        return {**encoded, "text": [_text_of(inputs) for inputs in batch]}

    def _render(self, messages: list[dict[str, Any]], continues: bool | None, chat_options: dict[str, Any]) -> str:
        continues = messages[-1]["role"] == "assistant" if continues is None else continues
        return self.processor.apply_chat_template(
            messages, add_generation_prompt=not continues, continue_final_message=continues, **chat_options
        )


def _as_chat(inputs: Any) -> Any:
    """transformers marks a list of conversations so, and leaves those of a generator or a dataset as they are."""
    return Chat(inputs) if isinstance(inputs, (list, tuple)) else inputs


def _text_of(inputs: Any) -> Any:
    """What a result repeats as its `input_text`."""
    return inputs["text"] if isinstance(inputs, dict) else inputs


def _images_of(inputs: Any) -> list[Any]:
    images = inputs.get("images") if isinstance(inputs, dict) else None
    if images is None:
        return []
    return list(images) if isinstance(images, (list, tuple)) else [images]
