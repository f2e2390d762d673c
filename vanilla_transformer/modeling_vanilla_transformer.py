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
The original Transformer: its stacks, the model, and the head that translates. What the stacks are built of stands in
`layers_vanilla_transformer.py`.

Shapes: B batch, S source, T target or any sequence, H heads, D hidden_size, K key size, V vocabulary.
"""

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import initialization as init
from transformers.cache_utils import Cache, DynamicCache, EncoderDecoderCache
from transformers.masking_utils import create_bidirectional_mask, create_causal_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import (
    BaseModelOutput,
    BaseModelOutputWithPastAndCrossAttentions,
    Seq2SeqLMOutput,
    Seq2SeqModelOutput,
)
from transformers.modeling_utils import PreTrainedModel
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from .configuration_vanilla_transformer import (
    CACHE_NAME,
    CACHE_NAMES,
    VanillaTransformerConfig,
    accept_keywords,
    refuse_lost_cache,
    with_cache_names,
)
from .generation_vanilla_transformer import VanillaTransformerGenerationMixin
from .kernels_vanilla_transformer import dropout, linear
from .layers_vanilla_transformer import (
    VanillaTransformerAttention,
    VanillaTransformerDecoderLayer,
    VanillaTransformerEncoderLayer,
    VanillaTransformerLearnedPositions,
    VanillaTransformerScaledEmbedding,
    VanillaTransformerSinusoidalPositions,
    own_cache,
)
from .loss_vanilla_transformer import IGNORED_LABEL, check_labels, label_smoothed_loss, mean_loss

if TYPE_CHECKING:  # Saving a model copies the files that are named here and in them: these must travel with it.
    from .modeling_heads_vanilla_transformer import VanillaTransformerForCausalLM as VanillaTransformerForCausalLM
    from .pipeline_vanilla_transformer import (
        VanillaTransformerTranslationPipeline as VanillaTransformerTranslationPipeline,
    )
    from .tokenization_vanilla_transformer import VanillaTransformerTokenizer as VanillaTransformerTokenizer

BaseModelOutputWithPastAndCrossAttentions = with_cache_names(BaseModelOutputWithPastAndCrossAttentions, __name__)
Seq2SeqLMOutput = with_cache_names(Seq2SeqLMOutput, __name__)
Seq2SeqModelOutput = with_cache_names(Seq2SeqModelOutput, __name__)


# ---------------------------------------------------------------------------------------------------------------------
# Stacks (§3.1)
# ---------------------------------------------------------------------------------------------------------------------


# trf-ignore: TRF013 (each model ends with `post_init`)
class VanillaTransformerPreTrainedModel(PreTrainedModel):
    """Initialisation, loading and saving of every model of this family."""

    config: VanillaTransformerConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _no_split_modules = ["VanillaTransformerEncoderLayer", "VanillaTransformerDecoderLayer"]
    _skip_keys_device_placement = list(CACHE_NAMES)
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    # Which of transformers' losses `self.loss_function` is. By itself it goes by the name of the class, and a subclass
    # has another.
    _loss_type: str | None = None

    def __init__(self, config: VanillaTransformerConfig):
        super().__init__(config)
        self.loss_type = self._loss_type
        # A model of one stack reads the folders of models of both, without what belongs to the other.
        self._keys_to_ignore_on_load_unexpected = []
        if not config.has_decoder:
            self._keys_to_ignore_on_load_unexpected = [r"^(model\.)?decoder\."]
        elif not config.has_encoder:
            self._keys_to_ignore_on_load_unexpected = [r"^(model\.)?encoder\.", r"\.encoder_attn"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Xavier-uniform projections and N(0, 1/D) embeddings, as in the authors' code; the paper gives none."""
        super()._init_weights(module)  # biases, norms, the zero row of the padding token
        if isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight, gain=getattr(module, "init_gain", 1.0))
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight, mean=0.0, std=module.embedding_dim**-0.5)
            if module.padding_idx is not None and not getattr(module.weight, "_is_hf_initialized", False):
                init.zeros_(module.weight[module.padding_idx])

    def get_output_embeddings(self) -> nn.Module | None:
        return getattr(self, "lm_head", None)

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.lm_head = new_embeddings

    def _resize_token_embeddings(
        self, new_num_tokens: int, pad_to_multiple_of: int | None = None, mean_resizing: bool = True
    ) -> nn.Module:
        embeddings = super()._resize_token_embeddings(new_num_tokens, pad_to_multiple_of, mean_resizing)
        decoder = getattr(self.base_model, "decoder", None)
        if decoder is not None and not self.config.tie_word_embeddings:  # transformers resizes the input's alone
            decoder.embed_tokens = self._get_resized_embeddings(
                decoder.embed_tokens, embeddings.num_embeddings, mean_resizing=mean_resizing
            )
        return embeddings


