# SPDX-License-Identifier: Apache-2.0
"""Prompts with pictures, for `tools/make_picture_reference.py` and for the tests of the trained checkpoint.

A prompt is a list of parts: text, or the seed of a picture of `tools/tiny_pictures.py`. Every picture takes more
tokens than the window of 32.
"""

NEW_TOKENS = 48
KEPT_LOGITS = 32  # the largest ones of each step
FRESH = 5_000_000  # seeds from here on are never trained on
QUESTION = "What is in the picture?"
EACH = "What is in each picture?"

PROMPTS: dict[str, list[str | int]] = {
    "first": [FRESH, QUESTION],
    "last": ["Describe the picture.", FRESH + 1],
    "middle": ["Look at this one.", FRESH + 2, "What do you see?"],
    "wide": [FRESH + 5, QUESTION],
    "two": [FRESH + 3, FRESH + 4, EACH],
    "five": [*range(FRESH + 10, FRESH + 15), EACH],
}
# The prompt whose soft tokens are kept: pictures of several aspect ratios.
ENCODED = "five"
# Pictures that are asked for one by one; others than those that judged the training.
ASKED = range(FRESH + 1000, FRESH + 1100)
LONGEST_ANSWER = 24


def conversation(parts: list[str | int]) -> list[dict]:
    """The conversation of a prompt's parts, as a chat template takes it."""
    content = [{"type": "text", "text": part} if isinstance(part, str) else {"type": "image"} for part in parts]
    return [{"role": "user", "content": content}]


def seeds(parts: list[str | int]) -> list[int]:
    """The pictures of a prompt, in their order."""
    return [part for part in parts if isinstance(part, int)]
