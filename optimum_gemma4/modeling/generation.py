# SPDX-License-Identifier: Apache-2.0
"""`generate()` for compiled Gemma 4 models: transformers' generation on top of static graphs.

Differs from optimum-neuron's mixin: left-padded prompts are repacked, `streamer`, `return_dict_in_generate`, scores
and logits work, nothing is dropped silently. With logits from the graphs the loop is transformers 4.57
`GenerationMixin._sample` itself, so every logits processor applies; with on-device sampling the graphs return tokens
and the loop here only appends them. The returned sequences are the prompts as given, padding included, and then the
new tokens.
"""

import logging
from typing import Any

import torch
from optimum.neuron.models.inference.backend.modules.generation.generation_utils import NxDGenerationMixin
from transformers import GenerationConfig
from transformers.generation.logits_process import (
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from transformers.generation.stopping_criteria import StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer
from transformers.generation.utils import GenerateDecoderOnlyOutput, GenerationMixin

from .generation_checks import check_generation_request, new_token_budget
from .prompts import check_prompts, pack_prompts


__all__ = ["Gemma4GenerationMixin"]

logger = logging.getLogger("Neuron")

ON_DEVICE_PROCESSORS = (TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper)


class Gemma4GenerationMixin(NxDGenerationMixin):
    """Generation with the compiled prefill and decode graphs; the KV cache lives on the device."""

    # The cache cannot be handed over or rolled back: transformers then creates none of its own.
    _is_stateful = True
    # Keyword arguments of `generate()` that are the model's own
    _MODEL_ARGUMENTS: tuple[str, ...] = ("seq_ids",)

    def generate(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        **kwargs: Any,
    ) -> torch.LongTensor | GenerateDecoderOnlyOutput:
        """Generate token ids by greedy search or sampling.

        `max_new_tokens` and `max_length` given by name must fit the compiled `sequence_length`; those of a
        `GenerationConfig` (a file, a pipeline's default) are limits, cut to what fits with a warning.

        Args:
            input_ids: `[B, W]` prompts, padded on either side.
            attention_mask: `[B, W]`, 1 for tokens; when absent, `pad_token_id` marks the padding, as in transformers.
            generation_config: defaults to the artifact's `generation_config.json`.
            kwargs: any field of `GenerationConfig`, and `logits_processor`, `stopping_criteria`,
                `prefix_allowed_tokens_fn`, `streamer`, `tokenizer`, `seq_ids` (`[B]`, cache rows to use).

        Returns:
            `[B, W + new]` token ids, or a `GenerateDecoderOnlyOutput` with `return_dict_in_generate=True`.

        Raises:
            ValueError: the prompts or the options are not what the compiled graphs can do, with what to change.
        """
        input_ids = kwargs.pop("inputs", None) if input_ids is None else input_ids
        use_model_defaults = kwargs.pop("use_model_defaults", None)
        loop_arguments, options = check_generation_request(kwargs, self._MODEL_ARGUMENTS)
        config, extra = self._prepare_generation_config(generation_config, use_model_defaults, **options)
        check_generation_request(extra, self._MODEL_ARGUMENTS, config)
        check_prompts(
            input_ids,
            attention_mask,
            batch_size=self.neuron_config.batch_size,
            copies=config.num_return_sequences,
            vocab_size=self.vocab_size,
        )
        input_ids = input_ids.long()
        self._prepare_special_tokens(config, attention_mask is not None, device=input_ids.device)
        if attention_mask is None:
            attention_mask = self._prepare_attention_mask_for_generation(input_ids, config, {})
            check_prompts(input_ids, attention_mask, self.neuron_config.batch_size, 1, self.vocab_size)
        longest = int(attention_mask.sum(dim=1).max())
        self.context_encoding_model.bucket(longest)
        config.max_new_tokens = new_token_budget(
            config, options, longest, input_ids.shape[1], self.neuron_config.sequence_length
        )
        extra = self._prepare_images(input_ids, attention_mask, config.num_return_sequences, extra)
        # The options are merged: a second round of model defaults would undo an explicit do_sample=False, and the
        # model's stop ids would come back unless they are given by name. optimum-neuron's own generate() adds a
        # check of the columns, padding included, to transformers'.
        return GenerationMixin.generate(
            self,
            input_ids,
            attention_mask=attention_mask,
            generation_config=config,
            use_model_defaults=False,
            eos_token_id=config.eos_token_id,
            **loop_arguments,
            **extra,
        )

    def _prepare_images(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, copies: int, arguments: dict[str, Any]
    ) -> dict[str, Any]:
        """The model's own arguments as `prepare_inputs_for_generation` takes them; a text model has nothing to do."""
        return arguments

    def prepare_inputs_for_generation(
        self,
        input_ids: torch.LongTensor,
        attention_mask: torch.LongTensor | None = None,
        seq_ids: torch.LongTensor | None = None,
        next_position: torch.LongTensor | None = None,
        use_cache: bool = True,
        cache_position: torch.LongTensor | None = None,
    ) -> dict[str, torch.Tensor | None]:
        """Arguments of the next `forward` call: the packed prompts first, then the last token at `next_position`.

        `use_cache` and `cache_position` come from transformers' loop, which keeps them for its own caches.
        """
        if next_position is not None:
            return {"input_ids": input_ids[:, -1:], "position_ids": next_position, "seq_ids": seq_ids}
        packed = pack_prompts(attention_mask)
        return {
            "input_ids": packed.pack(input_ids, self.pad_token_id),
            "position_ids": packed.position_ids,
            "seq_ids": seq_ids,
        }

    def _update_model_kwargs_for_generation(
        self, outputs: Any, model_kwargs: dict[str, Any], is_encoder_decoder: bool = False, num_new_tokens: int = 1
    ) -> dict[str, Any]:
        """Move on: after the prefill the next position of a row is its prompt's length, then one more each step."""
        position = model_kwargs.get("next_position")
        if position is None:
            position = model_kwargs["attention_mask"].sum(dim=1, keepdim=True)
        else:
            position = position + num_new_tokens
        return {**model_kwargs, "next_position": position}

    def _sample(
        self,
        input_ids: torch.LongTensor,
        logits_processor: LogitsProcessorList,
        stopping_criteria: StoppingCriteriaList,
        generation_config: GenerationConfig,
        synced_gpus: bool = False,
        streamer: BaseStreamer | None = None,
        tokenizer: Any = None,
        **model_kwargs: Any,
    ) -> torch.LongTensor | GenerateDecoderOnlyOutput:
        """The decoding loop; `tokenizer` has served `stop_strings` already."""
        if not self.neuron_config.on_device_sampling:
            return GenerationMixin._sample(
                self, input_ids, logits_processor, stopping_criteria, generation_config, synced_gpus, streamer,
                **model_kwargs,
            )  # fmt: skip
        self._check_on_device(logits_processor, generation_config)
        return self._sample_on_device(input_ids, stopping_criteria, generation_config, streamer, **model_kwargs)

    def _check_on_device(self, logits_processor: LogitsProcessorList, config: GenerationConfig) -> None:
        on_host = "export with --no_on_device_sampling (on_device_sampling=False) to process logits on the host"
        others = [type(p).__name__ for p in logits_processor if not isinstance(p, ON_DEVICE_PROCESSORS)]
        if others:
            raise ValueError(
                f"The graphs of this artifact choose the tokens (on_device_sampling): {', '.join(others)} cannot be "
                f"applied. Leave the option out, or {on_host}."
            )
        if config.output_scores or (config.output_logits and not self.neuron_config.output_logits):
            raise ValueError(
                "output_scores and output_logits need the logits, which on-device sampling keeps on the device: "
                f"leave them out, or {on_host}."
            )
        max_topk = self.neuron_config.max_topk
        if config.do_sample and not 1 <= (config.top_k or 0) <= max_topk:
            raise ValueError(
                f"top_k is {config.top_k}: on-device sampling chooses among 1 to {max_topk} tokens. Set top_k in that "
                f"range, or {on_host}."
            )

    def _sample_on_device(
        self,
        input_ids: torch.LongTensor,
        stopping_criteria: StoppingCriteriaList,
        generation_config: GenerationConfig,
        streamer: BaseStreamer | None = None,
        **model_kwargs: Any,
    ) -> torch.LongTensor | GenerateDecoderOnlyOutput:
        """Append the tokens that the graphs choose until every row has stopped."""
        sampling = (1, 1.0, 1.0)  # greedy
        if generation_config.do_sample:
            sampling = (generation_config.top_k, generation_config.top_p, generation_config.temperature)
        # An option that is unset in the GenerationConfig does not filter.
        sampling_params = torch.tensor([1.0 if value is None else value for value in sampling])
        sampling_params = sampling_params.expand(input_ids.shape[0], -1)  # [3] -> [B, 3]
        stops_on_token = any(hasattr(criterion, "eos_token_id") for criterion in stopping_criteria)
        unfinished = torch.ones(input_ids.shape[0], dtype=torch.bool)
        logits = ()
        while unfinished.any():
            model_inputs = self.prepare_inputs_for_generation(input_ids, **model_kwargs)
            tokens = self(**model_inputs, sampling_params=sampling_params)
            if self.neuron_config.output_logits:
                tokens, step_logits = tokens
                logits += (step_logits[:, -1],)
            model_kwargs = self._update_model_kwargs_for_generation(None, model_kwargs)
            tokens = tokens.long()
            if stops_on_token:
                tokens = torch.where(unfinished, tokens, generation_config._pad_token_tensor)
            input_ids = torch.cat([input_ids, tokens[:, None]], dim=-1)
            if streamer is not None:
                streamer.put(tokens)
            unfinished = unfinished & ~stopping_criteria(input_ids, None)
        if streamer is not None:
            streamer.end()
        if not generation_config.return_dict_in_generate:
            return input_ids
        return GenerateDecoderOnlyOutput(
            sequences=input_ids, logits=logits if generation_config.output_logits else None
        )
