# SPDX-License-Identifier: Apache-2.0
"""Cache states against a dictionary of what was written, and their size for the 31B."""

import pytest
import torch
from config_31b import CONFIG_31B
from text_models import TEXT_CONFIGS

from optimum_gemma4.modeling.configuration import Gemma4TextConfig
from optimum_gemma4.modeling.geometry import TextGeometry
from optimum_gemma4.modeling.text.kv_cache import Gemma4KVCache, state_shapes
from optimum_gemma4.modeling.text.masks import slot_ages


SEQUENCE_LENGTH = 64
ROWS = 3
WINDOW = TEXT_CONFIGS["like_31b"]["sliding_window"]
SLIDING, GLOBAL = 0, 5


class TokenCache:
    """A cache in which token `p` of conversation `c` is the number 1000 c + p in every head and dim."""

    def __init__(self):
        geometry = TextGeometry.from_config(Gemma4TextConfig(**TEXT_CONFIGS["like_31b"]))
        self.cache = Gemma4KVCache(geometry, 2, ROWS, SEQUENCE_LENGTH, torch.float32)
        for state in self.cache.past_key_values:
            state.fill_(-7.0)

    def entries(self, layer: int, numbers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """[B, S] -> [B, S, K, *] for both states."""
        shapes = [state.shape for state in self.cache.states(layer)]
        return tuple(numbers[:, :, None, None].float().expand(*numbers.shape, shape[1], shape[3]) for shape in shapes)

    def keep(self, layer: int, written: tuple[torch.Tensor, torch.Tensor]) -> None:
        for state, new in zip(self.cache.states(layer), written):
            assert new.shape == state.shape
            state.copy_(new)

    def prefill(self, lengths: list[int], bucket: int, seq_ids: list[int], conversation: int = 0) -> None:
        positions = torch.full((len(lengths), bucket), -1, dtype=torch.int32)
        for row, length in enumerate(lengths):
            positions[row, :length] = torch.arange(length)
        numbers = torch.where(positions >= 0, positions + 1000 * conversation, 999_999)
        for layer in (SLIDING, GLOBAL):
            entries = self.entries(layer, numbers)
            self.keep(layer, self.cache.write_prompt(layer, entries, positions, torch.tensor(seq_ids).int()))

    def decode(self, positions: list[int], conversation: int = 0) -> None:
        positions = torch.tensor(positions, dtype=torch.int32)
        for layer in (SLIDING, GLOBAL):
            entries = self.entries(
                layer, torch.where(positions >= 0, positions + 1000 * conversation, 999_999)[:, None]
            )
            self.keep(layer, self.cache.write_token(layer, entries, positions))

    def row(self, layer: int, row: int) -> torch.Tensor:
        """What each slot of a row holds, [T]; the same in every head and dim and in both states."""
        key, value = (state[row] for state in self.cache.states(layer))
        assert key.amax((0, 2)).equal(value.amin((0, 2))) and key.amin((0, 2)).equal(value.amax((0, 2)))
        return key[0, :, 0]

    def seen(self, layer: int, row: int, position: int) -> list[int]:
        """Numbers of the slots that the query at `position` sees, in order."""
        slots = self.row(layer, row)
        ages = slot_ages(torch.tensor([position], dtype=torch.int32), slots.shape[0])[0]
        return sorted(slots[ages >= 0].int().tolist())


@pytest.mark.parametrize("length", [1, 2, WINDOW - 1, WINDOW, WINDOW + 1, 2 * WINDOW, 2 * WINDOW + 5, 48])
@pytest.mark.parametrize("bucket", [16, 48])
def test_prompt_then_tokens(length, bucket):
    """At every step sliding layers see the last WINDOW tokens, global ones all of them, and nothing else."""
    if length > bucket:
        length = bucket
    tokens = TokenCache()
    tokens.prefill([length, 3, bucket], bucket, [0, 1, 2])
    for row, last in enumerate((length - 1, 2, bucket - 1)):
        assert tokens.seen(SLIDING, row, last) == list(range(max(0, last - WINDOW + 1), last + 1))
        assert tokens.seen(GLOBAL, row, last) == list(range(last + 1))
    for step in range(min(2 * WINDOW + 3, SEQUENCE_LENGTH - bucket)):
        lasts = [length + step, 3 + step, bucket + step]
        tokens.decode(lasts)
        for row, last in enumerate(lasts):
            assert tokens.seen(SLIDING, row, last) == list(range(max(0, last - WINDOW + 1), last + 1))
            assert tokens.seen(GLOBAL, row, last) == list(range(last + 1))


def test_d1_global_layers_keep_what_lies_before_the_window():
    tokens = TokenCache()
    tokens.prefill([5, 1, 1], 16, [0, 1, 2])
    for position in range(5, 3 * WINDOW):
        tokens.decode([position, -1, -1])
    assert tokens.seen(GLOBAL, 0, 3 * WINDOW - 1) == list(range(3 * WINDOW))


def test_d2_sliding_layers_keep_the_end_of_a_long_prompt():
    tokens = TokenCache()
    tokens.prefill([40, 40, 40], 48, [0, 1, 2])
    assert tokens.seen(SLIDING, 0, 39) == list(range(40 - WINDOW, 40))


def test_d9_padding_writes_no_live_slot():
    """A prompt that fills its bucket keeps its last token; a shorter one beside it has no padding among its keys."""
    tokens = TokenCache()
    tokens.prefill([48, 47, 1], 48, [0, 1, 2])
    assert tokens.seen(GLOBAL, 0, 47)[-1] == 47 and tokens.seen(SLIDING, 0, 47)[-1] == 47
    for row, last in enumerate((47, 46, 0)):
        assert 999_999 not in tokens.seen(GLOBAL, row, last) + tokens.seen(SLIDING, row, last)


def test_second_conversation_sees_nothing_of_the_first():
    tokens = TokenCache()
    tokens.prefill([48, 48, 48], 48, [0, 1, 2], conversation=1)
    tokens.prefill([2, 17, 1], 48, [0, 1, 2], conversation=2)
    for step in range(WINDOW + 2):
        tokens.decode([2 + step, 17 + step, 1 + step], conversation=2)
        for row, last in enumerate((2 + step, 17 + step, 1 + step)):
            assert min(tokens.seen(SLIDING, row, last) + tokens.seen(GLOBAL, row, last)) >= 2000


@pytest.mark.parametrize("bucket", [16, 48])
def test_unused_rows_keep_what_they_hold(bucket):
    tokens = TokenCache()
    tokens.prefill([16, 16, 16], 16, [0, 1, 2], conversation=1)
    before = [state.clone() for state in tokens.cache.past_key_values]
    tokens.prefill([0, 7], bucket, [2, 0], conversation=2)  # by seq_ids, the first of them unused
    tokens.decode([7, -1, -1], conversation=2)
    assert tokens.seen(GLOBAL, 0, 7) == [*range(2000, 2008)]
    for layer in (SLIDING, GLOBAL):
        for index in (2 * layer, 2 * layer + 1):
            assert tokens.cache.past_key_values[index][1:].equal(before[index][1:])


def test_every_index_is_in_bounds():
    """torch raises on the CPU for an index that a device would read or write somewhere."""
    tokens = TokenCache()
    tokens.prefill([48], 48, [2_000_000_000])
    tokens.prefill([48], 48, [-5])
    tokens.decode([2_000_000_000, SEQUENCE_LENGTH, -1])
    tokens.decode([-1, -1, -1])


@pytest.mark.parametrize("tp", [1, 2, 4, 8])
def test_state_shapes(tp):
    geometry = TextGeometry.from_config(Gemma4TextConfig(**TEXT_CONFIGS["like_31b"]))
    key, value = state_shapes(geometry.layers[SLIDING], tp, ROWS, SEQUENCE_LENGTH)
    assert key == value == (ROWS, max(1, 4 // tp), WINDOW, 16)
    key, value = state_shapes(geometry.layers[GLOBAL], tp, ROWS, SEQUENCE_LENGTH)
    assert key == (ROWS, max(1, 2 // tp), SEQUENCE_LENGTH, 8)  # a quarter of 32 dims rotates
    assert value == (ROWS, max(1, 2 // tp), SEQUENCE_LENGTH, 32)
    own_v = TextGeometry.from_config(Gemma4TextConfig(**TEXT_CONFIGS["own_v_proj"])).layers[-1]
    assert state_shapes(own_v, 1, ROWS, SEQUENCE_LENGTH) == ((ROWS, 1, SEQUENCE_LENGTH, 32),) * 2


@pytest.mark.parametrize("sequence_length, limit", [(8192, 0.30), (32_768, 0.60), (262_144, 3.35)])
def test_d18_gib_per_core_of_the_31b(sequence_length, limit):
    """tp 4, batch 1, bf16. A cache of uniform length takes 1.72, 6.88 and 55.0 GiB."""
    geometry = TextGeometry.from_config(Gemma4TextConfig(**CONFIG_31B))
    with torch.device("meta"):
        cache = Gemma4KVCache(geometry, 4, 1, sequence_length, torch.bfloat16)
    assert all(state.is_meta and not state.requires_grad for state in cache.past_key_values)
    assert len(cache.past_key_values) == 120
    values_per_token_and_head = sum(state.shape[3] for state in cache.states(5))
    assert values_per_token_and_head == 640
    assert 0.9 * limit < cache.num_bytes() / 2**30 <= limit
