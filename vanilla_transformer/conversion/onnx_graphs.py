"""
The encoder and one decoder as modules that torch exports to ONNX: plain products and no branch.

One decoder graph serves the first step and all later ones: what of the source is not in the cache yet is projected,
all of it at first and nothing from then on. Names are those that transformers.js knows.

Shapes: B batch, S source, T tokens of this step, P tokens before it, E source tokens in the cache (0 or S), H heads,
K key size, D hidden_size, V vocabulary.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel

from ..modeling_vanilla_transformer import VanillaTransformerAttention, VanillaTransformerStack

BASE, DIGITS = 64, 3  # of the tables of angles: 64³ = 262,144 positions
HIDDEN = -1.0e9  # added to scores of what is not to be seen: finite, so that a row of nothing else is not NaN
# Keys and values of each layer, in the order in which a decoder takes and returns them.
PARTS = ("decoder.key", "decoder.value", "encoder.key", "encoder.value")


class Rotations(nn.Module):
    """
    The paper's sinusoids (§3.5) in float32: positions (..., T) below 262,144 - `offset` -> (..., T, D).

    ONNX on a GPU or in a browser has no float64, in which the model computes angles. Here the angle of a position is
    the sum of those of its digits, whose sines and cosines are tables made in float64: sin(a + b) and cos(a + b)
    follow from those of a and b, with an error below 2e-7.
    """

    sines: torch.Tensor
    cosines: torch.Tensor

    def __init__(self, size: int, divisor: int | None = None, offset: int = 0):
        super().__init__()
        self.offset = offset
        even = torch.arange(0, size, 2, dtype=torch.float64)
        frequencies = torch.exp(even * (-math.log(10000.0) / (divisor or size)))  # (D / 2,)
        digits = torch.arange(BASE, dtype=torch.float64).unsqueeze(-1)
        angles = torch.stack([digits * BASE**place * frequencies for place in range(DIGITS)])  # (3, 64, D / 2)
        self.register_buffer("sines", angles.sin().float(), persistent=False)
        self.register_buffer("cosines", angles.cos().float(), persistent=False)

    def forward(self, position_ids: torch.Tensor) -> torch.Tensor:
        position_ids = position_ids + self.offset
        sines, cosines = self.look_up(position_ids, 0)
        for place in range(1, DIGITS):
            more_sines, more_cosines = self.look_up(position_ids, place)
            sines, cosines = (
                sines * more_cosines + cosines * more_sines,
                cosines * more_cosines - sines * more_sines,
            )
        return torch.stack((sines, cosines), dim=-1).flatten(-2)

    def look_up(self, position_ids: torch.Tensor, place: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return sines and cosines (..., T, D / 2) of the digits at a place."""
        digits = position_ids // BASE**place % BASE
        return F.embedding(digits, self.sines[place]), F.embedding(digits, self.cosines[place])


def choose_positions(stack: VanillaTransformerStack) -> nn.Module:
    """Return the positions of a stack, in a form that ONNX holds."""
    positions: nn.Module = stack.embed_positions
    if stack.config.position_limit is not None:
        return positions
    return Rotations(
        stack.config.hidden_size, getattr(positions, "divisor", None), int(getattr(positions, "offset", 0))
    )


