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
"""
The paper's decoding (§6.1): beam search, GNMT's length penalty, at most |X| + 50 tokens, exact early stopping.

There is one search, over the model's own decoder, and two ways to get logits. `FastSteps` calls the layers on one
token at a time: the beams of a sentence share one copy of the source's keys and values, few rows of the cache move,
finished sentences leave the batch, and on a CPU weights are packed for few rows. Where a call or a model asks for
more, `CalledSteps` calls the whole model; `_can_be_fast` chooses.

Shapes: B sentences, K beams, N = B * K rows, L tokens so far, S source, V vocabulary, C candidates of a sentence; in
caches (N, H, L, K) with H heads and the key size K.
"""

import copy
import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import nn
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, EncoderDecoderCache
from transformers.configuration_utils import PreTrainedConfig
from transformers.generation import (
    EosTokenCriteria,
    GenerationConfig,
    GenerationMixin,
    LogitsProcessorList,
    MaxLengthCriteria,
    StoppingCriteria,
    StoppingCriteriaList,
    logits_process,
)
from transformers.generation.streamers import BaseStreamer
from transformers.generation.utils import (
    GenerateBeamDecoderOnlyOutput,
    GenerateBeamEncoderDecoderOutput,
    GenerateDecoderOnlyOutput,
    GenerateEncoderDecoderOutput,
)
from transformers.modeling_utils import PreTrainedModel
from transformers.utils import ModelOutput

from .configuration_vanilla_transformer import CACHE_NAME, Named, logger, rename_cache, with_cache_names
from .kernels_vanilla_transformer import (
    PLAIN_TENSORS,
    WEIGHT_PRECISIONS,
    autocast_dtype,
    is_plain_linear,
    linear,
    packed,
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

Generated = torch.Tensor | ModelOutput
# The divisor of log P(Y|X), of a length |Y| or a tensor of lengths.
Penalty = Callable[[int | torch.Tensor], float | torch.Tensor]
# Of a step: scores, logits, or the states or attentions of all layers.
Recorded = torch.Tensor | tuple[torch.Tensor, ...]
LENGTH_PENALTY_TYPES = ("gnmt", "power")
# Source tokens that raise the limit of a translation: more than sentences have, and so few that a text unlike any in
# training, such as thousands of letters without a space, does not take minutes. Training on longer sources raises it.
COUNTED_SOURCE_LENGTH = 512
# Settings that transformers refuses to save where there is one beam.
BEAM_SETTINGS = ("early_stopping", "length_penalty")
CACHE_BLOCK = 32  # positions by which caches of keys and values grow
# Rows of logits at once: few enough that their memory is used again instead of being asked for anew each time.
LOGIT_ROWS = 64
# Logits of which the highest is looked for first: about the square root of a usual vocabulary.
VOCABULARY_BLOCK = 192
NEVER = -1.0e9  # a score that nothing has
# Processors that look at each row by itself, wherever it is in the batch.
ROW_PROCESSORS = (
    logits_process.ForcedBOSTokenLogitsProcessor,
    logits_process.ForcedEOSTokenLogitsProcessor,
    logits_process.InfNanRemoveLogitsProcessor,
    logits_process.LogitNormalization,
    logits_process.MinLengthLogitsProcessor,
    logits_process.MinNewTokensLengthLogitsProcessor,
    logits_process.NoBadWordsLogitsProcessor,
    logits_process.NoRepeatNGramLogitsProcessor,
    logits_process.RepetitionPenaltyLogitsProcessor,
    logits_process.SuppressTokensAtBeginLogitsProcessor,
    logits_process.SuppressTokensLogitsProcessor,
)
PACKAGE = f"{__name__.rpartition('.')[0]}."  # of this file, also where it is remote code
RECORDED = ("decoder_attentions", "cross_attentions", "decoder_hidden_states")


class SourceLengthCriteria(StoppingCriteria):
    """
    End each hypothesis at a length of its own.

    Args:
        decoder_prompt_length (`int`): tokens that each row starts with; they do not count.
        max_new_tokens (`torch.LongTensor` of shape (B,)): the most tokens to generate for each sentence.
    """

    def __init__(self, decoder_prompt_length: int, max_new_tokens: torch.Tensor):
        self.max_length = decoder_prompt_length + max_new_tokens

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor | None, **kwargs: object) -> torch.Tensor:
        # Rows are sentences times beams, or times twice the beams where candidates are checked.
        rows_per_sentence = input_ids.shape[0] // self.max_length.shape[0]
        return input_ids.shape[1] >= self.max_length.to(input_ids.device).repeat_interleave(rows_per_sentence)


class VanillaTransformerBaseGenerationMixin(GenerationMixin):
    """
    `generate` of the decoder-only head, which is transformers' own; loads and saves the settings of both heads.

    A head that reads the folder of the other kind, the one that translates or the decoder-only one, starts from its
    own defaults; `decoder_only` in the file says which one wrote it. Settings that only beam search reads are under
    `beam_settings` in the file where there is one beam, since transformers refuses to save them there.
    """

    # transformers takes a model for one that generates if "GenerationMixin" is in the name of a base.
    generation_config: GenerationConfig

    @staticmethod
    def default_generation_config(config: PreTrainedConfig) -> GenerationConfig:
        """The token ids of the model's configuration, and nothing else."""
        return GenerationConfig(
            bos_token_id=config.bos_token_id,
            pad_token_id=config.pad_token_id,
            eos_token_id=config.eos_token_id,
        )

    def generate(self, *args: Any, **kwargs: Any) -> Generated:
        """As in transformers; the cache has both of its names, `cache` and `past_key_values`, here and in outputs."""
        outputs = super().generate(*args, **rename_cache(kwargs, CACHE_NAME))
        if isinstance(outputs, OF_TRANSFORMERS):
            return globals()[type(outputs).__name__](**outputs)
        return outputs

    def prepare_inputs_for_generation(self, *args: Any, **kwargs: Any) -> Named:
        """As in transformers, with the cache under either of its names."""
        return super().prepare_inputs_for_generation(*args, **rename_cache(kwargs, CACHE_NAME))

    def adjust_generation_fn(self, generation_config: GenerationConfig | None, *args: Any, **kwargs: Any) -> None:
        default = self.generation_config
        super().adjust_generation_fn(generation_config, *args, **kwargs)
        loaded = self.generation_config
        if generation_config is not None:  # the caller's, whatever it says
            return
        for name, value in loaded.__dict__.pop("beam_settings", {}).items():
            setattr(loaded, name, value)
        loaded.__dict__.pop("other_head", None)  # of earlier versions
        is_of_other_head = loaded.__dict__.pop("decoder_only", None) is self.config.is_encoder_decoder
        # Made from the model's configuration: there was no file, in the folder of a head that does not generate.
        if is_of_other_head or getattr(loaded, "_from_model_config", False):
            self.generation_config = default

    def save_pretrained(self, *args: Any, **kwargs: Any) -> Any:
        live = self.generation_config
        self.generation_config = copy.deepcopy(live)
        self.generation_config.decoder_only = not self.config.is_encoder_decoder
        if live.num_beams == 1:
            self.generation_config.beam_settings = {name: getattr(live, name) for name in BEAM_SETTINGS}
            for name in BEAM_SETTINGS:
                setattr(self.generation_config, name, None)
        try:
            return super().save_pretrained(*args, **kwargs)
        finally:
            self.generation_config = live


