"""
Three encoder-decoders of equal size: recurrent (Bahdanau et al. 2015), convolutional (Gehring et al. 2017), and ours.

Each takes source ids (B, S) and decoder inputs (B, T) and gives logits (B, T, V); 1 is padding. All use dot-product
attention to the source and one matrix for embeddings and output.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from vanilla_transformer import VanillaTransformerConfig, VanillaTransformerForConditionalGeneration

PADDING = 1


def attend(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(B, T, D), (B, S, D), (B, S, D), mask (B, S), true for tokens -> (B, T, D)."""
    return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask.unsqueeze(1))


class Recurrent(nn.Module):
    """Bidirectional LSTM layers, LSTM layers, attention to the source from the last of these."""

    def __init__(self, vocab_size: int, width: int, layers: int):
        super().__init__()
        self.embed = nn.Embedding(vocab_size, width, PADDING)
        self.encoder = nn.LSTM(width, width // 2, layers, batch_first=True, bidirectional=True)
        self.decoder = nn.LSTM(width, width, layers, batch_first=True)
        self.join = nn.Linear(2 * width, width)

    def forward(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        mask = source != PADDING
        packed = nn.utils.rnn.pack_padded_sequence(
            self.embed(source), mask.sum(dim=1).cpu(), batch_first=True, enforce_sorted=False
        )
        encoded, (state, cell) = self.encoder(packed)
        encoded, _ = nn.utils.rnn.pad_packed_sequence(encoded, batch_first=True, total_length=source.shape[1])
        start = tuple(torch.cat((each[0::2], each[1::2]), dim=-1) for each in (state, cell))  # both directions
        decoded, _ = self.decoder(self.embed(target), start)
        seen = attend(decoded, encoded, encoded, mask)
        return torch.tanh(self.join(torch.cat((decoded, seen), dim=-1))) @ self.embed.weight.T


class Convolutional(nn.Module):
    """Gated convolutions of three tokens with residual connections, learned positions, attention in every layer."""

    def __init__(self, vocab_size: int, width: int, layers: int, longest: int = 1024):
        super().__init__()
        self.embed = nn.Embedding(vocab_size, width, PADDING)
        self.positions = nn.Embedding(longest, width)
        self.encoder = nn.ModuleList(nn.Conv1d(width, 2 * width, 3, padding=1) for _ in range(layers))
        self.decoder = nn.ModuleList(nn.Conv1d(width, 2 * width, 3) for _ in range(layers))
        self.queries = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))

    def begin(self, ids: torch.Tensor) -> torch.Tensor:
        """Ids (B, T) -> embeddings with positions (B, T, D)."""
        return self.embed(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device))

    def forward(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        mask = source != PADDING
        embedded = self.begin(source)
        encoded = embedded
        for convolution in self.encoder:
            gated = F.glu(convolution((encoded * mask.unsqueeze(-1)).transpose(1, 2)), dim=1).transpose(1, 2)
            encoded = (encoded + gated) * 0.5**0.5
        states = self.begin(target)
        for convolution, query in zip(self.decoder, self.queries, strict=True):
            past = F.pad(states.transpose(1, 2), (2, 0))  # no token sees a later one
            gated = F.glu(convolution(past), dim=1).transpose(1, 2)
            gated = gated + attend(query(gated), encoded, encoded + embedded, mask)
            states = (states + gated) * 0.5**0.5
        return states @ self.embed.weight.T


class Transformer(nn.Module):
    """The model of this package."""

    def __init__(self, vocab_size: int, width: int, layers: int):
        super().__init__()
        config = VanillaTransformerConfig(
            vocab_size=vocab_size,
            hidden_size=width,
            intermediate_size=4 * width,
            encoder_layers=layers,
            decoder_layers=layers,
            num_attention_heads=4,
            dropout=0.0,
        )
        self.model = VanillaTransformerForConditionalGeneration(config)

    def forward(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        mask = (source != PADDING).long()
        logits: torch.Tensor = self.model(
            source, attention_mask=mask, decoder_input_ids=target, use_cache=False
        ).logits
        return logits


ARCHITECTURES: dict[str, Callable[[int, int, int], nn.Module]] = {
    "LSTM": Recurrent,
    "convolutional": Convolutional,
    "Transformer": Transformer,
}


def count_parameters(model: nn.Module) -> int:
    """Return the number of parameters, shared ones once."""
    return sum(each.numel() for each in model.parameters())


def build_equal(name: str, vocab_size: int, width: int, layers: int) -> nn.Module:
    """Return an architecture as wide as it takes for the parameters of a Transformer of a width."""
    wanted = count_parameters(Transformer(vocab_size, width, layers))
    if name == "Transformer":
        return Transformer(vocab_size, width, layers)
    widths = range(width // 2, 4 * width, 2)
    with torch.device("meta"):  # which only counts
        sizes = {each: count_parameters(ARCHITECTURES[name](vocab_size, each, layers)) for each in widths}
    best = min(sizes, key=lambda each: abs(sizes[each] - wanted))
    return ARCHITECTURES[name](vocab_size, best, layers)
