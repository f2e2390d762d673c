"""
The same model for CTranslate2, an engine in C++ for CPUs and CUDA.

CTranslate2 holds every configuration of ours: its layers are told where norms are and which activation and ε there
are, and the table of positions is written out. Where queries and values of a head differ in size, the smaller ones
are filled up with zeros, which changes no product.
"""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from ..configuration_vanilla_transformer import VanillaTransformerConfig
from ..engines.ctranslate2_engine import DEFAULT_MAX_LENGTH, find_unknown_setting, name_tokens
from ..errors import ConversionError
from ..exported import PRECISIONS
from ..generation_vanilla_transformer import COUNTED_SOURCE_LENGTH
from ..modeling_vanilla_transformer import VanillaTransformerAttention
from .folder import (
    OWN_TOKENIZERS,
    check_exportable,
    describe_export,
    detached,
    read_original,
    to_stock_tokenizer,
    write_target,
)

# Positions that a table of sinusoids gets; at D = 512 they are 8 MB.
MAX_POSITIONS = 4096
# CTranslate2's names of transformers' activations.
ACTIVATIONS = {
    **dict.fromkeys(("gelu", "gelu_python"), "GELU"),
    **dict.fromkeys(("gelu_new", "gelu_fast", "gelu_pytorch_tanh", "gelu_accurate"), "GELUTanh"),
    **dict.fromkeys(("silu", "swish"), "SWISH"),
    **{"quick_gelu": "GELUSigmoid", "relu": "RELU", "tanh": "Tanh", "sigmoid": "Sigmoid"},
}
CT2_DIFFERENCES = (
    "`vanilla-transformer translate --engine ctranslate2` takes all finished hypotheses of CTranslate2 and ranks them "
    "by the original's penalty, with the original's limit for each sentence.",
    "CTranslate2 stops after a number of finished hypotheses, not when no beam can improve: with `--engine "
    "ctranslate2` this has changed no translation of a trained model so far, and some of models with random weights. "
    "A `length_penalty` above 2 is refused, since the best translation can then be missed.",
    "`--engine ctranslate2` refuses sampling, the beginning of a translation (`decoder_input_ids`), "
    '`weight_precision` and an `early_stopping` other than "never".',
)
GNMT_DIFFERENCE = "CTranslate2 by itself ranks by log P / |Y|^α, where the original has the paper's penalty."
NEAREST_DIFFERENCE = (
    "CTranslate2 by itself ranks by log P / |Y|^α: `length_penalty=0.4, patience=2, max_input_length=0` comes nearest "
    "to the paper."
)
STOP_DIFFERENCE = (
    "With several beams the original's search stops by `early_stopping`, and this one when CTranslate2 has enough "
    "finished hypotheses, which may find a better translation."
)
SUPPRESSED_DIFFERENCE = (
    "Tokens that are never generated have no share of the probability, as with `renormalize_logits`; they have one in "
    "the original."
)
INT8_DIFFERENCE = "Weights are rounded to 8 bits, so that some translations differ."


def import_specs() -> tuple[Any, Any]:
    """
    Return CTranslate2's modules of specifications.

    Raises:
        ConversionError: where the library is not installed.
    """
    try:
        from ctranslate2.specs import common_spec, transformer_spec
    except ImportError as error:
        raise ConversionError(
            'CTranslate2 is not installed. Install it: pip install "vanilla-transformer[ctranslate2]"'
        ) from error
    return common_spec, transformer_spec