class VanillaTransformerGenerationMixin(VanillaTransformerBaseGenerationMixin):
    """
    `generate` of every head of this family that translates. Three settings come on top of transformers' own; like all
    others they are entries of the generation configuration and arguments of `generate`:

    * `length_penalty_type`: `"gnmt"` scores a hypothesis Y by log P(Y|X) / ((5 + |Y|) / 6)^`length_penalty` (Wu et al.
      2016, §7, as §6.1 of the paper uses it); `"power"` by log P(Y|X) / |Y|^`length_penalty`, as transformers does.
    * `source_length_offset`: generate at most |X| + `source_length_offset` tokens for each sentence. |X| counts up to
      512 tokens, or up to `longest_source` of `model.generation_config`, which training writes, where that is more.
    * `weight_precision`: `"bfloat16"` or `"int8"` for the decoder's weights, which is faster on a CPU (int8 works only
      there); `None` for their own. Adapters and quantised layers keep theirs. With int8 the states that the weights
      multiply are rounded as well, by one scale for the whole batch, so that a translation can depend on the sentences
      beside it.

    |X| and |Y| count `</s>`, and neither padding nor the tokens that the decoder starts with. A `max_length` or
    `max_new_tokens` that is passed to the call, or is set in a `GenerationConfig` passed to it, takes the place of the
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
        logits_processor: LogitsProcessorList | None = None,
        stopping_criteria: StoppingCriteriaList | None = None,
        **kwargs: Any,
    ) -> Generated:
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
            raise ValueError(f"`input_ids` has the shape {tuple(ids.shape)}. Give a row of ids for each text: (B, S).")
        padding, ends = self.config.pad_token_id, self.config.eos_token_id
        is_padding = padding is not None and padding not in (ends if isinstance(ends, list) else [ends])
        if kwargs.get("attention_mask") is None and is_padding and ids is not None:
            # transformers makes a missing mask only for decoder-only models; padding is not text here either.
            kwargs["attention_mask"] = (ids != padding).long()
        precision = self._setting(generation_config, kwargs, "weight_precision")
        kwargs.pop("weight_precision", None)
        if precision is not None:
            self._check_weight_precision(precision)
        penalty_type = self._setting(generation_config, kwargs, "length_penalty_type")
        if penalty_type not in (None, *LENGTH_PENALTY_TYPES):
            raise ValueError(f"`length_penalty_type` is {penalty_type!r}. Choose one of: {LENGTH_PENALTY_TYPES}.")
        offset = self._setting(generation_config, kwargs, "source_length_offset")
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

    def _check_weight_precision(self, precision: object) -> None:
        """Refuse a precision that there is not, or not on this device."""
        if precision not in WEIGHT_PRECISIONS:
            raise ValueError(f"`weight_precision` is {precision!r}. Choose one of: {WEIGHT_PRECISIONS}.")
        if precision == "int8" and self.device.type != "cpu":
            raise ValueError(f"`weight_precision` is 'int8' on {self.device.type}. Only a CPU has it: use 'bfloat16'.")
        if not any(is_plain_linear(module) for module in self.modules() if isinstance(module, torch.nn.Linear)):
            raise ValueError(
                f"`weight_precision` must be None for a model without plain weights, but is {precision!r}. Leave it "
                "out, in `model.generation_config` too."
            )

    @staticmethod
    def _requested(generation_config: GenerationConfig | None, kwargs: Named, name: str) -> Any:
        """Return the setting of this call, by argument or else by the configuration passed to it."""
        value = kwargs.get(name)
        return value if value is not None else getattr(generation_config, name, None)

    def _setting(self, generation_config: GenerationConfig | None, kwargs: Named, name: str) -> Any:
        """Return the setting of this call, or else the model's own."""
        value = self._requested(generation_config, kwargs, name)
        return getattr(self.generation_config, name, None) if value is None else value

    @staticmethod
    def _source_lengths(ids: torch.Tensor | None, kwargs: Named) -> torch.Tensor:
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

    def _decoder_prompt_length(self, generation_config: GenerationConfig | None, kwargs: Named) -> int:
        """Tokens before the first generated one: the start token, which transformers adds to a prompt without it."""
        prompt = kwargs.get("decoder_input_ids")
        if prompt is None:
            return 1
        for name in ("decoder_start_token_id", "bos_token_id"):
            start = self._setting(generation_config, kwargs, name)
            if start is not None:  # one for all sentences, or a list with one for each
                return prompt.shape[1] + int((prompt[:, 0] != torch.as_tensor(start, device=prompt.device)).all())
        return int(prompt.shape[1])

    def prepare_inputs_for_generation(
        self, input_ids: torch.Tensor, next_sequence_length: int | None = None, **kwargs: Any
    ) -> Named:
        # A prompt with padding on its left: count positions here, before a static cache makes the mask 4-D.
        mask = kwargs.get("decoder_attention_mask")
        if mask is not None and mask.dim() == 2 and kwargs.get("decoder_position_ids") is None:
            kwargs["decoder_position_ids"] = (mask.long().cumsum(-1) - 1).clamp(min=0)
        return super().prepare_inputs_for_generation(input_ids, next_sequence_length=next_sequence_length, **kwargs)

    def _reorder_cache(self, cache: EncoderDecoderCache, beam_idx: torch.Tensor) -> EncoderDecoderCache:
        # All beams of a sentence share the source: only the target's keys and values move.
        cache.self_attention_cache.reorder_cache(beam_idx)
        return cache

    # An engine besides torch overrides two methods: whether its steps are all that a request needs, and the steps.

    def _can_be_fast(
        self, input_ids: torch.Tensor, settings: GenerationConfig, synced_gpus: bool, model_kwargs: Named
    ) -> bool:
        """Return whether calling the layers on one token after the other is all that the whole model would do."""
        cache = model_kwargs.get(CACHE_NAME)
        is_new_cache = cache is None or (
            not getattr(cache, "_is_user_defined", False)
            and type(cache) is EncoderDecoderCache
            and type(cache.self_attention_cache) is DynamicCache
            and cache.get_seq_length() == 0
            and not cache.is_updated.get(0)
        )
        given = {name for name, value in model_kwargs.items() if value is not None}
        return (
            input_ids.shape[1] == 1
            and not (synced_gpus or settings.output_attentions or settings.output_hidden_states)
            and given <= {"attention_mask", "encoder_outputs", CACHE_NAME, "use_cache", "logits_to_keep"}
            and bool(model_kwargs.get("use_cache"))
            and is_new_cache
            and (self.config.position_limit is None or settings.max_length <= self.config.position_limit)
            and self.config._attn_implementation in ("sdpa", "eager")
            and autocast_dtype(input_ids.device) in (None, torch.bfloat16)
            and model_kwargs["encoder_outputs"][0].device == input_ids.device
            and is_called_as_written(self)
        )

    def _start_steps(self, request: "Request") -> "Steps":
        return FastSteps(self, request)

    def _sample(
        self,
        input_ids: torch.Tensor,
        logits_processor: LogitsProcessorList,
        stopping_criteria: StoppingCriteriaList,
        generation_config: GenerationConfig,
        synced_gpus: bool = False,
        streamer: BaseStreamer | None = None,
        **kwargs: Any,
    ) -> Generated:
        is_plain = streamer is None and not (generation_config.do_sample or generation_config.return_dict_in_generate)
        if is_plain and self._can_be_fast(input_ids, generation_config, synced_gpus, kwargs):
            vocab_size = self.config.target_vocab_size
            request = build_request(
                input_ids, logits_processor, stopping_criteria, generation_config, vocab_size, kwargs
            )
            if not request.looks_at_rows:
                with fast_steps(self, generation_config, keeps_tensors=False):
                    output = greedy_search(self._start_steps(request), request)
                return output.clone()  # tensors made in inference mode cannot be trained on
        with called_steps(self, generation_config):
            return super()._sample(
                input_ids, logits_processor, stopping_criteria, generation_config, synced_gpus, streamer, **kwargs
            )

    def _beam_search(
        self,
        input_ids: torch.Tensor,
        logits_processor: LogitsProcessorList,
        stopping_criteria: StoppingCriteriaList,
        generation_config: GenerationConfig,
        synced_gpus: bool = False,
        **kwargs: Any,
    ) -> Generated:
        penalty_type = getattr(generation_config, "length_penalty_type", None) or "power"
        is_recorded, vocab_size = generation_config.return_dict_in_generate, self.config.target_vocab_size
        request = build_request(input_ids, logits_processor, stopping_criteria, generation_config, vocab_size, kwargs)
        search = functools.partial(
            beam_search,
            request=request,
            settings=generation_config,
            penalty=length_penalty(generation_config.length_penalty, penalty_type == "gnmt"),
            has_unfinished=lambda done: self._has_unfinished_sequences(done, synced_gpus, input_ids.device),
        )
        if self._can_be_fast(input_ids, generation_config, synced_gpus, kwargs):
            is_looked_at = is_recorded or request.looks_at_rows
            with fast_steps(self, generation_config, keeps_tensors=is_looked_at):
                steps = self._start_steps(request)
                results = search(steps, rows_may_move=not (is_looked_at or generation_config.do_sample))
            results["sequences"] = results["sequences"].clone()  # those of inference mode cannot be trained on
            if is_recorded and isinstance(steps, FastSteps) and kwargs.get(CACHE_NAME) is not None:
                steps.cache.fill(kwargs[CACHE_NAME])
        else:
            with called_steps(self, generation_config):
                steps = CalledSteps(self, generation_config, kwargs)
                results = search(steps, rows_may_move=False)
            kwargs = steps.kwargs
        if not is_recorded:
            return results["sequences"]
        encoded = kwargs["encoder_outputs"]
        return GenerateBeamEncoderDecoderOutput(
            encoder_attentions=encoded.get("attentions") if generation_config.output_attentions else None,
            encoder_hidden_states=encoded.get("hidden_states") if generation_config.output_hidden_states else None,
            **{CACHE_NAME: kwargs.get(CACHE_NAME)},
            **results,
        )


