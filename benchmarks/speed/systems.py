"""
The systems that are compared: our model, and the same architecture as others have it, with Adam and label smoothing.

A system is a function of a shape and a precision that returns its training step: a batch -> its loss.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import MarianMTModel
from transformers.trainer_pt_utils import LabelSmoother

from benchmarks.text import Batch
from training.engine.memory import keep_freed_memory
from vanilla_transformer import VanillaTransformerConfig, VanillaTransformerForConditionalGeneration
from vanilla_transformer.conversion.marian import marian_config

SMOOTHING, PADDING, START = 0.1, 1, 0
MARIAN_RANDOM = "marian, 8 random sentences"  # batches as Trainer makes them unasked
Step = Callable[[Batch], float]
LossOf = Callable[[Batch], torch.Tensor]


@dataclass(frozen=True)
class Shape:
    """The sizes of a model, as the paper names them."""

    vocab_size: int
    layers: int
    width: int
    inner: int
    heads: int
    dropout: float


SHAPES = {
    "tiny": Shape(10_000, 4, 128, 256, 4, 0.3),
    "base": Shape(37_000, 6, 512, 2048, 8, 0.1),
    "big": Shape(37_000, 6, 1024, 4096, 16, 0.3),
}


def our_config(shape: Shape) -> VanillaTransformerConfig:
    return VanillaTransformerConfig(
        vocab_size=shape.vocab_size,
        hidden_size=shape.width,
        encoder_layers=shape.layers,
        decoder_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.inner,
        dropout=shape.dropout,
    )


def labels_of(batch: Batch) -> torch.Tensor:
    """Target ids with -100 for padding."""
    return batch.target.masked_fill(batch.target == PADDING, -100)


def decoder_input(batch: Batch) -> torch.Tensor:
    """Target ids after a start token, without the last."""
    return F.pad(batch.target[:, :-1], (1, 0), value=START)


def learn(model: nn.Module, precision: str, loss_of: LossOf) -> LossOf:
    """Forward, backward and Adam, as a function of a batch; bfloat16 is autocast, with weights in float32."""
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, betas=(0.9, 0.98), eps=1e-9, fused=True)
    device = next(model.parameters()).device.type

    def step(batch: Batch) -> torch.Tensor:
        with torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
            loss = loss_of(batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return step


def stepper(model: nn.Module, precision: str, loss_of: LossOf) -> Step:
    """The same, whose loss is a number."""
    step = learn(model, precision, loss_of)
    return lambda batch: step(batch).item()


def ours(shape: Shape, precision: str) -> Step:
    """Our model as `training.train` runs it."""
    keep_freed_memory()
    model = VanillaTransformerForConditionalGeneration(our_config(shape))
    if precision == "bfloat16":
        model.set_attn_implementation("eager")
    return stepper(model, precision, make_loss_of_ours(model))


def make_loss_of_ours(model: nn.Module) -> LossOf:
    """Our model's own loss."""

    def loss_of(batch: Batch) -> torch.Tensor:
        mask = (batch.source != PADDING).long()
        loss: torch.Tensor = model(input_ids=batch.source, attention_mask=mask, labels=labels_of(batch)).loss
        return loss

    return loss_of


def marian_model(shape: Shape) -> MarianMTModel:
    """A `MarianMTModel` of random weights with the architecture of ours."""
    config = marian_config(our_config(shape))
    config.dropout = shape.dropout
    return MarianMTModel(config)


def marian(shape: Shape, precision: str, attention: str = "sdpa") -> Step:
    """MarianMTModel of transformers with the Trainer's label smoother."""
    model = marian_model(shape)
    model.set_attn_implementation(attention)
    return stepper(model, precision, make_loss_of_marian(model))


def make_loss_of_marian(model: nn.Module) -> LossOf:
    """The loss of the Trainer's label smoother."""
    smoother = LabelSmoother(SMOOTHING)

    def loss_of(batch: Batch) -> torch.Tensor:
        labels = labels_of(batch)
        outputs = model(
            input_ids=batch.source,
            attention_mask=(batch.source != PADDING).long(),
            decoder_input_ids=decoder_input(batch),
            use_cache=False,
        )
        loss: torch.Tensor = smoother(outputs, labels)
        return loss

    return loss_of


def marian_eager(shape: Shape, precision: str) -> Step:
    """MarianMTModel with eager attention, whose backward pass is the faster one in bfloat16 on a CPU."""
    return marian(shape, precision, attention="eager")


def marian_keeping_memory(shape: Shape, precision: str) -> Step:
    """MarianMTModel in a process whose C library is told what ours is told."""
    keep_freed_memory()
    return marian(shape, precision)


def marian_fp32(shape: Shape, precision: str) -> Step:
    """MarianMTModel in float32, whatever the others run in."""
    return marian(shape, "float32")


