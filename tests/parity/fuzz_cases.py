# SPDX-License-Identifier: Apache-2.0
"""Random Gemma 4 models, exports and prompts from a seed, the same in the reference environment and here.

The goldens hold a few configurations; a case is drawn from what a configuration and an export may say: sizes that no
other model has, any pattern of layers, windows that the prompts straddle, RoPE of every kind, heads that the ranks
share, buckets, batches, pictures and videos at any place. Even seeds take text alone. Used by
`tools/make_fuzz_reference.py` and by `test_fuzz.py`; names of prompts are `<batch>.<row>`.
"""

from dataclasses import dataclass

import numpy as np

from tests.parity.multimodal_models import SPECIAL_IDS, Picture, Prompt


SMALLEST_VOCABULARY = max(SPECIAL_IDS.values()) + 1
MOST_NEW_TOKENS = 20
BUDGETS = ((70,), (70,), (70, 140))


@dataclass(frozen=True)
class FuzzCase:
    """A model, an export of it, and batches of prompts that are continued by `new_tokens` each.

    Attributes:
        config: in the Hub's spelling.
        options: of `get_neuron_config`.
        batches: at most as many prompts as the export's batch size each.
        new_tokens: of each batch.
    """

    config: dict
    options: dict
    batches: tuple[tuple[Prompt, ...], ...]
    new_tokens: tuple[int, ...]

    def prompts(self) -> dict[str, Prompt]:
        """Every prompt by its name."""
        return {f"{i}.{j}": prompt for i, batch in enumerate(self.batches) for j, prompt in enumerate(batch)}


def draw_case(seed: int) -> FuzzCase:
    """The case of a seed."""
    draw = _Draw(seed)
    has_images = seed % 2 == 1
    tp = draw.one_of(1, 2, 4, 8)
    text_config = _text_config(draw, tp)
    window = text_config["sliding_window"]
    budgets = list(draw.one_of(*BUDGETS)) if has_images else None
    shortest = max(budgets) + 4 if has_images else 4
    length = shortest + draw.between(0, 240 if has_images else 140)
    longest = draw.one_of(length, draw.between(shortest, length))
    batch_size = draw.between(1, 4)
    options = {
        "tensor_parallel_size": tp,
        "batch_size": batch_size,
        "sequence_length": length,
        "prefill_buckets": sorted({draw.between(2, longest) for _ in range(draw.between(0, 2))} | {longest}),
        "continuous_batching": batch_size > 1 and draw.chance(0.5),
        "on_device_sampling": draw.chance(0.4),
        "torch_dtype": "float32",
    }
    if options["on_device_sampling"]:
        options["output_logits"] = draw.chance(0.5)
    if has_images:
        options |= {"max_soft_tokens": budgets, "max_images": draw.one_of(None, 3)}
    config = {
        "model_type": "gemma4",
        "architectures": ["Gemma4ForConditionalGeneration"],
        "dtype": "float32",
        "text_config": text_config,
        "vision_config": _vision_config(draw, tp, max(budgets)) if has_images else None,
        "audio_config": None,
        **(SPECIAL_IDS if has_images else {}),
    }
    room = min(longest, length - 1)
    edges = [1, 2, window - 1, window, window + 1, 2 * window + 1, room]
    edges += [bucket + step for bucket in options["prefill_buckets"] for step in (-1, 0, 1)]
    batches = []
    for _ in range(draw.between(1, 3)):
        rows = draw.one_of(batch_size, draw.between(1, batch_size))
        if has_images:
            batches.append(tuple(_prompt_with_pictures(draw, room, budgets, window) for _ in range(rows)))
        else:
            batches.append(tuple(_text_prompt(draw, room, edges) for _ in range(rows)))
    new_tokens = tuple(draw.between(1, MOST_NEW_TOKENS) for _ in batches)
    return FuzzCase(config, options, tuple(batches), new_tokens)


class _Draw:
    """Choices from a seed."""

    def __init__(self, seed: int):
        self._random = np.random.default_rng(seed)

    def between(self, low: int, high: int) -> int:
        return int(self._random.integers(low, high + 1))

    def one_of(self, *options):
        return options[self._random.integers(len(options))]

    def chance(self, probability: float) -> bool:
        return bool(self._random.random() < probability)

    def magnitude(self, low: float, high: float) -> float:
        return float(10 ** self._random.uniform(low, high))


