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
The original Transformer ("Attention Is All You Need", Vaswani et al. 2017), from top to bottom in the order of the
paper: positions, attention, feed-forward, layers, stacks, the model, and its heads.

Shapes: B batch, S source, T target or any sequence, H heads, D hidden_size, K key size, V vocabulary.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.cache_utils import Cache, DynamicCache, EncoderDecoderCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import create_bidirectional_mask, create_causal_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import (
    BaseModelOutput,
    BaseModelOutputWithPastAndCrossAttentions,
    CausalLMOutputWithPast,
    MaskedLMOutput,
    QuestionAnsweringModelOutput,
    Seq2SeqLMOutput,
    Seq2SeqModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, PreTrainedModel
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from .configuration_vanilla_transformer import (
    CACHE_NAME,
    CACHE_NAMES,
    IGNORED_LABEL,
    VanillaTransformerConfig,
    accept_keywords,
    check_answers,
    check_cache,
    check_inputs,
    check_labels,
    check_length,
    check_mask,
    check_one_stack,
    check_one_vocabulary,
    check_padding_side,
    check_source,
    check_source_mask,
    leave_out_padding,
    real_tokens,
    with_cache_names,
)
from .generation_vanilla_transformer import VanillaTransformerBaseGenerationMixin, VanillaTransformerGenerationMixin
from .kernels_vanilla_transformer import (
    MANY_ROWS,
    Dropout,
    attend_in_step,
    is_step_on_cpu,
    label_smoothed_loss,
    linear,
    mean_loss,
    side_by_side,
)

if TYPE_CHECKING:  # Saving a model copies the files that are named here and in them: these must travel with it.
    from .pipeline_vanilla_transformer import (
        VanillaTransformerTranslationPipeline as VanillaTransformerTranslationPipeline,
    )
    from .tokenization_vanilla_transformer import VanillaTransformerTokenizer as VanillaTransformerTokenizer

BaseModelOutputWithPastAndCrossAttentions = with_cache_names(BaseModelOutputWithPastAndCrossAttentions, __name__)
CausalLMOutputWithPast = with_cache_names(CausalLMOutputWithPast, __name__)
Seq2SeqLMOutput = with_cache_names(Seq2SeqLMOutput, __name__)
Seq2SeqModelOutput = with_cache_names(Seq2SeqModelOutput, __name__)


# ---------------------------------------------------------------------------------------------------------------------
# Embeddings and positions (§3.4, §3.5)
# ---------------------------------------------------------------------------------------------------------------------


class VanillaTransformerScaledEmbedding(nn.Embedding):
    """Token embeddings multiplied by sqrt(d_model) (§3.4): ids (B, T) -> (B, T, D)."""

    is_scaled = True

    @property
    def embed_scale(self) -> float:
        """The factor of the rows of the weight; PEFT's adapters of embeddings ask for it by this name."""
        return math.sqrt(self.embedding_dim) if self.is_scaled else 1.0

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return super().forward(input_ids) * self.embed_scale


class VanillaTransformerSinusoidalPositions(nn.Module):
    """
    The paper's sinusoids (§3.5): PE(pos, 2i) = sin(pos / 10000^(2i/D)) and PE(pos, 2i + 1) = cos(the same).

    Nothing is stored: a table would end somewhere, would be cast with the model (fp32 angles are off by 4e-4 at
    position 5,000, bf16 ones by more than 1), and is not restored by `from_pretrained`.
    """

    def __init__(self, hidden_size: int, sinusoid_type: str = "paper", offset: int = 0):
        super().__init__()
        self.hidden_size, self.offset = hidden_size, offset
        self.divisor = hidden_size if sinusoid_type == "paper" else hidden_size - 2

    def forward(self, position_ids: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
        """
        Encode positions.

        Args:
            position_ids (`torch.LongTensor` of shape (..., T)): 0, 1, 2, ...: positions, and not the ids of tokens.
            dtype (`torch.dtype`, *optional*): of the result, torch's default if absent. Angles are in float64.

        Returns:
            `torch.Tensor` of shape (..., T, D), which `add_positions` of either stack adds to embeddings.
        """
        if position_ids.is_floating_point():
            raise ValueError(
                f"`position_ids` must be whole numbers, but is {tuple(position_ids.shape)} of {position_ids.dtype}. "
                "Give positions, as torch.arange(length) does."
            )
        device, dtype = position_ids.device, dtype or torch.get_default_dtype()
        if device.type == "mps":  # has no float64
            position_ids = position_ids.cpu()
        even = torch.arange(0, self.hidden_size, 2, dtype=torch.float64, device=position_ids.device)
        frequencies = torch.exp(even * (-math.log(10000.0) / self.divisor))  # (D / 2,)
        angles = (position_ids.unsqueeze(-1).to(torch.float64) + self.offset) * frequencies  # (..., T, D / 2)
        encoding = torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)  # (..., T, D), interleaved
        return encoding.to(dtype).to(device)


class VanillaTransformerLearnedPositions(nn.Embedding):
    """Learned positions (row E of Table 3)."""

    def forward(self, position_ids: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
        """position_ids (..., T), from 0 and below `max_position_embeddings` -> (..., T, D), in `dtype` if given."""
        positions = super().forward(position_ids)
        return positions if dtype is None else positions.to(dtype)


# ---------------------------------------------------------------------------------------------------------------------
# Attention (§3.2)
# ---------------------------------------------------------------------------------------------------------------------


def eager_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: object,
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Scaled dot-product attention, softmax(Q K^T / sqrt(d_k)) V (§3.2.1), written out.

    Shapes: query (B, H, T, K), key (B, H, S, K), value (B, H, S, d_v), mask (B, 1, T, S) of booleans, true for what is
    attended to, or of numbers that are added to the scores; returns the outputs (B, T, H, d_v) and the weights
    (B, H, T, S).
    """
    scores = torch.matmul(query, key.transpose(2, 3)) * scaling  # (B, H, T, S)
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    elif attention_mask is not None:
        scores = scores + attention_mask
    weights = F.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    weights = F.dropout(weights, p=dropout, training=module.training)
    output = torch.matmul(weights, value)  # (B, H, T, d_v)
    return output.transpose(1, 2).contiguous(), weights


def own_cache(cache: Cache) -> Cache:
    """The cache of self-attention: a part of an encoder-decoder's, the whole of a decoder's."""
    return cache.self_attention_cache if isinstance(cache, EncoderDecoderCache) else cache


class VanillaTransformerAttention(nn.Module):
    """
    Multi-head attention (§3.2.2): h attentions side by side on learned projections, joined and projected again.

    It serves the paper's three uses (§3.2.3). In cross-attention queries come from the decoder, keys and values from
    the encoder.
    """

    def __init__(self, config: VanillaTransformerConfig, layer_idx: int, is_causal: bool = False):
        super().__init__()
        self.config = config
        self.layer_idx = layer_idx
        self.is_causal = is_causal
        self.key_size = config.query_key_size
        self.value_size = config.value_size
        self.scaling = self.key_size**-0.5
        self.attention_dropout = config.attention_dropout

        heads, bias = config.num_attention_heads, config.attention_bias
        self.q_proj = nn.Linear(config.hidden_size, heads * self.key_size, bias=bias)
        self.k_proj = nn.Linear(config.hidden_size, heads * self.key_size, bias=bias)
        self.v_proj = nn.Linear(config.hidden_size, heads * self.value_size, bias=bias)
        self.out_proj = nn.Linear(heads * self.value_size, config.hidden_size, bias=bias)
        for projection in (self.q_proj, self.k_proj, self.v_proj):  # `_init_weights` is given one layer at a time
            projection.init_gain = config.attention_init_gain  # type: ignore[assignment]

    def apply_positions(
        self, queries: torch.Tensor, keys: torch.Tensor, position_ids: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Return the queries and keys (B, H, T, K) of self-attention at `position_ids` (B, T) or (1, T).

        Here they are unchanged, since the paper adds positions to the embeddings. A subclass may put them in here, as
        rotary positions do; beam search respects it.
        """
        return queries, keys

    def project_source(self, states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """states (B, S, D) -> keys (B, H, S, K) and values (B, H, S, d_v); once, so that packing would not pay."""
        shape = states.shape[:-1]
        keys = linear(self.k_proj, states, may_pack=False).view(*shape, -1, self.key_size).transpose(1, 2)
        values = linear(self.v_proj, states, may_pack=False).view(*shape, -1, self.value_size).transpose(1, 2)
        return keys, values

    @accept_keywords
    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        key_value_states: torch.Tensor | None = None,
        cache: Cache | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """
        hidden_states (B, T, D), key_value_states (B, S, D) for cross-attention -> (B, T, D), weights (B, H, T, S) or
        `None` (only eager attention returns weights).

        In cross-attention several rows, one after the other, may share a source: then key_value_states has fewer.
        """
        shape = hidden_states.shape[:-1]
        if key_value_states is None:
            queries, keys, values = side_by_side(hidden_states, self.q_proj, self.k_proj, self.v_proj)
            queries = queries.view(*shape, -1, self.key_size).transpose(1, 2)  # (B, H, T, K)
            keys = keys.view(*shape, -1, self.key_size).transpose(1, 2)  # (B, H, T, K)
            values = values.view(*shape, -1, self.value_size).transpose(1, 2)  # (B, H, T, d_v)
            queries, keys = self.apply_positions(queries, keys, kwargs.get("position_ids"))
            if cache is not None:
                keys, values = own_cache(cache).update(keys, values, self.layer_idx)
        else:
            queries = linear(self.q_proj, hidden_states).view(*shape, -1, self.key_size).transpose(1, 2)
            if cache is not None and cache.is_updated.get(self.layer_idx):
                # The source does not change: the first step's keys and values serve all later ones.
                cached = cache.cross_attention_cache.layers[self.layer_idx]
                keys, values = cached.keys, cached.values
            else:
                keys, values = self.project_source(key_value_states)
                if cache is not None:
                    keys, values = cache.cross_attention_cache.update(keys, values, self.layer_idx)
                    cache.is_updated[self.layer_idx] = True

        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        is_fused = attend is sdpa_attention_forward
        if is_fused and is_step_on_cpu(queries):  # the same in less time
            is_written_out = key_value_states is not None and len(queries) >= MANY_ROWS
            attend = eager_attention_forward if is_written_out else attend_in_step
        copies = queries.shape[0] // keys.shape[0]
        if copies > 1:  # to attention, rows that share a source are positions of one: (B / copies, H, copies * T, K)
            queries = queries.view(-1, copies, *queries.shape[1:]).transpose(1, 2).flatten(2, 3)
        output, weights = attend(
            self,
            queries,
            keys,
            values,
            attention_mask,
            dropout=self.attention_dropout if self.training else 0.0,
            scaling=self.scaling,
            **kwargs,
        )
        output = output.reshape(*shape, -1).contiguous()  # (B, T, H * d_v)
        if copies > 1 and weights is not None and not is_fused:
            weights = weights.view(*weights.shape[:2], copies, -1, weights.shape[-1])
            weights = weights.transpose(1, 2).flatten(0, 1)  # (B, H, T, S)
        return linear(self.out_proj, output), None if is_fused else weights


# ---------------------------------------------------------------------------------------------------------------------
# Layers (§3.1, §3.3)
# ---------------------------------------------------------------------------------------------------------------------


class VanillaTransformerLayer(GradientCheckpointingLayer):
    """
    The common part of encoder and decoder layers: the feed-forward network and the residual connection with its norm.

    The feed-forward network is max(0, x W1 + b1) W2 + b2 at every position (§3.3).
    """

    def __init__(self, config: VanillaTransformerConfig):
        super().__init__()
        self.norm_first = config.norm_first

    def add_feed_forward(self, config: VanillaTransformerConfig) -> None:
        """Build the feed-forward network, after the attention that comes before it in the layer."""
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.activation_fn = ACT2FN[config.hidden_act]
        self.activation_dropout = Dropout(config.activation_dropout)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.dropout)  # of every sublayer

    def feed_forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """(B, T, D) -> (B, T, D), position by position."""
        hidden_states = self.activation_dropout(self.activation_fn(linear(self.fc1, hidden_states)))  # (B, T, d_ff)
        return linear(self.fc2, hidden_states)

    def residual(
        self, hidden_states: torch.Tensor, sublayer: Callable[[torch.Tensor], torch.Tensor], norm: nn.LayerNorm
    ) -> torch.Tensor:
        """LayerNorm(x + Dropout(Sublayer(x))) (§5.4), or x + Dropout(Sublayer(LayerNorm(x))) with `norm_first`."""
        output = sublayer(norm(hidden_states) if self.norm_first else hidden_states)
        output = hidden_states + self.dropout(output)
        return output if self.norm_first else norm(output)


class VanillaTransformerEncoderLayer(VanillaTransformerLayer):
    """Self-attention over the source, then feed-forward (§3.1)."""

    def __init__(self, config: VanillaTransformerConfig, layer_idx: int):
        super().__init__(config)
        self.self_attn = VanillaTransformerAttention(config, layer_idx)
        self.self_attn_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.add_feed_forward(config)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> torch.Tensor:
        """hidden_states (B, S, D), attention_mask as the attention implementation wants it -> (B, S, D)."""
        hidden_states = self.residual(
            hidden_states,
            lambda x: self.self_attn(x, attention_mask, position_ids=position_ids, **kwargs)[0],
            self.self_attn_layer_norm,
        )
        return self.residual(hidden_states, self.feed_forward, self.final_layer_norm)


class VanillaTransformerDecoderLayer(VanillaTransformerLayer):
    """
    Masked self-attention over the target, attention to the source, then feed-forward (§3.1).

    Without an encoder (`config.is_encoder_decoder` is `False`) there is no source and no attention to it.
    """

    def __init__(self, config: VanillaTransformerConfig, layer_idx: int):
        super().__init__(config)
        self.self_attn = VanillaTransformerAttention(config, layer_idx, is_causal=True)
        self.self_attn_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.has_source = config.is_encoder_decoder
        if self.has_source:
            self.encoder_attn = VanillaTransformerAttention(config, layer_idx)
            self.encoder_attn_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.add_feed_forward(config)

    @accept_keywords
    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        encoder_hidden_states: torch.Tensor | None = None,
        encoder_attention_mask: torch.Tensor | None = None,
        cache: Cache | None = None,
        position_ids: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> torch.Tensor:
        """hidden_states (B, T, D), encoder_hidden_states (B, S, D) -> (B, T, D)."""
        hidden_states = self.residual(
            hidden_states,
            lambda x: self.self_attn(x, attention_mask, cache=cache, position_ids=position_ids, **kwargs)[0],
            self.self_attn_layer_norm,
        )
        if self.has_source:
            hidden_states = self.residual(
                hidden_states,
                lambda x: self.encoder_attn(x, encoder_attention_mask, encoder_hidden_states, cache, **kwargs)[0],
                self.encoder_attn_layer_norm,
            )
        return self.residual(hidden_states, self.feed_forward, self.final_layer_norm)


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
    # Which of transformers' losses `self.loss_function` is; by itself it would go by the name of the class.
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

    def _resize_token_embeddings(
        self, new_num_tokens: int, pad_to_multiple_of: int | None = None, mean_resizing: bool = True
    ) -> nn.Module:
        check_one_vocabulary(self.config)
        embeddings = super()._resize_token_embeddings(new_num_tokens, pad_to_multiple_of, mean_resizing)
        decoder = getattr(self.base_model, "decoder", None)
        if decoder is not None and not self.config.tie_word_embeddings:  # transformers resizes only the input's
            decoder.embed_tokens = self._get_resized_embeddings(
                decoder.embed_tokens, embeddings.num_embeddings, mean_resizing=mean_resizing
            )
        return embeddings


# trf-ignore: TRF013 (the encoder and the decoder end with `post_init`)
class VanillaTransformerStack(VanillaTransformerPreTrainedModel):
    """The common part of both stacks: embeddings plus positions at the bottom, with `norm_first` a norm on top."""

    reads_target = False

    def __init__(self, config: VanillaTransformerConfig):
        super().__init__(config)
        vocab_size = config.target_vocab_size if self.reads_target else config.vocab_size
        self.embed_tokens = VanillaTransformerScaledEmbedding(vocab_size, config.hidden_size, config.pad_token_id)
        self.embed_tokens.is_scaled = config.scale_embedding
        self.embed_positions: nn.Module = (
            VanillaTransformerSinusoidalPositions(config.hidden_size, config.sinusoid_type, config.position_offset)
            if config.position_limit is None
            else VanillaTransformerLearnedPositions(config.position_limit, config.hidden_size)
        )
        self.dropout = Dropout(config.dropout)
        self.gradient_checkpointing = False

    def add_layers(self, layers: list[GradientCheckpointingLayer]) -> None:
        """Put the layers on the embeddings, and with `norm_first`, where they end without one, a norm on top."""
        config = self.config
        self.layers = nn.ModuleList(layers)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps) if config.norm_first else None

    def embed(self, input_ids: torch.Tensor | None, inputs_embeds: torch.Tensor | None) -> torch.Tensor:
        """input_ids (B, T) or inputs_embeds (B, T, D), which are taken as they are -> (B, T, D)."""
        check_inputs(input_ids, inputs_embeds, self.config.hidden_size)
        return self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds

    def count_positions(
        self,
        inputs_embeds: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_length: int | torch.Tensor | None = None,
    ) -> torch.Tensor:
        """
        Return the positions (B, T) or (1, T) of embeddings (B, T, D): `position_ids` if they are given.

        Otherwise they are counted from a 2-D `attention_mask` (B, past + T), so that padding on either side gives the
        same positions, or else from `past_length` on, which is `None` without a cache.
        """
        if position_ids is not None:
            return position_ids
        past_length = 0 if past_length is None else past_length
        columns = torch.arange(inputs_embeds.shape[1], device=inputs_embeds.device) + past_length
        if attention_mask is None or attention_mask.dim() != 2:
            return columns.unsqueeze(0)
        return (attention_mask.to(inputs_embeds.device).long().cumsum(-1) - 1).clamp(min=0)[:, columns]

    def add_positions(
        self,
        inputs_embeds: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_length: int | torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Add positions to embeddings (B, T, D), in the precision of these, then dropout (§5.4)."""
        if attention_mask is not None and not torch.compiler.is_compiling():
            # With a cache of fixed size the mask may be as long as that.
            check_mask(attention_mask, inputs_embeds, past_length or 0, may_be_longer=past_length is not None)
        if self.config.position_limit is not None and not torch.compiler.is_compiling():
            check_length(self.config.position_limit, inputs_embeds, position_ids, past_length)
        dtype = inputs_embeds.dtype
        ids = self.count_positions(inputs_embeds, attention_mask, position_ids, past_length)
        if position_ids is None and attention_mask is not None and attention_mask.dim() == 2:
            # One row a position, cast, then looked up: the float64 grid of a whole batch is far dearer.
            count = min(attention_mask.shape[1], self.config.position_limit or attention_mask.shape[1])
            grid = self.embed_positions(torch.arange(count, device=inputs_embeds.device), dtype)
            return self.dropout(inputs_embeds + F.embedding(ids, grid))
        return self.dropout(inputs_embeds + self.embed_positions(ids, dtype))


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
        position_ids = self.count_positions(inputs_embeds, attention_mask, position_ids)
        for layer in self.layers:
            hidden_states = layer(hidden_states, mask, position_ids=position_ids, **kwargs)
        if self.layer_norm is not None:
            hidden_states = self.layer_norm(hidden_states)
        return BaseModelOutput(last_hidden_state=hidden_states)


class VanillaTransformerDecoder(VanillaTransformerStack):
    """N decoder layers over the embedded target, each with attention to the encoder's output, if any (§3.1)."""

    reads_target = True
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
            encoder_hidden_states, encoder_attention_mask (of shape (B, S, D) and (B, S)): the source and its mask.
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
        cache = check_cache(cache, has_source)
        past_length = cache.get_seq_length() if cache is not None else None
        if use_cache and cache is None:
            cache = check_cache(DynamicCache(), has_source)
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
        hidden_states = self.decode(
            hidden_states,
            mask,
            encoder_hidden_states,
            encoder_mask,
            position_ids=self.count_positions(inputs_embeds, attention_mask, position_ids, past_length),
            **{CACHE_NAME: cache},
            **kwargs,
        )
        return BaseModelOutputWithPastAndCrossAttentions(
            last_hidden_state=hidden_states, **{CACHE_NAME: cache if use_cache else None}
        )

    def decode(self, hidden_states: torch.Tensor, *attended: torch.Tensor | None, **kwargs: Any) -> torch.Tensor:
        """
        Run the layers on embeddings with positions: (B, T, D) -> (B, T, D). Beam search calls it for each token.

        `attended` are the mask, the encoder's output and its mask, as the layers want them; `kwargs` go to each layer.
        """
        for layer in self.layers:
            hidden_states = layer(hidden_states, *attended, **kwargs)
        return hidden_states if self.layer_norm is None else self.layer_norm(hidden_states)


# ---------------------------------------------------------------------------------------------------------------------
# Models: both stacks, or one of them
# ---------------------------------------------------------------------------------------------------------------------


class VanillaTransformerModel(VanillaTransformerPreTrainedModel):
    r"""
    Encoder and decoder without a head (Figure 1 of the paper, up to the last decoder layer).

    A configuration may ask for only one of them: the encoder with `is_encoder_decoder=False`, the decoder, which then
    has no attention to a source, with `is_decoder=True` as well. That is how `AutoModel` loads what a head with one
    stack saved.

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
        # Tied: one matrix under several names. Else each stack has its own and there is nothing to share.
        self.shared = (
            VanillaTransformerScaledEmbedding(config.vocab_size, config.hidden_size, config.pad_token_id)
            if config.tie_word_embeddings and config.decoder_vocab_size is None
            else None
        )
        self.encoder = VanillaTransformerEncoder(config) if config.has_encoder else None
        self.decoder = VanillaTransformerDecoder(config) if config.has_decoder else None
        self._tied_weights_keys = {
            f"{name}.embed_tokens.weight": "shared.weight"
            for name, stack in (("encoder", self.encoder), ("decoder", self.decoder))
            if stack is not None and self.shared is not None
        }
        self.post_init()

    def stacks(self) -> list[VanillaTransformerStack]:
        """The encoder, the decoder, or both in this order."""
        return [stack for stack in (self.encoder, self.decoder) if stack is not None]

    def get_input_embeddings(self) -> VanillaTransformerScaledEmbedding:
        return self.stacks()[0].embed_tokens  # `shared`, which has the same weights, is never called

    def set_input_embeddings(self, value: nn.Module) -> None:
        """`value` is used as it is: a plain `nn.Embedding` does not multiply by sqrt(d_model)."""
        if self.shared is not None:
            self.shared = value  # type: ignore[assignment]
        for stack in self.stacks() if self.shared is not None else self.stacks()[:1]:
            stack.embed_tokens = value  # type: ignore[assignment]

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
        encoder_outputs: BaseModelOutput | tuple[torch.Tensor, ...] | None = None,
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
        """
        if self.decoder is None or self.encoder is None:
            of_both = {"decoder_input_ids": decoder_input_ids, "decoder_inputs_embeds": decoder_inputs_embeds}
            check_one_stack(None if self.decoder is not None else cache, encoder_outputs=encoder_outputs, **of_both)
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
                "text load only the encoder, with `AutoModelForTextEncoding`."
            )
        if encoder_outputs is None:
            check_source_mask(attention_mask)
            encoded = self.encoder(input_ids, attention_mask, position_ids, inputs_embeds, return_dict=True, **kwargs)
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
    """
    Only the encoder: one vector for each token of a text (`AutoModelForTextEncoding`), or for each of the vectors,
    such as image patches or audio frames, that are fed as `inputs_embeds`.
    """

    def __init__(self, config: VanillaTransformerConfig):
        super().__init__(config.with_stacks(encoder=True, decoder=False))


# ---------------------------------------------------------------------------------------------------------------------
# Heads: translation, as in the paper; then what descends from it, on the decoder (GPT) and on the encoder (BERT)
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
    check_padding_side(labels)
    shifted = labels.new_full(labels.shape, decoder_start_token_id)
    shifted[:, 1:] = labels[:, :-1]
    return shifted.masked_fill(shifted == IGNORED_LABEL, pad_token_id)


class VanillaTransformerForConditionalGeneration(VanillaTransformerGenerationMixin, VanillaTransformerPreTrainedModel):
    r"""
    The paper's translation model: encoder, decoder, and the output projection that shares the embeddings' matrix.

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
        self.lm_head = nn.Linear(config.hidden_size, config.target_vocab_size, bias=config.output_bias)
        if config.decoder_vocab_size is not None:
            self._tied_weights_keys = {"lm_head.weight": "model.decoder.embed_tokens.weight"}
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
        encoder_outputs: BaseModelOutput | tuple[torch.Tensor, ...] | None = None,
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
            logits_to_keep (`int` or `torch.Tensor`): compute only the logits of so many last positions; 0 means all.
            kwargs: `num_items_in_batch`, the number of labels in the whole optimizer step, which then divides the
                sum of the losses in place of their number here.

        All other arguments are those of [`VanillaTransformerModel.forward`].

        Returns:
            [`~modeling_outputs.Seq2SeqLMOutput`]: `loss` (), `logits` (B, T, V).
        """
        check_labels(labels, self.config.target_vocab_size)
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
                    logits=logits, labels=labels, vocab_size=logits.shape[-1], shift_labels=labels, **kwargs
                )
        return Seq2SeqLMOutput(
            loss=loss, logits=logits, **{name: each for name, each in outputs.items() if name != "last_hidden_state"}
        )


