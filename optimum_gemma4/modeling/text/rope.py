# SPDX-License-Identifier: Apache-2.0
"""Rotary embeddings, mirrors transformers 5.23 `Gemma4TextRotaryEmbedding` and `apply_rotary_pos_emb`.

Differs from Gemma 3 on global layers ("proportional"): of the H / 2 angles only the first R rotate, their exponent is
divided by the full H, and angle `i` turns dims `i` and `i + H / 2`. The rotated dims are therefore 0..R-1 and
H/2..H/2+R-1, not the first 2R.
positions [B, S] -> cos, sin [B, S, 1, R]; heads [B, S, N, H] -> [B, S, N, H].
"""

import torch

from ..geometry import RopeSpec


__all__ = ["apply_rotary", "inverse_frequencies", "rotary_tables", "rotated_dims", "without_rotated_dims"]


def inverse_frequencies(spec: RopeSpec) -> torch.Tensor:
    """Frequencies of the rotated angles, [R] float32; the angles beyond have frequency 0 and are not listed.

    On the CPU whatever the default device, so that a model on the meta device has its constants.
    """
    steps = torch.arange(0, 2 * spec.num_rotated_angles, 2, dtype=torch.int64, device="cpu")
    exponents = steps.float() / spec.head_dim
    return 1.0 / (spec.theta**exponents) / spec.factor


def rotary_tables(
    frequencies: list[float], position_ids: torch.Tensor, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines of every position and rotated angle.

    Args:
        frequencies: `inverse_frequencies(spec).tolist()`. Python numbers, because optimum-neuron casts every buffer to
            the model's dtype, and a constant, because the device's power function is less exact than fp32.
        position_ids: [B, S].
        dtype: the model's; HF rounds the tables to it before use.

    Returns:
        Two tensors [B, S, 1, R].
    """
    inv_freq = torch.tensor(frequencies, dtype=torch.float32, device=position_ids.device)
    angles = position_ids[:, :, None, None].float() * inv_freq  # [B, S] -> [B, S, 1, R]
    return angles.cos().to(dtype), angles.sin().to(dtype)


def _split(x: torch.Tensor, num_rotated_angles: int) -> tuple[torch.Tensor, ...]:
    half = x.shape[-1] // 2
    sizes = [num_rotated_angles, half - num_rotated_angles] * 2
    return torch.split(x, sizes, dim=-1)


def apply_rotary(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotate the first R angles of each head; the other dims pass unchanged.

    Args:
        x: heads [B, S, N, H].
        cos, sin: [B, S, 1, R].
    """
    x1, pass1, x2, pass2 = _split(x, cos.shape[-1])
    return torch.cat([x1 * cos - x2 * sin, pass1, x2 * cos + x1 * sin, pass2], dim=-1)


def rotated_dims(x: torch.Tensor, num_rotated_angles: int) -> torch.Tensor:
    """The dims of heads [.., H] that rotate: [.., 2R], those of the first half before those of the second."""
    x1, _, x2, _ = _split(x, num_rotated_angles)
    return torch.cat([x1, x2], dim=-1)


def without_rotated_dims(x: torch.Tensor, num_rotated_angles: int) -> torch.Tensor:
    """Heads [.., H] with zeros in the dims that rotate."""
    x1, pass1, x2, pass2 = _split(x, num_rotated_angles)
    return torch.cat([torch.zeros_like(x1), pass1, torch.zeros_like(x2), pass2], dim=-1)