# ---------------------------------------------------------------------------------------------------------------------
# Requests
# ---------------------------------------------------------------------------------------------------------------------


@dataclass
class Request:
    """
    The request to a search.

    Attributes:
        encoded (`torch.Tensor` of shape (B, S, D)), mask (`torch.Tensor` of shape (B, S) or `None`): the source.
        start (`torch.LongTensor` of shape (B, L)), padding: token ids.
        ends (`torch.Tensor` of shape (E,)): ids that end a sentence.
        limits (`torch.LongTensor` of shape (B,)): the most tokens of each sentence, with those it starts with.
        criteria: stopping criteria that ends and limits do not say.
        processors: what changes the scores of the next tokens.
        never: which ids `processors` forbid, where they do nothing else; a search may go by it in the place of them.
        renormalizes: whether the other ids then share all of the probability.
    """

    encoded: torch.Tensor
    mask: torch.Tensor | None
    start: torch.Tensor
    padding: int
    ends: torch.Tensor
    limits: torch.Tensor
    criteria: StoppingCriteriaList
    processors: LogitsProcessorList
    never: "Forbidden | None" = None
    renormalizes: bool = False

    @property
    def looks_at_rows(self) -> bool:
        """Whether anything of the caller's looks at where rows are in the batch."""
        return bool(self.criteria) or not all(type(each) in ROW_PROCESSORS for each in self.processors)


