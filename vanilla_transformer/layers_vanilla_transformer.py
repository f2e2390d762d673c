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
What the stacks are built of, in the order of the paper: positions, attention, feed-forward and layers.

Shapes: B batch, S source, T target or any sequence, H heads, D hidden_size, K key size.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers.activations import ACT2FN
from transformers.cache_utils import Cache, EncoderDecoderCache
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs

from .configuration_vanilla_transformer import VanillaTransformerConfig, accept_keywords
from .kernels_vanilla_transformer import dropout, linear

# ---------------------------------------------------------------------------------------------------------------------
# Embeddings and positions (§3.4, §3.5)
# ---------------------------------------------------------------------------------------------------------------------


class VanillaTransformerScaledEmbedding(nn.Embedding):
    """Token embeddings multiplied by sqrt(d_model) (§3.4): ids (B, T) -> (B, T, D)."""

    @property
    def embed_scale(self) -> float:
        """What rows of the weight are multiplied by; PEFT's adapters of embeddings ask for it by this name."""
        return math.sqrt(self.embedding_dim)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return super().forward(input_ids) * self.embed_scale


class VanillaTransformerSinusoidalPositions(nn.Module):
    """
    The paper's sinusoids (§3.5): PE(pos, 2i) = sin(pos / 10000^(2i/D)) and PE(pos, 2i + 1) = cos(the same).

    Nothing is stored: a table would end somewhere, would be cast with the model (fp32 angles are off by 4e-4 at
    position 5,000, bf16 ones by more than 1), and is not restored by `from_pretrained`.
    """

    def __init__(self, hidden_size: int):
        super().__init__()
        self.hidden_size = hidden_size

    def forward(self, position_ids: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
        """
        Encode positions.

        Args:
            position_ids (`torch.LongTensor` of shape (..., T)): where each token stands, 0, 1, 2, ...: positions and
                not the ids of the tokens.
            dtype (`torch.dtype`, *optional*): of the result, torch's default if absent. Angles are in float64.

        Returns:
            `torch.Tensor` of shape (..., T, D), to be added to embeddings; `add_positions` of the encoder and of the
            decoder does both.
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
        frequencies = torch.exp(even * (-math.log(10000.0) / self.hidden_size))  # (D / 2,)
        angles = position_ids.unsqueeze(-1).to(torch.float64) * frequencies  # (..., T, D / 2)
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
    **kwargs: Any,
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

    def project_keys_and_values(self, states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """states (B, S, D) -> keys (B, H, S, K) and values (B, H, S, d_v)."""
        shape = states.shape[:-1]
        keys = linear(self.k_proj, states).view(*shape, -1, self.key_size).transpose(1, 2)
        values = linear(self.v_proj, states).view(*shape, -1, self.value_size).transpose(1, 2)
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
        """
        shape = hidden_states.shape[:-1]
        queries = linear(self.q_proj, hidden_states).view(*shape, -1, self.key_size).transpose(1, 2)  # (B, H, T, K)

        if key_value_states is None:
            keys, values = self.project_keys_and_values(hidden_states)
            if cache is not None:
                keys, values = own_cache(cache).update(keys, values, self.layer_idx)
        elif cache is not None and cache.is_updated.get(self.layer_idx):
            # The source does not change: the first step's keys and values serve all later ones.
            cached = cache.cross_attention_cache.layers[self.layer_idx]
            keys, values = cached.keys, cached.values
        else:
            keys, values = self.project_keys_and_values(key_value_states)
            if cache is not None:
                keys, values = cache.cross_attention_cache.update(keys, values, self.layer_idx)
                cache.is_updated[self.layer_idx] = True

        attention_interface: Callable[..., Any] = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        output, weights = attention_interface(
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
        return linear(self.out_proj, output), weights


# ---------------------------------------------------------------------------------------------------------------------
# Layers (§3.1, §3.3)
# ---------------------------------------------------------------------------------------------------------------------


class VanillaTransformerLayer(GradientCheckpointingLayer):
    """
    What encoder and decoder layers share: the feed-forward network and the residual connection with its norm.

    The feed-forward network is max(0, x W1 + b1) W2 + b2 at every position (§3.3).
    """

    def __init__(self, config: VanillaTransformerConfig):
        super().__init__()
        self.norm_first = config.norm_first
        self.dropout = config.dropout

    def add_feed_forward(self, config: VanillaTransformerConfig) -> None:
        """Build the feed-forward network, after the attention that comes before it in the layer."""
        self.activation_dropout = config.activation_dropout
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.activation_fn = ACT2FN[config.hidden_act]
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def feed_forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """(B, T, D) -> (B, T, D), position by position."""
        hidden_states = self.activation_fn(linear(self.fc1, hidden_states))  # (B, T, d_ff)
        hidden_states = dropout(hidden_states, p=self.activation_dropout, training=self.training)
        return linear(self.fc2, hidden_states)

    def residual(
        self, hidden_states: torch.Tensor, sublayer: Callable[[torch.Tensor], torch.Tensor], norm: nn.LayerNorm
    ) -> torch.Tensor:
        """LayerNorm(x + Dropout(Sublayer(x))) (§5.4), or x + Dropout(Sublayer(LayerNorm(x))) with `norm_first`."""
        output = sublayer(norm(hidden_states) if self.norm_first else hidden_states)
        output = hidden_states + dropout(output, p=self.dropout, training=self.training)
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
        **kwargs: Unpack[TransformersKwargs],
    ) -> torch.Tensor:
        """hidden_states (B, S, D), attention_mask as the attention implementation wants it -> (B, S, D)."""
        hidden_states = self.residual(
            hidden_states, lambda x: self.self_attn(x, attention_mask, **kwargs)[0], self.self_attn_layer_norm
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
        **kwargs: Unpack[TransformersKwargs],
    ) -> torch.Tensor:
        """hidden_states (B, T, D), encoder_hidden_states (B, S, D) -> (B, T, D)."""
        hidden_states = self.residual(
            hidden_states,
            lambda x: self.self_attn(x, attention_mask, cache=cache, **kwargs)[0],
            self.self_attn_layer_norm,
        )
        if self.has_source:
            hidden_states = self.residual(
                hidden_states,
                lambda x: self.encoder_attn(x, encoder_attention_mask, encoder_hidden_states, cache, **kwargs)[0],
                self.encoder_attn_layer_norm,
            )
        return self.residual(hidden_states, self.feed_forward, self.final_layer_norm)
