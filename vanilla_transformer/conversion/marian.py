"""
The same model as a stock `MarianMTModel`, which transformers loads without remote code.

Marian's sinusoids are the paper's with all sines before all cosines, so that its residual channels are ours in another
order: every weight that reads or writes them is permuted. Its layer norms add ε = 1e-5 and ours 1e-6; since
LayerNorm(c x; c² ε) = LayerNorm(x; ε), the residual stream is scaled by c = √10 wherever a norm reads it, and what
reads the stream is scaled back. Only the first stream of each stack has no factor: the table of positions is fixed.
"""

import math
from pathlib import Path

import torch
from transformers import GenerationConfig, MarianConfig, MarianMTModel, PreTrainedModel

from ..configuration_vanilla_transformer import Named, VanillaTransformerConfig
from ..errors import ConversionError
from ..loading import share_weights
from .folder import check_exportable, read_original, to_stock_tokenizer, write_target

MARIAN_LAYER_NORM_EPS = 1e-5
# Positions that the exported model has: sinusoids need no table here and have one there.
MARIAN_POSITIONS = 1024
# Of generation settings: an entry with what an imported model came with and goes by otherwise here.
IMPORTED = "imported"
# Settings that an exported model has by its configuration, by what it was imported with, or as its card says.
SET_BY_EXPORT = frozenset(
    {
        *("bos_token_id", "pad_token_id", "eos_token_id", "decoder_start_token_id", "length_penalty", "max_length"),
        *("suppress_tokens", "bad_words_ids", "transformers_version", "_from_model_config"),
    }
)
# Settings that a stock model takes only where it samples, and only where it gives more than the tokens.
OF_SAMPLING = frozenset(
    {"temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff"}
)
OF_OUTPUTS = frozenset(GenerationConfig.extra_output_flags)
# The longest translation, where ours is as long as its source and 50 tokens.
MARIAN_MAX_LENGTH = 512
# Differences of an exported model.
GNMT_DIFFERENCE = (
    "Beam search ranks by log P / |Y|^α instead of the paper's log P / ((5 + |Y|) / 6)^α: Marian has only that."
)
IMPORTED_DIFFERENCE = (
    "A translation that reaches the longest length ends with a forced `</s>`, as it did in the source."
)
LIMIT_DIFFERENCE = (
    f"A translation has at most {MARIAN_MAX_LENGTH} tokens, whatever the length of its source, instead of |X| + "
    "{offset}."
)
STOP_DIFFERENCE = "Beam search stops by transformers' heuristic, not when no beam can improve."
MARIAN_DIFFERENCES = (
    f"A sentence has at most {MARIAN_POSITIONS:,} tokens. The original has no limit.",
    "CTranslate2's converter for Marian does not read it: it expects a decoder that starts from zeros, and this one "
    "starts from the embedding of `<s>`. Make a model for CTranslate2 from the original: "
    "`vanilla-transformer export ORIGINAL FOLDER --to ctranslate2`.",
)