def check_mask(
    mask: torch.Tensor, states: torch.Tensor, past_length: int | torch.Tensor = 0, may_be_longer: bool = False
) -> None:
    """Refuse a mask that does not fit states (B, T, D) after `past_length` others, and a 4-D one of whole numbers."""
    if mask.dim() == 4 and not (mask.dtype == torch.bool or mask.is_floating_point()):
        raise ValueError(
            f"`attention_mask` is {tuple(mask.shape)} of {mask.dtype}. With four dimensions give booleans, true for "
            "what is attended to, or numbers to add to the scores."
        )
    rows, length = states.shape[0], states.shape[1] + int(past_length)
    columns = mask.shape[-1]
    fits = columns == length or (may_be_longer and columns > length)
    if mask.dim() != 4 and (mask.dim() != 2 or mask.shape[0] != rows or not fits):
        raise ValueError(
            f"`attention_mask` is {tuple(mask.shape)} for a batch of {rows} rows of {length} tokens, those in a cache "
            "included. Give 1 for each token and 0 for padding."
        )


def check_source(
    encoded: torch.Tensor | None, mask: torch.Tensor | None, states: torch.Tensor, has_source: bool
) -> None:
    """Refuse a source (B, S, D) that a decoder of states (B, T, D) lacks or cannot read, and a wrong mask."""
    if encoded is None and has_source:
        raise ValueError("The decoder got no source: give it `encoder_hidden_states`.")
    if encoded is not None and not has_source:
        raise ValueError("`encoder_hidden_states` were given to a decoder without attention to a source.")
    if encoded is None or torch.compiler.is_compiling():
        return
    if encoded.shape[0] != states.shape[0]:
        raise ValueError(
            f"The source has {encoded.shape[0]} rows and the target {states.shape[0]}. Give a row of each for each "
            "sentence."
        )
    if mask is not None:
        check_mask(mask, encoded)


