"""
The recurrent encoder-decoder: LSTMs with attention (Bahdanau et al. 2015, in the arrangement of Wu et al. 2016).

The encoder is bidirectional. Of the decoder the lowest LSTM attends to the source, and what it finds goes into every
LSTM above it and into the output. Embeddings, attention (one head), dropout, loss and search are those of the package.

Shapes: B batch, S source, T target, N rows of a search, L layers, D hidden_size.
"""

from typing import Any

import torch
from torch import nn
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from benchmarks.architectures.states import Initialization, NoPositions, begin_rows, recall
from vanilla_transformer import VanillaTransformerConfig, VanillaTransformerForConditionalGeneration
from vanilla_transformer.configuration_vanilla_transformer import accept_keywords
from vanilla_transformer.kernels_vanilla_transformer import Dropout, linear
from vanilla_transformer.modeling_vanilla_transformer import (
    VanillaTransformerAttention,
    VanillaTransformerDecoder,
    VanillaTransformerStack,
)


class RecurrentConfig(VanillaTransformerConfig):
    """Its sizes have the names of the Transformer's; those of the feed-forward network are not read."""

    model_type = "recurrent_translator"
    _auto_class = None  # its code does not travel with a model


class RecurrentEncoder(Initialization, VanillaTransformerStack):
    """Bidirectional LSTMs over the embedded source."""

    _can_record_outputs: dict[str, Any] = {}

    def __init__(self, config: RecurrentConfig):
        super().__init__(config)
        self.embed_positions = NoPositions(config.hidden_size)
        self.lstm = nn.LSTM(
            config.hidden_size,
            config.hidden_size // 2,
            config.encoder_layers,
            batch_first=True,
            bidirectional=True,
            dropout=config.dropout if config.encoder_layers > 1 else 0.0,
        )
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
        """Encode sources (B, S) that are padded on their right, if at all: `last_hidden_state` (B, S, D)."""
        states = self.dropout(self.embed(input_ids, inputs_embeds))
        if attention_mask is None or bool(attention_mask.all()):
            return BaseModelOutput(last_hidden_state=self.dropout(self.lstm(states)[0]))
        lengths = attention_mask.sum(dim=1).clamp(min=1).cpu()
        packed = nn.utils.rnn.pack_padded_sequence(states, lengths, batch_first=True, enforce_sorted=False)
        encoded, _ = nn.utils.rnn.pad_packed_sequence(
            self.lstm(packed)[0], batch_first=True, total_length=states.shape[1]
        )
        return BaseModelOutput(last_hidden_state=self.dropout(encoded))


class RecurrentDecoderLayers(nn.Module):
    """All LSTMs of the decoder, and the attention between the lowest and the others."""

    shares_source = True  # of N rows and B sources each N / B rows have one

    def __init__(self, config: RecurrentConfig):
        super().__init__()
        size, self.count = config.hidden_size, config.decoder_layers
        self.bridge = nn.Linear(size, self.count * size)
        self.lowest = nn.LSTM(size, size, batch_first=True)
        self.encoder_attn = VanillaTransformerAttention(config, layer_idx=0)
        self.upper = None
        if self.count > 1:
            upper = self.count - 1
            self.upper = nn.LSTM(2 * size, size, upper, batch_first=True, dropout=config.dropout if upper > 1 else 0.0)
        self.join = nn.Linear(2 * size, size)
        self.dropout = Dropout(config.dropout)

    def begin(self, encoded: torch.Tensor, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Return hidden and cell states (L, N, D) from encoded sources (B, S, D).

        At the first token the backward LSTM has read all of the source.
        """
        cells = linear(self.bridge, encoded[:, 0]).view(len(encoded), self.count, -1)  # (B, L, D)
        cells = begin_rows(cells, rows).transpose(0, 1).contiguous()
        return cells.tanh(), cells

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
        assert encoder_hidden_states is not None
        memory = None if cache is None else recall(cache, 0)
        if memory is None or memory.length == 0:
            hidden, cells = self.begin(encoder_hidden_states, len(hidden_states))
        else:  # (N, L, 1, D) each
            hidden, cells = (each[:, :, 0].transpose(0, 1).contiguous() for each in (memory.keys, memory.values))

        states, (last_hidden, last_cells) = self.lowest(hidden_states, (hidden[:1], cells[:1]))
        states = self.dropout(states)
        context, _ = self.encoder_attn(states, encoder_attention_mask, encoder_hidden_states, cache)
        context = self.dropout(context)
        if self.upper is not None:
            states, (hidden, cells) = self.upper(torch.cat((states, context), dim=-1), (hidden[1:], cells[1:]))
            states = self.dropout(states)
            last_hidden, last_cells = torch.cat((last_hidden, hidden)), torch.cat((last_cells, cells))
        if memory is not None:
            last = (each.transpose(0, 1).unsqueeze(2) for each in (last_hidden, last_cells))
            memory.remember(*last, count=hidden_states.shape[1])
        return self.dropout(linear(self.join, torch.cat((states, context), dim=-1)).tanh())


class RecurrentDecoder(Initialization, VanillaTransformerDecoder):
    """LSTMs with attention over the embedded target; the rest is the Transformer's decoder."""

    _can_record_outputs = {
        "cross_attentions": OutputRecorder(VanillaTransformerAttention, index=1, layer_name="encoder_attn")
    }

    def __init__(self, config: RecurrentConfig):
        super(VanillaTransformerDecoder, self).__init__(config)
        self.embed_positions = NoPositions(config.hidden_size)
        self.layers, self.layer_norm = nn.ModuleList([RecurrentDecoderLayers(config)]), None
        self.post_init()


class RecurrentForConditionalGeneration(VanillaTransformerForConditionalGeneration):
    """The translation model with these stacks in the place of the Transformer's."""

    config: RecurrentConfig
    _auto_class = None

    def __init__(self, config: RecurrentConfig):
        super().__init__(config)
        self.model.encoder, self.model.decoder = RecurrentEncoder(config), RecurrentDecoder(config)
        self.post_init()