def build_request(
    input_ids: torch.Tensor,
    processors: LogitsProcessorList,
    criteria: StoppingCriteriaList,
    settings: GenerationConfig,
    vocab_size: int,
    model_kwargs: Named,
) -> Request:
    """Build a request from what `generate` passes to its searches, where every sentence comes `num_beams` times."""
    beams, mask = settings.num_beams, model_kwargs.get("attention_mask")
    start = input_ids[::beams]
    limits = torch.full((len(start),), settings.max_length, device=start.device)
    known_ends, padding = settings._eos_token_tensor, settings._pad_token_tensor
    known_ends = start.new_empty(0) if known_ends is None else known_ends
    ends, others = known_ends[:0], []
    for criterion in criteria:
        # A caller's criterion takes the place of the one that `generate` makes of its settings.
        if type(criterion) is SourceLengthCriteria:
            limits = torch.minimum(limits, criterion.max_length.to(limits.device))
        elif type(criterion) is EosTokenCriteria and set(criterion.eos_token_id.tolist()) == set(known_ends.tolist()):
            ends = known_ends
        elif type(criterion) is not MaxLengthCriteria or criterion.max_length != settings.max_length:
            others.append(criterion)
    return Request(
        encoded=model_kwargs["encoder_outputs"][0][::beams],
        mask=None if mask is None else mask[::beams],
        start=start,
        padding=int(padding if padding is not None else known_ends[0] if len(known_ends) else -1),
        ends=ends,
        limits=limits,
        criteria=StoppingCriteriaList(others),
        processors=processors,
        never=find_forbidden(processors, vocab_size, start.device),
        renormalizes=any(type(each) is logits_process.LogitNormalization for each in processors),
    )


class Forbidden:
    """
    Ids that are never generated.

    Args:
        always: those of every step.
        early: those of hypotheses that are shorter than a length, start token included.
    """

    def __init__(self, always: torch.Tensor, early: list[tuple[int, torch.Tensor]]):
        self.always, self.early = always, early

    def at(self, length: int) -> torch.Tensor:
        """Return the ids (E,) that must not follow on `length` tokens."""
        return torch.cat([self.always, *(ids for shortest, ids in self.early if length < shortest)])


def find_forbidden(processors: LogitsProcessorList, vocab_size: int, device: torch.device) -> Forbidden | None:
    """
    Return the ids that processors forbid; `None` if one of them does more, besides a last one that normalizes, or
    forbids what is not in the vocabulary, which each of them treats in its own way.
    """
    always: list[int] = []
    early: list[tuple[int, torch.Tensor]] = []
    if processors and type(processors[-1]) is logits_process.LogitNormalization:
        processors = processors[:-1]
    for each in processors:
        if type(each) is logits_process.SuppressTokensLogitsProcessor:
            always += each.suppress_tokens.tolist()
        elif type(each) is logits_process.NoBadWordsLogitsProcessor and {*map(len, each.sequence_bias)} <= {1}:
            always += [words[0] for words in each.sequence_bias]
        elif type(each) is logits_process.MinLengthLogitsProcessor:
            early.append((each.min_length, each.eos_token_id.to(device)))
        elif type(each) is logits_process.MinNewTokensLengthLogitsProcessor:
            early.append((each.prompt_length_to_skip + each.min_new_tokens, each.eos_token_id.to(device)))
        else:
            return None
    ids = [*always, *(index for _, ends in early for index in ends.tolist())]
    if not all(0 <= index < vocab_size for index in ids):
        return None
    return Forbidden(torch.tensor(sorted(set(always)), dtype=torch.long, device=device), early)


# ---------------------------------------------------------------------------------------------------------------------
# Two ways to get logits
# ---------------------------------------------------------------------------------------------------------------------


class Steps(Protocol):
    """The interface of a decoder for the search: the next logits of every row, and rows that move."""

    def step(self, ids: torch.Tensor) -> Iterable[torch.Tensor]:
        """All tokens so far of every row (N, L) -> float32 logits of the next in chunks of rows (R, V)."""

    def move(self, rows: torch.Tensor) -> None:
        """Let each row (N,) go on from another."""

    def keep(self, order: torch.Tensor) -> None:
        """Keep the sentences of `order` (B',): each at its place or at that of a dropped one."""


