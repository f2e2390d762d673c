"""
A `MarianMTModel`, as the OPUS-MT models are, as one of ours: exactly, or refused by name.

Marian's sinusoids are the paper's with all sines before all cosines: every weight that reads or writes residual
channels is permuted. All else that it has is a field of the configuration.
"""

from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, MarianConfig

from ..configuration_vanilla_transformer import Named, VanillaTransformerConfig
from ..errors import ConversionError
from ..modeling_vanilla_transformer import (
    VanillaTransformerForConditionalGeneration,
    VanillaTransformerSinusoidalPositions,
)
from .marian import IMPORTED, MARIAN_LAYER_NORM_EPS, carried_settings, halves_order, writes_residual
from .weights import Weights, fill, read_weights

# Entries of a configuration by which Marian would compute something else, and the value by which it does not.
REFUSED = {
    "normalize_before": False,
    "normalize_embedding": False,
    "add_final_layer_norm": False,
    "add_bias_logits": False,
    "static_position_embeddings": True,
}
EMBEDDINGS = ("model.shared.weight", "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight")
POSITIONS = tuple(f"model.{stack}.embed_positions.weight" for stack in ("encoder", "decoder"))
MARIAN_TOKENIZER = ("source.spm", "target.spm", "vocab.json")


def config_from_marian(entries: Named, place: str) -> VanillaTransformerConfig:
    """
    The configuration of the same model here, without an output bias.

    Args:
        entries: of its config.json.
        place: what to call it in an error.

    Raises:
        ConversionError: for what would not be the same model; the entry is named.
    """
    for name, value in REFUSED.items():
        if entries.get(name, value) is not value:
            raise ConversionError(f"`{name}` in {place} must be {value} to be imported exactly, but is {not value}.")
    marian = MarianConfig(**{name: value for name, value in entries.items() if name not in ("model_type", "dtype")})
    for name in ("attention_heads", "ffn_dim"):
        encoder, decoder = getattr(marian, f"encoder_{name}"), getattr(marian, f"decoder_{name}")
        if encoder != decoder:
            raise ConversionError(
                f"`encoder_{name}` in {place} must be `decoder_{name}`, {decoder}, to be imported, but is {encoder}."
            )
    if marian.d_model % 2:
        raise ConversionError(f"`d_model` in {place} must be even to be imported, but is {marian.d_model}.")
    is_joint = marian.share_encoder_decoder_embeddings
    if is_joint and marian.decoder_vocab_size != marian.vocab_size:
        raise ConversionError(
            f"`decoder_vocab_size` in {place} must be `vocab_size`, {marian.vocab_size}, where embeddings are shared, "
            f"but is {marian.decoder_vocab_size}."
        )
    return VanillaTransformerConfig(
        vocab_size=marian.vocab_size,
        decoder_vocab_size=None if is_joint else marian.decoder_vocab_size,
        hidden_size=marian.d_model,
        encoder_layers=marian.encoder_layers,
        decoder_layers=marian.decoder_layers,
        num_attention_heads=marian.encoder_attention_heads,
        intermediate_size=marian.encoder_ffn_dim,
        hidden_act=marian.activation_function,
        dropout=marian.dropout,
        attention_dropout=marian.attention_dropout,
        activation_dropout=marian.activation_dropout,
        attention_bias=True,
        layer_norm_eps=MARIAN_LAYER_NORM_EPS,
        scale_embedding=marian.scale_embedding,
        tie_word_embeddings=marian.tie_word_embeddings,
        bos_token_id=marian.bos_token_id,
        pad_token_id=marian.pad_token_id,
        eos_token_id=marian.eos_token_id,
        decoder_start_token_id=marian.decoder_start_token_id,
    )


def check_positions(weights: Weights, size: int) -> None:
    """
    Take the position tables, which must be the sinusoids that Marian computes.

    Raises:
        ConversionError: if they are not.
    """
    for name in set(POSITIONS) & set(weights.rest):
        table = weights.take(name)
        ours = VanillaTransformerSinusoidalPositions(size)(torch.arange(len(table)))[:, halves_order(size)]
        if table.shape != ours.shape or not torch.allclose(table, ours, rtol=0, atol=1e-3):  # float16 in some files
            raise ConversionError(f"{name} in {weights.place} is not the table of sinusoids that Marian has.")


