"""
Rotary positions (Su et al. 2021) in the place of sinusoids: queries and keys of self-attention are turned.

    python examples/rotary_positions.py
"""

import torch
from torch import nn

from vanilla_transformer import VanillaTransformerConfig, VanillaTransformerForConditionalGeneration
from vanilla_transformer.modeling_vanilla_transformer import VanillaTransformerAttention


class RotaryAttention(VanillaTransformerAttention):
    def apply_positions(self, queries, keys, position_ids):
        even = torch.arange(0, self.key_size, 2, device=queries.device)
        angles = (position_ids.unsqueeze(-1) * 10000.0 ** (-even / self.key_size)).unsqueeze(1)  # (B, 1, T, K / 2)
        cos, sin = angles.cos().to(queries.dtype), angles.sin().to(queries.dtype)
        halves = (states.chunk(2, dim=-1) for states in (queries, keys))
        return [torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1) for a, b in halves]


class NoPositions(nn.Module):
    def forward(self, position_ids, dtype=None):
        return torch.zeros(*position_ids.shape, 1, dtype=dtype, device=position_ids.device)


class RotaryTransformer(VanillaTransformerForConditionalGeneration):
    def __init__(self, config):
        super().__init__(config)
        for stack in self.model.stacks():
            stack.embed_positions = NoPositions()
            for layer in stack.layers:  # the same projections, with another method
                layer.self_attn.__class__ = RotaryAttention


if __name__ == "__main__":
    model = RotaryTransformer(VanillaTransformerConfig.from_preset("tiny", vocab_size=100)).eval()
    print(model.generate(torch.tensor([[5, 6, 7, 2]]), max_new_tokens=8).tolist())
