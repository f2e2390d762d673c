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
The heads on one stack: what descends from the paper, on the decoder (GPT) and on the encoder (BERT).

Shapes: B batch, S or T sequence, V vocabulary.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn
from transformers.cache_utils import Cache
from transformers.modeling_outputs import (
    BaseModelOutput,
    BaseModelOutputWithPastAndCrossAttentions,
    CausalLMOutputWithPast,
    MaskedLMOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils.generic import can_return_tuple

from .configuration_vanilla_transformer import CACHE_NAME, VanillaTransformerConfig, accept_keywords, with_cache_names
from .generation_vanilla_transformer import VanillaTransformerCausalGenerationMixin
from .kernels_vanilla_transformer import linear
from .loss_vanilla_transformer import IGNORED_LABEL, check_labels, mean_loss
from .modeling_vanilla_transformer import VanillaTransformerModel, VanillaTransformerPreTrainedModel

CausalLMOutputWithPast = with_cache_names(CausalLMOutputWithPast, __name__)


class VanillaTransformerForCausalLM(VanillaTransformerCausalGenerationMixin, VanillaTransformerPreTrainedModel):
    r"""
    A language model: the decoder alone, which predicts each token from those before it (the line of GPT and LaMDA).

    The tokenizer ends each text with `</s>`, which is right for training. A beginning that is to be continued has no
    end: encode it with `add_special_tokens=False`, in `pipeline("text-generation")` too.

    Example:

    ```python
    >>> import torch
    >>> from vanilla_transformer import VanillaTransformerConfig, VanillaTransformerForCausalLM

    >>> model = VanillaTransformerForCausalLM(VanillaTransformerConfig.from_preset("tiny", vocab_size=100)).eval()
    >>> text = torch.tensor([[5, 6, 7, 8]])
    >>> model(input_ids=text, labels=text).logits.shape
    torch.Size([1, 4, 100])
    >>> model.generate(text, max_new_tokens=3).shape[0]
    1

    ```
    """

    _tied_weights_keys = {"lm_head.weight": "model.shared.weight"}
    _loss_type = "ForCausalLM"

    def __init__(self, config: VanillaTransformerConfig):
        config = config.with_stacks(encoder=False, decoder=True)
        super().__init__(config)
        self.model = VanillaTransformerModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        # In training mode: `label_smoothed_loss`, for one, which needs no logits, so that none are made.
        self.training_loss: Callable[..., torch.Tensor] | None = None
        self.generation_config = self.default_generation_config(config)
        self.post_init()

    @accept_keywords
    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        cache: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs: Unpack[TransformersKwargs],
    ) -> CausalLMOutputWithPast:
        """
        Score the next token at every position.

        Args:
            labels (`torch.LongTensor` of shape (B, T)): the text itself, -100 where nothing is to be predicted; it is
                shifted here.
            logits_to_keep (`int` or `torch.Tensor`): compute the logits of the last so many positions alone; 0 is all.

        All other arguments are those of [`VanillaTransformerModel.forward`] for the decoder.

        Returns:
            [`~modeling_outputs.CausalLMOutputWithPast`]: `loss` (), `logits` (B, T, V), which are `None` in training
            mode if `training_loss` is set.
        """
        check_labels(labels, self.config.vocab_size)
        outputs: BaseModelOutputWithPastAndCrossAttentions = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            cache=cache,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            return_dict=True,
            **kwargs,
        )
        loss, logits = None, None
        if labels is not None and self.training and self.training_loss is not None:
            shifted = kwargs.get("shift_labels")
            shifted = F.pad(labels[:, 1:], (0, 1), value=IGNORED_LABEL) if shifted is None else shifted
            shifted = shifted.to(outputs.last_hidden_state.device)
            total = self.training_loss(outputs.last_hidden_state, self.lm_head, shifted, 0.0)
            loss = mean_loss(total, shifted, kwargs.get("num_items_in_batch"))
        else:
            kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
            logits = linear(self.lm_head, outputs.last_hidden_state[:, kept])  # (B, T, V)
            if labels is not None:
                loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs)
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            **{CACHE_NAME: outputs.cache},
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


# trf-ignore: TRF013 (its heads end with `post_init`)
class VanillaTransformerEncoderHead(VanillaTransformerPreTrainedModel):
    """What the heads on the encoder alone share (the line of BERT)."""

    def __init__(self, config: VanillaTransformerConfig):
        config = config.with_stacks(encoder=True, decoder=False)
        super().__init__(config)
        self.num_labels = config.num_labels
        self.model = VanillaTransformerModel(config)
        self.dropout = nn.Dropout(config.dropout if config.classifier_dropout is None else config.classifier_dropout)

    @staticmethod
    def real_tokens(attention_mask: torch.Tensor) -> torch.Tensor:
        """A mask (B, S) that says which tokens are no padding, as booleans; no other shape does."""
        if attention_mask.dim() != 2:
            raise ValueError(
                f"`attention_mask` is {tuple(attention_mask.shape)}, which does not say which tokens are padding. "
                "Give one of shape (B, S)."
            )
        return attention_mask != 0


