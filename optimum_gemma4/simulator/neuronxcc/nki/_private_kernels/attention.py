# SPDX-License-Identifier: Apache-2.0
"""Stand-in for the compiler's flash attention kernel, as optimum-neuron's prefill calls it.

q and k are [batch * heads, head_dim, sequence], v is [batch * heads, sequence, head_dim], and the output is written
into `out`, [batch * heads, head_dim, sequence]. Scores and softmax are fp32, as the kernel's PSUM is; the
probabilities are rounded to the dtype of v before the second product, as the matrix unit's operands are.
"""

import torch


_CAUSAL = {"CausalAttentionMMSoftmaxMMWithoutSwap": True, "AttentionMMSoftmaxMMWithoutSwap": False}


def attention_isa_kernel(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float, out: torch.Tensor, kernel_name: str
) -> None:
    """Writes the attention of q, k and v into `out`.

    Raises:
        ValueError: `kernel_name` is not one of the two that are simulated.
    """
    if kernel_name not in _CAUSAL:
        raise ValueError(f"attention kernel {kernel_name!r} is not simulated: use one of {sorted(_CAUSAL)}")
    scores = torch.matmul(q.transpose(1, 2).float(), k.float()) * scale  # [batch * heads, queries, keys]
    if _CAUSAL[kernel_name]:
        queries, keys = scores.shape[-2:]
        future = torch.ones(queries, keys, dtype=torch.bool).triu(1)
        scores = scores.masked_fill(future, float("-inf"))
    probabilities = torch.softmax(scores, dim=-1).to(v.dtype)
    out.copy_(torch.matmul(probabilities, v).transpose(1, 2))
