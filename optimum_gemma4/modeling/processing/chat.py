# SPDX-License-Identifier: Apache-2.0
"""Images and videos inside a conversation, in the order in which the chat template writes their placeholders.

transformers 4.57's `apply_chat_template` knows images by URL and path only and fails on messages whose content is a
plain string; here the media may be anything the processor takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


_SOURCE_KEYS = {"image": ("image", "url", "path", "base64"), "video": ("video", "url", "path")}


def with_content_lists(conversation: Any) -> list[list[Mapping[str, Any]]]:
    """Returns a batch of conversations whose contents are all lists of parts.

    Args:
        conversation: a list of messages, or a list of such lists.

    Returns:
        One list of messages per conversation; a content that is a string has become one text part.

    Raises:
        ValueError: if there are no messages, or a message is not a mapping.
    """
    if not conversation:
        raise ValueError("The conversation is empty; expected at least one message.")
    batch = conversation if isinstance(conversation[0], (list, tuple)) else [conversation]
    for message in (message for messages in batch for message in messages):
        if not isinstance(message, Mapping):
            raise ValueError(f"A message is a {type(message).__name__}; expected a mapping with 'role' and 'content'.")
    return [[{**message, "content": _parts(message.get("content"))} for message in messages] for messages in batch]


def collect_media(batch: list[list[Mapping[str, Any]]]) -> tuple[list[list[Any]], list[list[Any]]]:
    """Collects the images and videos of each conversation.

    Args:
        batch: what `with_content_lists` returns.

    Returns:
        Two lists with one list per conversation: images and videos. A part without a source is left out: its
        placeholder then has no image, which the processor reports with both counts.
    """
    images, videos = [], []
    for messages in batch:
        parts = [part for message in messages for part in message["content"]]
        images.append(_sources(parts, "image"))
        videos.append(_sources(parts, "video"))
    return images, videos


def _parts(content: Any) -> list[Mapping[str, Any]]:
    if content is None:
        return []
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def _sources(parts: list[Mapping[str, Any]], kind: str) -> list[Any]:
    return [
        part[key]
        for part in parts
        if part.get("type") == kind
        for key in _SOURCE_KEYS[kind]
        if part.get(key) is not None
    ]