class BlockLayer(DynamicLayer):
    """Keys (N, H, capacity, K) and values of the target's tokens so far, in memory that grows in blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.length = 0

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = key_states[:, :, :0], value_states[:, :, :0]
        end = self.length + key_states.shape[2]
        if end > self.keys.shape[2]:
            self.keys, self.values = self.grow(self.keys, end), self.grow(self.values, end)
        self.keys[:, :, self.length : end] = key_states
        self.values[:, :, self.length : end] = value_states
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def grow(self, states: torch.Tensor, length: int) -> torch.Tensor:
        """Return the same states in memory for at least `length` positions."""
        rows, heads, _, size = states.shape
        larger = states.new_empty(rows, heads, -(-length // CACHE_BLOCK) * CACHE_BLOCK, size)
        larger[:, :, : self.length] = states[:, :, : self.length]
        return larger

    def get_seq_length(self) -> int:
        return self.length

    def copy_rows(self, origins: torch.Tensor, places: torch.Tensor) -> None:
        """Write some rows (M,) over others (M,)."""
        for states in (self.keys, self.values):
            filled = states[:, :, : self.length]
            filled.index_copy_(0, places, filled.index_select(0, origins))

    def keep_rows(self, count: int) -> None:
        """Drop all rows but the first ones."""
        self.keys, self.values = self.keys[:count], self.values[:count]


class BeamCache(EncoderDecoderCache):
    """Keys and values for beam search: of the source for each sentence (B), of the target for each beam (N)."""

    def __init__(self, layers: int):
        own, source = [BlockLayer() for _ in range(layers)], [DynamicLayer() for _ in range(layers)]
        super().__init__(Cache(layers=own), Cache(layers=source))
        self.own, self.source = own, source

    def copy_beams(self, origins: torch.Tensor, places: torch.Tensor) -> None:
        """Write the beams of some rows (M,) over those of other rows (M,)."""
        if len(origins):
            for layer in self.own:
                layer.copy_rows(origins, places)

    def keep_sentences(self, order: torch.Tensor) -> None:
        """Keep the sentences of `order` (B',), see `filling_order`: each at its place or at that of a dropped one."""
        count, beams = len(order), len(self.own[0].keys) // len(self.source[0].keys)
        places = (order >= count).nonzero().squeeze(-1)
        origins = order[places]
        rows = torch.arange(beams, device=order.device)
        self.copy_beams(*((beams * each.unsqueeze(-1) + rows).flatten() for each in (origins, places)))
        for layer in self.own:
            layer.keep_rows(count * beams)
        for layer in self.source:
            for states in (layer.keys, layer.values):
                states[places] = states[origins]
            layer.keys, layer.values = layer.keys[:count], layer.values[:count]

    def fill(self, cache: EncoderDecoderCache) -> None:
        """Write all into a cache as transformers has it: the source's keys and values once for each row."""
        for index, (own, source) in enumerate(zip(self.own, self.source, strict=True)):
            copies = len(own.keys) // len(source.keys)
            target = (each[:, :, : own.length].clone() for each in (own.keys, own.values))
            cache.self_attention_cache.update(*target, index)
            shared = (each.repeat_interleave(copies, dim=0) for each in (source.keys, source.values))
            cache.cross_attention_cache.update(*shared, index)
            cache.is_updated[index] = True


class FastSteps:
    """Calls the decoder's layers on the last tokens, with a cache of which few rows move."""

    def __init__(self, model: PreTrainedModel, request: Request):
        self.decoder, self.lm_head = model.model.decoder, model.lm_head
        self.encoded = request.encoded.to(self.decoder.embed_tokens.weight.dtype, copy=True)
        self.cache = BeamCache(len(self.decoder.layers))
        self.limit = model.config.position_limit
        self.positions, self.ids = self.encoded.new_empty(0), request.start.new_empty(1, 0)
        self.mask = None
        if request.mask is not None and not bool(request.mask.all()):
            padding = ~request.mask.bool()[:, None, None, :]  # (B, 1, 1, S)
            lowest = torch.finfo(self.encoded.dtype).min
            self.mask = self.encoded.new_zeros(padding.shape).masked_fill(padding, lowest)

    def step(self, ids: torch.Tensor) -> Iterator[torch.Tensor]:
        position = self.cache.get_seq_length()
        if position == len(self.positions):  # a grid of the next ones, which ends where learned positions end
            count = position + CACHE_BLOCK if self.limit is None else min(position + CACHE_BLOCK, self.limit)
            self.ids = torch.arange(count, device=self.encoded.device).unsqueeze(0)
            self.positions = self.decoder.embed_positions(self.ids[0], self.encoded.dtype)
        states = self.decoder.decode(
            self.decoder.embed_tokens(ids[:, -1:]) + self.positions[position],  # (N, 1, D)
            None,
            self.encoded,
            self.mask,
            position_ids=self.ids[:, position : position + 1],
            **{CACHE_NAME: self.cache},
        )
        return (linear(self.lm_head, rows).float() for rows in states[:, -1].split(LOGIT_ROWS))

    def move(self, rows: torch.Tensor) -> None:
        places = (rows != torch.arange(len(rows), device=rows.device)).nonzero().squeeze(-1)
        self.cache.copy_beams(rows[places], places)

    def keep(self, order: torch.Tensor) -> None:
        self.cache.keep_sentences(order)
        # Only a layer of others reads the source, since keys and values are in the cache: few of its rows move, too.
        places = (order >= len(order)).nonzero().squeeze(-1)
        self.encoded[places] = self.encoded[order[places]]
        self.encoded = self.encoded[: len(order)]
        if self.mask is not None:
            self.mask = self.mask[order]


class CalledSteps:
    """Calls the whole model as transformers does, with whatever a call or a model brings along."""

    def __init__(self, model: PreTrainedModel, settings: GenerationConfig, model_kwargs: Named):
        self.model, self.settings, self.kwargs = model, settings, model_kwargs
        self.outputs: Any = None

    def step(self, ids: torch.Tensor) -> list[torch.Tensor]:
        if self.outputs is None:
            self.outputs = self.model._prefill(ids, self.settings, self.kwargs)
        else:
            length = 1 if self.kwargs["use_cache"] else None
            inputs = self.model.prepare_inputs_for_generation(ids, next_sequence_length=length, **self.kwargs)
            self.outputs = self.model(**inputs, return_dict=True)
        self.kwargs = self.model._update_model_kwargs_for_generation(
            self.outputs, self.kwargs, is_encoder_decoder=True
        )
        return [self.outputs.logits[:, -1].to(ids.device, torch.float32, copy=True)]

    def move(self, rows: torch.Tensor) -> None:
        if self.kwargs.get(CACHE_NAME) is not None:
            self.kwargs[CACHE_NAME] = self.model._reorder_cache(self.kwargs[CACHE_NAME], rows)

    def keep(self, order: torch.Tensor) -> None:
        raise NotImplementedError("Sentences stay in the batch while the whole model is called.")


def is_called_as_written(model: PreTrainedModel) -> bool:
    """
    Return whether between a call of the model and the calls of its decoder's layers only this package's code runs.

    The layers themselves may have hooks, adapters and methods of others: they are called. Only what reads the source
    has to be as written here, since others do not know that several rows share a source, whose keys they may not keep;
    a layer of others that does says so by an attribute `shares_source`.
    """
    decoder = model.model.decoder
    outer = (model, model.model, decoder)
    uncalled = (*outer, decoder.dropout, decoder.embed_positions)
    inner = [*decoder.modules(), *model.lm_head.modules()]
    methods = (
        *("forward", "embed", "add_positions", "count_positions"),
        *("prepare_inputs_for_generation", "_update_model_kwargs_for_generation"),
    )
    return (
        not getattr(nn.modules.module, "_has_any_global_hook", bool)()
        and not any(each.training or has_hook(each) for each in uncalled)
        and not any(name in vars(each) for each in outer for name in methods)
        and all(
            getattr(type(each), name).__module__.startswith((PACKAGE, "transformers."))
            for each in outer
            for name in methods
            if hasattr(type(each), name)
        )
        and all(
            (has_own_forward(each) or getattr(each, "shares_source", False)) and any(map(reads_source, each.modules()))
            for each in decoder.layers
        )
        # Weights of other libraries know what the called model does to them. Those of torch.ao round by one scale for
        # the whole batch, which would change as sentences leave it.
        and all(type(each) in PLAIN_TENSORS for module in inner for each in module.parameters(recurse=False))
        and not any(type(each).__module__.startswith("torch.ao.") for each in inner)
    )


def has_own_forward(module: nn.Module) -> bool:
    """Return whether a module is computed by code of this package."""
    return "forward" not in vars(module) and type(module).forward.__module__.startswith(PACKAGE)


def reads_source(module: nn.Module) -> bool:
    """Return whether a module is this package's attention to the source."""
    return hasattr(module, "project_source") and not getattr(module, "is_causal", True) and has_own_forward(module)


def has_hook(module: nn.Module) -> bool:
    """Return whether a hook acts on what goes in or out; transformers' own for recording outputs do not."""
    hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
    acting = [each for each in hooks if getattr(each, "__module__", "") != "transformers.utils.output_capturing"]
    return bool(acting) or hasattr(module, "_hf_hook")


@contextmanager
def fast_steps(model: PreTrainedModel, settings: GenerationConfig, keeps_tensors: bool) -> Iterator[None]:
    """
    Pack weights in the precision that is asked for, or in that of autocast, which leaves packed weights as they are.

    Inference mode takes a tenth off each step. It is left out where a caller keeps tensors, to train on them perhaps.
    """
    precision, kind = getattr(settings, "weight_precision", None), model.device.type
    if precision is None and autocast_dtype(model.device) == torch.bfloat16:
        precision = "bfloat16"
    mode = torch.no_grad() if keeps_tensors else torch.inference_mode()
    with torch.autocast(kind, enabled=False), packed(precision), mode:
        yield


@contextmanager
def called_steps(model: PreTrainedModel, settings: GenerationConfig) -> Iterator[None]:
    """Pack the weights of a model that is called: in the precision that is asked for, or where that is faster."""
    precision = getattr(settings, "weight_precision", None)
    is_plain = model.device.type == "cpu" and not model.training and autocast_dtype(model.device) is None
    # Accelerate puts autocast only around `forward`, in which states have another precision than packed weights.
    is_plain = is_plain and "forward" not in vars(model)
    if precision is None and not is_plain:
        yield
    else:
        with torch.autocast(model.device.type, enabled=False), packed(precision):
            yield


# ---------------------------------------------------------------------------------------------------------------------
# Searches
# ---------------------------------------------------------------------------------------------------------------------


def greedy_search(steps: Steps, request: Request) -> torch.Tensor:
    """Take the most probable token each time: (B, L)."""
    longest = int(request.limits.max())
    output = request.start.new_full((len(request.start), longest), request.padding)
    output[:, :1] = request.start
    active, ids, length = torch.arange(len(output), device=output.device), request.start, 1
    for length in range(1, longest):
        chunks = steps.step(ids)
        if request.never is None:
            chunks = process(chunks, ids, request.processors)
        elif len(never := request.never.at(length)):
            chunks = (logits.index_fill_(1, never, -torch.inf) for logits in chunks)
        tokens = torch.cat([logits.argmax(dim=-1) for logits in chunks])
        output[active, length] = tokens
        going_on = ~torch.isin(tokens, request.ends) & (request.limits[active] > length + 1)
        if not bool(going_on.all()):
            kept = filling_order(going_on)
            if not len(kept):
                break
            active, tokens = active[kept], tokens[kept]
            steps.keep(kept)
        ids = output[active, : length + 1]
    return output[:, : length + 1]


def process(
    chunks: Iterable[torch.Tensor], ids: torch.Tensor, processors: LogitsProcessorList
) -> Iterator[torch.Tensor]:
    """Let processors change scores in chunks of rows (R, V), of which `ids` (N, L) are the tokens so far."""
    start = 0
    for scores in chunks:
        yield processors(ids[start : start + len(scores)], scores) if processors else scores
        start += len(scores)


def filling_order(is_kept: torch.Tensor) -> torch.Tensor:
    """Return the kept sentences of (B,) so that few of them move: the last ones take the places of the dropped."""
    kept = is_kept.nonzero().squeeze(-1)
    order = torch.arange(len(kept), device=kept.device)
    order[~is_kept[: len(kept)]] = kept[kept >= len(kept)]
    return order


def beams_by_place(parents: torch.Tensor) -> torch.Tensor:
    """
    Return which new beam of each sentence goes to each place (B, K), so that few have to be copied: one of them to the
    place of its parent, and those that have the same parent to the places that no beam comes from.

    Args:
        parents (`torch.Tensor` of shape (B, K)): the place of each new beam's parent, from 0 to K - 1.
    """
    beams = parents.shape[1]
    is_same = parents.unsqueeze(2) == parents.unsqueeze(1)
    is_first = ~is_same.tril(-1).any(dim=2)
    is_parent = torch.zeros_like(is_first).scatter(1, parents, True)
    free = is_parent.int().argsort(dim=1, stable=True)  # places that no beam comes from, in front
    rank = ((~is_first).cumsum(dim=1) - 1).clamp(min=0)
    places = torch.where(is_first, parents, free.gather(1, rank))
    return torch.empty_like(places).scatter(1, places, torch.arange(beams, device=places.device).expand_as(places))


def most_probable(
    logits: torch.Tensor, count: int, never: torch.Tensor, renormalizes: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Logits (R, V) -> the highest log-probabilities (R, C), C = min(count, V), and the ids they are of (R, C).

    The ids of `never` are not among them, and keep their share of the probability unless it `renormalizes`. The logits
    are overwritten: another tensor of their size would cost more than what is computed in it.
    """
    if not len(never) or renormalizes:
        best, ids = highest(logits.index_fill_(1, never, -torch.inf), count)
        probabilities = torch.softmax(logits, dim=-1, out=logits)
        return best - best[:, :1] + probabilities.gather(1, ids[:, :1]).log(), ids
    kept = logits[:, never]
    best, ids = highest(logits.index_fill_(1, never, -torch.inf), count)
    logits[:, never] = kept
    largest = logits.amax(dim=-1, keepdim=True)  # perhaps that of a forbidden id, beside which the others are 0
    return best - largest - logits.sub_(largest).exp_().sum(dim=-1, keepdim=True).log(), ids


def highest(logits: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """
    `logits.topk(min(count, V), dim=-1)` of (R, V), from the blocks with the highest maxima: no others can have one of
    the highest logits, and finding maxima takes a tenth of the time that sorting takes.
    """
    rows, vocab_size = logits.shape
    blocks = vocab_size // VOCABULARY_BLOCK
    if blocks <= count:
        return logits.topk(min(count, vocab_size), dim=-1)
    divided = logits[:, : blocks * VOCABULARY_BLOCK].view(rows, blocks, VOCABULARY_BLOCK)
    chosen = divided.amax(dim=-1).topk(count, dim=-1, sorted=False).indices.unsqueeze(-1)  # (R, C, 1)
    ids = (chosen * VOCABULARY_BLOCK + torch.arange(VOCABULARY_BLOCK, device=logits.device)).flatten(1)
    rest = torch.arange(blocks * VOCABULARY_BLOCK, vocab_size, device=logits.device)  # of no whole block
    ids = torch.cat([ids, rest.expand(rows, -1)], dim=1)
    best, places = logits.gather(1, ids).topk(count, dim=-1)
    return best, ids.gather(1, places)


def next_tokens(
    steps: Steps,
    ids: torch.Tensor,
    request: Request,
    settings: GenerationConfig,
    candidates: int,
    rows_may_move: bool,
    recorded: dict[str, list[Recorded]],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the scores of tokens that may come next, and their ids, both (N, V) or (N, candidates)."""
    if rows_may_move:
        # The best of all beams are among the best of each, so that no table of them all is needed.
        chunks = steps.step(ids)
        if request.never is not None:
            never = request.never.at(ids.shape[1])
            found = [most_probable(logits, candidates, never, request.renormalizes) for logits in chunks]
        else:
            chunks = process((logits.log_softmax(dim=-1) for logits in chunks), ids, request.processors)
            found = [highest(scores, candidates) for scores in chunks]
        best, tokens = (torch.cat(parts) for parts in zip(*found, strict=True))
        return best, tokens
    logits = torch.cat(list(steps.step(ids)))
    scores: torch.Tensor = request.processors(ids, logits.log_softmax(dim=-1))
    outputs = getattr(steps, "outputs", None)
    if settings.output_scores:
        recorded["scores"].append(scores.clone())
    if settings.output_logits:
        recorded["logits"].append(logits)
    for name in RECORDED:
        if outputs is not None and outputs.get(name) is not None:
            recorded[name].append(outputs[name])
    if settings.do_sample or settings.return_dict_in_generate:  # the whole table: dead beams tie in its order
        return scores, torch.arange(logits.shape[-1], device=logits.device).expand_as(logits)
    return highest(scores, candidates)


def gather_beams(states: torch.Tensor, beams: torch.Tensor) -> torch.Tensor:
    """states (B, K, L), beams (B, C) from 0 to K - 1 -> (B, C, L)."""
    return states.gather(1, beams.unsqueeze(-1).expand(-1, -1, states.shape[-1]))


def best_continuations(
    scores: torch.Tensor, best: torch.Tensor, candidates: int, is_sampled: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Choose the candidates of each sentence: their log P, the highest first, and their places, both (B, C).

    Args:
        scores (`torch.Tensor` of shape (B, K)): the log P of each hypothesis so far.
        best (`torch.Tensor` of shape (N, T)): the log P of T tokens that may follow on each. Places are among K * T.
    """
    summed = (best.view(*scores.shape, -1) + scores.unsqueeze(-1)).flatten(1)
    if not is_sampled:
        return summed.topk(candidates, dim=-1)
    drawn = torch.multinomial(summed.softmax(dim=-1), candidates)
    found, order = summed.gather(1, drawn).sort(dim=-1, descending=True)
    return found, drawn.gather(1, order)


@dataclass
class Running:
    """
    The hypotheses that are searched.

    Attributes:
        sentences (`torch.LongTensor` of shape (B,)): where they are in the batch of the request.
        limits (`torch.LongTensor` of shape (B,)): the most tokens of each.
        ids (`torch.LongTensor` of shape (B, K, longest)): their tokens, then padding.
        scores (`torch.Tensor` of shape (B, K)): their log P.
        paths (`torch.LongTensor` of the shape of `ids`, or `None`): the rows that they went through, if recorded.
        done (`torch.BoolTensor` of shape (B,)): which of the sentences need no more steps.
    """

    sentences: torch.Tensor
    limits: torch.Tensor
    ids: torch.Tensor
    scores: torch.Tensor
    paths: torch.Tensor | None
    done: torch.Tensor

    def keep(self, order: torch.Tensor) -> None:
        """Keep the sentences of `order` (B',)."""
        self.sentences, self.limits, self.done = self.sentences[order], self.limits[order], self.done[order]
        self.ids, self.scores = self.ids[order], self.scores[order]


class Finished:
    """The best finished hypotheses of all sentences: their tokens, scores, lengths, and paths, if recorded."""

    def __init__(self, request: Request, beams: int, is_recorded: bool):
        (count, prompt), longest = request.start.shape, int(request.limits.max())
        self.ids = request.start.new_full((count, beams, longest), request.padding)
        self.ids[:, :, :prompt] = request.start.unsqueeze(1)
        self.scores = torch.full((count, beams), NEVER, device=request.start.device)
        self.lengths = torch.full_like(self.ids[:, :, 0], prompt)
        self.paths = torch.full_like(self.ids, -1) if is_recorded else None
        self.prompt, self.is_empty = prompt, True

    def start(self, request: Request) -> Running:
        """Return the hypotheses to begin with: those of a sentence are the same, so that one of them is enough."""
        scores = torch.full_like(self.scores, NEVER)
        scores[:, 0] = 0.0
        sentences = torch.arange(len(scores), device=scores.device)
        paths = None if self.paths is None else self.paths.clone()
        done = torch.zeros_like(sentences, dtype=torch.bool)
        return Running(sentences, request.limits, self.ids.clone(), scores, paths, done)

    def are_full(self, sentences: torch.Tensor) -> torch.Tensor:
        """Return whether there is a hypothesis for each beam: (B,) of `sentences` (B,)."""
        return (self.scores[sentences] > NEVER).all(dim=-1)

    def add(self, candidates: Running, scores: torch.Tensor, length: int, early_stopping: bool | str) -> None:
        """Let candidates (B, C) of `length` tokens replace worse ones; `scores` (B, C) of the others are NEVER."""
        at, self.is_empty = candidates.sentences, False
        scores = scores.masked_fill(candidates.done.unsqueeze(-1), NEVER)
        if early_stopping is True:
            scores = scores.masked_fill(self.are_full(at).unsqueeze(-1), NEVER)
        self.scores[at], chosen = torch.cat([self.scores[at], scores], dim=1).topk(self.scores.shape[1], dim=-1)
        self.ids[at] = gather_beams(torch.cat([self.ids[at], candidates.ids], dim=1), chosen)
        lengths = torch.full_like(candidates.ids[:, :, 0], length)
        self.lengths[at] = torch.cat([self.lengths[at], lengths], dim=1).gather(1, chosen)
        if self.paths is not None and candidates.paths is not None:
            self.paths = gather_beams(torch.cat([self.paths, candidates.paths], dim=1), chosen)

    def cannot_improve(
        self, running: Running, length: int, settings: GenerationConfig, penalty: Penalty
    ) -> torch.Tensor:
        """Return whether no beam of `length` tokens can get better than the worst of enough finished ones: (B,)."""
        full = self.are_full(running.sentences)
        if settings.early_stopping is True:
            return full
        is_longest_best = settings.early_stopping == "never" and settings.length_penalty > 0
        best_length = running.limits - self.prompt if is_longest_best else length - self.prompt
        possible = running.scores.amax(dim=-1) / penalty(best_length)
        return full & ~(possible > self.scores[running.sentences].amin(dim=-1))

    def results(self, returned: int) -> Named:
        """Return the best of each sentence: `sequences` (B * returned, L), and what transformers returns with them."""
        end = int(self.lengths[:, :returned].max())
        results: Named = {"sequences": self.ids[:, :returned, :end].flatten(0, 1)}
        if self.paths is not None:
            results["beam_indices"] = self.paths[:, :returned, : end - self.prompt].flatten(0, 1).int()
            results["sequences_scores"] = self.scores[:, :returned].flatten()
        return results


def beam_search(
    steps: Steps,
    request: Request,
    settings: GenerationConfig,
    penalty: Penalty,
    rows_may_move: bool,
    has_unfinished: Callable[[bool], bool],
) -> Named:
    """
    Search as transformers does: `sequences` (B * returned, L), the best first, and what else it returns of a search.

    Args:
        penalty: what log P(Y|X) is divided by, of a length |Y| or a tensor of lengths.
        rows_may_move: whether nobody looks at rows, so that finished sentences leave and beams stay in place.
        has_unfinished: whether this process, of which it is told if it has finished, or another one goes on.
    """
    beams, prompt, device = settings.num_beams, request.start.shape[1], request.start.device
    known_ends = 0 if settings._eos_token_tensor is None else len(settings._eos_token_tensor)
    candidates = max(2, 1 + known_ends) * beams  # enough to go on with if many of them end
    is_top = torch.arange(candidates, device=device) < beams
    finished = Finished(request, beams, settings.return_dict_in_generate)
    running = finished.start(request)
    recorded: dict[str, list[Recorded]] = {name: [] for name in ("scores", "logits", *RECORDED)}
    for length in range(prompt, int(request.limits.max())):
        ids = running.ids[:, :, :length].flatten(0, 1)
        best, tokens = next_tokens(steps, ids, request, settings, candidates, rows_may_move, recorded)
        top, places = best_continuations(running.scores, best, candidates, settings.do_sample)
        parents = places // best.shape[-1]  # (B, C)
        rows = parents + beams * torch.arange(len(top), device=device).unsqueeze(-1)
        top_ids = gather_beams(running.ids, parents)
        top_ids[:, :, length] = new = tokens.reshape(len(top), -1).gather(1, places)
        paths = None if running.paths is None else gather_beams(running.paths, parents)
        if paths is not None:
            paths[:, :, length - prompt] = rows

        ending = torch.isin(new, request.ends) | (running.limits.unsqueeze(-1) <= length + 1)
        if request.criteria:
            seen = tuple(recorded["scores"]) or None
            ending |= request.criteria(top_ids[:, :, : length + 1].flatten(0, 1), seen).view_as(ending)
        if bool((ending & is_top).any()):
            found = replace(running, ids=top_ids, paths=paths)
            scores = (top / penalty(length + 1 - prompt)).masked_fill(~(ending & is_top), NEVER)
            finished.add(found, scores, length + 1, settings.early_stopping)

        running.scores, chosen = (top + ending * NEVER).topk(beams, dim=-1)
        if rows_may_move:
            beam_at = beams_by_place(parents.gather(1, chosen))
            running.scores, chosen = running.scores.gather(1, beam_at), chosen.gather(1, beam_at)
        running.ids, rows = gather_beams(top_ids, chosen), rows.gather(1, chosen)
        running.paths = None if paths is None else gather_beams(paths, chosen)
        if not finished.is_empty:
            running.done = running.done | finished.cannot_improve(running, length + 1, settings, penalty)
        if rows_may_move:
            goes_on = move_beams(steps, running, rows, ending)
        else:
            goes_on = move_rows(steps, ids, running, rows, ending, has_unfinished)
        if not goes_on:
            break

    results = finished.results(settings.num_return_sequences)
    if settings.return_dict_in_generate:
        results |= {name: tuple(kept) or None for name, kept in recorded.items()}
        results["sequences_scores"] = results["sequences_scores"] if settings.output_scores else None
    return results


def move_beams(steps: Steps, running: Running, rows: torch.Tensor, ending: torch.Tensor) -> bool:
    """
    Let beams go on from `rows` (B, K), and sentences leave that are done or of which all candidates end (B, C).

    Returns:
        `bool`: whether there is a sentence to go on with.
    """
    running.done = running.done | ending.all(dim=-1)
    places = torch.arange(rows.numel(), device=rows.device).view_as(rows)
    steps.move(torch.where(running.done.unsqueeze(-1), places, rows).flatten())
    if not bool(running.done.any()):
        return True
    kept = filling_order(~running.done)
    if len(kept):
        running.keep(kept)
        steps.keep(kept)
    return bool(len(kept))


def move_rows(
    steps: Steps,
    ids: torch.Tensor,
    running: Running,
    rows: torch.Tensor,
    ending: torch.Tensor,
    has_unfinished: Callable[[bool], bool],
) -> bool:
    """
    Let every row go on from another of `rows` (B, K), in a batch that stays as it is.

    Returns:
        `bool`: whether to go on. A process that has finished takes the last step again as long as others need it.
    """
    steps.move(rows.flatten())
    is_finished = bool(running.done.all() | ending.all())
    goes_on = has_unfinished(is_finished)
    while is_finished and goes_on:  # the other processes of a model that is sharded among them
        steps.step(ids)
        goes_on = has_unfinished(True)
    return not is_finished


def length_penalty(alpha: float, is_gnmt: bool) -> Penalty:
    """Return the divisor of log P(Y|X): ((5 + |Y|) / 6)^α of GNMT, or |Y|^α."""
    if is_gnmt:
        return lambda length: ((5 + length) / 6) ** alpha
    return lambda length: length**alpha


__all__ = ["VanillaTransformerBaseGenerationMixin", "VanillaTransformerGenerationMixin"]