def split_heads(projection: nn.Module, states: torch.Tensor, size: int) -> torch.Tensor:
    """states (B, T, D) -> (B, H, T, size)."""
    projected: torch.Tensor = projection(states)
    return projected.view(*states.shape[:-1], projected.shape[-1] // size, size).transpose(1, 2)


def attend(
    attention: VanillaTransformerAttention,
    states: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention of states (B, T, D) to keys (B, H, S, K) and values: outputs (B, T, D) and weights (B, H, T, S)."""
    queries = split_heads(attention.q_proj, states, attention.key_size)
    scores = torch.matmul(queries, keys.transpose(2, 3)) * attention.scaling + mask
    weights = torch.softmax(scores, dim=-1)
    joined = torch.matmul(weights, values).transpose(1, 2).flatten(2)
    return attention.out_proj(joined), weights


def hide_padding(mask: torch.Tensor) -> torch.Tensor:
    """attention_mask (B, S) of 1 and 0 -> what is added to scores (B, 1, 1, S)."""
    return (1.0 - mask[:, None, None, :].float()) * HIDDEN


class EncoderGraph(nn.Module):
    """input_ids and attention_mask (B, S) -> states (B, S, D)."""

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        self.stack = model.model.encoder
        self.positions = choose_positions(self.stack)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        counted = (attention_mask.cumsum(-1) - 1).clamp(min=0)
        states = self.stack.embed_tokens(input_ids) + self.positions(counted)
        mask = hide_padding(attention_mask)
        for layer in self.stack.layers:
            attention = layer.self_attn

            def attended(x: torch.Tensor, attention: VanillaTransformerAttention = attention) -> torch.Tensor:
                keys = split_heads(attention.k_proj, x, attention.key_size)
                values = split_heads(attention.v_proj, x, attention.value_size)
                return attend(attention, x, keys, values, mask)[0]

            states = layer.residual(states, attended, layer.self_attn_layer_norm)
            states = layer.residual(states, layer.feed_forward, layer.final_layer_norm)
        return states if self.stack.layer_norm is None else self.stack.layer_norm(states)


class DecoderGraph(nn.Module):
    """
    Tokens (B, T), encoder states (B, S, D), mask (B, S) and `PARTS` of each layer -> logits (B, T, V), the same parts
    with this step's, and the weights of each layer's attention to the source (B, H, T, S).
    """

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        self.stack, self.lm_head = model.model.decoder, model.lm_head
        self.positions = choose_positions(self.stack)

    def forward(
        self,
        encoder_attention_mask: torch.Tensor,
        input_ids: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        past: list[torch.Tensor],
    ) -> tuple[torch.Tensor, ...]:
        length, before = input_ids.shape[1], past[0].shape[2]
        columns = torch.arange(length, device=input_ids.device) + before
        rows = torch.arange(before + length, device=input_ids.device)
        future = (rows.unsqueeze(0) > columns.unsqueeze(1)).float() * HIDDEN  # (T, P + T)
        padding = hide_padding(encoder_attention_mask)
        rest = encoder_hidden_states[:, past[2].shape[2] :]  # all of the source, or nothing
        states = self.stack.embed_tokens(input_ids) + self.positions(columns)
        present: list[torch.Tensor] = []
        crossed: list[torch.Tensor] = []
        for index, layer in enumerate(self.stack.layers):
            own, source = layer.self_attn, layer.encoder_attn
            own_key, own_value, source_key, source_value = past[4 * index : 4 * index + 4]
            source_key = torch.cat([source_key, split_heads(source.k_proj, rest, source.key_size)], dim=2)
            source_value = torch.cat([source_value, split_heads(source.v_proj, rest, source.value_size)], dim=2)
            kept: list[torch.Tensor] = []

            def attended(
                x: torch.Tensor,
                own: VanillaTransformerAttention = own,
                key: torch.Tensor = own_key,
                value: torch.Tensor = own_value,
                kept: list[torch.Tensor] = kept,
            ) -> torch.Tensor:
                kept.append(torch.cat([key, split_heads(own.k_proj, x, own.key_size)], dim=2))
                kept.append(torch.cat([value, split_heads(own.v_proj, x, own.value_size)], dim=2))
                return attend(own, x, kept[0], kept[1], future)[0]

            def crossing(
                x: torch.Tensor,
                source: VanillaTransformerAttention = source,
                key: torch.Tensor = source_key,
                value: torch.Tensor = source_value,
            ) -> torch.Tensor:
                output, weights = attend(source, x, key, value, padding)
                crossed.append(weights)
                return output

            states = layer.residual(states, attended, layer.self_attn_layer_norm)
            states = layer.residual(states, crossing, layer.encoder_attn_layer_norm)
            states = layer.residual(states, layer.feed_forward, layer.final_layer_norm)
            present += [*kept, source_key, source_value]
        if self.stack.layer_norm is not None:
            states = self.stack.layer_norm(states)
        return (self.lm_head(states), *present, *crossed)