def take_weights(weights: Weights, config: VanillaTransformerConfig, order: torch.Tensor) -> dict[str, torch.Tensor]:
    """
    The tensors of our model out of Marian's, under the names that our model stores.

    Args:
        order: where each of Marian's channels is in ours (D,).
    """
    shared, encoder, decoder = EMBEDDINGS
    if config.tie_word_embeddings and config.decoder_vocab_size is None:
        taken = {shared: weights.take(*EMBEDDINGS, "lm_head.weight")}
    elif config.tie_word_embeddings:
        taken = {encoder: weights.take(encoder), decoder: weights.take(decoder, "lm_head.weight")}
    else:
        taken = {name: weights.take(name) for name in (encoder, decoder, "lm_head.weight")}
        weights.leave([shared])
    for name in [name for name in weights.rest if ".layers." in name]:
        taken[name] = weights.take(name)
    inverse = order.argsort()
    for name, weight in taken.items():
        if writes_residual(name):
            taken[name] = weight[inverse]
        elif weight.dim() == 2:
            taken[name] = weight[:, inverse]
    return taken


def settings_from(entries: Named, settings: Named, config: VanillaTransformerConfig) -> GenerationConfig:
    """
    The generation settings of an imported model: its own, with transformers' length penalty.

    Ids that are never generated become `suppress_tokens`, which the fast search goes by. A forced end at `max_length`
    is the end there. What an export gives back is kept under "imported".

    Args:
        entries: of its config.json, where older folders have them.
        settings: of its generation_config.json, if there is one.
    """
    given = {**entries, **settings}
    bad_words = given.get("bad_words_ids") or []
    beams = given.get("num_beams") or 1
    single = sorted({words[0] for words in bad_words if len(words) == 1})
    kept = {
        "bad_words_ids": bad_words or None,
        "forced_eos_token_id": given.get("forced_eos_token_id"),
        "max_position_embeddings": entries.get("max_position_embeddings"),
    }
    same = carried_settings(given) | {"num_beams": beams, "early_stopping": None, "forced_eos_token_id": None}
    if beams > 1:
        same["length_penalty"] = given.get("length_penalty", 1.0)
        same["early_stopping"] = given.get("early_stopping", False)
    return GenerationConfig(
        bos_token_id=config.bos_token_id,
        pad_token_id=config.pad_token_id,
        eos_token_id=config.eos_token_id,
        decoder_start_token_id=config.decoder_start_token_id,
        length_penalty_type="power",
        source_length_offset=None,
        max_length=given.get("max_length") or 512,
        suppress_tokens=single or None,
        bad_words_ids=[words for words in bad_words if len(words) > 1] or None,
        **{IMPORTED: {name: value for name, value in kept.items() if value is not None}},
        **same,
    )


def model_from_marian(
    folder: Path, entries: Named, settings: Named, **config_fields: Any
) -> VanillaTransformerForConditionalGeneration:
    """
    The model in a folder of a `MarianMTModel`, in float32.

    Args:
        entries, settings: of its config.json and generation_config.json.
        config_fields: to change in our configuration, such as `dropout`.

    Raises:
        ConversionError: for what would not be the same model, and for damaged weights.
    """
    place = str(folder)
    config = config_from_marian(entries, place)
    weights = Weights(read_weights(folder), place)
    check_positions(weights, config.hidden_size)
    bias = weights.rest.pop("final_logits_bias", None)
    config.output_bias = bias is not None and bool(bias.any())
    for name, value in config_fields.items():
        setattr(config, name, value)
    taken = take_weights(weights, config, halves_order(config.hidden_size))
    if bias is not None and config.output_bias:
        taken["lm_head.bias"] = bias.flatten().to(torch.float32)
    weights.check_all_taken()
    model = VanillaTransformerForConditionalGeneration(config).eval()
    fill(model, taken, place)
    model.generation_config = settings_from(entries, settings, config)
    return model
