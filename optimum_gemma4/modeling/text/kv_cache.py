# SPDX-License-Identifier: Apache-2.0
"""KV cache by layer kind: a ring of one window on sliding layers, the whole sequence on global ones.

No HF counterpart: transformers grows and crops tensors, here every state is an aliased parameter of fixed shape. Which
position a slot holds is computed from the last position written (`masks.slot_positions`), never assumed. Layers whose
K and V are one projection keep V and only the rotated dims of K: the others are V times a weight. Two states a layer,
in layer order: K [rows, K, T, H] (or [rows, K, T, 2R]) and V [rows, K, T, H], per rank.
"""

import torch
from torch import nn

from ..geometry import LayerSpec, TextGeometry
from .masks import slot_positions


__all__ = ["Gemma4KVCache", "state_shapes"]


def state_shapes(
    spec: LayerSpec, tp_degree: int, num_rows: int, sequence_length: int
) -> tuple[tuple[int, int, int, int], tuple[int, int, int, int]]:
    """Shapes of a layer's K and V states on one rank.

    Args:
        spec: the layer.
        tp_degree: number of ranks.
        num_rows: sequences that the cache holds.
        sequence_length: longest sequence.
    """
    leading = (num_rows, spec.shard(tp_degree).num_kv_heads, spec.cache_slots(sequence_length))
    key_dims = 2 * spec.rope.num_rotated_angles if spec.k_eq_v else spec.head_dim
    return (*leading, key_dims), (*leading, spec.head_dim)


class Gemma4KVCache(nn.Module):
    """The states of every layer, as optimum-neuron's model instances expect them: a flat list of parameters.

    Args:
        geometry: of the text model.
        tp_degree: number of ranks.
        batch_size: rows, the sequences that can be held at the same time.
        sequence_length: longest sequence, prompt and generated tokens together.
        dtype: of the states.
    """

    def __init__(
        self, geometry: TextGeometry, tp_degree: int, batch_size: int, sequence_length: int, dtype: torch.dtype
    ):
        super().__init__()
        self.num_rows = batch_size
        self.past_key_values = nn.ParameterList(
            nn.Parameter(torch.zeros(shape, dtype=dtype), requires_grad=False)
            for spec in geometry.layers
            for shape in state_shapes(spec, tp_degree, batch_size, sequence_length)
        )

    def num_bytes(self) -> int:
        """Bytes of all states on one rank."""
        return sum(state.numel() * state.element_size() for state in self.past_key_values)

    def states(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The K and V states of a layer."""
        return self.past_key_values[2 * layer], self.past_key_values[2 * layer + 1]

    def write_prompt(
        self, layer: int, entries: tuple[torch.Tensor, torch.Tensor], position_ids: torch.Tensor, seq_ids: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """States of a layer after prompts that start at position 0.

        Args:
            layer: its index.
            entries: what to keep of K and V for every token, [B, S, K, *]; token i has position i.
            position_ids: int32 [B, S], -1 for padding; a row of nothing but padding leaves its cache row as it is.
            seq_ids: int32 [B], the cache row of each prompt; all different.

        Returns:
            The two states, written.
        """
        last_positions = position_ids.amax(1)  # [B, S] -> [B]
        rows = seq_ids.clamp(0, self.num_rows - 1).long()
        is_used = (last_positions >= 0)[:, None, None, None]
        written = []
        for state, entry in zip(self.states(layer), entries):
            old = state.index_select(0, rows)
            new = torch.where(is_used, _prompt_rows(old, entry, last_positions), old)
            written.append(state.index_copy(0, rows, new))
        return tuple(written)

    def write_token(
        self, layer: int, entries: tuple[torch.Tensor, torch.Tensor], positions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """States of a layer after one more token in every row.

        Args:
            layer: its index.
            entries: what to keep of K and V, [rows, 1, K, *], in the order of the cache's rows.
            positions: int32 [rows]; a row at -1 leaves its cache row as it is.

        Returns:
            The two states, written.
        """
        is_used = (positions >= 0)[:, None, None]
        written = []
        for state, entry in zip(self.states(layer), entries):
            num_rows, num_heads, num_slots, _ = state.shape
            # One index for a whole head [*]: indices for single values would make as many small transfers.
            heads = torch.arange(num_rows * num_heads, dtype=positions.dtype, device=positions.device)
            slots = torch.remainder(positions, num_slots)[:, None]
            index = (heads.view(num_rows, num_heads) * num_slots + slots).flatten().long()
            flat = state.flatten(0, 2)  # [rows, K, T, *] -> [rows * K * T, *]
            # The slot of an unused row is written too, with what it holds.
            held = flat.index_select(0, index).view(num_rows, num_heads, -1)
            new = torch.where(is_used, entry[:, 0], held)
            written.append(flat.index_copy(0, index, new.flatten(0, 1)).view_as(state))
        return tuple(written)


def _prompt_rows(old: torch.Tensor, entry: torch.Tensor, last_positions: torch.Tensor) -> torch.Tensor:
    """Cache rows [B, K, T, *] after prompts [B, S, K, *] that end at `last_positions` [B]."""
    batch, length = entry.shape[:2]
    num_slots = old.shape[2]
    if length <= num_slots:  # no position shares a slot with another: position p goes to slot p
        return torch.cat([entry.transpose(1, 2), old[:, :, length:]], dim=2)
    # The ring has turned: fetch for each slot the position that it ends up with. Whole tokens are gathered, as from an
    # embedding; slots that hold nothing take position 0, which no mask lets through.
    source = slot_positions(last_positions, num_slots).clamp(0, length - 1)
    source = source + torch.arange(batch, dtype=source.dtype, device=source.device)[:, None] * length
    tokens = entry.flatten(0, 1).flatten(1)  # [B, S, K, *] -> [B * S, K * *]
    ring = tokens.index_select(0, source.flatten().long())  # -> [B * T, K * *]
    return ring.unflatten(0, (batch, num_slots)).unflatten(2, entry.shape[2:]).transpose(1, 2)
