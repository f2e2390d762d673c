"""
A `transformer` of fairseq, or the same as transformers' FSMT, as one of ours: exactly, or refused by name.

fairseq counts positions from the padding id + 1, and its sinusoids have the wavelengths of tensor2tensor with all
sines before all cosines; they are computed in float32 there, so that long sentences differ by that.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase

from ..configuration_vanilla_transformer import Named, VanillaTransformerConfig
from ..errors import ConversionError
from ..fsmt import FSMTTokenizer
from ..modeling_vanilla_transformer import VanillaTransformerForConditionalGeneration
from .from_marian import settings_from
from .marian import MARIAN_LAYER_NORM_EPS, halves_order, writes_residual
from .weights import Weights, damage_in_words, fill, read_pickle, read_weights

# Arguments by which fairseq computes something that has no place here.
REFUSED = (
    "adaptive_softmax_cutoff",
    "cross_self_attention",
    "layernorm_embedding",
    "no_cross_attention",
    "no_token_positional_embeddings",
)
# Arguments of the encoder that the decoder must have too.
OF_BOTH = ("embed_dim", "ffn_embed_dim", "attention_heads", "normalize_before", "learned_pos")
ACTIVATIONS = ("relu", "gelu", "tanh")
CODES = ("bpecodes", "bpe.codes", "code", "codes")
SPECIAL_WORDS = ("<s>", "<pad>", "</s>", "<unk>")
EMBEDDINGS = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
OUTPUT = "decoder.output_projection.weight"


def check_arguments(arguments: Named, place: str) -> None:
    """
    Raises:
        ConversionError: naming an argument by which the model would not be the same here.
    """
    for name in REFUSED:
        if arguments.get(name):
            raise ConversionError(f"`{name}` in {place} must be off to be imported, but is {arguments[name]!r}.")
    for name in OF_BOTH:
        encoder, decoder = arguments.get(f"encoder_{name}"), arguments.get(f"decoder_{name}")
        if (encoder or 0) != (decoder or 0):
            raise ConversionError(
                f"`encoder_{name}` in {place} must be `decoder_{name}`, {decoder!r}, to be imported, but is "
                f"{encoder!r}."
            )
    activation = arguments.get("activation_fn", "relu")
    if activation not in ACTIVATIONS:
        raise ConversionError(
            f"`activation_fn` in {place} must be one of {', '.join(ACTIVATIONS)} to be imported, but is "
            f"{activation!r}."
        )


def config_from_fairseq(arguments: Named, weights: Weights, padding: int) -> VanillaTransformerConfig:
    """
    The configuration of the same model here.

    Args:
        arguments: of fairseq.
        weights: whose shapes tell the sizes of the vocabularies and of learned positions.
        padding: the id of the padding token.

    Raises:
        ConversionError: for what would not be the same model.
    """
    check_arguments(arguments, weights.place)
    sizes = [len(weights.rest[name]) if name in weights.rest else None for name in EMBEDDINGS]
    source, target = sizes
    if source is None or target is None:
        raise ConversionError(
            f"The weights in {weights.place} lack {EMBEDDINGS[source is not None]}. Copy them again."
        )
    is_joint, is_learned = bool(arguments.get("share_all_embeddings")), bool(arguments.get("encoder_learned_pos"))
    is_tied = is_joint or bool(arguments.get("share_decoder_input_output_embed"))
    if not is_tied and OUTPUT not in weights.rest:
        raise ConversionError(f"The weights in {weights.place} lack {OUTPUT}. Copy them again.")
    tables = [weights.rest.get(f"{stack}.embed_positions.weight") for stack in ("encoder", "decoder")]
    positions: Named = {"sinusoid_type": "tensor2tensor", "position_offset": padding + 1}
    if is_learned:
        lengths = [0 if table is None else len(table) - padding - 1 for table in tables]
        if lengths[0] != lengths[1]:
            raise ConversionError(
                f"`max_source_positions` in {weights.place} must be `max_target_positions`, {lengths[1]}, where "
                f"positions are learned, but is {lengths[0]}."
            )
        positions = {"position_embedding_type": "learned", "max_position_embeddings": lengths[0]}
    return VanillaTransformerConfig(
        vocab_size=source,
        decoder_vocab_size=None if is_joint or (not is_tied and source == target) else target,
        hidden_size=arguments["encoder_embed_dim"],
        encoder_layers=arguments["encoder_layers"],
        decoder_layers=arguments["decoder_layers"],
        num_attention_heads=arguments["encoder_attention_heads"],
        intermediate_size=arguments["encoder_ffn_embed_dim"],
        hidden_act=arguments.get("activation_fn", "relu"),
        dropout=arguments.get("dropout", 0.1),
        attention_dropout=arguments.get("attention_dropout", 0.0),
        activation_dropout=arguments.get("activation_dropout", arguments.get("relu_dropout", 0.0)),  # type: ignore[arg-type]
        norm_first=bool(arguments.get("encoder_normalize_before")),
        attention_bias=True,
        layer_norm_eps=MARIAN_LAYER_NORM_EPS,
        scale_embedding=not arguments.get("no_scale_embedding"),
        tie_word_embeddings=is_tied,
        bos_token_id=0,
        pad_token_id=padding,
        eos_token_id=2,
        decoder_start_token_id=2,
        **positions,
    )


def split_projections(weights: Weights) -> None:
    """Part the joint projections of older files into those of queries, keys and values."""
    for name in [name for name in weights.rest if name.endswith(("in_proj_weight", "in_proj_bias"))]:
        joint, (module, _, kind) = weights.rest.pop(name), name.rpartition("in_proj_")
        for part, tensor in zip("qkv", joint.chunk(3), strict=True):
            weights.rest[f"{module}{part}_proj.{kind}"] = tensor


def take_weights(weights: Weights, config: VanillaTransformerConfig) -> dict[str, torch.Tensor]:
    """The tensors of our model out of fairseq's, under the names that our model stores."""
    encoder, decoder = EMBEDDINGS
    if config.tie_word_embeddings and config.decoder_vocab_size is None:
        taken = {"model.shared.weight": weights.take(encoder, decoder, OUTPUT)}
    elif config.tie_word_embeddings:
        taken = {f"model.{encoder}": weights.take(encoder), f"model.{decoder}": weights.take(decoder, OUTPUT)}
    else:
        taken = {f"model.{name}": weights.take(name) for name in EMBEDDINGS}
        taken["lm_head.weight"] = weights.take(OUTPUT)
    for stack in ("encoder", "decoder"):
        name = f"{stack}.embed_positions.weight"
        if config.position_limit is not None:
            taken[f"model.{name}"] = weights.take(name)[int(config.pad_token_id or 0) + 1 :]
        # Computed, as sinusoids are, or of the file itself.
        weights.leave([name, f"{stack}.embed_positions._float_tensor", f"{stack}.version"])
    norms = tuple(f"{stack}.layer_norm.{part}" for stack in ("encoder", "decoder") for part in ("weight", "bias"))
    for name in [name for name in weights.rest if ".layers." in name or name in norms]:
        taken[f"model.{name}"] = weights.take(name)
    if config.position_limit is None:  # channels are as the sinusoids are
        inverse = halves_order(config.hidden_size).argsort()
        for name, weight in taken.items():
            if writes_residual(name):
                taken[name] = weight[inverse]
            elif weight.dim() == 2:
                taken[name] = weight[:, inverse]
    return taken