# trf-ignore: TRF013 (the encoder and the decoder end with `post_init`)
class VanillaTransformerStack(VanillaTransformerPreTrainedModel):
    """What encoder and decoder share: embeddings plus positions at the bottom, with `norm_first` a norm on top."""

    def __init__(self, config: VanillaTransformerConfig):
        super().__init__(config)
        self.embed_tokens = VanillaTransformerScaledEmbedding(
            config.vocab_size, config.hidden_size, config.pad_token_id
        )
        self.embed_positions: nn.Module = (
            VanillaTransformerSinusoidalPositions(config.hidden_size)
            if config.position_limit is None
            else VanillaTransformerLearnedPositions(config.position_limit, config.hidden_size)
        )
        self.gradient_checkpointing = False

    def add_layers(self, layers: list[GradientCheckpointingLayer]) -> None:
        """Put the layers on the embeddings, and with `norm_first`, where they end without one, a norm on top."""
        config = self.config
        self.layers = nn.ModuleList(layers)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps) if config.norm_first else None

    def embed(self, input_ids: torch.Tensor | None, inputs_embeds: torch.Tensor | None) -> torch.Tensor:
        """input_ids (B, T) or inputs_embeds (B, T, D), which are taken as they are -> (B, T, D)."""
        if (input_ids is None) == (inputs_embeds is None):
            given = "neither" if input_ids is None else "both"
            raise ValueError(f"Give exactly one of `input_ids` and `inputs_embeds` to each stack; {given} was given.")
        if input_ids is not None and input_ids.dim() != 2:
            raise ValueError(f"`input_ids` is {tuple(input_ids.shape)}. Give a row of ids for each text: (B, T).")
        width = self.config.hidden_size
        if inputs_embeds is not None and (inputs_embeds.dim() != 3 or inputs_embeds.shape[-1] != width):
            raise ValueError(
                f"`inputs_embeds` is {tuple(inputs_embeds.shape)}. Give vectors of `hidden_size` for each text: "
                f"(B, T, {width})."
            )
        return self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds

    def add_positions(
        self,
        inputs_embeds: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_length: int | torch.Tensor | None = None,
    ) -> torch.Tensor:
        """
        Add positions to embeddings (B, T, D), in the precision of these, then dropout (§5.4).

        Without `position_ids` (B, T) they are counted from a 2-D `attention_mask` (B, past + T), so that padding on
        either side gives the same positions, or else from `past_length` on, which is `None` without a cache.
        """
        length = inputs_embeds.shape[1]
        if attention_mask is not None and not torch.compiler.is_compiling():
            # With a cache of fixed size the mask may be as long as that.
            check_mask(attention_mask, inputs_embeds, past_length or 0, may_be_longer=past_length is not None)
        past_length = 0 if past_length is None else past_length
        limit = self.config.position_limit
        if limit is not None and not torch.compiler.is_compiling():
            longest = past_length + length if position_ids is None else position_ids.max() + 1
            if longest > limit:
                raise ValueError(
                    f"A sequence has {int(longest)} positions and `max_position_embeddings` is {limit}: shorten it "
                    "or use sinusoidal positions, which have no limit."
                )
        dtype = inputs_embeds.dtype
        if position_ids is not None:
            positions = self.embed_positions(position_ids, dtype)
        elif attention_mask is not None and attention_mask.dim() == 2:
            # One row a position, cast, then looked up: the float64 grid of a whole batch is far dearer.
            grid = self.embed_positions(torch.arange(attention_mask.shape[1], device=inputs_embeds.device), dtype)
            counted = (attention_mask.to(inputs_embeds.device).long().cumsum(-1) - 1).clamp(min=0)
            columns = torch.arange(length, device=inputs_embeds.device) + past_length
            positions = F.embedding(counted[:, columns], grid)
        else:
            columns = torch.arange(length, device=inputs_embeds.device) + past_length
            positions = self.embed_positions(columns, dtype).unsqueeze(0)
        hidden_states = inputs_embeds + positions
        return dropout(hidden_states, p=self.config.dropout, training=self.training)


class VanillaTransformerEncoder(VanillaTransformerStack):
    """N encoder layers over the embedded source (§3.1)."""

    _can_record_outputs = {
        "hidden_states": VanillaTransformerEncoderLayer,
        "attentions": OutputRecorder(VanillaTransformerAttention, index=1, layer_name="self_attn"),
    }

    def __init__(self, config: VanillaTransformerConfig):
        super().__init__(config)
        self.add_layers([VanillaTransformerEncoderLayer(config, i) for i in range(config.encoder_layers)])
        self.post_init()

    @accept_keywords
    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutput:
        """
        Encode the source.

        Args:
            input_ids (`torch.LongTensor` of shape (B, S)): token ids, or `inputs_embeds` in their place.
            attention_mask (`torch.Tensor` of shape (B, S)): 1 for tokens, 0 for padding.
            position_ids (`torch.LongTensor` of shape (B, S)): positions; counted from the mask if absent.
            inputs_embeds (`torch.FloatTensor` of shape (B, S, D)): embeddings, used without scaling.

        Returns:
            [`~modeling_outputs.BaseModelOutput`]: `last_hidden_state` (B, S, D).
        """
        inputs_embeds = self.embed(input_ids, inputs_embeds)
        hidden_states = self.add_positions(inputs_embeds, attention_mask, position_ids)
        mask = create_bidirectional_mask(
            config=self.config, inputs_embeds=inputs_embeds, attention_mask=attention_mask
        )
        for layer in self.layers:
            hidden_states = layer(hidden_states, mask, **kwargs)
        if self.layer_norm is not None:
            hidden_states = self.layer_norm(hidden_states)
        return BaseModelOutput(last_hidden_state=hidden_states)


