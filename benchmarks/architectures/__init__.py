"""
Recurrent, convolutional and Transformer encoder-decoders of equal size. The Auto classes find all of them where this
package is imported.
"""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForSeq2SeqLM

from benchmarks.architectures.convolutional import ConvolutionalConfig, ConvolutionalForConditionalGeneration
from benchmarks.architectures.recurrent import RecurrentConfig, RecurrentForConditionalGeneration
from vanilla_transformer import VanillaTransformerConfig, VanillaTransformerForConditionalGeneration

for config_class, model_class in (
    (RecurrentConfig, RecurrentForConditionalGeneration),
    (ConvolutionalConfig, ConvolutionalForConditionalGeneration),
):
    AutoConfig.register(config_class.model_type, config_class)
    AutoModelForSeq2SeqLM.register(config_class, model_class)
del config_class, model_class


@dataclass(frozen=True)
class Architecture:
    """
    One of the three.

    Attributes:
        model_class: what is trained.
        layers: for each layer of the Transformer, so that the widths are alike.
    """

    model_class: type[VanillaTransformerForConditionalGeneration]
    layers: float = 1.0

    @property
    def config_class(self) -> type[VanillaTransformerConfig]:
        config_class: type[VanillaTransformerConfig] = self.model_class.config_class
        return config_class

    def shape(self, vocab_size: int, **transformer: Any) -> dict[str, Any]:
        """
        Return the sizes that give as many parameters as a Transformer has.

        Args:
            transformer: fields of the Transformer's configuration: `hidden_size`, `encoder_layers`, and so on.
        """
        if self.model_class is VanillaTransformerForConditionalGeneration:
            return transformer
        wanted = count_parameters(ARCHITECTURES["Transformer"], vocab_size, transformer)
        depth = {side: max(1, round(self.layers * transformer[side])) for side in ("encoder_layers", "decoder_layers")}
        fields = {**transformer, **depth, "num_attention_heads": 1}
        low, high = 1, 2 * transformer["hidden_size"]  # halves of widths, which are even
        while low < high:  # the narrowest that has as many
            middle = (low + high) // 2
            if count_parameters(self, vocab_size, {**fields, "hidden_size": 2 * middle}) < wanted:
                low = middle + 1
            else:
                high = middle
        sizes = {
            width: abs(count_parameters(self, vocab_size, {**fields, "hidden_size": width}) - wanted)
            for width in (2 * low - 2, 2 * low)
            if width
        }
        return {**fields, "hidden_size": min(sizes, key=lambda width: sizes[width])}

    def build(self, vocab_size: int, **transformer: Any) -> VanillaTransformerForConditionalGeneration:
        """Return a model of random weights with as many parameters as a Transformer has; arguments as for `shape`."""
        return self.model_class(self.config_class(vocab_size=vocab_size, **self.shape(vocab_size, **transformer)))


ARCHITECTURES = {
    "LSTM": Architecture(RecurrentForConditionalGeneration, 0.5),
    "convolutional": Architecture(ConvolutionalForConditionalGeneration, 1.25),
    "Transformer": Architecture(VanillaTransformerForConditionalGeneration),
}


def count_parameters(architecture: Architecture, vocab_size: int, fields: dict[str, Any]) -> int:
    """Return the parameters of a model that is only counted, shared ones once."""
    with torch.device("meta"):
        model = architecture.model_class(architecture.config_class(vocab_size=vocab_size, **fields))
    return int(model.num_parameters())
