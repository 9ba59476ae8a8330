# SPDX-License-Identifier: Apache-2.0
"""Building and running the encoder on one or several simulated ranks."""

import numpy as np
import torch

from optimum_gemma4.modeling.configuration import Gemma4VisionConfig
from optimum_gemma4.modeling.processing import soft_token_counts
from optimum_gemma4.modeling.vision.model import Gemma4ImageEncoder
from optimum_gemma4.modeling.vision.spec import VisionSpec
from optimum_gemma4.simulator.engine.ranks import run_on_ranks, tensor_parallel
from tests.modeling.vision.toy_vision import CONFIGS, TEXT_HIDDEN_SIZE, image_inputs, toy_weights


_ROWS = tuple(f"{name}_proj.linear.weight" for name in ("q", "k", "v", "gate", "up"))
_COLUMNS = tuple(f"{name}_proj.linear.weight" for name in ("o", "down"))


def spec_of(name: str) -> VisionSpec:
    return VisionSpec.from_config(Gemma4VisionConfig(**CONFIGS[name]), TEXT_HIDDEN_SIZE)


def torch_weights(name: str, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """The toy model's weights as a conversion leaves them: scalars have one axis."""
    weights = toy_weights(CONFIGS[name])
    return {key: torch.from_numpy(np.atleast_1d(weight)).to(dtype) for key, weight in weights.items()}


def shard(weights: dict[str, torch.Tensor], tp: int) -> list[dict[str, torch.Tensor]]:
    """Weights of each rank: outputs of q, k, v, gate, up are split, inputs of o and down."""

    def part(key: str, weight: torch.Tensor, rank: int) -> torch.Tensor:
        if key.endswith(_ROWS):
            return weight.chunk(tp, dim=0)[rank]
        return weight.chunk(tp, dim=1)[rank] if key.endswith(_COLUMNS) else weight

    return [{key: part(key, weight, rank) for key, weight in weights.items()} for rank in range(tp)]


def make_encoder(name: str, dtype: torch.dtype = torch.float32) -> Gemma4ImageEncoder:
    """Encoder of one rank with its weights loaded, strictly."""
    with tensor_parallel(1):
        encoder = Gemma4ImageEncoder(spec_of(name), dtype).to(dtype).eval()
        encoder.load_state_dict(torch_weights(name, dtype))
    return encoder


def inputs(budget: int, black: bool = False, images: slice = slice(None)) -> tuple[torch.Tensor, torch.Tensor]:
    pixels, positions = image_inputs(budget, black)
    return torch.from_numpy(pixels[images]), torch.from_numpy(positions[images]).int()


def run(encoder: Gemma4ImageEncoder, pixels: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    with tensor_parallel(1), torch.no_grad():
        return encoder(pixels, positions)


def run_sharded(name: str, tp: int, pixels: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Output of rank 0, after checking that every rank has the same."""
    with tensor_parallel(tp):
        encoder = Gemma4ImageEncoder(spec_of(name), torch.float32).eval()
        outputs = run_on_ranks(encoder, shard(torch_weights(name), tp), pixels, positions)
    assert all(torch.equal(outputs[0], other) for other in outputs[1:])
    return outputs[0]


def valid_rows(outputs: torch.Tensor, positions: torch.Tensor) -> list[np.ndarray]:
    """The soft tokens of each image."""
    return [rows[:count].float().numpy() for rows, count in zip(outputs, soft_token_counts(positions), strict=True)]


def relative_errors(outputs: torch.Tensor, positions: torch.Tensor, wanted: np.ndarray) -> list[float]:
    """Of each image: largest difference over largest value."""
    rows = valid_rows(outputs, positions)
    assert sum(map(len, rows)) == len(wanted)
    parts = np.split(wanted, np.cumsum([len(part) for part in rows])[:-1])
    return [float(np.abs(row - part).max() / np.abs(part).max()) for row, part in zip(rows, parts, strict=True)]