def marian_config(config: VanillaTransformerConfig) -> MarianConfig:
    """
    The configuration of the same model as a `MarianMTModel`.

    Raises:
        ConversionError: for what Marian cannot hold; the field is named.
    """
    head_size = config.hidden_size / config.num_attention_heads
    refused = {
        "is_encoder_decoder": (not config.is_encoder_decoder, "Marian has both stacks and translates"),
        "qk_head_dim": (config.query_key_size != head_size, "Marian's heads share `hidden_size` out among them"),
        "v_head_dim": (config.value_size != head_size, "Marian's heads share `hidden_size` out among them"),
        "norm_first": (config.norm_first, "Marian's norms come after each sublayer"),
        "position_embedding_type": (config.position_limit is not None, "Marian has sinusoids"),
        "sinusoid_type": (config.sinusoid_type != "paper", "Marian has the paper's wavelengths"),
        "position_offset": (config.position_offset != 0, "Marian counts positions from 0"),
        "layer_norm_eps": (
            not 0 < config.layer_norm_eps <= MARIAN_LAYER_NORM_EPS,
            f"Marian's own is {MARIAN_LAYER_NORM_EPS}, and a larger one would change the first norm of each stack",
        ),
    }
    for name, (is_refused, reason) in refused.items():
        if is_refused:
            raise ConversionError(
                f"`{name}` must be as in a MarianMTModel, but is {getattr(config, name)!r}: {reason}."
            )
    return MarianConfig(
        vocab_size=config.vocab_size,
        decoder_vocab_size=config.target_vocab_size,
        d_model=config.hidden_size,
        encoder_layers=config.encoder_layers,
        decoder_layers=config.decoder_layers,
        encoder_attention_heads=config.num_attention_heads,
        decoder_attention_heads=config.num_attention_heads,
        encoder_ffn_dim=config.intermediate_size,
        decoder_ffn_dim=config.intermediate_size,
        activation_function=config.hidden_act,
        dropout=config.dropout,
        attention_dropout=config.attention_dropout,
        activation_dropout=config.activation_dropout,
        scale_embedding=config.scale_embedding,
        max_position_embeddings=MARIAN_POSITIONS,
        bos_token_id=config.bos_token_id,
        pad_token_id=config.pad_token_id,
        eos_token_id=config.eos_token_id,
        forced_eos_token_id=None,
        decoder_start_token_id=config.decoder_start_token_id,  # type: ignore[arg-type]
        tie_word_embeddings=config.tie_word_embeddings,
        share_encoder_decoder_embeddings=config.tie_word_embeddings and config.decoder_vocab_size is None,
    )


def to_marian(model: PreTrainedModel) -> MarianMTModel:
    """
    The same model as a `MarianMTModel`, in float32. Attention without biases is held as zero biases.

    Raises:
        ConversionError: for what Marian cannot hold.
    """
    check_exportable(model, "Marian")
    config = model.config
    of_marian, settings = marian_config(config), marian_settings(model)
    hints = getattr(model.generation_config, IMPORTED, {})
    of_marian.max_position_embeddings = hints.get("max_position_embeddings", MARIAN_POSITIONS)
    marian = MarianMTModel(of_marian).eval()
    marian.generation_config = settings
    order = halves_order(config.hidden_size)
    scale = math.sqrt(MARIAN_LAYER_NORM_EPS / config.layer_norm_eps)
    weights = model.state_dict()
    with torch.no_grad():
        for name, parameter in marian.named_parameters(remove_duplicate=False):
            if name in weights:
                weight = weights[name].to("cpu", torch.float64)
                if writes_residual(name):
                    weight = weight[order]
                elif weight.dim() == 2:  # embeddings, and projections that read the residual stream
                    weight = weight[:, order]
                parameter.copy_(weight * residual_factor(name, config, scale))
            elif name.endswith("_proj.bias"):
                parameter.zero_()
            elif not name.endswith("embed_positions.weight"):  # which Marian computes
                raise ConversionError(f"The model has no weight {name}, which a MarianMTModel needs.")
        if config.output_bias:
            marian.final_logits_bias.copy_(weights["lm_head.bias"].to("cpu", torch.float32))
    return marian


def marian_settings(model: PreTrainedModel) -> GenerationConfig:
    """The generation settings of the same model as a `MarianMTModel`: of an imported one those that it came with."""
    config, settings = model.config, model.generation_config
    hints = dict(getattr(settings, IMPORTED, {}))
    hints.pop("max_position_embeddings", None)
    if "bad_words_ids" not in hints:
        hints |= {"bad_words_ids": settings.bad_words_ids, "suppress_tokens": settings.suppress_tokens}
    ends_by_source = getattr(settings, "source_length_offset", None) is not None
    same = carried_settings(vars(settings))
    if ends_by_source:
        same.pop("max_new_tokens", None)
    return GenerationConfig(
        bos_token_id=config.bos_token_id,
        pad_token_id=config.pad_token_id,
        eos_token_id=config.eos_token_id,
        decoder_start_token_id=config.decoder_start_token_id,
        length_penalty=None if (settings.num_beams or 1) == 1 else settings.length_penalty,
        max_length=MARIAN_MAX_LENGTH if ends_by_source else settings.max_length,
        **{**same, **hints},
    )


