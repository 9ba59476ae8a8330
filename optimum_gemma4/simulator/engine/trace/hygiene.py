# SPDX-License-Identifier: Apache-2.0
"""Checks a recorded graph for what the Neuron compiler could not take.

The list of operators names those that torch_xla 2.8 has no lowering for (they would fall back to the host and cut the
graph), those whose result has a shape that depends on values, and those that compute in floating point on the device,
so that integers lose bits. Data types without hardware support are refused as well. Reads on the host never come this
far: see `guard.py`.
"""

import torch
from torch import fx

from ..errors import GraphError


_NO_STATIC_SHAPE = ("nonzero", "masked_select", "unique_dim", "_unique", "_unique2", "unique_consecutive", "bincount")
# Found with torch_xla 2.8.1's counters of host fallbacks (`aten::...`), their relatives, and multinomial, which checks
# values on the host. A name may have an overload.
_NO_LOWERING = """
    _adaptive_avg_pool2d _cummin_helper _embedding_bag_forward_only _fft_c2c _fft_c2r _fft_r2c _linalg_det
    _linalg_eigh _linalg_solve_ex _logcumsumexp addbmm aminmax angle bucketize col2im copysign cummin digamma exp2
    fft_fft fft_fft2 fft_fftn frexp gcd grid_sampler_2d grid_sampler_3d heaviside histc huber_loss hypot i0 igamma
    im2col index_reduce isin lgamma linalg_cholesky_ex linalg_cross linalg_eig linalg_eigh linalg_lstsq
    linalg_matrix_exp linalg_qr linalg_solve linalg_solve_triangular logcumsumexp median mode multinomial nanmedian
    nansum nextafter polar polygamma renorm round.decimals searchsorted signbit sinc unfold upsample_bicubic2d
""".split()
REFUSED_OPERATORS = dict.fromkeys(_NO_STATIC_SHAPE, "its result has no static shape") | dict.fromkeys(
    _NO_LOWERING, "it has no XLA lowering"
)
# neuronx-cc's errors EVRF013, EVRF016, EVRF035, EVRF060, EVRF061 and EVRF063; until they were made errors (after SDK
# 2.32) it rounded some of them to fp32.
_FLOATS_ONLY = """
    addmm all_reduce baddbmm bmm dot index_add mm mv reduce_scatter scatter_add scatter_reduce topk
""".split()
_INDEXING = ("index", "index_put", "_unsafe_index", "_unsafe_index_put", "_index_put_impl")
_MASKS = (torch.bool, torch.uint8)
REFUSED_DTYPES = (torch.float64, torch.complex32, torch.complex64, torch.complex128)


def _base_name(target) -> str:
    return target._schema.name.partition("::")[2].rstrip("_") if isinstance(target, torch._ops.OpOverload) else ""


def refuse_operator(target, where: str) -> None:
    """Raises GraphError if the operator cannot be compiled."""
    name = _base_name(target)
    reason = REFUSED_OPERATORS.get(name) or REFUSED_OPERATORS.get(f"{name}.{getattr(target, '_overloadname', '')}")
    if reason is not None:
        raise GraphError(f"{target} cannot be compiled for Neuron: {reason} ({where})")


def _refuse_mask_index(node: fx.Node, where: str) -> None:
    if _base_name(node.target) not in _INDEXING:
        return
    for index in node.args[1]:
        if index is not None and index.meta["val"].dtype in _MASKS:
            raise GraphError(
                f"{node.target} with a boolean mask cannot be compiled for Neuron: which elements it touches depends "
                f"on values ({where}). Use torch.where."
            )


def _refuse_integers(node: fx.Node, where: str) -> None:
    name = _base_name(node.target)
    accumulates = name.strip("_") == "index_put" and len(node.args) > 3 and node.args[3]
    if name not in _FLOATS_ONLY and not accumulates:
        return
    dtype = node.args[0].meta["val"].dtype
    if not dtype.is_floating_point:
        raise GraphError(
            f"{node.target} of {dtype} cannot be compiled for Neuron: the device computes it in floating point and "
            f"integers would lose bits ({where}). Cast to float32, or use elementwise operations and a sum."
        )


def check_graph(graph: fx.Graph, where: str) -> None:
    """Checks every node of a graph of one rank.

    Raises:
        GraphError: an operator or a data type that cannot be compiled, or a tensor that is used after it was reduced
            over the ranks (the SDK reduces in place: what the later use reads on the device is the sum).
    """
    order = {node: index for index, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        if node.op != "call_function":
            continue
        refuse_operator(node.target, where)
        _refuse_mask_index(node, where)
        _refuse_integers(node, where)
        value = node.meta.get("val")
        if isinstance(value, torch.Tensor) and value.dtype in REFUSED_DTYPES and node.users:
            raise GraphError(f"{node.target} makes a {value.dtype} tensor, which Neuron does not support ({where})")
        if _base_name(node.target) == "all_reduce":
            later = [user for user in node.args[0].users if order[user] > order[node]]
            if later:
                raise GraphError(
                    f"{later[0].target} uses a tensor after its all-reduce ({where}): the SDK reduces in place, so on "
                    "the device it would read the sum. Use the result of the reduction, or reduce a clone."
                )
