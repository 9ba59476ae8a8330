# SPDX-License-Identifier: Apache-2.0
"""Sharding a checkpoint for a module, as the SDK does it: by the attributes of the module's own parameters.

What is easily overlooked in it is kept: keys that the module does not have are dropped with a warning, keys that the
checkpoint does not have are skipped without one, and any dtype that differs is cast, integers included.
"""

import logging
import warnings

import torch
from neuronx_distributed.parallel_layers._layers.base import BaseParallelLinear
from neuronx_distributed.parallel_layers._layers.embedding import ParallelEmbedding
from neuronx_distributed.parallel_layers._layers.sharded import local_shard
from neuronx_distributed.parallel_layers._layers.spmd_rank import SPMDRank
from torch import nn


logger = logging.getLogger("Neuron")
_SHARDED_MODULES = (BaseParallelLinear, ParallelEmbedding, SPMDRank)


def preprocess_checkpoint(model: nn.Module, checkpoint: dict[str, torch.Tensor]) -> None:
    """Runs the modules' preshard hooks on the checkpoint and drops keys that the model does not have."""
    _invoke_preshard_hooks(model, checkpoint, "")
    known = model.state_dict()
    redundant = [key for key in checkpoint if key not in known]
    warnings.warn(f"Removing redundant keys from checkpoint: {redundant}")
    for key in redundant:
        del checkpoint[key]


def _invoke_preshard_hooks(module: nn.Module, checkpoint: dict[str, torch.Tensor], prefix: str) -> None:
    if hasattr(module, "preshard_hook"):  # the hook answers for the module's children as well
        module.preshard_hook(checkpoint, prefix + "weight")
        if getattr(module, "add_bias", False):
            module.preshard_hook(checkpoint, prefix + "bias")
        return
    for name, child in module.named_children():
        _invoke_preshard_hooks(child, checkpoint, f"{prefix}{name}.")


def cast_weights(model: nn.Module, checkpoint: dict[str, torch.Tensor]) -> None:
    """Casts every tensor of the checkpoint to the dtype of the model's parameter, with a warning for each."""
    for name, parameter in model.named_parameters(remove_duplicate=False):
        tensor = checkpoint.get(name)
        if tensor is not None and tensor.dtype != parameter.dtype:
            logger.warning(f"casting {name} from {tensor.dtype} to {parameter.dtype}")
            checkpoint[name] = tensor.to(parameter.dtype)


def shard_for_rank(model: nn.Module, checkpoint: dict[str, torch.Tensor], rank: int) -> dict[str, torch.Tensor]:
    """Returns the checkpoint of one rank: views of the full tensors wherever that is possible.

    Raises:
        RuntimeError: a shard does not have the parameter's shape.
    """
    sharded = dict(checkpoint)
    for prefix, module in model.named_modules():
        if not isinstance(module, _SHARDED_MODULES):
            continue
        for leaf, parameter in module.named_parameters(recurse=False):
            name = f"{prefix}.{leaf}" if prefix else leaf
            if name not in checkpoint:
                continue
            if getattr(parameter, "tensor_model_parallel", False):
                sharded[name] = _shard(parameter, checkpoint[name], rank)
            if sharded[name].shape != parameter.shape:
                raise RuntimeError(f"expected shape {parameter.shape} for {name} but found {sharded[name].shape}")
    return sharded


def _shard(parameter: nn.Parameter, full: torch.Tensor, rank: int) -> torch.Tensor:
    partitions = parameter.num_partitions
    ordering = getattr(parameter, "rank_ordering", None)
    rank = (rank if ordering is None else ordering[rank]) % partitions
    dim, stride = parameter.partition_dim, parameter.partition_stride
    if hasattr(parameter, "fused_qkv"):
        q = parameter.num_attention_heads * parameter.head_dim
        kv = parameter.num_key_value_heads * parameter.head_dim
        parts = torch.split(full, [q, kv, kv], dim=dim)
        shards = [local_shard(p, dim, p.shape[dim] // partitions, 1, rank, partitions) for p in parts]
        return torch.cat(shards, dim=dim)
    return local_shard(full, dim, full.shape[dim] // partitions, stride, rank, partitions)