def carried_settings(settings: Named) -> Named:
    """
    Return the settings that say the same to a stock model and to ours, such as `no_repeat_ngram_size`.

    Those that have no effect are left out, such as `temperature` without sampling: transformers writes no such file.
    """
    beams, samples = settings.get("num_beams") or 1, settings.get("do_sample") is True
    dropped = set(SET_BY_EXPORT)
    if not samples:
        dropped |= OF_SAMPLING
    if beams == 1 or settings.get("early_stopping") == "never":
        dropped.add("early_stopping")
    if (settings.get("num_return_sequences") or 1) > beams and not (samples and beams == 1):
        dropped.add("num_return_sequences")
    if not settings.get("return_dict_in_generate"):
        dropped |= OF_OUTPUTS
    of_transformers = vars(GenerationConfig()).keys() - dropped
    return {name: value for name, value in settings.items() if name in of_transformers and value is not None}


def halves_order(size: int) -> torch.Tensor:
    """Where each channel of [sines | cosines] is in the paper's order: 0, 2, 4, ..., 1, 3, 5, ..., of shape (D,)."""
    return torch.cat([torch.arange(0, size, 2), torch.arange(1, size, 2)])


def writes_residual(name: str) -> bool:
    """Whether the outputs of a weight are residual channels."""
    return name.endswith(("out_proj.weight", "out_proj.bias", "fc2.weight", "fc2.bias")) or "layer_norm" in name


def residual_factor(name: str, config: VanillaTransformerConfig, scale: float) -> float:
    """Return the factor of a weight, so that the residual stream inside a stack is `scale` times as large."""
    parts = name.split(".")
    if "layers" not in parts:
        return 1.0
    stack, layer, module = parts[1], int(parts[3]), parts[4]
    attention = module == "self_attn"
    last = layer == (config.encoder_layers if stack == "encoder" else config.decoder_layers) - 1
    if "layer_norm" in module:  # what leaves a stack is as it was
        return 1.0 if last and module == "final_layer_norm" else scale
    first_stream = layer == 0 and attention
    if writes_residual(name):
        return 1.0 if first_stream else scale
    reads_encoder = module == "encoder_attn" and parts[5] in ("k_proj", "v_proj")
    if parts[-1] == "bias" or first_stream or reads_encoder:
        return 1.0
    return 1.0 / scale


def marian_differences(settings: GenerationConfig) -> tuple[str, ...]:
    """Return the differences in translation of a model that is exported from one with these settings."""
    hints, offset = getattr(settings, IMPORTED, None), getattr(settings, "source_length_offset", None)
    is_beam_search = (settings.num_beams or 1) > 1
    is_gnmt = getattr(settings, "length_penalty_type", None) == "gnmt"
    said = {
        GNMT_DIFFERENCE: is_beam_search and is_gnmt,
        STOP_DIFFERENCE: is_beam_search and settings.early_stopping == "never",
        LIMIT_DIFFERENCE.format(offset=offset): offset is not None,
        IMPORTED_DIFFERENCE: hints is not None and hints.get("forced_eos_token_id") is not None,
        **dict.fromkeys(MARIAN_DIFFERENCES, hints is None),
    }
    return tuple(sentence for sentence, holds in said.items() if holds)


def export_marian(folder: str | Path, output: str | Path) -> tuple[str, ...]:
    """
    Write the model in a folder as a stock `MarianMTModel`, with its tokenizer, its scores, its pictures and a card.

    The folder is written aside and gets its name when it is whole.

    Args:
        folder: as training or `save_pretrained` wrote it.
        output: a folder that does not exist yet.

    Returns:
        what it does differently.

    Raises:
        ModelFolderError: if the folder holds no usable model.
        ConversionError: for what Marian cannot hold, and if `output` exists or cannot be written.
    """
    folder, output = Path(folder), Path(output)
    model, tokenizer = read_original(folder)
    marian = to_marian(model)
    differences = marian_differences(model.generation_config)

    def write(unfinished: Path) -> None:
        marian.save_pretrained(unfinished)
        share_weights(unfinished)
        to_stock_tokenizer(tokenizer, MARIAN_POSITIONS).save_pretrained(unfinished)

    write_target(folder, output, write, differences=differences)
    return differences