def build_spec(
    model: PreTrainedModel,
    tokens: list[str],
    max_positions: int = MAX_POSITIONS,
    target_tokens: list[str] | None = None,
    unknown: str | None = None,
) -> Any:
    """
    Return the same model as a `TransformerSpec`, with weights of its own.

    Args:
        tokens: of all ids, V of them.
        max_positions: rows of a table of sinusoids.
        target_tokens: of the ids of the target's own vocabulary; `None` is one vocabulary for both.
        unknown: the token of what has no id, if there is one.

    Raises:
        ConversionError: for what CTranslate2 cannot hold, and where it is not installed.
    """
    common_spec, transformer_spec = import_specs()
    check_exportable(model, "CTranslate2")
    config = model.config
    if config.hidden_act not in ACTIVATIONS:
        raise ConversionError(
            f"`hidden_act` must be one of {', '.join(ACTIVATIONS)} for CTranslate2, but is {config.hidden_act!r}. "
            "Export with `--to onnx`."
        )
    head_size = max(config.query_key_size, config.value_size)
    sizes = {} if head_size * config.num_attention_heads == config.hidden_size else {"head_dim": head_size}
    sizes |= {
        "pre_norm": config.norm_first,
        "activation": getattr(common_spec.Activation, ACTIVATIONS[config.hidden_act]),
    }
    heads = config.num_attention_heads
    spec = transformer_spec.TransformerSpec(
        transformer_spec.TransformerEncoderSpec(config.encoder_layers, heads, **sizes),
        transformer_spec.TransformerDecoderSpec(config.decoder_layers, heads, **sizes),
    )
    with torch.no_grad():
        fill_stack(spec.encoder, spec.encoder.embeddings[0], model.model.encoder, max_positions)
        fill_stack(spec.decoder, spec.decoder.embeddings, model.model.decoder, max_positions)
        fill_linear(spec.decoder.projection, model.lm_head.weight, model.lm_head.bias)
    names = tokens if target_tokens is None else target_tokens
    spec.register_source_vocabulary(tokens)
    spec.register_target_vocabulary(names)
    spec.config.layer_norm_epsilon = config.layer_norm_eps
    spec.config.eos_token = names[config.eos_token_id]
    spec.config.bos_token = spec.config.eos_token if config.bos_token_id is None else names[config.bos_token_id]
    spec.config.decoder_start_token = names[config.decoder_start_token_id]
    # Bytes leave nothing unknown; without this CTranslate2 adds a token that has no weights.
    spec.config.unk_token = names[config.pad_token_id] if unknown is None else unknown
    return spec


def fill_stack(spec: Any, embeddings: Any, stack: Any, max_positions: int) -> None:
    """Write an encoder or a decoder into its specification."""
    config = stack.config
    embeddings.weight = detached(stack.embed_tokens.weight)
    spec.scale_embeddings = float(stack.embed_tokens.embed_scale)
    rows = max_positions if config.position_limit is None else config.position_limit
    spec.position_encodings.encodings = detached(stack.embed_positions(torch.arange(rows)).float())
    if stack.layer_norm is not None:
        fill_norm(spec.layer_norm, stack.layer_norm)
    for place, layer in zip(spec.layer, stack.layers, strict=True):
        fill_attention(place.self_attention, layer.self_attn, ["qkv"])
        fill_norm(place.self_attention.layer_norm, layer.self_attn_layer_norm)
        if hasattr(place, "attention"):
            fill_attention(place.attention, layer.encoder_attn, ["q", "kv"])
            fill_norm(place.attention.layer_norm, layer.encoder_attn_layer_norm)
        fill_linear(place.ffn.linear_0, layer.fc1.weight, layer.fc1.bias)
        fill_linear(place.ffn.linear_1, layer.fc2.weight, layer.fc2.bias)
        fill_norm(place.ffn.layer_norm, layer.final_layer_norm)


def fill_attention(spec: Any, attention: VanillaTransformerAttention, groups: list[str]) -> None:
    """Write an attention; `groups` names the projections that CTranslate2 computes as one product."""
    heads, size = attention.config.num_attention_heads, max(attention.key_size, attention.value_size)
    sizes = {"q": attention.key_size, "k": attention.key_size, "v": attention.value_size}
    for place, names in zip(spec.linear, groups, strict=False):
        layers = [getattr(attention, f"{name}_proj") for name in names]
        weights = [
            fill_heads(layer.weight, heads, sizes[name], size) for name, layer in zip(names, layers, strict=True)
        ]
        biases = [
            fill_heads(layer.bias, heads, sizes[name], size)
            for name, layer in zip(names, layers, strict=True)
            if layer.bias is not None
        ]
        fill_linear(place, torch.cat(weights), torch.cat(biases) if biases else None)
    joined = fill_heads(attention.out_proj.weight.t(), heads, attention.value_size, size).t().contiguous()
    fill_linear(spec.linear[-1], joined, attention.out_proj.bias)
    spec.queries_scale = float(attention.scaling)