class VanillaTransformerDecoder(VanillaTransformerStack):
    """
    N decoder layers over the embedded target, each with attention to the encoder's output (§3.1), if there is one.
    """

    _can_record_outputs = {
        "hidden_states": VanillaTransformerDecoderLayer,
        "attentions": OutputRecorder(VanillaTransformerAttention, index=1, layer_name="self_attn"),
        "cross_attentions": OutputRecorder(VanillaTransformerAttention, index=1, layer_name="encoder_attn"),
    }

    def __init__(self, config: VanillaTransformerConfig):
        super().__init__(config)
        self.add_layers([VanillaTransformerDecoderLayer(config, i) for i in range(config.decoder_layers)])
        self.post_init()

    @accept_keywords
    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        encoder_hidden_states: torch.Tensor | None = None,
        encoder_attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        cache: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPastAndCrossAttentions:
        """
        Decode the target, each position seeing itself and those before it.

        Args:
            input_ids (`torch.LongTensor` of shape (B, T)): target ids shifted right, or `inputs_embeds`.
            attention_mask (`torch.Tensor` of shape (B, past + T)): 1 for tokens, 0 for padding.
            encoder_hidden_states (`torch.FloatTensor` of shape (B, S, D)): the encoder's output.
            encoder_attention_mask (`torch.Tensor` of shape (B, S)): the source's mask.
            position_ids (`torch.LongTensor` of shape (B, T)): positions; counted from mask or cache if absent.
            cache (`Cache`): keys and values of the steps before; an `EncoderDecoderCache` with an encoder. It can be
                given as `past_key_values` too, its name before transformers 5.24.
            inputs_embeds (`torch.FloatTensor` of shape (B, T, D)): embeddings, used without scaling.
            use_cache (`bool`): whether to return the cache.

        Returns:
            [`~modeling_outputs.BaseModelOutputWithPastAndCrossAttentions`]: `last_hidden_state` (B, T, D).
        """
        inputs_embeds = self.embed(input_ids, inputs_embeds)
        has_source = self.config.is_encoder_decoder
        check_source(encoder_hidden_states, encoder_attention_mask, inputs_embeds, has_source)
        if isinstance(cache, DynamicCache) and has_source:
            cache = EncoderDecoderCache(cache, DynamicCache())
        wanted = EncoderDecoderCache if has_source else Cache
        if cache is not None and not isinstance(cache, wanted):
            given = type(cache).__name__
            raise ValueError(
                f"`{CACHE_NAME}` must be transformers' `{wanted.__name__}`, but is a {given}. Give one, or none."
            )
        past_length = cache.get_seq_length() if cache is not None else None
        if use_cache and cache is None:
            cache = DynamicCache()
            if has_source:
                cache = EncoderDecoderCache(cache, DynamicCache())

        hidden_states = self.add_positions(inputs_embeds, attention_mask, position_ids, past_length)
        mask = create_causal_mask(
            config=self.config,
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            **{CACHE_NAME: None if cache is None else own_cache(cache)},
        )
        encoder_mask = None
        if has_source:
            encoder_mask = create_bidirectional_mask(
                config=self.config,
                inputs_embeds=inputs_embeds,
                attention_mask=encoder_attention_mask,
                encoder_hidden_states=encoder_hidden_states,
            )
        for layer in self.layers:
            hidden_states = layer(
                hidden_states,
                mask,
                encoder_hidden_states,
                encoder_mask,
                **{CACHE_NAME: cache},
                **kwargs,
            )
        if self.layer_norm is not None:
            hidden_states = self.layer_norm(hidden_states)
        return BaseModelOutputWithPastAndCrossAttentions(
            last_hidden_state=hidden_states, **{CACHE_NAME: cache if use_cache else None}
        )


# ---------------------------------------------------------------------------------------------------------------------
# Models: both stacks, or one of them
# ---------------------------------------------------------------------------------------------------------------------


