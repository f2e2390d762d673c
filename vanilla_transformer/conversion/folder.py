"""The common part of all exports: the model that is read, refusals, and the folder that is written aside."""

import os
import shutil
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from tokenizers import Tokenizer
from transformers import FSMTTokenizer, MarianTokenizer, PreTrainedModel, PreTrainedTokenizerBase, TokenizersBackend

from ..configuration_vanilla_transformer import VanillaTransformerConfig
from ..errors import ConversionError
from ..exported import Exported
from ..loading import check_model_folder, load_model
from ..model_card import FACTS, PICTURES, RESULTS, ModelPlace, folder_card

# Fields that change what a model computes when it translates, and that each export carries or refuses by itself.
KNOWN_FIELDS = frozenset(
    {
        *("vocab_size", "hidden_size", "encoder_layers", "decoder_layers", "num_attention_heads", "qk_head_dim"),
        *("v_head_dim", "intermediate_size", "hidden_act", "norm_first", "attention_bias", "layer_norm_eps"),
        *("position_embedding_type", "max_position_embeddings", "tie_word_embeddings", "is_encoder_decoder"),
        *("is_decoder", "bos_token_id", "pad_token_id", "eos_token_id", "decoder_start_token_id"),
        *("output_bias", "scale_embedding", "decoder_vocab_size", "sinusoid_type", "position_offset"),
    }
)
# Fields of training, and of heads that do not translate.
UNUSED_FIELDS = frozenset(
    {
        *("dropout", "attention_dropout", "activation_dropout", "classifier_dropout", "label_smoothing"),
        *("attention_init_gain", "use_cache"),
    }
)
# Libraries whose modules an export may meet in a model; adapters and quantised layers are of others.
KNOWN_CODE = (f"{__name__.partition('.')[0]}.modeling_", f"{__name__.partition('.')[0]}.kernels_", "torch.nn.modules.")
# Classes of transformers that read an imported model's own files.
OWN_TOKENIZERS = (MarianTokenizer, FSMTTokenizer)
LICENCES = ("LICENSE", "LICENSE.md", "LICENSE.txt", "NOTICE")


def read_original(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """
    Load the model that is to be exported, in float32, and its tokenizer.

    Raises:
        ModelFolderError: if the folder holds no usable model.
        ConversionError: for a model of another type.
    """
    check_model_folder(folder)
    model, tokenizer = load_model(folder)
    if not isinstance(model.config, VanillaTransformerConfig):
        raise ConversionError(
            f"{folder} holds a model of type {model.config.model_type!r}. Name a model of this package."
        )
    return model.float(), tokenizer


def describe_export(model: PreTrainedModel, target: str, precision: str, max_positions: int) -> Exported:
    """
    Return what a folder says of the model that it holds for another engine.

    Args:
        target: a key of `ENGINES_OF_FORMATS`.
        precision: of its weights.
        max_positions: tokens that a sentence may have there, where the original has no limit.
    """
    limit = model.config.position_limit
    return Exported(
        format=target,
        precision=precision,
        max_positions=max_positions if limit is None else limit,
        config=model.config.to_dict(),
        generation_config=model.generation_config.to_dict(),
    )


def check_exportable(model: PreTrainedModel, target: str) -> None:
    """
    Refuse what an export would drop without a word: fields that it does not know, and modules that are not ours.

    Raises:
        ConversionError: with the name of the field or module.
    """
    known = KNOWN_FIELDS | UNUSED_FIELDS
    for field in fields(VanillaTransformerConfig):
        if field.name in VanillaTransformerConfig.__annotations__ and field.name not in known:
            value = getattr(model.config, field.name)
            if value != field.default:
                raise ConversionError(
                    f"`{field.name}` must be {field.default!r} for a model that is exported to {target}, but is "
                    f"{value!r}. Translate with `--engine torch`."
                )
    for name, module in model.named_modules():
        code = type(module).__module__
        if not code.startswith((*KNOWN_CODE, "transformers.activations")):
            raise ConversionError(
                f"`{name or 'model'}` must be a plain module for {target}, but is a {code}.{type(module).__name__}. "
                "Export the plain model: merge adapters, and load it without quantisation."
            )
    if not all(parameter.is_floating_point() for parameter in model.parameters()):
        raise ConversionError(
            f"The model has weights that are not floating-point numbers, which {target} cannot hold."
        )
    if isinstance(model.config.eos_token_id, list):
        raise ConversionError(
            f"`eos_token_id` must be one id for {target}, but is {model.config.eos_token_id}. Translate with "
            "`--engine torch`."
        )


def to_stock_tokenizer(tokenizer: PreTrainedTokenizerBase, longest: int | None = None) -> PreTrainedTokenizerBase:
    """
    Return the same tokenizer as a class of transformers, which a folder of another model type can name.

    That of an imported model is one, and stays as it is.

    Args:
        longest: tokens that the other model takes; `None` means no limit.

    Raises:
        ConversionError: for the tokenizer of another library.
    """
    if isinstance(tokenizer, OWN_TOKENIZERS):
        return tokenizer
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ConversionError(
            f"The tokenizer is a {type(tokenizer).__name__}, which has no tokenizer.json. Export a model whose "
            "tokenizer is one of the tokenizers library."
        )
    return TokenizersBackend(
        tokenizer_object=Tokenizer.from_str(backend.to_str()),
        bos_token=tokenizer.bos_token,
        pad_token=tokenizer.pad_token,
        eos_token=tokenizer.eos_token,
        mask_token=tokenizer.mask_token,
        clean_up_tokenization_spaces=False,
        padding_side="right",
        model_input_names=["input_ids", "attention_mask"],
        **({} if longest is None else {"model_max_length": longest}),
    )


def write_target(folder: Path, output: Path, write: Callable[[Path], object], **place: Any) -> None:
    """
    Write a folder aside and give it its name when it is whole: what `write` puts in it, scores, pictures and a card.

    Args:
        folder: the original.
        output: a folder that does not exist yet.
        write: fills the folder that it is given.
        place: what the card says of it, as in `ModelPlace`.

    Raises:
        ConversionError: if `output` exists or cannot be written.
    """
    if output.exists():
        raise ConversionError(f"{output} exists already. Name another folder, or delete it.")
    unfinished = output.with_name(f"{output.name}.{os.getpid()}.unfinished")
    try:
        unfinished.mkdir(parents=True)
        write(unfinished)
        for name in (RESULTS, FACTS, *PICTURES, *LICENCES):
            if (folder / name).is_file():
                shutil.copyfile(folder / name, unfinished / name)
        card = folder_card(folder, ModelPlace(output.as_posix(), original=folder.resolve().name, **place))
        card.save(unfinished / "README.md")
        unfinished.rename(output)
    except (OSError, SafetensorError) as error:
        raise ConversionError(f"{output} cannot be written: {error}. {folder} is unchanged.") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def detached(weight: torch.Tensor) -> torch.Tensor:
    """Return a copy of a weight that a converter may change."""
    return weight.detach().clone()
