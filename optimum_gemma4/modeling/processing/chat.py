# SPDX-License-Identifier: Apache-2.0
"""Conversations as chat templates expect them, and the images and videos inside, in the order of their placeholders.

transformers 4.57's `apply_chat_template` knows images by URL and path only and fails on messages whose content is a
plain string; here the media may be anything the processor takes. What a template sees follows transformers 5.23
(`ProcessorMixin._normalize_conversations`, `_alias_reasoning_fields`): Gemma 4's skips a part of a type that it does
not know, so that an image written as OpenAI's clients do would be dropped without a word.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


_REASONING_KEYS = ("reasoning_content", "thinking", "reasoning")
_SOURCE_KEYS = {"image": ("image", "url", "path", "base64"), "video": ("video", "url", "path")}


def normalized(conversation: Any) -> list[Any]:
    """Returns a conversation, or a batch of them, as a chat template expects it.

    Keys without a value are left out, an `image_url` part becomes an image, and a message's reasoning is there under
    the names that templates read.

    Args:
        conversation: a list of messages, or a list of such lists.

    Raises:
        ValueError: if there are no messages, or a message is not a mapping.
    """
    batch = [[_normalized_message(message) for message in messages] for messages in _as_batch(conversation)]
    return batch if isinstance(conversation[0], (list, tuple)) else batch[0]


def with_content_lists(conversation: Any) -> list[list[Mapping[str, Any]]]:
    """Returns a batch of conversations whose contents are all lists of parts.

    Args:
        conversation: a list of messages, or a list of such lists.

    Returns:
        One list of messages per conversation; a content that is a string has become one text part.

    Raises:
        ValueError: if there are no messages, or a message is not a mapping.
    """
    return [
        [{**message, "content": _parts(message.get("content"))} for message in messages]
        for messages in _as_batch(conversation)
    ]


def collect_media(batch: list[list[Mapping[str, Any]]]) -> tuple[list[list[Any]], list[list[Any]]]:
    """Collects the images and videos of each conversation.

    Args:
        batch: what `with_content_lists` returns.

    Returns:
        Two lists with one list per conversation: images and videos. A part without a source is left out: its
        placeholder then has no image, which the processor reports with both counts.

    Raises:
        ValueError: if there is audio.
    """
    images, videos = [], []
    for messages in batch:
        parts = [part for message in messages for part in message["content"]]
        if any(part.get("type") == "audio" for part in parts):
            raise ValueError("The conversation has audio; this processor supports text, images and videos only.")
        images.append(_sources(parts, "image"))
        videos.append(_sources(parts, "video"))
    return images, videos


def _as_batch(conversation: Any) -> list[list[Mapping[str, Any]]]:
    if not conversation:
        raise ValueError("The conversation is empty; expected at least one message.")
    batch = conversation if isinstance(conversation[0], (list, tuple)) else [conversation]
    for message in (message for messages in batch for message in messages):
        if not isinstance(message, Mapping):
            raise ValueError(f"A message is a {type(message).__name__}; expected a mapping with 'role' and 'content'.")
    return batch


def _normalized_message(message: Mapping[str, Any]) -> dict[str, Any]:
    given = {key: value for key, value in message.items() if value is not None}
    if isinstance(given.get("content"), (list, tuple)):
        given["content"] = _parts(given["content"])
    reasoning = next((given[key] for key in _REASONING_KEYS if key in given), None)
    return given if reasoning is None else {"thinking": reasoning, **given, "reasoning_content": reasoning}


def _parts(content: Any) -> list[Mapping[str, Any]]:
    if content is None:
        return []
    return [{"type": "text", "text": content}] if isinstance(content, str) else [_part(part) for part in content]


def _part(part: Mapping[str, Any]) -> Mapping[str, Any]:
    if part.get("type") != "image_url":
        return part
    source = part.get("image_url")
    return {"type": "image", "url": source.get("url") if isinstance(source, Mapping) else source}


def _sources(parts: list[Mapping[str, Any]], kind: str) -> list[Any]:
    return [
        part[key]
        for part in parts
        if part.get("type") == kind
        for key in _SOURCE_KEYS[kind]
        if part.get(key) is not None
    ]