def torch_transformer(shape: Shape, precision: str) -> Step:
    """`torch.nn.Transformer` with tied embeddings and sinusoids, as tutorials build it, and dropout as ours."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(shape.vocab_size, shape.width)
            nn.init.normal_(self.embedding.weight, std=shape.width**-0.5)
            self.transformer = nn.Transformer(
                shape.width, shape.heads, shape.layers, shape.layers, shape.inner, shape.dropout, batch_first=True
            )
            for module in self.transformer.modules():  # in attention and between the inner layers there is none
                if isinstance(module, nn.MultiheadAttention):
                    module.dropout = 0.0
                if isinstance(module, nn.TransformerEncoderLayer | nn.TransformerDecoderLayer):
                    module.dropout = nn.Identity()
            position = torch.arange(512).unsqueeze(1)
            rates = torch.exp(torch.arange(0, shape.width, 2) * (-math.log(10000.0) / shape.width))
            self.register_buffer(
                "sinusoids", torch.stack([(position * rates).sin(), (position * rates).cos()], 2).flatten(1)
            )

        def embed(self, ids: torch.Tensor) -> torch.Tensor:
            states = self.embedding(ids) * math.sqrt(shape.width) + self.sinusoids[: ids.shape[1]]
            return F.dropout(states, shape.dropout, self.training)

        def forward(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            padding = source == PADDING
            causal = nn.Transformer.generate_square_subsequent_mask(target.shape[1])
            states = self.transformer(
                self.embed(source),
                self.embed(target),
                tgt_mask=causal,
                src_key_padding_mask=padding,
                memory_key_padding_mask=padding,
                tgt_is_causal=True,
            )
            return F.linear(states, self.embedding.weight)

    model = Model()

    def loss_of(batch: Batch) -> torch.Tensor:
        logits = model(batch.source, decoder_input(batch))
        return F.cross_entropy(
            logits.flatten(0, 1).float(), labels_of(batch).flatten(), label_smoothing=SMOOTHING, ignore_index=-100
        )

    return stepper(model, precision, loss_of)


def x_transformers(shape: Shape, precision: str) -> Step:
    """x-transformers, post-norm with tied embeddings (`pip install x-transformers`)."""
    from x_transformers import Decoder, Encoder, TransformerWrapper

    settings = {
        "dim": shape.width,
        "depth": shape.layers,
        "heads": shape.heads,
        "attn_dim_head": shape.width // shape.heads,
        "ff_mult": shape.inner / shape.width,
        "ff_custom_activation": nn.ReLU(),
        "attn_sublayer_dropout": shape.dropout,
        "ff_sublayer_dropout": shape.dropout,
        "attn_flash": True,
        "pre_norm": False,
    }
    common = {
        "num_tokens": shape.vocab_size,
        "max_seq_len": 512,
        "scaled_sinu_pos_emb": True,
        "emb_dropout": shape.dropout,
    }
    encoder = TransformerWrapper(attn_layers=Encoder(**settings), return_only_embed=True, **common)
    decoder = TransformerWrapper(attn_layers=Decoder(cross_attend=True, **settings), tie_embedding=True, **common)
    encoder.token_emb = decoder.token_emb
    model = nn.ModuleList([encoder, decoder])

    def loss_of(batch: Batch) -> torch.Tensor:
        mask = batch.source != PADDING
        states = encoder(batch.source, mask=mask, return_embeddings=True)
        logits = decoder(decoder_input(batch), context=states, context_mask=mask)
        return F.cross_entropy(
            logits.flatten(0, 1).float(), labels_of(batch).flatten(), label_smoothing=SMOOTHING, ignore_index=-100
        )

    return stepper(model, precision, loss_of)


def opennmt(shape: Shape, precision: str) -> Step:
    """
    Encoder and decoder of OpenNMT-py 3.0.4, the last that installs beside this torch, with tied embeddings. Its norms
    come first, and it has one more dropout, between the inner layers.

        pip install --no-deps OpenNMT-py==3.0.4 configargparse pyonmttok rapidfuzz waitress flask
    """
    from onmt.decoders.transformer import TransformerDecoder
    from onmt.encoders.transformer import TransformerEncoder
    from onmt.modules import Embeddings

    def embeddings() -> nn.Module:
        table: nn.Module = Embeddings(
            shape.width, shape.vocab_size, PADDING, position_encoding=True, dropout=shape.dropout
        )
        return table

    sizes = (shape.layers, shape.width, shape.heads, shape.inner)
    encoder = TransformerEncoder(*sizes, shape.dropout, 0.0, embeddings(), 0)
    decoder = TransformerDecoder(
        *sizes, False, "scaled-dot", shape.dropout, 0.0, embeddings(), 0, False, False, None, 0
    )
    decoder.embeddings.word_lut.weight = encoder.embeddings.word_lut.weight
    nn.init.normal_(encoder.embeddings.word_lut.weight, std=shape.width**-0.5)
    model = nn.ModuleList([encoder, decoder])

    def loss_of(batch: Batch) -> torch.Tensor:
        source, lengths = batch.source.unsqueeze(-1), (batch.source != PADDING).sum(dim=1)
        states, last, _ = encoder(source, lengths)
        decoder.init_state(source, states, last)
        output, _ = decoder(decoder_input(batch).unsqueeze(-1), states, src_len=lengths)
        logits = F.linear(output, encoder.embeddings.word_lut.weight)
        return F.cross_entropy(
            logits.flatten(0, 1).float(), labels_of(batch).flatten(), label_smoothing=SMOOTHING, ignore_index=-100
        )

    return stepper(model, precision, loss_of)


TRAINING_SYSTEMS: dict[str, Callable[[Shape, str], Step]] = {
    "ours": ours,
    "marian": marian,
    "marian-eager": marian_eager,
    "marian-fp32": marian_fp32,
    "marian, memory kept": marian_keeping_memory,
    MARIAN_RANDOM: marian,
    "torch": torch_transformer,
    "x-transformers": x_transformers,
    "opennmt-py": opennmt,
}


def count_operations(shape: Shape, batch: Batch) -> float:
    """Floating-point operations of a training step of our model, a token of the batch that is not padding."""
    model = VanillaTransformerForConditionalGeneration(our_config(shape)).train()
    # The counter knows no fused attention on a CPU and no sum of a product and a matrix: the plain ways do the same.
    model.set_attn_implementation("eager")
    model.lm_head.register_forward_hook(lambda *_: None)
    counter = FlopCounterMode(display=False)
    with counter:
        mask = (batch.source != PADDING).long()
        model(input_ids=batch.source, attention_mask=mask, labels=labels_of(batch)).loss.backward()
    return counter.get_total_flops() / batch.tokens
