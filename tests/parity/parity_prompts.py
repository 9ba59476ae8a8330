# SPDX-License-Identifier: Apache-2.0
"""Prompts of the end-to-end comparison, for `tools/make_reference.py` and for the tests. The window is 32 tokens."""

COMPILED_LENGTH = 160
NEW_TOKENS = 64
# As most users export it, for two prompts at once: one export for the tests of chats and of the pipeline
SERVED = {"sequence_length": COMPILED_LENGTH, "batch_size": 2, "tensor_parallel_size": 2}
LONG_TEXT = (
    "The capital of France is Paris. What is 2 + 2? 2 + 2 = 4. The capital of Italy is Rome. Write a haiku about the "
    "sea. The capital of Spain is Madrid. What is 7 - 3? 7 - 3 = 4. The capital of Japan is Tokyo. Who are you? "
) * 4


def chats() -> dict[str, list[dict[str, str]]]:
    """Conversations by name."""
    return {
        "capital": [{"role": "user", "content": "What is the capital of France?"}],
        "sum": [{"role": "user", "content": "What is 2 + 2?"}],
        "two turns": [
            {"role": "user", "content": "What is the capital of Italy?"},
            {"role": "assistant", "content": "The capital of Italy is Rome."},
            {"role": "user", "content": "What is 3 + 4?"},
        ],
    }


def of_length() -> dict[str, tuple[str, int]]:
    """Plain text and how many of its tokens to keep: shorter than, equal to, beyond the window; one; all but one."""
    lengths = {"one": 1, "short": 9, "window": 32, "window + 1": 33, "long": 90, "compiled - 1": COMPILED_LENGTH - 1}
    return {name: (LONG_TEXT, length) for name, length in lengths.items()}