def fill_heads(weight: torch.Tensor, heads: int, size: int, wanted: int) -> torch.Tensor:
    """Rows of all heads (H * size, ...) -> (H * wanted, ...), with zeros below those of each head."""
    if size == wanted:
        return weight
    filled = weight.new_zeros(heads, wanted, *weight.shape[1:])
    filled[:, :size] = weight.reshape(heads, size, *weight.shape[1:])
    return filled.flatten(0, 1)


def fill_linear(spec: Any, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
    """Write a linear layer: copies, since CTranslate2 quantises in place."""
    spec.weight = detached(weight)
    if bias is not None:
        spec.bias = detached(bias)


def fill_norm(spec: Any, norm: nn.LayerNorm) -> None:
    """Write a layer norm."""
    spec.gamma, spec.beta = detached(norm.weight), detached(norm.bias)


def list_tokens(tokenizer: PreTrainedTokenizerBase, config: VanillaTransformerConfig) -> tuple[list[str], list[str]]:
    """
    Return the tokens of all ids of the source, and of the target.

    Where a model has more ids than its tokenizer, they have names that no text has.
    """
    if isinstance(tokenizer, OWN_TOKENIZERS):
        added = {index: str(token) for index, token in tokenizer.added_tokens_decoder.items()}
        encoder: dict[str, int] = tokenizer.encoder  # type: ignore[assignment]  # what `load_json` may return is more
        known = [added | {index: token for token, index in encoder.items()}, added | tokenizer.decoder]
    else:
        backend = to_stock_tokenizer(tokenizer).backend_tokenizer
        known = [{index: token for token, index in backend.get_vocab(with_added_tokens=True).items()}] * 2
    sizes = (config.vocab_size, config.target_vocab_size)
    source, target = (
        [names.get(index, f"<unused{index}>") for index in range(size)]
        for names, size in zip(known, sizes, strict=True)
    )
    return source, target


def adapt_settings(settings: GenerationConfig) -> tuple[str, ...]:
    """
    Give the search of an exported model what the engine has in the place of the original's, and return what that is.

    Raises:
        ConversionError: for a setting that the engine has nothing for.
    """
    name = find_unknown_setting(vars(settings))
    if name is not None:
        raise ConversionError(
            f"`{name}` must be left out of generation_config.json for CTranslate2, which does not have it, but is "
            f"{getattr(settings, name)!r:.60}. Export with `--to onnx`."
        )
    said: tuple[str, ...] = ()
    if settings.early_stopping != "never":
        settings.early_stopping, said = "never", (STOP_DIFFERENCE,)
    if (settings.suppress_tokens or settings.bad_words_ids) and not settings.renormalize_logits:
        settings.renormalize_logits, said = True, (*said, SUPPRESSED_DIFFERENCE)
    return said


def describe_search(settings: GenerationConfig, target_tokens: list[str], positions: int) -> str:
    """
    Return the arguments with which CTranslate2's own search of a `source` comes nearest to the original's.

    Args:
        target_tokens: of all ids of the target.
        positions: rows of the exported table, of which the start token has one.
    """
    never = [[index] for index in settings.suppress_tokens or []] + list(settings.bad_words_ids or [])
    suppressed = name_tokens(never, target_tokens)
    is_gnmt = getattr(settings, "length_penalty_type", None) == "gnmt"
    offset = getattr(settings, "source_length_offset", None)
    limit: int | str
    if offset is None:
        limit = min(settings.max_new_tokens or (settings.max_length or DEFAULT_MAX_LENGTH) - 1, positions - 1)
    else:
        counted = max(COUNTED_SOURCE_LENGTH, getattr(settings, "longest_source", None) or 0)
        limit = f"min(len(source) + {offset}, {min(counted + offset, positions - 1)})"
    beams = settings.num_beams or 1
    penalty = 1.0 if settings.length_penalty is None else settings.length_penalty
    if is_gnmt:  # which grows with a length of ten tokens as |Y|^(2α/3) does
        penalty = round(penalty * 2 / 3, 2)
    return (
        f"beam_size={beams}, {f'length_penalty={penalty}, patience=2, ' if beams > 1 else ''}max_input_length=0, "
        f"max_decoding_length={limit}{f', suppress_sequences={suppressed}' if suppressed else ''}"
    )


def ctranslate2_differences(model: PreTrainedModel, precision: str, max_positions: int) -> tuple[str, ...]:
    """Return the sentences that say what the exported model does differently."""
    settings = model.generation_config
    is_gnmt = (settings.num_beams or 1) > 1 and getattr(settings, "length_penalty_type", None) == "gnmt"
    gnmt = NEAREST_DIFFERENCE if settings.length_penalty == 0.6 else GNMT_DIFFERENCE
    limit = (
        (
            f"A sentence, and a translation, has at most {max_positions:,} tokens (`--max_positions`); longer ones "
            "are refused. The original has no limit.",
        )
        if model.config.position_limit is None
        else ()
    )
    rounding = (INT8_DIFFERENCE,) if precision == "int8" else ()
    return (*((gnmt,) if is_gnmt else ()), *CT2_DIFFERENCES, *limit, *rounding)


def export_ctranslate2(
    folder: str | Path, output: str | Path, precision: str = "float32", max_positions: int | None = None
) -> tuple[str, ...]:
    """
    Write the model in a folder for CTranslate2, with its tokenizer, its scores, its pictures, its licence and a card.

    The folder is written aside and gets its name when it is whole.

    Args:
        folder: as training or `save_pretrained` wrote it.
        output: a folder that does not exist yet.
        precision: of the weights, one of `PRECISIONS`.
        max_positions: tokens that a sentence may have, where the original has sinusoids; `None` is `MAX_POSITIONS`.

    Returns:
        what it does differently.

    Raises:
        ModelFolderError: if the folder holds no usable model.
        ConversionError: for what CTranslate2 cannot hold, where it is not installed, and if `output` exists or cannot
            be written.
    """
    folder, output = Path(folder), Path(output)
    import_specs()
    if precision not in PRECISIONS:
        raise ConversionError(
            f"`precision` must be one of {', '.join(PRECISIONS)} for CTranslate2, but is {precision!r}."
        )
    if max_positions is not None and max_positions < 2:  # the start token has one
        raise ConversionError(f"`max_positions` must be at least 2, but is {max_positions}. Give more.")
    model, tokenizer = read_original(folder)
    if max_positions is not None and model.config.position_limit is not None:
        raise ConversionError(
            f"`max_positions` must be left out for a model with {model.config.position_limit:,} learned positions, "
            f"but is {max_positions}. Leave it out."
        )
    max_positions = max_positions or MAX_POSITIONS
    adapted = adapt_settings(model.generation_config)
    differences = (*ctranslate2_differences(model, precision, max_positions), *adapted)
    tokens, target_tokens = list_tokens(tokenizer, model.config)
    unknown = str(tokenizer.unk_token) if isinstance(tokenizer, OWN_TOKENIZERS) else None
    spec = build_spec(model, tokens, max_positions, target_tokens, unknown)
    spec.validate()
    spec.optimize(quantization=None if precision == "float32" else precision)
    exported = describe_export(model, "ctranslate2", precision, max_positions)

    def write(unfinished: Path) -> None:
        spec.save(str(unfinished))
        to_stock_tokenizer(tokenizer, exported.max_positions).save_pretrained(unfinished)
        exported.save(unfinished)

    about = {
        "form": "ctranslate2",
        "precision": precision,
        "differences": differences,
        "search": describe_search(
            model.generation_config, target_tokens, model.config.position_limit or max_positions
        ),
        "end": tokens[model.config.eos_token_id],
    }
    write_target(folder, output, write, **about)
    return differences