class VanillaTransformerModel(VanillaTransformerPreTrainedModel):
    r"""
    Encoder and decoder without a head (Figure 1 of the paper, up to the last decoder layer).

    A configuration may ask for one of them alone: the encoder with `is_encoder_decoder=False`, the decoder, which then
    has no attention to a source, with `is_decoder=True` besides. That is how `AutoModel` loads what a head with one
    stack saved.

    Example:

    ```python
    >>> import torch
    >>> from vanilla_transformer import VanillaTransformerConfig, VanillaTransformerModel

    >>> model = VanillaTransformerModel(VanillaTransformerConfig.from_preset("tiny", vocab_size=100)).eval()
    >>> source, target = torch.tensor([[5, 6, 7, 2]]), torch.tensor([[0, 8, 9]])
    >>> model(input_ids=source, decoder_input_ids=target).last_hidden_state.shape
    torch.Size([1, 3, 128])

    ```
    """

    def __init__(self, config: VanillaTransformerConfig):
        super().__init__(config)
        # Tied: one matrix under several names. Untied: each stack has its own and there is nothing to share.
        self.shared = (
            VanillaTransformerScaledEmbedding(config.vocab_size, config.hidden_size, config.pad_token_id)
            if config.tie_word_embeddings
            else None
        )
        self.encoder = VanillaTransformerEncoder(config) if config.has_encoder else None
        self.decoder = VanillaTransformerDecoder(config) if config.has_decoder else None
        self._tied_weights_keys = {
            f"{name}.embed_tokens.weight": "shared.weight"
            for name, stack in (("encoder", self.encoder), ("decoder", self.decoder))
            if stack is not None
        }
        self.post_init()

    def stacks(self) -> list[VanillaTransformerStack]:
        """The encoder, the decoder, or both in this order."""
        return [stack for stack in (self.encoder, self.decoder) if stack is not None]

    def get_input_embeddings(self) -> VanillaTransformerScaledEmbedding:
        return self.stacks()[0].embed_tokens  # `shared`, which has the same weights, is never called

    def set_input_embeddings(self, value: Any) -> None:
        """`value` is used as it is: a plain `nn.Embedding` does not multiply by sqrt(d_model)."""
        if self.shared is not None:
            self.shared = value
        for stack in self.stacks() if self.shared is not None else self.stacks()[:1]:
            stack.embed_tokens = value

    @accept_keywords
    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        decoder_position_ids: torch.Tensor | None = None,
        encoder_outputs: BaseModelOutput | tuple[Any, ...] | None = None,
        cache: EncoderDecoderCache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        decoder_inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> Seq2SeqModelOutput | BaseModelOutput | BaseModelOutputWithPastAndCrossAttentions:
        """
        Encode the source and decode the target.

        A model of one stack reads `input_ids` or `inputs_embeds` with `attention_mask` and `position_ids`, and returns
        what that stack returns.

        Args:
            input_ids (`torch.LongTensor` of shape (B, S)): source ids, or `inputs_embeds` (B, S, D).
            attention_mask (`torch.Tensor` of shape (B, S)): 1 for source tokens, 0 for padding.
            decoder_input_ids (`torch.LongTensor` of shape (B, T)): target ids that start with `<s>`, or
                `decoder_inputs_embeds` (B, T, D).
            decoder_attention_mask (`torch.Tensor` of shape (B, past + T)): 1 for target tokens, 0 for padding.
            position_ids, decoder_position_ids (`torch.LongTensor` of shape (B, S) and (B, T)): positions; counted from
                the masks if absent.
            encoder_outputs ([`~modeling_outputs.BaseModelOutput`] or tuple): a source that is encoded already.
            cache (`EncoderDecoderCache`): keys and values of the steps before; `past_key_values` is the same.
            use_cache (`bool`): whether to return the cache.

        Returns:
            [`~modeling_outputs.Seq2SeqModelOutput`]: `last_hidden_state` (B, T, D), `encoder_last_hidden_state`
            (B, S, D).

        Raises:
            `ValueError`: if a stack gets no input or two.
        """
        if self.decoder is None or self.encoder is None:
            if self.decoder is None:
                refuse_lost_cache(CACHE_NAME, cache)
            of_decoder = {} if self.decoder is None else {"cache": cache, "use_cache": use_cache}
            return self.stacks()[0](
                input_ids=input_ids,
                attention_mask=attention_mask,
                position_ids=position_ids,
                inputs_embeds=inputs_embeds,
                return_dict=True,
                **of_decoder,
                **kwargs,
            )
        if decoder_input_ids is None and decoder_inputs_embeds is None:
            raise ValueError(
                "The decoder got no input: pass `decoder_input_ids` or `decoder_inputs_embeds`. For the vectors of a "
                "text load the encoder alone, with `AutoModelForTextEncoding`."
            )
        if encoder_outputs is None:
            if attention_mask is not None and attention_mask.dim() == 4 and attention_mask.shape[2] != 1:
                raise ValueError(
                    f"`attention_mask` is {tuple(attention_mask.shape)}: a row for each position of the source, which "
                    "has none for those of the target. Encode with it first, with `get_encoder()`, and give "
                    "`encoder_outputs` with a mask for the attention to the source."
                )
            encoded = self.encoder(
                input_ids=input_ids,
                attention_mask=attention_mask,
                position_ids=position_ids,
                inputs_embeds=inputs_embeds,
                return_dict=True,
                **kwargs,
            )
        elif isinstance(encoder_outputs, (tuple, list)):
            encoded = BaseModelOutput(*encoder_outputs)
        else:
            encoded = encoder_outputs
        decoded = self.decoder(
            input_ids=decoder_input_ids,
            attention_mask=decoder_attention_mask,
            encoder_hidden_states=encoded.last_hidden_state,
            encoder_attention_mask=attention_mask,
            position_ids=decoder_position_ids,
            cache=cache,
            inputs_embeds=decoder_inputs_embeds,
            use_cache=use_cache,
            return_dict=True,
            **kwargs,
        )
        return Seq2SeqModelOutput(
            last_hidden_state=decoded.last_hidden_state,
            **{CACHE_NAME: decoded.cache},
            decoder_hidden_states=decoded.hidden_states,
            decoder_attentions=decoded.attentions,
            cross_attentions=decoded.cross_attentions,
            encoder_last_hidden_state=encoded.last_hidden_state,
            encoder_hidden_states=encoded.hidden_states,
            encoder_attentions=encoded.attentions,
        )