def build(
    arguments: Named, weights: Weights, padding: int, **config_fields: Any
) -> VanillaTransformerForConditionalGeneration:
    """The model that arguments and weights of fairseq make, in float32."""
    split_projections(weights)
    config = config_from_fairseq(arguments, weights, padding)
    for name, value in config_fields.items():
        setattr(config, name, value)
    taken = take_weights(weights, config)
    weights.check_all_taken()
    model = VanillaTransformerForConditionalGeneration(config).eval()
    fill(model, taken, weights.place)
    return model


def model_from_fsmt(
    folder: Path, entries: Named, settings: Named, **config_fields: Any
) -> VanillaTransformerForConditionalGeneration:
    """
    The model in a folder of an `FSMTForConditionalGeneration`.

    Args:
        entries, settings: of its config.json and generation_config.json.
        config_fields: to change in our configuration, such as `dropout`.

    Raises:
        ConversionError: for what would not be the same model, and for damaged weights.
    """
    place = str(folder)
    tensors = {name.removeprefix("model."): tensor for name, tensor in read_weights(folder).items()}
    arguments: Named = {
        "encoder_embed_dim": entries["d_model"],
        "decoder_embed_dim": entries["d_model"],
        "activation_fn": entries.get("activation_function", "relu"),
        "no_scale_embedding": not entries.get("scale_embedding", True),
        "share_all_embeddings": bool(entries.get("tie_word_embeddings", False)),
    }
    for stack in ("encoder", "decoder"):
        arguments[f"{stack}_layers"] = entries[f"{stack}_layers"]
        arguments[f"{stack}_ffn_embed_dim"] = entries[f"{stack}_ffn_dim"]
        arguments[f"{stack}_attention_heads"] = entries[f"{stack}_attention_heads"]
    for name in ("dropout", "attention_dropout", "activation_dropout"):
        arguments[name] = entries.get(name, 0.0)
    if arguments["share_all_embeddings"]:  # of which its file may have any one
        shared = next((tensors[name] for name in (*EMBEDDINGS, OUTPUT) if name in tensors), None)
        if shared is not None:
            tensors = {**dict.fromkeys(EMBEDDINGS, shared), **tensors}
    model = build(arguments, Weights(tensors, place), int(entries.get("pad_token_id", 1)), **config_fields)
    model.generation_config = settings_from({"num_beams": 5, "max_length": 200, **entries}, settings, model.config)
    return model


