"""Models from folders and from the Hub, with words for what can be wrong with them."""

from pathlib import Path
from typing import Any

from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase


class ModelFolderError(ValueError):
    """A folder that holds no usable model, in words for the person who named it."""


def load_model(
    name: str | Path, device: str = "cpu", **config_fields: Any
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """
    A translation model and its tokenizer, ready to translate.

    Args:
        name: a folder, or a repository on the Hub.
        device: where to put the model.
        config_fields: what to change in its configuration, such as `dropout`.

    Raises:
        ModelFolderError: if the folder lacks a file, or a file is damaged.
    """
    folder = Path(name)
    if folder.is_dir():
        check_model_folder(folder)
    part = "model"
    try:
        model, info = AutoModelForSeq2SeqLM.from_pretrained(name, output_loading_info=True, **config_fields)
        part = "tokenizer"
        tokenizer = AutoTokenizer.from_pretrained(name)
    except Exception as error:  # a damaged file can make transformers raise anything
        if isinstance(error, OSError) and not folder.is_dir():
            raise ModelFolderError(f"{name} is no folder here and no model on the Hub that can be reached.") from error
        said = str(error.__cause__ or error).strip().partition("\n")[0].removesuffix(".")
        raise ModelFolderError(
            f"The {part} in {name} is damaged: {type(error).__name__}: {said}. Copy the folder again."
        ) from error
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise ModelFolderError(f"The weights in {name} lack {len(missing)} tensors, such as {missing[0]}.")
    if len(tokenizer) > model.config.vocab_size:
        raise ModelFolderError(
            f"The tokenizer in {name} has {len(tokenizer)} entries and the model {model.config.vocab_size}: they do "
            "not belong together. Copy both from one place."
        )
    return model.to(device).eval(), tokenizer


def check_model_folder(folder: Path) -> None:
    """Name the first file that a usable folder would have and this one has not."""
    weights = ("model.safetensors", "model.safetensors.index.json")
    for names in (("config.json",), weights, ("tokenizer.json",)):
        if not any((folder / name).is_file() for name in names):
            raise ModelFolderError(
                f"{folder} has no {names[0]}. Name the folder that training wrote, or one that `save_pretrained` of "
                "model and tokenizer filled."
            )