class VanillaTransformerForMaskedLM(VanillaTransformerEncoderHead):
    r"""
    A masked language model: the encoder, which predicts `<mask>` from the tokens on both sides of it.

    Example:

    ```python
    >>> import torch
    >>> from vanilla_transformer import VanillaTransformerConfig, VanillaTransformerForMaskedLM

    >>> model = VanillaTransformerForMaskedLM(VanillaTransformerConfig.from_preset("tiny", vocab_size=100)).eval()
    >>> model(input_ids=torch.tensor([[5, 3, 7, 2]]), labels=torch.tensor([[-100, 6, -100, -100]])).logits.shape
    torch.Size([1, 4, 100])

    ```
    """

    _tied_weights_keys = {"lm_head.weight": "model.shared.weight"}
    _loss_type = "ForMaskedLM"

    def __init__(self, config: VanillaTransformerConfig):
        super().__init__(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.training_loss: Callable[..., torch.Tensor] | None = None  # as in the causal head
        self.post_init()

    @accept_keywords
    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> MaskedLMOutput:
        """
        Score every token at every position.

        Args:
            labels (`torch.LongTensor` of shape (B, S)): the tokens behind the masks, -100 elsewhere.

        All other arguments are those of [`VanillaTransformerModel.forward`] for the encoder.

        Returns:
            [`~modeling_outputs.MaskedLMOutput`]: `loss` (), `logits` (B, S, V), which are `None` in training mode if
            `training_loss` is set.
        """
        check_labels(labels, self.config.vocab_size)
        outputs: BaseModelOutput = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            return_dict=True,
            **kwargs,
        )
        loss, logits = None, None
        if labels is not None and self.training and self.training_loss is not None:
            labels = labels.to(outputs.last_hidden_state.device)
            total = self.training_loss(outputs.last_hidden_state, self.lm_head, labels, 0.0)
            loss = mean_loss(total, labels, kwargs.get("num_items_in_batch"))
        else:
            logits = linear(self.lm_head, outputs.last_hidden_state)  # (B, S, V)
            if labels is not None:
                loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs)
        return MaskedLMOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class VanillaTransformerForSequenceClassification(VanillaTransformerEncoderHead):
    r"""
    A class, several, or a number for a whole text: a linear layer on the mean of the encoder's outputs.

    Example:

    ```python
    >>> import torch
    >>> from vanilla_transformer import VanillaTransformerConfig, VanillaTransformerForSequenceClassification

    >>> config = VanillaTransformerConfig.from_preset("tiny", vocab_size=100, num_labels=3)
    >>> model = VanillaTransformerForSequenceClassification(config).eval()
    >>> model(input_ids=torch.tensor([[5, 6, 7, 2]])).logits.shape
    torch.Size([1, 3])

    ```
    """

    # The loss is the mean of a batch, which Trainer divides by the batches that it accumulates.
    accepts_loss_kwargs = False
    _loss_type = "ForSequenceClassification"

    def __init__(self, config: VanillaTransformerConfig):
        super().__init__(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    @accept_keywords
    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> SequenceClassifierOutput:
        """
        Classify texts.

        Args:
            labels (`torch.Tensor` of shape (B,) or (B, num_labels)): classes; numbers if there is one label alone; or
                a float 0 or 1 for each of several labels (`config.problem_type`).

        All other arguments are those of [`VanillaTransformerModel.forward`] for the encoder.

        Returns:
            [`~modeling_outputs.SequenceClassifierOutput`]: `loss` (), `logits` (B, num_labels).
        """
        if self.num_labels > 1 and self.config.problem_type in (None, "single_label_classification"):
            check_labels(labels, self.num_labels)
        outputs: BaseModelOutput = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            return_dict=True,
            **kwargs,
        )
        hidden_states = outputs.last_hidden_state  # (B, S, D)
        if attention_mask is None:
            pooled = hidden_states.mean(dim=1)
        else:
            real = self.real_tokens(attention_mask).to(hidden_states).unsqueeze(-1)  # (B, S, 1)
            pooled = (hidden_states * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)
        logits = self.classifier(self.dropout(pooled))  # (B, num_labels)
        loss = None
        if labels is not None:
            loss = self.loss_function(labels=labels, pooled_logits=logits, config=self.config)
        return SequenceClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class VanillaTransformerForTokenClassification(VanillaTransformerEncoderHead):
    r"""
    A class for every token, such as a name's kind or a part of speech.

    Example:

    ```python
    >>> import torch
    >>> from vanilla_transformer import VanillaTransformerConfig, VanillaTransformerForTokenClassification

    >>> config = VanillaTransformerConfig.from_preset("tiny", vocab_size=100, num_labels=3)
    >>> model = VanillaTransformerForTokenClassification(config).eval()
    >>> model(input_ids=torch.tensor([[5, 6, 7, 2]])).logits.shape
    torch.Size([1, 4, 3])

    ```
    """

    _loss_type = "ForTokenClassification"

    def __init__(self, config: VanillaTransformerConfig):
        super().__init__(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    @accept_keywords
    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> TokenClassifierOutput:
        """
        Classify tokens.

        Args:
            labels (`torch.LongTensor` of shape (B, S)): classes, -100 where there is none.

        All other arguments are those of [`VanillaTransformerModel.forward`] for the encoder.

        Returns:
            [`~modeling_outputs.TokenClassifierOutput`]: `loss` (), `logits` (B, S, num_labels).
        """
        check_labels(labels, self.num_labels)
        outputs: BaseModelOutput = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            return_dict=True,
            **kwargs,
        )
        logits = self.classifier(self.dropout(outputs.last_hidden_state))  # (B, S, num_labels)
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, self.config, **kwargs)
        return TokenClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class VanillaTransformerForQuestionAnswering(VanillaTransformerEncoderHead):
    r"""
    The span of a text that answers a question: for every token, how well the answer starts and how well it ends there.

    Example:

    ```python
    >>> import torch
    >>> from vanilla_transformer import VanillaTransformerConfig, VanillaTransformerForQuestionAnswering

    >>> config = VanillaTransformerConfig.from_preset("tiny", vocab_size=100)
    >>> model = VanillaTransformerForQuestionAnswering(config).eval()
    >>> model(input_ids=torch.tensor([[5, 6, 2, 7, 8, 2]])).start_logits.shape
    torch.Size([1, 6])

    ```
    """

    # The loss is the mean of a batch, which Trainer divides by the batches that it accumulates.
    accepts_loss_kwargs = False
    _loss_type = "ForQuestionAnswering"

    def __init__(self, config: VanillaTransformerConfig):
        super().__init__(config)
        self.qa_outputs = nn.Linear(config.hidden_size, 2)
        self.post_init()

    @accept_keywords
    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        start_positions: torch.Tensor | None = None,
        end_positions: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> QuestionAnsweringModelOutput:
        """
        Find answers.

        Args:
            start_positions, end_positions (`torch.LongTensor` of shape (B,)): the first and the last token of each
                answer. A position past the end of the text is left out of the loss, as in all of transformers.

        All other arguments are those of [`VanillaTransformerModel.forward`] for the encoder.

        Returns:
            [`~modeling_outputs.QuestionAnsweringModelOutput`]: `loss` (), `start_logits` and `end_logits` (B, S), the
            lowest number where there is padding.
        """
        self.check_positions("start_positions", start_positions)
        self.check_positions("end_positions", end_positions)
        outputs: BaseModelOutput = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            return_dict=True,
            **kwargs,
        )
        logits = self.qa_outputs(self.dropout(outputs.last_hidden_state))  # (B, S, 2)
        if attention_mask is not None:  # no answer begins or ends in padding
            padding = ~self.real_tokens(attention_mask).to(logits.device)
            logits = logits.masked_fill(padding.unsqueeze(-1), torch.finfo(logits.dtype).min)
            start_positions = self.leave_out(start_positions, padding)
            end_positions = self.leave_out(end_positions, padding)
        start_logits, end_logits = (part.contiguous() for part in logits.unbind(dim=-1))
        loss = None
        if start_positions is not None and end_positions is not None:
            loss = self.loss_function(start_logits, end_logits, start_positions, end_positions)
        return QuestionAnsweringModelOutput(
            loss=loss,
            start_logits=start_logits,
            end_logits=end_logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    @staticmethod
    def check_positions(name: str, positions: torch.Tensor | None) -> None:
        """Refuse negative positions, on a CPU alone, as `check_labels` does."""
        if positions is None or positions.device.type != "cpu" or torch.compiler.is_compiling():
            return
        if (positions < 0).any():
            raise ValueError(f"`{name}` has {int(positions.min())}. Give positions of tokens, from 0.")

    @staticmethod
    def leave_out(positions: torch.Tensor | None, padding: torch.Tensor) -> torch.Tensor | None:
        """Positions (B,) of which those in padding (B, S) are S, which the loss leaves out."""
        if positions is None:
            return None
        positions = positions.to(padding.device).flatten()
        longest = padding.shape[1]
        is_outside = padding.gather(1, positions.clamp(0, longest - 1).unsqueeze(1)).squeeze(1)
        return positions.masked_fill(is_outside, longest)


__all__ = [
    "VanillaTransformerForCausalLM",
    "VanillaTransformerForMaskedLM",
    "VanillaTransformerForQuestionAnswering",
    "VanillaTransformerForSequenceClassification",
    "VanillaTransformerForTokenClassification",
]
