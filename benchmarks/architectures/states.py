"""Parts of the recurrent and of the convolutional model: memories that do not grow, and how weights begin."""

from typing import Any

import torch
from torch import nn
from transformers import initialization as init
from transformers.cache_utils import Cache, DynamicLayer

from vanilla_transformer import VanillaTransformerPreTrainedModel
from vanilla_transformer.modeling_vanilla_transformer import own_cache


class StateLayer(DynamicLayer):
    """
    The memory of a layer of all tokens so far: tensors of one size, which each call replaces.

    Attributes:
        keys, values (`torch.Tensor` of shape (N, ...)): the memory of each row.
        length: tokens that were read.
    """

    def __init__(self) -> None:
        super().__init__()
        self.length = 0

    def remember(self, keys: torch.Tensor, values: torch.Tensor, count: int) -> None:
        """Replace the memory after so many more tokens."""
        self.keys, self.values, self.length = keys.contiguous(), values.contiguous(), self.length + count
        self.is_initialized = True

    def get_seq_length(self) -> int:
        return self.length

    def copy_rows(self, origins: torch.Tensor, places: torch.Tensor) -> None:
        """Write some rows (M,) over others (M,); the search asks for it."""
        for states in (self.keys, self.values):
            states.index_copy_(0, places, states.index_select(0, origins))

    def keep_rows(self, count: int) -> None:
        """Drop all rows but the first ones; the search asks for it."""
        self.keys, self.values = self.keys[:count], self.values[:count]


def recall(cache: Cache, layer_idx: int) -> StateLayer:
    """Return the memory of a layer in a cache, in the place of keys and values that would grow."""
    layers = own_cache(cache).layers
    while len(layers) <= layer_idx:
        layers.append(StateLayer())
    if not isinstance(layers[layer_idx], StateLayer):
        layers[layer_idx] = StateLayer()
    layer: StateLayer = layers[layer_idx]
    return layer


class NoPositions(nn.Module):
    """In the place of positions, for a stack that reads in order: position_ids (..., T) -> zeros (..., T, D)."""

    def __init__(self, hidden_size: int):
        super().__init__()
        self.hidden_size = hidden_size

    def forward(self, position_ids: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
        return torch.zeros(*position_ids.shape, self.hidden_size, dtype=dtype, device=position_ids.device)


class Initialization(VanillaTransformerPreTrainedModel):
    """How the weights begin that the Transformer lacks."""

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Gated convolutions as Gehring et al. (2017, §3.5); forget gates open (Jozefowicz et al. 2015)."""
        super()._init_weights(module)
        if isinstance(module, nn.Conv1d):
            init.normal_(module.weight, mean=0.0, std=(4 / (module.kernel_size[0] * module.in_channels)) ** 0.5)
        elif isinstance(module, nn.LSTM):
            for name, bias in module.named_parameters():
                if name.startswith("bias_ih") and not getattr(bias, "_is_hf_initialized", False):
                    init.ones_(bias[module.hidden_size : 2 * module.hidden_size])


def begin_rows(states: torch.Tensor, rows: int) -> Any:
    """Repeat what is known of sources (B, ...) for the rows (N, ...) that share them, one after the other."""
    return states.repeat_interleave(rows // len(states), dim=0)