class VanillaTransformerEncoderModel(VanillaTransformerModel):
    r"""
    The encoder alone: one vector for each token of a text (`AutoModelForTextEncoding`), or for each of the vectors,
    such as image patches or audio frames, that are fed as `inputs_embeds`.

    Example:

    ```python
    >>> import torch
    >>> from vanilla_transformer import VanillaTransformerConfig, VanillaTransformerEncoderModel

    >>> model = VanillaTransformerEncoderModel(VanillaTransformerConfig.from_preset("tiny", vocab_size=100)).eval()
    >>> model(input_ids=torch.tensor([[5, 6, 7, 2]])).last_hidden_state.shape
    torch.Size([1, 4, 128])

    ```
    """

    def __init__(self, config: VanillaTransformerConfig):
        super().__init__(config.with_stacks(encoder=True, decoder=False))


# ---------------------------------------------------------------------------------------------------------------------
# Heads
# ---------------------------------------------------------------------------------------------------------------------


def shift_tokens_right(
    labels: torch.Tensor, pad_token_id: int | None, decoder_start_token_id: int | None
) -> torch.Tensor:
    """labels (B, T) -> decoder inputs (B, T): the start token, then all labels but the last (§3.1)."""
    if pad_token_id is None or decoder_start_token_id is None:
        raise ValueError(
            f"`pad_token_id` is {pad_token_id} and `decoder_start_token_id` is {decoder_start_token_id} in the "
            "model's configuration. Both are needed to make decoder inputs from labels: set them."
        )
    if labels.device.type == "cpu" and not torch.compiler.is_compiling():  # a GPU would have to be waited for
        is_real = labels != IGNORED_LABEL
        if (is_real.any(dim=-1) & ~is_real[:, 0]).any():
            raise ValueError(
                f"`labels` has a row that begins with {IGNORED_LABEL}: the start token would stand before padding. "
                'Pad them on the right, as a tokenizer with `padding_side="right"` does, or give `decoder_input_ids`.'
            )
    shifted = labels.new_full(labels.shape, decoder_start_token_id)
    shifted[:, 1:] = labels[:, :-1]
    return shifted.masked_fill(shifted == IGNORED_LABEL, pad_token_id)