class VanillaTransformerForCausalLM(VanillaTransformerBaseGenerationMixin, VanillaTransformerPreTrainedModel):
    r"""
    A language model: only the decoder, which predicts each token from those before it (the line of GPT and LaMDA).

    The tokenizer ends each text with `</s>`, which is right for training. A beginning that is to be continued has no
    end: encode it with `add_special_tokens=False`, in `pipeline("text-generation")` too.

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
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=config.output_bias)
        # If it is set, the loss in training mode, without logits: `label_smoothed_loss`, for one.
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
            logits_to_keep (`int` or `torch.Tensor`): compute only the logits of so many last positions; 0 means all.

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
        rest = {name: each for name, each in outputs.items() if name not in ("last_hidden_state", "cross_attentions")}
        return CausalLMOutputWithPast(loss=loss, logits=logits, **rest)


# trf-ignore: TRF013 (its heads end with `post_init`)
class VanillaTransformerEncoderHead(VanillaTransformerPreTrainedModel):
    """The common part of the heads on the encoder (the line of BERT)."""

    def __init__(self, config: VanillaTransformerConfig):
        config = config.with_stacks(encoder=True, decoder=False)
        super().__init__(config)
        self.num_labels = len(config.label_names)
        self.model = VanillaTransformerModel(config)
        self.dropout = nn.Dropout(config.dropout if config.classifier_dropout is None else config.classifier_dropout)


class VanillaTransformerForMaskedLM(VanillaTransformerEncoderHead):
    """A masked language model: the encoder, which predicts `<mask>` from the tokens on both sides of it."""

    _tied_weights_keys = {"lm_head.weight": "model.shared.weight"}
    _loss_type = "ForMaskedLM"

    def __init__(self, config: VanillaTransformerConfig):
        super().__init__(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=config.output_bias)
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
        inputs = {"attention_mask": attention_mask, "position_ids": position_ids, "inputs_embeds": inputs_embeds}
        outputs: BaseModelOutput = self.model(input_ids, return_dict=True, **inputs, **kwargs)
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
    """A class, several, or a number for a whole text: a linear layer on the mean of the encoder's outputs."""

    # The loss is the mean of a batch, which Trainer divides by the batches that it accumulates.
    accepts_loss_kwargs = False
    _loss_type = "ForSequenceClassification"

    def __init__(self, config: VanillaTransformerConfig):
        super().__init__(config)
        self.classifier = nn.Linear(config.hidden_size, self.num_labels)
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
            labels (`torch.Tensor` of shape (B,) or (B, num_labels)): classes; numbers if there is only one label; or
                a float 0 or 1 for each of several labels (`config.problem_type`).

        All other arguments are those of [`VanillaTransformerModel.forward`] for the encoder.

        Returns:
            [`~modeling_outputs.SequenceClassifierOutput`]: `loss` (), `logits` (B, num_labels).
        """
        if self.num_labels > 1 and self.config.problem_type in (None, "single_label_classification"):
            check_labels(labels, self.num_labels)
        inputs = {"attention_mask": attention_mask, "position_ids": position_ids, "inputs_embeds": inputs_embeds}
        outputs: BaseModelOutput = self.model(input_ids, return_dict=True, **inputs, **kwargs)
        hidden_states = outputs.last_hidden_state  # (B, S, D)
        if attention_mask is None:
            pooled = hidden_states.mean(dim=1)
        else:
            real = real_tokens(attention_mask).to(hidden_states).unsqueeze(-1)  # (B, S, 1)
            pooled = (hidden_states * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)
        logits = self.classifier(self.dropout(pooled))  # (B, num_labels)
        loss = None
        if labels is not None:
            loss = self.loss_function(labels=labels, pooled_logits=logits, config=self.config)
        return SequenceClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class VanillaTransformerForTokenClassification(VanillaTransformerEncoderHead):
    """A class for every token, such as a name's kind or a part of speech."""

    _loss_type = "ForTokenClassification"

    def __init__(self, config: VanillaTransformerConfig):
        super().__init__(config)
        self.classifier = nn.Linear(config.hidden_size, self.num_labels)
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
        inputs = {"attention_mask": attention_mask, "position_ids": position_ids, "inputs_embeds": inputs_embeds}
        outputs: BaseModelOutput = self.model(input_ids, return_dict=True, **inputs, **kwargs)
        logits = self.classifier(self.dropout(outputs.last_hidden_state))  # (B, S, num_labels)
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, self.config, **kwargs)
        return TokenClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class VanillaTransformerForQuestionAnswering(VanillaTransformerEncoderHead):
    """The span of a text that answers a question: how well the answer starts and ends at every token."""

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
        check_answers("start_positions", start_positions)
        check_answers("end_positions", end_positions)
        inputs = {"attention_mask": attention_mask, "position_ids": position_ids, "inputs_embeds": inputs_embeds}
        outputs: BaseModelOutput = self.model(input_ids, return_dict=True, **inputs, **kwargs)
        logits = self.qa_outputs(self.dropout(outputs.last_hidden_state))  # (B, S, 2)
        if attention_mask is not None:  # no answer begins or ends in padding
            padding = ~real_tokens(attention_mask).to(logits.device)
            logits = logits.masked_fill(padding.unsqueeze(-1), torch.finfo(logits.dtype).min)
            start_positions = leave_out_padding(start_positions, padding)
            end_positions = leave_out_padding(end_positions, padding)
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


__all__ = [
    "VanillaTransformerEncoderModel",
    "VanillaTransformerForCausalLM",
    "VanillaTransformerForConditionalGeneration",
    "VanillaTransformerForMaskedLM",
    "VanillaTransformerForQuestionAnswering",
    "VanillaTransformerForSequenceClassification",
    "VanillaTransformerForTokenClassification",
    "VanillaTransformerModel",
    "VanillaTransformerPreTrainedModel",
]
