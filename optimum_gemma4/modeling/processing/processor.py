# SPDX-License-Identifier: Apache-2.0
"""Gemma 4 processor: prompts and images in, everything `generate()` takes out.

Unlike Gemma 3's 256 tokens per image, each `<|image|>` grows to as many soft tokens as its image has, between
`<|image>` and `<image|>`; a `<|video|>` grows to one such group per frame, each with its time. Mirrors transformers
5.23 `Gemma4Processor` on transformers 4.57's `ProcessorMixin`; audio is not supported, and videos come as frames, as
the video base class needs torchvision.
Out: input_ids, attention_mask, mm_token_type_ids (0 text, 1 image, 2 video) [B, S]; pixel_values, image_position_ids.
"""

import os
import re
from typing import Any

from transformers import PreTrainedTokenizerBase
from transformers.image_processing_utils import BatchFeature
from transformers.processing_utils import ProcessorMixin

from .batching import images_per_prompt, require_matching_counts
from .call_options import CALL_OPTIONS, BudgetKwargs, Gemma4ProcessorKwargs
from .chat import collect_media, normalized, with_content_lists
from .image_processor import Gemma4ImageProcessor
from .video import DEFAULT_VIDEO_PROCESSOR, frame_times, list_videos


VIDEO_TOKEN = "<|video|>"
_IMAGE_TYPE, _VIDEO_TYPE = 1, 2


