# Copyright 2026 The vanilla_transformer authors. All rights reserved.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""The paper's decoding (§6.1): beam search, GNMT's length penalty, at most |X| + 50 tokens, exact early stopping."""

import copy
from typing import Any

import torch
from transformers.configuration_utils import PreTrainedConfig
from transformers.generation import GenerationConfig, GenerationMixin, StoppingCriteria, StoppingCriteriaList
from transformers.generation.utils import (
    GenerateBeamDecoderOnlyOutput,
    GenerateBeamEncoderDecoderOutput,
    GenerateDecoderOnlyOutput,
    GenerateEncoderDecoderOutput,
)

from .configuration_vanilla_transformer import CACHE_NAME, logger, rename_cache, with_cache_names
from .search_vanilla_transformer import (
    WEIGHT_PRECISIONS,
    beam_search,
    can_search,
    greedy_search,
    length_penalty,
    request_of,
)

OF_TRANSFORMERS = (
    GenerateBeamDecoderOnlyOutput,
    GenerateBeamEncoderDecoderOutput,
    GenerateDecoderOnlyOutput,
    GenerateEncoderDecoderOutput,
)
GenerateBeamDecoderOnlyOutput = with_cache_names(GenerateBeamDecoderOnlyOutput, __name__)
GenerateBeamEncoderDecoderOutput = with_cache_names(GenerateBeamEncoderDecoderOutput, __name__)
GenerateDecoderOnlyOutput = with_cache_names(GenerateDecoderOnlyOutput, __name__)
GenerateEncoderDecoderOutput = with_cache_names(GenerateEncoderDecoderOutput, __name__)

LENGTH_PENALTY_TYPES = ("gnmt", "power")
# Source tokens that raise the limit of a translation: more than sentences have, few enough that what no training had,
# such as thousands of letters without a space, does not take minutes. Training on longer sources raises it.
COUNTED_SOURCE_LENGTH = 512
OF_BEAMS = ("early_stopping", "length_penalty")  # settings that transformers refuses to save where there is one beam


class GNMTLengthPenalty(float):
    """The exponent α of GNMT's ((5 + |Y|) / 6)^α, told apart from transformers' own |Y|^α by its type."""


class SourceLengthCriteria(StoppingCriteria):
    """
    End each hypothesis at a length of its own.

    Args:
        decoder_prompt_length (`int`): tokens that each row starts with; they do not count.
        max_new_tokens (`torch.LongTensor` of shape (B,)): the most tokens to generate for each sentence.
    """

    def __init__(self, decoder_prompt_length: int, max_new_tokens: torch.Tensor):
        self.max_length = decoder_prompt_length + max_new_tokens

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        # Rows are sentences times beams, or times twice the beams where candidates are checked.
        rows_per_sentence = input_ids.shape[0] // self.max_length.shape[0]
        return input_ids.shape[1] >= self.max_length.to(input_ids.device).repeat_interleave(rows_per_sentence)


OWN_CRITERIA = (SourceLengthCriteria,)