def _text_config(draw: _Draw, tp: int) -> dict:
    heads = draw.one_of(*(n for n in (1, 2, 3, 4, 6, 8, 16) if n % tp == 0))
    kv_heads = [n for n in range(1, heads + 1) if heads % n == 0 and (n % tp == 0 or tp % n == 0)]
    num_layers = draw.between(1, 5)
    config = {
        "vocab_size": tp * draw.between(-(-SMALLEST_VOCABULARY // tp), 240 // tp),
        "hidden_size": tp * draw.between(-(-16 // tp), 64 // tp),
        "intermediate_size": tp * draw.between(2, 96 // tp),
        "num_hidden_layers": num_layers,
        "num_attention_heads": heads,
        "num_key_value_heads": draw.one_of(*kv_heads),
        "num_global_key_value_heads": draw.one_of(None, *kv_heads),
        "head_dim": draw.one_of(4, 8, 12, 16, 32),
        "global_head_dim": draw.one_of(8, 16, 20, 32, 64),
        "attention_k_eq_v": draw.chance(0.6),
        "sliding_window": draw.between(2, 64),
        "rms_norm_eps": draw.one_of(1e-6, 1e-3),
        "final_logit_softcapping": draw.one_of(None, 30.0, 8.5),
        "use_bidirectional_attention": draw.one_of(None, "vision", "vision"),
        "max_position_embeddings": 1024,
        "hidden_size_per_layer_input": 0,
        "pad_token_id": draw.one_of(0, 0, 7),
    }
    if draw.chance(0.8):
        kinds = ("full_attention", "sliding_attention")
        config["layer_types"] = [draw.one_of(*kinds) for _ in range(num_layers)]
    if draw.chance(0.7):
        config["rope_parameters"] = {
            "sliding_attention": {"rope_type": "default", "rope_theta": draw.magnitude(1, 6)},
            "full_attention": {
                "rope_type": draw.one_of("default", "proportional", "proportional"),
                "rope_theta": draw.magnitude(1, 7),
                "partial_rotary_factor": draw.one_of(0.1, 0.25, 0.3, 0.5, 1.0),
                "factor": draw.one_of(1.0, 1.0, 4.0),
            },
        }
    return config


def _vision_config(draw: _Draw, tp: int, budget: int) -> dict:
    heads = draw.one_of(*(n for n in (1, 2, 4, 8) if n % tp == 0))
    return {
        "hidden_size": draw.between(12, 48),
        "intermediate_size": tp * draw.between(2, 64 // tp),
        "num_hidden_layers": draw.between(1, 3),
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "head_dim": draw.one_of(4, 8, 12, 16),
        "position_embedding_size": 3 * budget + draw.between(0, 20),
        "standardize": draw.chance(0.5),
        "use_clipped_linears": draw.chance(0.3),
        "rope_parameters": {"rope_type": "default", "rope_theta": draw.magnitude(1, 4)},
    }


def _text_prompt(draw: _Draw, room: int, edges: list[int]) -> Prompt:
    length = draw.one_of(*edges) if draw.chance(0.7) else draw.between(1, room)
    return Prompt((min(max(length, 1), room) - 1,))  # <bos> is one of them


def _prompt_with_pictures(draw: _Draw, room: int, budgets: list[int], window: int) -> Prompt:
    budget = draw.one_of(*budgets)
    parts, room = [], room - 1
    for _ in range(draw.between(0, 3)):
        if draw.chance(0.6) and room > budget + 3:
            parts.append(draw.between(1, min(room - budget - 2, draw.one_of(8, 2 * window))))
            room -= parts[-1]
        if room < budget + 2:
            break
        sides = sorted((draw.between(1, 4), draw.between(40, 400))) if draw.chance(0.2) else (0, 0)
        height, width = sides if any(sides) else (draw.between(1, 300), draw.between(1, 300))
        parts.append(Picture(height, width, is_black=draw.chance(0.05), is_frame=draw.chance(0.2)))
        room -= budget + 2
    if room and (draw.chance(0.7) or not parts):
        parts.append(draw.between(1, min(room, 40)))
    return Prompt(tuple(parts), budget)
