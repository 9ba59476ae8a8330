# SPDX-License-Identifier: Apache-2.0
"""Prompts as the graphs want them: checked, and moved to the left edge with the padding behind.

Tokenizers of chat models pad on the left, the compiled graphs expect each row to start at column 0: positions are the
columns, padding has position -1. Mirrors transformers' rule for padded batches, where a position counts the attended
tokens before it. In: `input_ids [B, W]` and `attention_mask [B, W]`. Out: the same tokens, `[B, longest prompt]`.
"""

from dataclasses import dataclass

import torch


__all__ = [
    "PADDING_POSITION",
    "PackedPrompts",
    "check_prompts",
    "check_token_ids",
    "checked_prompt_positions",
    "pack_prompts",
]

PADDING_POSITION = -1
_INTEGER_DTYPES = (torch.int64, torch.int32)


@dataclass(frozen=True)
class PackedPrompts:
    """Where each token of a right-padded batch comes from.

    Attributes:
        lengths: `[B]`, tokens of each prompt.
        columns: `[B, S]`, the column of the given batch that holds token `i` of a prompt.
        position_ids: `[B, S]`, `0 .. length - 1`, then `PADDING_POSITION`.
    """

    lengths: torch.Tensor
    columns: torch.Tensor
    position_ids: torch.Tensor

    def pack(self, values: torch.Tensor, fill: int) -> torch.Tensor:
        """Move per-token values `[B, W]` along: `[B, S]`, with `fill` behind each prompt."""
        return values.gather(1, self.columns).masked_fill(self.position_ids < 0, fill)


def pack_prompts(attention_mask: torch.Tensor) -> PackedPrompts:
    """Work out how to move each row's attended tokens to the left edge, in their order.

    Args:
        attention_mask: `[B, W]`, 1 for tokens and 0 for padding, wherever it is.
    """
    lengths = attention_mask.sum(dim=1)
    longest = int(lengths.max())
    columns = attention_mask.bool().int().argsort(dim=1, descending=True, stable=True)[:, :longest]
    steps = torch.arange(longest).expand_as(columns)
    return PackedPrompts(lengths, columns, steps.masked_fill(steps >= lengths[:, None], PADDING_POSITION))


def checked_prompt_positions(position_ids: torch.LongTensor) -> torch.LongTensor:
    """Positions of right-padded prompts with `PADDING_POSITION` as padding: column numbers, then padding.

    Raises:
        ValueError: the positions are others.
    """
    columns = torch.arange(position_ids.shape[1]).expand_as(position_ids)
    is_token = position_ids == columns
    is_padding = (position_ids == PADDING_POSITION) | ((position_ids == 0) & (columns > 0))
    tokens_first = (is_token.int().diff(dim=1) <= 0).all()
    if not (is_token | is_padding).all() or not tokens_first or not is_token[:, 0].all():
        raise ValueError(
            f"position_ids of a prefill must be 0, 1, 2, ... and {PADDING_POSITION} behind the prompt; got rows such "
            f"as {position_ids[0].tolist()[:8]}. A prompt is encoded as a whole, from position 0, padded on the right."
        )
    return position_ids.masked_fill(~is_token, PADDING_POSITION)


def check_token_ids(input_ids: torch.Tensor, vocab_size: int) -> None:
    """Refuse ids that the embedding has no row for: on a device they read, silently, some other row.

    Raises:
        ValueError: an id is negative or not below `vocab_size`.
    """
    outside = input_ids[(input_ids < 0) | (input_ids >= vocab_size)]
    if outside.numel():
        raise ValueError(
            f"input_ids holds {sorted(set(outside.tolist()))[:5]}: token ids must be from 0 to {vocab_size - 1}. "
            "Is this the tokenizer of the exported model?"
        )


def check_prompts(
    input_ids: torch.Tensor | None, attention_mask: torch.Tensor | None, batch_size: int, copies: int, vocab_size: int
) -> None:
    """Refuse a batch that cannot be what was meant, or that the compiled batch cannot hold.

    Args:
        input_ids: `[B, W]`.
        attention_mask: `[B, W]`; every token is attended when absent.
        batch_size: sequences that the artifact was compiled for.
        copies: sequences to generate for each prompt.
        vocab_size: ids must be below.

    Raises:
        ValueError: with what was found, what was expected and what to change.
    """
    if input_ids is None or not isinstance(input_ids, torch.Tensor):
        raise ValueError(
            f"input_ids is {type(input_ids).__name__}: expected a tensor of token ids, [batch, length], with at least "
            "one token per prompt (for instance the tokenizer's <bos>)."
        )
    if input_ids.dim() != 2:
        raise ValueError(f"input_ids has the shape {tuple(input_ids.shape)}: expected [batch, length].")
    if input_ids.dtype not in _INTEGER_DTYPES:
        raise ValueError(f"input_ids has the dtype {input_ids.dtype}: expected torch.int64 or torch.int32 token ids.")
    if attention_mask is not None and getattr(attention_mask, "shape", None) != input_ids.shape:
        shape = getattr(attention_mask, "shape", None)
        found = f"is {type(attention_mask).__name__}" if shape is None else f"has the shape {tuple(shape)}"
        raise ValueError(
            f"attention_mask {found}: expected a tensor of the shape of input_ids, {tuple(input_ids.shape)}."
        )
    if attention_mask is not None and not ((attention_mask == 0) | (attention_mask == 1)).all():
        raise ValueError("attention_mask must hold only 0 (padding) and 1 (token).")
    attended = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    empty = [row for row, length in enumerate(attended.sum(dim=1).tolist()) if length == 0]
    if input_ids.numel() == 0 or empty:
        raise ValueError(
            f"The prompts {empty} have no token: every prompt needs at least one (for instance the tokenizer's <bos>)."
        )
    sequences = input_ids.shape[0] * copies
    if sequences > batch_size:
        what = f"{input_ids.shape[0]} prompts" + (f" x {copies} num_return_sequences" if copies > 1 else "")
        raise ValueError(
            f"{what} exceed the compiled batch size of {batch_size}: pass fewer, or export with "
            f"--batch_size {sequences}."
        )
    check_token_ids(input_ids[attended.bool()], vocab_size)
