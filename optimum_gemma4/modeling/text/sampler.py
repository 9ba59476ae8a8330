# SPDX-License-Identifier: Apache-2.0
"""Sampling on the device, mirrors transformers' warpers in their order: temperature, top-k, top-p.

Differs from optimum-neuron's `Sampler` in top-p: there the token that crosses the limit is left out, so that with
Gemma 4's default of 0.95 a token of 94 % stands alone; transformers' `TopPLogitsWarper` keeps it. And no step depends
on the values of the example inputs. Logits [B, vocabulary / tp] float32, parameters [B, 3] -> tokens [B].
"""

import torch
from optimum.neuron.models.inference.backend.modules.generation.sampling import Sampler, cumsum


__all__ = ["Gemma4Sampler"]


class Gemma4Sampler(Sampler):
    """optimum-neuron's sampler with transformers' top-p; top_k 1 is greedy search."""

    def _multinomial_sample(
        self, token_logits: torch.Tensor, sampling_params: torch.Tensor, dim: int, rank_id: torch.Tensor
    ) -> torch.Tensor:
        """Draw one of the tokens that top-k and top-p leave.

        Args:
            token_logits: float32 [B, vocabulary / tp].
            sampling_params: float32 [B, 3]: top_k, top_p, temperature.
            dim: of the vocabulary.
            rank_id: int32 [1].

        Returns:
            Tokens [B].
        """
        top_k, top_p, temperature = torch.split(sampling_params, 1, dim=1)
        logits, tokens = self._top_k_masked(token_logits, top_k, dim, rank_id)  # the best ones, in falling order
        # From the best one on, so that at any temperature what is left out lies far below it.
        logits = (logits - logits[:, :1]) / temperature
        probabilities = self._soft_max(logits, dim)
        of_better_tokens = cumsum(probabilities, dim, on_cpu=self.on_cpu) - probabilities
        logits = logits.masked_fill(of_better_tokens >= top_p, self.IGNORED_LOGITS_VALUE)
        drawn = self._multinomial(self._soft_max(logits, dim), dim)
        # Rounded probabilities may sum to less than the random number: the draw then counts past all of them, and the
        # device has nothing to gather there.
        last = (logits > self.IGNORED_LOGITS_VALUE).sum(dim, keepdim=True) - 1
        return torch.gather(tokens, dim, torch.minimum(drawn, last)).flatten()
