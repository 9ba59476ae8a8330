# SPDX-License-Identifier: Apache-2.0
"""Stand-in for neuronx_distributed.parallel_layers.utils: division, padding, and the sharding attributes."""

import warnings
from collections.abc import Sequence

import torch

from optimum_gemma4.simulator.not_simulated import not_simulated

from . import parallel_state


_ATTRIBUTES = ("tensor_model_parallel", "partition_dim", "partition_stride", "num_partitions")


class EmbeddingUtility:
    """Vocabulary ranges of the ranks; the end of a range is exclusive."""

    @staticmethod
    def range_from_per_partition_vocab_size(per_partition_vocab_size: int, rank, world_size: int) -> tuple[int, int]:
        first = rank * per_partition_vocab_size
        return first, first + per_partition_vocab_size

    @staticmethod
    def range_from_global_vocab_size(global_vocab_size: int, rank: int, world_size: int) -> tuple[int, int]:
        size = divide(global_vocab_size, world_size)
        return EmbeddingUtility.range_from_per_partition_vocab_size(size, rank, world_size)


def ensure_divisibility(numerator: int, denominator: int) -> None:
    """Asserts that the denominator divides the numerator."""
    assert numerator % denominator == 0, f"{numerator} is not divisible by {denominator}"


def divide(numerator: int, denominator: int) -> int:
    """Exact division; an AssertionError where there is a remainder, as in the SDK."""
    ensure_divisibility(numerator, denominator)
    return numerator // denominator


def get_padding_length(numerator: int, denominator: int) -> int:
    """What to add to the numerator to make it a multiple of the denominator."""
    return -numerator % denominator


def split_tensor_along_dim(
    tensor: torch.Tensor, dim: int, num_partitions: int, contiguous_split_chunks: bool = False
) -> Sequence[torch.Tensor]:
    """Splits into `num_partitions` equal chunks along `dim`."""
    chunks = torch.split(tensor, divide(tensor.size(dim), num_partitions), dim=dim)
    return tuple(chunk.contiguous() for chunk in chunks) if contiguous_split_chunks else list(chunks)


def split_tensor_along_last_dim(
    tensor: torch.Tensor, num_partitions: int, contiguous_split_chunks: bool = False
) -> Sequence[torch.Tensor]:
    """Splits into `num_partitions` equal chunks along the last dimension."""
    return split_tensor_along_dim(tensor, tensor.dim() - 1, num_partitions, contiguous_split_chunks)


def set_tensor_model_parallel_attributes(
    tensor: torch.Tensor,
    is_parallel: bool,
    dim: int,
    stride: int,
    num_partitions: int = -1,
    rank_ordering: list[int] | None = None,
) -> None:
    """Marks a parameter as sharded: these attributes are what sharding a checkpoint and the simulator go by.

    Raises:
        AssertionError: the tensor is marked already.
        ValueError: `rank_ordering` leaves a rank out.
    """
    for attribute in _ATTRIBUTES:
        assert not hasattr(tensor, attribute), f"{attribute} is already set"
    if num_partitions == -1:
        warnings.warn("set_tensor_model_parallel_attributes: pass num_partitions; its default will be removed.")
        num_partitions = parallel_state.get_tensor_model_parallel_size()
    if rank_ordering is not None:
        size = parallel_state.get_tensor_model_parallel_size()
        if not all(rank in rank_ordering for rank in range(size)):
            raise ValueError(f"rank_ordering {rank_ordering} must hold every rank from 0 to {size - 1}")
    tensor.tensor_model_parallel = is_parallel
    tensor.partition_dim = dim
    tensor.partition_stride = stride
    tensor.num_partitions = num_partitions
    tensor.rank_ordering = rank_ordering


get_local_world_size = not_simulated(__name__, "get_local_world_size")
move_model_to_device = not_simulated(__name__, "move_model_to_device")
