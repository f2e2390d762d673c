"""
The convolutional encoder-decoder (Gehring et al. 2017): gated convolutions of three tokens, attention in every layer.

Its residual connections end in the layer norm of the package, where Gehring et al. normalize weights instead.
Positions (sinusoids), embeddings, attention (one head), dropout, loss and search are those of the package too.

Shapes: B batch, S source, T target, N rows of a search, D hidden_size, W tokens under a convolution.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from benchmarks.architectures.states import Initialization, recall
from vanilla_transformer import VanillaTransformerConfig, VanillaTransformerForConditionalGeneration
from vanilla_transformer.configuration_vanilla_transformer import accept_keywords
from vanilla_transformer.kernels_vanilla_transformer import Dropout
from vanilla_transformer.modeling_vanilla_transformer import (
    VanillaTransformerAttention,
    VanillaTransformerDecoder,
    VanillaTransformerLayer,
    VanillaTransformerStack,
)

WIDTH = 3


class ConvolutionalConfig(VanillaTransformerConfig):
    """Its sizes have the names of the Transformer's; those of the feed-forward network are not read."""

    model_type = "convolutional_translator"
    _auto_class = None  # its code does not travel with a model


class ConvolutionalLayer(VanillaTransformerLayer):
    """A gated convolution with its residual connection and norm."""

    def __init__(self, config: ConvolutionalConfig, layer_idx: int):
        super().__init__(config)
        self.layer_idx = layer_idx
        self.convolution = nn.Conv1d(config.hidden_size, 2 * config.hidden_size, WIDTH)
        self.convolution_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.dropout)

    def convolve(self, states: torch.Tensor) -> torch.Tensor:
        """(B, W - 1 + T, D) -> (B, T, D)."""
        return F.glu(self.convolution(states.transpose(1, 2)), dim=1).transpose(1, 2)


class ConvolutionalEncoderLayer(ConvolutionalLayer):
    """Each token sees its neighbours."""

    def forward(self, hidden_states: torch.Tensor, real: torch.Tensor | None = None) -> torch.Tensor:
        """hidden_states (B, S, D), real (B, S, 1), 0 for padding -> (B, S, D)."""

        def convolve(states: torch.Tensor) -> torch.Tensor:
            states = states if real is None else states * real
            return self.convolve(F.pad(states, (0, 0, WIDTH // 2, WIDTH // 2)))

        return self.residual(hidden_states, convolve, self.convolution_norm)


class ConvolutionalDecoderLayer(ConvolutionalLayer):
    """Each token sees those before it, and attends to the source."""

    shares_source = True  # of N rows and B sources each N / B rows have one

    def __init__(self, config: ConvolutionalConfig, layer_idx: int):
        super().__init__(config, layer_idx)
        self.encoder_attn = VanillaTransformerAttention(config, layer_idx)
        self.encoder_attn_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    @accept_keywords
    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        encoder_hidden_states: torch.Tensor | None = None,
        encoder_attention_mask: torch.Tensor | None = None,
        cache: Cache | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """hidden_states (N, T, D), encoder_hidden_states (B, S, D) -> (N, T, D)."""
        hidden_states = self.residual(hidden_states, lambda x: self.convolve_past(x, cache), self.convolution_norm)
        return self.residual(
            hidden_states,
            lambda x: self.encoder_attn(x, encoder_attention_mask, encoder_hidden_states, cache)[0],
            self.encoder_attn_layer_norm,
        )

    def convolve_past(self, states: torch.Tensor, cache: Cache | None) -> torch.Tensor:
        """Convolve states (N, T, D) with the last W - 1 before them, which the cache remembers; zeros at the start."""
        memory = None if cache is None else recall(cache, self.layer_idx)
        if memory is None or memory.length == 0:
            read = F.pad(states, (0, 0, WIDTH - 1, 0))
        else:
            read = torch.cat((memory.keys, states), dim=1)
        if memory is not None:
            memory.remember(read[:, 1 - WIDTH :], read[:, :0], count=states.shape[1])
        return self.convolve(read)


class ConvolutionalEncoder(Initialization, VanillaTransformerStack):
    """Gated convolutions over the embedded source, to whose output its embeddings are added again."""

    _can_record_outputs: dict[str, Any] = {}

    def __init__(self, config: ConvolutionalConfig):
        super().__init__(config)
        self.add_layers([ConvolutionalEncoderLayer(config, index) for index in range(config.encoder_layers)])
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
        **kwargs: Any,
    ) -> BaseModelOutput:
        """Encode sources (B, S): `last_hidden_state` (B, S, D)."""
        embedded = self.add_positions(self.embed(input_ids, inputs_embeds), attention_mask, position_ids)
        real = None if attention_mask is None else attention_mask.to(embedded).unsqueeze(-1)
        states = embedded
        for layer in self.layers:
            states = layer(states, real)
        return BaseModelOutput(last_hidden_state=(states + embedded) * 0.5**0.5)


class ConvolutionalDecoder(Initialization, VanillaTransformerDecoder):
    """Gated convolutions with attention over the embedded target; the rest is the Transformer's decoder."""

    _can_record_outputs = {
        "cross_attentions": OutputRecorder(VanillaTransformerAttention, index=1, layer_name="encoder_attn")
    }

    def __init__(self, config: ConvolutionalConfig):
        super(VanillaTransformerDecoder, self).__init__(config)
        self.add_layers([ConvolutionalDecoderLayer(config, index) for index in range(config.decoder_layers)])
        self.post_init()


class ConvolutionalForConditionalGeneration(VanillaTransformerForConditionalGeneration):
    """The translation model with these stacks in the place of the Transformer's."""

    config: ConvolutionalConfig
    _auto_class = None

    def __init__(self, config: ConvolutionalConfig):
        super().__init__(config)
        self.model.encoder, self.model.decoder = ConvolutionalEncoder(config), ConvolutionalDecoder(config)
        self.post_init()