def read_fairseq(file: Path) -> tuple[Named, dict[str, torch.Tensor]]:
    """
    The arguments of a model of fairseq, and its tensors.

    Raises:
        ConversionError: if the file is damaged, would run code or is none of fairseq.
    """
    content = read_pickle(file, known=(argparse.Namespace,))
    found = content if isinstance(content, dict) else {}
    arguments, tensors = found.get("args"), found.get("model")
    if arguments is None and isinstance(found.get("cfg"), dict):
        arguments = found["cfg"].get("model")
    arguments = vars(arguments) if isinstance(arguments, argparse.Namespace) else arguments
    if not isinstance(arguments, dict) or not isinstance(tensors, dict):
        raise ConversionError(f"{file} is not a checkpoint of fairseq: it has no `args` or `cfg` beside `model`.")
    return arguments, tensors


def model_from_fairseq(file: Path, **config_fields: Any) -> VanillaTransformerForConditionalGeneration:
    """
    The model of a checkpoint of fairseq, which decodes as `fairseq-generate` does by default, with 5 beams.

    Args:
        config_fields: to change in our configuration, such as `dropout`.

    Raises:
        ConversionError: for what would not be the same model, and for a file that is damaged or would run code.
    """
    arguments, tensors = read_fairseq(file)
    with damage_in_words(file):
        model = build(arguments, Weights(tensors, str(file)), padding=1, **config_fields)
    config = model.config
    model.generation_config = GenerationConfig(
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=2,
        num_beams=5,
        length_penalty=1.0,
        length_penalty_type="power",
        early_stopping=True,
        source_length_offset=None,
        max_length=min(200, config.position_limit or 200),
        suppress_tokens=[1],
    )
    return model


def order_languages(file: Path, codes: list[str]) -> list[str]:
    """
    The source and the target language of a checkpoint.

    Args:
        codes: of the dictionaries beside it.

    Raises:
        ConversionError: if there are not two dictionaries, or they are of other languages.
    """
    if len(codes) != 2:
        raise ConversionError(
            f"{file.parent} must have two dictionaries, dict.SOURCE.txt and dict.TARGET.txt, but has {len(codes)}."
        )
    content = read_pickle(file, known=(argparse.Namespace,))
    found = content if isinstance(content, dict) else {}
    task = (found.get("cfg") or {}).get("task") if found.get("args") is None else found["args"]
    named = vars(task) if isinstance(task, argparse.Namespace) else task if isinstance(task, dict) else {}
    languages = [named.get("source_lang"), named.get("target_lang")]
    if sorted(map(str, languages)) != sorted(codes):
        raise ConversionError(
            f"{file} translates {languages[0]} to {languages[1]}, but its dictionaries are for {' and '.join(codes)}."
        )
    return [str(each) for each in languages]


def read_dictionary(file: Path) -> dict[str, int]:
    """
    The ids of a dictionary of fairseq, whose words are as FSMT writes them: "foo@@" is "foo", and "foo" is "foo</w>".

    Raises:
        ConversionError: if a line is none of a dictionary.
    """
    words = list(SPECIAL_WORDS)
    for number, line in enumerate(file.read_text(encoding="utf-8").removesuffix("\n").split("\n"), start=1):
        word, _, count = line.removesuffix(" #fairseq:overwrite").rpartition(" ")
        if not word or not count.isdigit():
            raise ConversionError(f"{file}, line {number} must be a word and its count, but is {line[:60]!r}.")
        words.append(word[:-2] if word.endswith("@@") else f"{word}</w>")
    return {word: number for number, word in enumerate(words)}


def load_fairseq_tokenizer(folder: Path, languages: list[str]) -> PreTrainedTokenizerBase:
    """
    FSMT's tokenizer, of the dictionaries and the codes in a folder: Moses tokens, parted by the codes.

    Raises:
        ConversionError: if a file is missing or damaged.
        `ImportError`: without sacremoses.
    """
    codes = next((folder / name for name in CODES if (folder / name).is_file()), None)
    if codes is None:
        raise ConversionError(f"{folder} has no {CODES[0]}, which holds the merges that split words. Copy it there.")
    merges = [
        " ".join(line.split()[:2])
        for line in codes.read_text(encoding="utf-8").split("\n")
        if not line.startswith("#")
    ]
    with tempfile.TemporaryDirectory() as name:
        files = [Path(name) / each for each in ("src.json", "tgt.json", "merges.txt")]
        for language, file in zip(languages, files, strict=False):
            file.write_text(json.dumps(read_dictionary(folder / f"dict.{language}.txt")), encoding="utf-8")
        files[2].write_text("".join(f"{merge}\n" for merge in merges if merge), encoding="utf-8")
        return FSMTTokenizer(languages, *map(str, files))