class VanillaTransformerSettingsMixin(GenerationMixin):
    """
    Keeps the generation settings of the head that translates and of the decoder-only one apart.

    Both read each other's folders. A folder holds the settings of the head that wrote it, which says so under
    `decoder_only`, and under `other_head` those of the other, which travel with the model. What only beam search reads
    stands under `beam_settings` where the settings ask for one beam.
    """

    generation_config: GenerationConfig
    other_generation_settings: dict[str, Any] | None = None

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """As in transformers; the cache has both of its names, `cache` and `past_key_values`, here and in outputs."""
        outputs = super().generate(*args, **rename_cache(kwargs, CACHE_NAME))
        if isinstance(outputs, OF_TRANSFORMERS):
            return globals()[type(outputs).__name__](**outputs)
        return outputs

    def prepare_inputs_for_generation(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """As in transformers, with the cache under either of its names."""
        return super().prepare_inputs_for_generation(*args, **rename_cache(kwargs, CACHE_NAME))

    def adjust_generation_fn(self, generation_config: GenerationConfig | None, *args: Any, **kwargs: Any) -> None:
        default = self.generation_config
        super().adjust_generation_fn(generation_config, *args, **kwargs)
        loaded = self.generation_config
        if generation_config is not None:  # the caller's, whatever it says
            return
        if getattr(
            loaded, "_from_model_config", False
        ):  # there was no file: the folder of a head that does not generate
            self.generation_config = default
            return
        for name, value in loaded.__dict__.pop("beam_settings", {}).items():
            setattr(loaded, name, value)
        other, written_by_decoder = loaded.__dict__.pop("other_head", None), loaded.__dict__.pop("decoder_only", None)
        if written_by_decoder is None or written_by_decoder is not self.config.is_encoder_decoder:
            self.other_generation_settings = other
        else:
            self.other_generation_settings = loaded.to_diff_dict()
            self.generation_config = default if other is None else GenerationConfig.from_dict(other)

    def save_pretrained(self, *args: Any, **kwargs: Any) -> Any:
        live = self.generation_config
        self.generation_config = copy.deepcopy(live)
        self.generation_config.decoder_only = not self.config.is_encoder_decoder
        if self.other_generation_settings is not None:
            self.generation_config.other_head = self.other_generation_settings
        if live.num_beams == 1:
            self.generation_config.beam_settings = {name: getattr(live, name) for name in OF_BEAMS}
            for name in OF_BEAMS:
                setattr(self.generation_config, name, None)
        try:
            return super().save_pretrained(*args, **kwargs)
        finally:
            self.generation_config = live


class VanillaTransformerCausalGenerationMixin(VanillaTransformerSettingsMixin):
    """`generate` of the decoder-only head: transformers' own, greedy unless told otherwise."""

    @staticmethod
    def default_generation_config(config: PreTrainedConfig) -> GenerationConfig:
        """The token ids of the model's configuration, and nothing else."""
        return GenerationConfig(
            bos_token_id=config.bos_token_id,
            pad_token_id=config.pad_token_id,
            eos_token_id=config.eos_token_id,
        )


class VanillaTransformerGenerationMixin(VanillaTransformerSettingsMixin):
    """
    `generate` of every head of this family that translates. Three settings come on top of transformers' own; like all
    others they are entries of the generation configuration and arguments of `generate`:

    * `length_penalty_type`: `"gnmt"` scores a hypothesis Y by log P(Y|X) / ((5 + |Y|) / 6)^`length_penalty` (Wu et al.
      2016, §7, as §6.1 of the paper uses it); `"power"` by log P(Y|X) / |Y|^`length_penalty`, as transformers does.
    * `source_length_offset`: generate at most |X| + `source_length_offset` tokens for each sentence. |X| counts up to
      512 tokens, or up to `longest_source` of `model.generation_config`, which training writes, where that is more.
    * `weight_precision`: `"bfloat16"` or `"int8"` for the decoder's weights in greedy and beam search, which is faster
      on a CPU (int8 works there alone); `None` for their own. With int8 what they multiply is rounded as well, by one
      scale for the whole batch, so that a translation can depend on the sentences beside it.

    |X| and |Y| count `</s>`, and neither padding nor the tokens that the decoder starts with. A `max_length` or
    `max_new_tokens` that is passed to the call, or stands in a `GenerationConfig` passed to it, takes the place of the
    limit by source length; one in `model.generation_config` does not, since `Seq2SeqTrainer` writes 20 into it: it is
    named once. Set `source_length_offset` to `None` there and it counts.
    """

    @staticmethod
    def default_generation_config(config: PreTrainedConfig) -> GenerationConfig:
        """The paper's settings (§6.1), with the token ids of the model's configuration."""
        return GenerationConfig(
            bos_token_id=config.bos_token_id,
            pad_token_id=config.pad_token_id,
            eos_token_id=config.eos_token_id,
            decoder_start_token_id=config.decoder_start_token_id,
            num_beams=4,
            length_penalty=0.6,
            length_penalty_type="gnmt",
            early_stopping="never",  # transformers' name for: stop only when no beam can improve any more
            source_length_offset=50,
        )

    @torch.no_grad()
    def generate(
        self,
        inputs: torch.Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        logits_processor: Any = None,
        stopping_criteria: StoppingCriteriaList | None = None,
        **kwargs: Any,
    ) -> Any:
        """
        Translate; with nothing but the tokenizer's output this is the paper's decoding.

        Args:
            inputs (`torch.LongTensor` of shape (B, S)): source ids; `input_ids=` says the same.
            generation_config (`GenerationConfig`, *optional*): settings, in the place of the model's own.
            logits_processor, stopping_criteria (*optional*): as in transformers.
            kwargs: the source's `attention_mask` (B, S), which without one leaves padding out, and any setting of
                transformers' `generate` or of this class.

        Returns:
            `torch.LongTensor` of shape (B * num_return_sequences, 1 + T): start token, translation, `</s>`, padding;
            or a `ModelOutput` with `return_dict_in_generate=True`.
        """
        ids = inputs if inputs is not None else kwargs.get("input_ids")
        if ids is not None and ids.dim() != 2:
            raise ValueError(f"`input_ids` is {tuple(ids.shape)}. Give a row of ids for each text: (B, S).")
        padding, ends = self.config.pad_token_id, self.config.eos_token_id
        is_padding = padding is not None and padding not in (ends if isinstance(ends, list) else [ends])
        if kwargs.get("attention_mask") is None and is_padding and ids is not None:
            # transformers makes a missing mask for decoder-only models alone; padding is no text here either.
            kwargs["attention_mask"] = (ids != padding).long()
        precision = self._requested(generation_config, kwargs, "weight_precision")
        if precision is None:
            precision = getattr(self.generation_config, "weight_precision", None)
        kwargs.pop("weight_precision", None)
        if precision is not None:
            self._check_weight_precision(precision)
        offset = self._requested(generation_config, kwargs, "source_length_offset")
        if offset is None:
            offset = getattr(self.generation_config, "source_length_offset", None)
        has_length = any(
            self._requested(generation_config, kwargs, name) is not None for name in ("max_length", "max_new_tokens")
        )
        if offset is not None and not has_length:
            if offset < 0:
                raise ValueError(f"`source_length_offset` is {offset}. Give 0 or more: tokens on top of |X|.")
            self._warn_of_own_length()
            counted = max(COUNTED_SOURCE_LENGTH, getattr(self.generation_config, "longest_source", None) or 0)
            limits = self._source_lengths(ids, kwargs).clamp(max=counted) + offset  # (B,)
            prompt_length = self._decoder_prompt_length(generation_config, kwargs)
            if self.config.position_limit is not None:
                limits = limits.clamp(max=self.config.position_limit - prompt_length)
            stopping_criteria = StoppingCriteriaList(stopping_criteria or [])
            stopping_criteria.append(SourceLengthCriteria(prompt_length, limits))
            longest = int(limits.max())
            if generation_config is not None:
                generation_config = copy.deepcopy(generation_config)
                generation_config.max_new_tokens = longest
            else:
                kwargs.update(max_new_tokens=longest, max_length=None)
        if precision != getattr(generation_config or self.generation_config, "weight_precision", None):
            generation_config = copy.deepcopy(generation_config or self.generation_config)
            generation_config.weight_precision = precision
            for name in [each for each in kwargs if hasattr(generation_config, each)]:
                setattr(generation_config, name, kwargs.pop(name))  # transformers wants settings in one place
        return super().generate(inputs, generation_config, logits_processor, stopping_criteria, **kwargs)

    def _warn_of_own_length(self) -> None:
        """Say once that a limit in the model's own settings has no effect; `Seq2SeqTrainer` writes 20 there."""
        for name, of_trainer in (("max_new_tokens", None), ("max_length", 20)):
            value = getattr(self.generation_config, name)
            if value is not None and value != of_trainer:
                logger.warning_once(
                    f"`{name}` is {value} in `model.generation_config`, where it has no effect beside "
                    "`source_length_offset`. Pass it to `generate`, or set `source_length_offset` there to None."
                )

    def _check_weight_precision(self, precision: Any) -> None:
        """Refuse a precision that there is not, or not on this device."""
        if precision not in WEIGHT_PRECISIONS:
            raise ValueError(f"`weight_precision` is {precision!r}. Choose one of: {WEIGHT_PRECISIONS}.")
        if precision == "int8" and self.device.type != "cpu":
            raise ValueError(f"`weight_precision` is 'int8' on {self.device.type}. Only a CPU has it: use 'bfloat16'.")

    def _refuse_weight_precision(self, generation_config: GenerationConfig) -> None:
        """Raise if weights of another precision were asked for on the plain path."""
        if getattr(generation_config, "weight_precision", None) is not None:
            raise ValueError(
                f"`weight_precision` is {generation_config.weight_precision!r}, which only greedy and beam search "
                "have that no processor, criterion, prompt, cache, output or adapter changes. Leave it out, in "
                "`model.generation_config` too."
            )

    @staticmethod
    def _requested(generation_config: GenerationConfig | None, kwargs: dict[str, Any], name: str) -> Any:
        """What this call asks for, by argument or else by the configuration passed to it."""
        value = kwargs.get(name)
        return value if value is not None else getattr(generation_config, name, None)

    @staticmethod
    def _source_lengths(ids: torch.Tensor | None, kwargs: dict[str, Any]) -> torch.Tensor:
        """|X| of each sentence (B,): tokens without padding, `</s>` included."""
        attention_mask = kwargs.get("attention_mask")
        if attention_mask is not None:
            return attention_mask.sum(dim=-1)
        encoder_outputs = kwargs.get("encoder_outputs")
        encoded = None if encoder_outputs is None else encoder_outputs[0]
        for source in (ids, kwargs.get("inputs_embeds"), encoded):
            if source is not None:
                return torch.full((source.shape[0],), source.shape[1], device=source.device)
        raise ValueError(
            "`generate` got no source: pass `input_ids` (as `**tokenizer(texts, return_tensors='pt', padding=True)` "
            "does), `inputs_embeds` or `encoder_outputs`."
        )

    def _decoder_prompt_length(self, generation_config: GenerationConfig | None, kwargs: dict[str, Any]) -> int:
        """Tokens before the first generated one: the start token, which transformers adds to a prompt without it."""
        prompt = kwargs.get("decoder_input_ids")
        if prompt is None:
            return 1
        for name in ("decoder_start_token_id", "bos_token_id"):
            start = self._requested(generation_config, kwargs, name)
            if start is None:
                start = getattr(self.generation_config, name)
            if start is not None:  # one for all sentences, or a list with one for each
                return prompt.shape[1] + int((prompt[:, 0] != torch.as_tensor(start, device=prompt.device)).all())
        return int(prompt.shape[1])

    def prepare_inputs_for_generation(
        self, input_ids: torch.Tensor, next_sequence_length: int | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        # A prompt with padding on its left: count positions here, before a static cache makes the mask 4-D.
        mask = kwargs.get("decoder_attention_mask")
        if mask is not None and mask.dim() == 2 and kwargs.get("decoder_position_ids") is None:
            kwargs["decoder_position_ids"] = (mask.long().cumsum(-1) - 1).clamp(min=0)
        return super().prepare_inputs_for_generation(input_ids, next_sequence_length=next_sequence_length, **kwargs)

    def _reorder_cache(self, cache: Any, beam_idx: torch.Tensor) -> Any:
        # All beams of a sentence share the source: only the target's keys and values move.
        cache.self_attention_cache.reorder_cache(beam_idx)
        return cache

    def _sample(
        self,
        input_ids: torch.Tensor,
        logits_processor: Any,
        stopping_criteria: StoppingCriteriaList,
        generation_config: GenerationConfig,
        **kwargs: Any,
    ) -> Any:
        if can_search(self, input_ids, logits_processor, stopping_criteria, generation_config, OWN_CRITERIA, **kwargs):
            return greedy_search(self, request_of(input_ids, stopping_criteria, generation_config, 1, kwargs))
        self._refuse_weight_precision(generation_config)
        return super()._sample(input_ids, logits_processor, stopping_criteria, generation_config, **kwargs)

    def _beam_search(
        self,
        input_ids: torch.Tensor,
        logits_processor: Any,
        stopping_criteria: StoppingCriteriaList,
        generation_config: GenerationConfig,
        **kwargs: Any,
    ) -> Any:
        penalty_type = getattr(generation_config, "length_penalty_type", None) or "power"
        if penalty_type not in LENGTH_PENALTY_TYPES:
            raise ValueError(f"`length_penalty_type` is {penalty_type!r}. Choose one of: {LENGTH_PENALTY_TYPES}.")
        if can_search(self, input_ids, logits_processor, stopping_criteria, generation_config, OWN_CRITERIA, **kwargs):
            beams, alpha = generation_config.num_beams, generation_config.length_penalty
            return beam_search(
                self,
                request_of(input_ids, stopping_criteria, generation_config, beams, kwargs),
                beams=beams,
                penalty=length_penalty(alpha, penalty_type == "gnmt"),
                is_rising=alpha > 0,
                early_stopping=generation_config.early_stopping,
                returned=generation_config.num_return_sequences,
            )
        self._refuse_weight_precision(generation_config)
        if penalty_type == "gnmt":  # `generate` passes its own copy of the configuration
            generation_config.length_penalty = GNMTLengthPenalty(generation_config.length_penalty)
        return super()._beam_search(input_ids, logits_processor, stopping_criteria, generation_config, **kwargs)

    # The two places where beam search divides by a length. Both compute `len ** α` from a length that is counted after
    # the prompt: a prompt shorter by 5 adds 5 to it, and the factor 6^α completes ((5 + |Y|) / 6)^α.

    def _update_finished_beams(
        self, *, topk_log_probs: torch.Tensor, decoder_prompt_len: int, length_penalty: float, **kwargs: Any
    ) -> Any:
        if isinstance(length_penalty, GNMTLengthPenalty):
            topk_log_probs = topk_log_probs * 6.0 ** float(length_penalty)
            decoder_prompt_len -= 5
        return super()._update_finished_beams(
            topk_log_probs=topk_log_probs,
            decoder_prompt_len=decoder_prompt_len,
            length_penalty=float(length_penalty),
            **kwargs,
        )

    @staticmethod
    def _check_early_stop_heuristic(
        *, running_beam_scores: torch.Tensor, decoder_prompt_len: int, length_penalty: float, **kwargs: Any
    ) -> torch.Tensor:
        if isinstance(length_penalty, GNMTLengthPenalty):
            running_beam_scores = running_beam_scores * 6.0 ** float(length_penalty)
            decoder_prompt_len -= 5
        return GenerationMixin._check_early_stop_heuristic(
            running_beam_scores=running_beam_scores,
            decoder_prompt_len=decoder_prompt_len,
            length_penalty=float(length_penalty),
            **kwargs,
        )


__all__ = ["VanillaTransformerCausalGenerationMixin", "VanillaTransformerGenerationMixin"]
