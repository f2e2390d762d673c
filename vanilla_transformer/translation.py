"""Text in, text out: what `vanilla-transformer translate` does, from Python."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm
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


def translate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    tokens_per_batch: int = 2048,
    progress: bool = False,
    **generate_arguments: Any,
) -> list[str]:
    """
    Translate sentences, those of similar length together.

    Args:
        model, tokenizer: as `load_model` returns them.
        texts: sentences. Empty ones stay empty. Special tokens in them are read as text.
        tokens_per_batch (`int`): source tokens, padding included, in one batch. A longer sentence has its own batch.
        progress (`bool`): whether to show a progress bar.
        generate_arguments: for `model.generate`, those that leave one text a sentence; without any it decodes as the
            paper does.

    Returns:
        the translations, in the order of `texts`.
    """
    for name in ("num_return_sequences", "return_dict_in_generate"):
        if generate_arguments.get(name) not in (None, 1, False):
            raise ValueError(f"`{name}` gives more than one text for each sentence. Call `model.generate` for that.")
    translations = [""] * len(texts)
    ids = {
        index: tokenizer(text, split_special_tokens=True).input_ids for index, text in enumerate(texts) if text.strip()
    }
    batches: list[list[int]] = []
    # Longest first: what does not fit in memory shows at once, and the bar does not slow down.
    for index in sorted(ids, key=lambda i: len(ids[i]), reverse=True):
        if not batches or (len(batches[-1]) + 1) * len(ids[batches[-1][0]]) > tokens_per_batch:
            batches.append([])
        batches[-1].append(index)
    with tqdm(total=len(ids), disable=not progress, unit="sentence") as bar:
        for batch in batches:
            inputs = tokenizer.pad({"input_ids": [ids[i] for i in batch]}, return_tensors="pt").to(model.device)
            with torch.inference_mode():
                outputs = model.generate(**inputs, **generate_arguments)
            for index, text in zip(batch, tokenizer.batch_decode(outputs, skip_special_tokens=True), strict=True):
                translations[index] = text
            bar.update(len(batch))
    return translations