class Gemma4Processor(ProcessorMixin):
    """Tokenizer and image processor of Gemma 4 in one.

    Args:
        image_processor: the image processor.
        tokenizer: a tokenizer that names `image_token`, `boi_token` and `eoi_token`.
        chat_template: Jinja template of a conversation.
        image_seq_length: kept for the configuration file; the number of soft tokens depends on each image.
        audio_seq_length: kept for the configuration file.
        audio_ms_per_token: kept for the configuration file.
        video_processor: the configuration of the video processor; `max_soft_tokens` is what a frame gets.
        feature_extractor: the configuration of the audio feature extractor, kept for the configuration file.

    Raises:
        ValueError: if the tokenizer lacks one of the three image tokens.
    """

    attributes = ["image_processor", "tokenizer"]
    image_processor_class = "Gemma4ImageProcessor"
    tokenizer_class = "AutoTokenizer"

    def __init__(
        self,
        image_processor: Gemma4ImageProcessor,
        tokenizer: PreTrainedTokenizerBase,
        chat_template: str | None = None,
        image_seq_length: int = 280,
        audio_seq_length: int = 750,
        audio_ms_per_token: int = 40,
        video_processor: dict[str, Any] | None = None,
        feature_extractor: dict[str, Any] | None = None,
    ) -> None:
        missing = [name for name in ("image_token", "boi_token", "eoi_token") if not getattr(tokenizer, name, None)]
        if missing:
            raise ValueError(
                f"The tokenizer does not name {', '.join(missing)}; expected the tokenizer_config.json of a Gemma 4 "
                "checkpoint, loaded by `load_tokenizer` or `AutoTokenizer`."
            )
        self.image_token, self.image_token_id = tokenizer.image_token, tokenizer.image_token_id
        self.boi_token, self.eoi_token = tokenizer.boi_token, tokenizer.eoi_token
        self.video_token, self.video_token_id = VIDEO_TOKEN, tokenizer.convert_tokens_to_ids(VIDEO_TOKEN)
        self.image_seq_length = image_seq_length
        self.audio_seq_length = audio_seq_length
        self.audio_ms_per_token = audio_ms_per_token
        self.video_processor = dict(video_processor or DEFAULT_VIDEO_PROCESSOR)
        self.feature_extractor = feature_extractor
        super().__init__(image_processor=image_processor, tokenizer=tokenizer, chat_template=chat_template)

    def __call__(
        self,
        images: Any = None,
        text: str | list[str] | None = None,
        videos: Any = None,
        audio: Any = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Tokenizes prompts and prepares their images and videos.

        Args:
            images: one image, a list of images in the order of the placeholders, or a list of lists, one per prompt.
                An image is a PIL image, array, tensor, path, URL, base64 string or bytes.
            text: one prompt or a list of prompts, with one `<|image|>` per image and one `<|video|>` per video.
                Without it, a prompt of placeholders only is made for each list of images.
            videos: see `list_videos`; `video_metadata` (one mapping per video) tells the times of the frames.
            audio: not supported.
            **kwargs: options of the tokenizer (`padding`, `return_tensors`, ...) and of the image processor
                (`max_soft_tokens`, ...), flat or in `text_kwargs` / `images_kwargs` / `videos_kwargs`.

        Returns:
            `input_ids`, `attention_mask`, `mm_token_type_ids`; with images `pixel_values`, `image_position_ids`; with
            videos `pixel_values_videos`, `video_position_ids`, `num_frames_per_video`.

        Raises:
            ValueError: if placeholders and images do not match (with both counts), an image cannot be used, or the
                arguments make no sense together.
        """
        if audio is not None:
            raise ValueError("Audio was given; this processor supports text, images and videos only.")
        options = self._merge_kwargs(Gemma4ProcessorKwargs, self.tokenizer.init_kwargs, **kwargs)
        text_options = options["text_kwargs"]
        return_tensors = text_options.pop("return_tensors", None)
        prompts, images_of_prompts = images_per_prompt(text, images, self.image_token)
        flat_videos = list_videos(videos) if videos is not None else []
        require_matching_counts(prompts, images_of_prompts, self.image_token, "image")
        require_matching_counts(prompts, flat_videos, self.video_token, "video")

        data: dict[str, Any] = {}
        groups: dict[str, list[str]] = {self.image_token: [], self.video_token: []}
        flat_images = [image for images_of_prompt in images_of_prompts for image in images_of_prompt]
        if flat_images:
            data |= self.image_processor(flat_images, **{**options["images_kwargs"], "return_tensors": None})
            counts = data.pop("num_soft_tokens_per_image")
            groups[self.image_token] = [self._soft_tokens(self.image_token, count) for count in counts]
        if flat_videos:
            video_data, groups[self.video_token] = self._process_videos(flat_videos, options["videos_kwargs"])
            data |= video_data
        prompts = self._expand(prompts, groups)
        return BatchFeature({**self._tokenize(prompts, text_options), **data}, tensor_type=return_tensors)

    def apply_chat_template(self, conversation: Any, chat_template: str | None = None, **kwargs: Any) -> Any:
        """Renders a conversation, or a batch of them, and with `tokenize=True` processes it.

        Content may be a string or a list of `{"type": "text", "text": ...}`, `{"type": "image", "image": ...}` (or
        under `url`, `path`, `base64`; or as OpenAI's `image_url`) and `{"type": "video", "video": frames}`.

        Args:
            conversation: a list of messages, or a list of such lists.
            chat_template: another template than the processor's.
            **kwargs: `tokenize`, `return_dict`, `add_generation_prompt`, variables of the template such as
                `enable_thinking`, and with `tokenize` the options of `__call__`, also as the dict `processor_kwargs`.

        Returns:
            The prompt(s); with `tokenize` the input ids, with `return_dict` too what `__call__` returns.
        """
        if kwargs.pop("sanitize_control_tokens", False):
            raise ValueError(
                "sanitize_control_tokens is not supported: take control tokens out of the messages before the call."
            )
        tokenize, return_dict = kwargs.pop("tokenize", False), kwargs.pop("return_dict", False)
        processor_kwargs = kwargs.pop("processor_kwargs", None) or {}
        conversation = normalized(conversation)
        prompt = super().apply_chat_template(conversation, chat_template, **kwargs)
        if not tokenize:
            return prompt
        images, videos = collect_media(with_content_lists(conversation))
        call_options = {key: value for key, value in kwargs.items() if key in CALL_OPTIONS} | processor_kwargs
        outputs = self(
            text=prompt, images=images if any(images) else None, videos=videos if any(videos) else None, **call_options
        )
        return outputs if return_dict else outputs["input_ids"]

    def save_pretrained(
        self,
        save_directory: str | os.PathLike,
        push_to_hub: bool = False,
        legacy_serialization: bool = False,
        **kwargs,
    ) -> list[str]:
        """Saves the files of the Hub: processor_config.json (nested), chat_template.jinja and the tokenizer's.

        Args:
            save_directory: the folder, made if absent.
            push_to_hub: see `ProcessorMixin.save_pretrained`.
            legacy_serialization: also write the older preprocessor_config.json instead of nesting it.
            **kwargs: see `ProcessorMixin.save_pretrained`.

        Returns:
            The paths of the files written.
        """
        return super().save_pretrained(save_directory, push_to_hub, legacy_serialization, **kwargs)

    def to_dict(self, legacy_serialization: bool = False) -> dict[str, Any]:
        """Serialises the configuration; a part that the checkpoint does not have stays absent."""
        values = super().to_dict(legacy_serialization=legacy_serialization)
        return {key: value for key, value in values.items() if value is not None}

    @property
    def model_input_names(self) -> list[str]:
        """Names of what `__call__` returns for prompts with images."""
        names = self.tokenizer.model_input_names + ["mm_token_type_ids"] + self.image_processor.model_input_names
        return [name for name in names if name != "num_soft_tokens_per_image"]

    def _soft_tokens(self, token: str, count: int) -> str:
        return f"{self.boi_token}{token * count}{self.eoi_token}"

    def _process_videos(self, videos: list[list[Any]], options: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        metadata = options.get("video_metadata")
        metadata = metadata if isinstance(metadata, (list, tuple)) else [metadata] * len(videos)
        if len(metadata) != len(videos):
            raise ValueError(f"Got {len(videos)} videos and {len(metadata)} `video_metadata`; expected one for each.")
        frames = [frame for video in videos for frame in video]
        budget = {name: options.get(name) or self.video_processor[name] for name in BudgetKwargs.__annotations__}
        data = self.image_processor(frames, **budget)
        counts = iter(data["num_soft_tokens_per_image"])
        groups = []
        for index, (video, known) in enumerate(zip(videos, metadata, strict=True)):
            times = frame_times(known, len(video), f"video {index}")
            groups.append(" ".join(f"{time} {self._soft_tokens(self.video_token, next(counts))}" for time in times))
        return {
            "pixel_values_videos": data["pixel_values"],
            "video_position_ids": data["image_position_ids"],
            "num_frames_per_video": [len(video) for video in videos],
        }, groups

    def _expand(self, prompts: list[str], groups: dict[str, list[str]]) -> list[str]:
        remaining = {token: iter(group) for token, group in groups.items()}
        pattern = re.compile("|".join(re.escape(token) for token in groups))
        return [pattern.sub(lambda match: next(remaining[match.group()]), prompt) for prompt in prompts]

    def _tokenize(self, prompts: list[str], options: dict[str, Any]) -> dict[str, Any]:
        return_types = options.pop("return_mm_token_type_ids")
        # A chat template writes <bos> itself; a post-processor that adds one would make it two.
        if self.tokenizer.bos_token and all(prompt.startswith(self.tokenizer.bos_token) for prompt in prompts):
            options.setdefault("add_special_tokens", False)
        encoded = dict(self.tokenizer(prompts, **options))
        self._check_special_mm_tokens(prompts, encoded, modalities=["image", "video"])
        if return_types:
            types = {self.image_token_id: _IMAGE_TYPE, self.video_token_id: _VIDEO_TYPE}
            encoded["mm_token_type_ids"] = [[types.get(token, 0) for token in ids] for ids in encoded["input_ids"]]
        return encoded