class VanillaTransformerForConditionalGeneration(VanillaTransformerGenerationMixin, VanillaTransformerPreTrainedModel):
    r"""
    The paper's translation model: encoder, decoder, and the output projection that shares the embeddings' matrix.

    Example:

    ```python
    >>> import torch
    >>> from vanilla_transformer import VanillaTransformerConfig, VanillaTransformerForConditionalGeneration

    >>> config = VanillaTransformerConfig.from_preset("tiny", vocab_size=100)
    >>> model = VanillaTransformerForConditionalGeneration(config).eval()
    >>> source, labels = torch.tensor([[5, 6, 7, 2]]), torch.tensor([[8, 9, 2]])
    >>> model(input_ids=source, labels=labels).logits.shape
    torch.Size([1, 3, 100])
    >>> model.generation_config.num_beams, model.generation_config.length_penalty
    (4, 0.6)

    ```
    """

    _tied_weights_keys = {"lm_head.weight": "model.shared.weight"}
    _loss_type = "ForConditionalGeneration"

    def __init__(self, config: VanillaTransformerConfig):
        config = config.with_stacks(encoder=True, decoder=True)
        super().__init__(config)
        self.model = VanillaTransformerModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.generation_config = self.default_generation_config(config)
        self.post_init()

    def prepare_decoder_input_ids_from_labels(self, labels: torch.Tensor) -> torch.Tensor:
        """labels (B, T) -> decoder_input_ids (B, T), shifted right; data collators call it."""
        return shift_tokens_right(labels, self.config.pad_token_id, self.config.decoder_start_token_id)

    @accept_keywords
    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        decoder_position_ids: torch.Tensor | None = None,
        encoder_outputs: BaseModelOutput | tuple[Any, ...] | None = None,
        cache: EncoderDecoderCache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        decoder_inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs: Unpack[TransformersKwargs],
    ) -> Seq2SeqLMOutput:
        """
        Score the target, and with `labels` return the loss.

        In training mode with labels the loss is label-smoothed and `logits` is `None`: the full logits are never made.
        In evaluation mode it is the plain mean negative log-likelihood, and the logits are there.

        Args:
            labels (`torch.LongTensor` of shape (B, T)): target ids ending with `</s>`, -100 for padding, not shifted.
                Without `decoder_input_ids` those are made from them.
            logits_to_keep (`int` or `torch.Tensor`): compute the logits of the last so many positions alone; 0 is all.
            kwargs: `num_items_in_batch`, the number of labels in the whole optimizer step, which then divides the
                sum of the losses in place of their number here.

        All other arguments are those of [`VanillaTransformerModel.forward`].

        Returns:
            [`~modeling_outputs.Seq2SeqLMOutput`]: `loss` (), `logits` (B, T, V).
        """
        check_labels(labels, self.config.vocab_size)
        if labels is not None and decoder_input_ids is None and decoder_inputs_embeds is None:
            decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
        outputs: Seq2SeqModelOutput = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            decoder_input_ids=decoder_input_ids,
            decoder_attention_mask=decoder_attention_mask,
            position_ids=position_ids,
            decoder_position_ids=decoder_position_ids,
            encoder_outputs=encoder_outputs,
            cache=cache,
            inputs_embeds=inputs_embeds,
            decoder_inputs_embeds=decoder_inputs_embeds,
            # Labels mean that the whole target is here: nothing will be asked for again.
            use_cache=False if labels is not None and use_cache is None else use_cache,
            return_dict=True,
            **kwargs,
        )
        hidden_states = outputs.last_hidden_state

        loss, logits = None, None
        if labels is not None and self.training:
            labels = labels.to(hidden_states.device)
            total = label_smoothed_loss(hidden_states, self.lm_head, labels, self.config.label_smoothing)
            loss = mean_loss(total, labels, kwargs.get("num_items_in_batch"))
        else:
            kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
            logits = linear(self.lm_head, hidden_states[:, kept])  # (B, T, V)
            if labels is not None:
                # The labels are aligned with the decoder's outputs already: no second shift.
                loss = self.loss_function(
                    logits=logits, labels=labels, vocab_size=self.config.vocab_size, shift_labels=labels, **kwargs
                )
        return Seq2SeqLMOutput(
            loss=loss,
            logits=logits,
            **{CACHE_NAME: outputs.cache},
            decoder_hidden_states=outputs.decoder_hidden_states,
            decoder_attentions=outputs.decoder_attentions,
            cross_attentions=outputs.cross_attentions,
            encoder_last_hidden_state=outputs.encoder_last_hidden_state,
            encoder_hidden_states=outputs.encoder_hidden_states,
            encoder_attentions=outputs.encoder_attentions,
        )


__all__ = [
    "VanillaTransformerEncoderModel",
    "VanillaTransformerForConditionalGeneration",
    "VanillaTransformerModel",
    "VanillaTransformerPreTrainedModel",
]
