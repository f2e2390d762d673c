"""Models from folders and from the Hub, with words for what can be wrong with them."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from .configuration_vanilla_transformer import AUTO_MAP, Named
from .engines import ENGINES, load_engine
from .errors import ModelFolderError, SettingsError
from .exported import check_engine
from .fsmt import FSMTTokenizer
from .pipeline_vanilla_transformer import VanillaTransformerTranslationPipeline
from .text import read_json

if TYPE_CHECKING:
    from transformers.models.auto.auto_factory import _BaseAutoModelClass

# Of a tokenizer of ours; from "*.spm" on of those that imported models keep.
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "*.spm",
    "vocab*.json",
    "target_vocab.json",
    "merges.txt",
)


Tokenizer = TypeVar("Tokenizer", bound=PreTrainedTokenizerBase)
# Not settings: whether a tokenizer was read from a folder and without the network.
ORIGIN = ("is_local", "local_files_only")


def auto_class_of(model_class: str) -> "type[_BaseAutoModelClass]":
    """The Auto class of one of this package's model classes, such as "VanillaTransformerForMaskedLM"."""
    names = {reference.rpartition(".")[2]: name for name, reference in AUTO_MAP.items()}
    found: type[_BaseAutoModelClass] = getattr(transformers, names.get(model_class, "AutoModel"))
    return found


def load_translator(
    folder: str | Path, engine: str = "torch", device: str | None = None
) -> VanillaTransformerTranslationPipeline:
    """
    Load a translation model that is called with text.

    Args:
        folder: a folder; for torch also a repository on the Hub.
        engine: the library that computes: "torch", or "ctranslate2" or "onnxruntime" for a folder that
            `vanilla-transformer export` wrote for it.
        device: "cpu", "cuda" or "mps"; with "auto", or without it, an accelerator where torch finds one, else the CPU.
            Other engines are on the CPU then; CTranslate2 has "cuda" too.

    Returns:
        The translation pipeline. A string gives a list of `{"translation_text": ...}`, a list of strings gives one
        such dict for each of them.

    Raises:
        SettingsError: if the engine is unknown or not installed, or the device is not found.
        ModelFolderError: if the folder lacks a file or a tensor, or a file is damaged.

    Example:

        translate = load_translator("checkpoints/tiny-en-es")
        print(translate("How are you?"))
    """
    if engine not in ENGINES:
        raise SettingsError(f'`engine` must be one of {", ".join(ENGINES)}, but is "{engine}". Use "torch".')
    if engine != "torch":
        return load_engine(folder, engine, device or "auto")
    device = choose_device(device)
    model, tokenizer = load_model(folder, device)
    return VanillaTransformerTranslationPipeline(model=model, tokenizer=tokenizer, device=device)


def choose_device(device: str | None = None) -> str:
    """
    Return the device that is named, or with "auto", or without a name, the best one that torch finds.

    Raises:
        SettingsError: if torch does not find the one that is named.
    """
    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device in (None, "auto"):
        return next(name for name, is_found in found.items() if is_found)
    if not found.get(device.partition(":")[0], False):
        here = ", ".join(name for name, is_found in found.items() if is_found)
        raise SettingsError(
            f'`device` must be a device that torch finds here ({here}), but is "{device}". Leave it out.'
        )
    return device


def load_model(
    name: str | Path, device: str = "cpu", auto_class: "type[_BaseAutoModelClass]" = AutoModelForSeq2SeqLM
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """
    A model and its tokenizer, ready to use.

    Args:
        name: a folder, or a repository on the Hub.
        device: where to put the model.
        auto_class: of the task; translation by default.

    Raises:
        ModelFolderError: if the folder lacks a file or a tensor, or a file is damaged.
    """
    model, tokenizer, missing = load_parts(name, auto_class)
    loaded, saved = type(model).__name__, getattr(model.config, "architectures", None) or []
    if missing and saved and loaded not in saved:
        raise ModelFolderError(
            f"{name} holds a {saved[0]}, which lacks weights that a {loaded} needs, such as {missing[0]}. Name a "
            "model of this task."
        )
    if missing:
        raise ModelFolderError(f"The weights in {name} lack {len(missing)} tensors, such as {missing[0]}.")
    return model.to(device).eval(), tokenizer


def load_parts(
    name: str | Path, auto_class: "type[_BaseAutoModelClass]", **config_fields: object
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, list[str]]:
    """
    A model, its tokenizer, and the tensors that the place lacks or has in another shape: these are new.

    Args:
        name, auto_class: as for `load_model`.
        config_fields: what to change in its configuration, such as `dropout`.

    Raises:
        ModelFolderError: if the folder lacks a file, or a file is damaged.
        SettingsError: if it needs a library that is not installed.
    """
    folder = Path(name)
    if folder.is_dir():
        check_model_folder(folder)
        read_generation_config(folder)  # transformers would go on with its own settings
    part = "model"
    try:
        model, info = auto_class.from_pretrained(
            name,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            trust_remote_code=False,  # else transformers asks on a terminal, and runs it after a yes
            **config_fields,
        )
        part = "tokenizer"
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        if isinstance(tokenizer, transformers.FSMTTokenizer):
            tokenizer = FSMTTokenizer.from_pretrained(name)
        tokenizer = forget_origin(tokenizer)
    except ImportError as error:
        said = str(error).strip().partition("\n")[0].partition(". ")[0].removesuffix(".")
        raise SettingsError(
            f"The {part} in {name} needs a library that is not installed: {said}. Install it; tokenizers of imported "
            'models need: pip install "vanilla-transformer[marian]"'
        ) from error
    except Exception as error:  # a damaged file can make transformers raise anything
        if isinstance(error, OSError) and not folder.is_dir():
            raise ModelFolderError(
                f"{name} is neither a folder here nor a model on the Hub that can be reached."
            ) from error
        said = str(error.__cause__ or error).strip().partition("\n")[0].removesuffix(".")
        raise ModelFolderError(
            f"The {part} in {name} is damaged: {type(error).__name__}: {said}. Copy the folder again."
        ) from error
    if len(tokenizer) > model.config.vocab_size:
        raise ModelFolderError(
            f"The tokenizer in {name} has {len(tokenizer)} entries and the model {model.config.vocab_size}: they do "
            "not belong together. Copy both from one place."
        )
    missing = {*info["missing_keys"], *(each[0] for each in info["mismatched_keys"])}
    return model, tokenizer, sorted(missing)


def forget_origin(tokenizer: Tokenizer) -> Tokenizer:
    """
    Return a tokenizer that was loaded, without what transformers notes of where it was.

    `save_pretrained` would write the notes as settings, into folders that are then pushed.
    """
    for name in ORIGIN:
        tokenizer.init_kwargs.pop(name, None)
    return tokenizer


def read_generation_config(folder: Path) -> Named | None:
    """
    Return the settings of `generate` in a folder; none without the file.

    Raises:
        ModelFolderError: if it is damaged.
    """
    file = folder / "generation_config.json"
    try:
        settings = read_json(file) if file.is_file() else None
    except ValueError as error:
        raise ModelFolderError(f"{file} is damaged: {error}. Copy the folder again.") from error
    if not isinstance(settings, dict | None):
        raise ModelFolderError(f"{file} is damaged: it is not a JSON object. Copy the folder again.")
    return settings


def check_model_folder(folder: Path) -> None:
    """Name the first file that a usable folder has and this one lacks; refuse what another engine runs."""
    check_engine(folder, "torch")
    weights = ("model.safetensors", "model.safetensors.index.json")
    tokenizers = ("tokenizer.json", "source.spm", "vocab-src.json")  # the others are of imported models
    for names in (("config.json",), weights, tokenizers):
        if not any((folder / name).is_file() for name in names):
            raise ModelFolderError(
                f"{folder} has no {names[0]}. Name the folder that training wrote, or one that `save_pretrained` of "
                "model and tokenizer filled."
            )


def store_in_half(folder: Path) -> None:
    """
    Store the weights in a folder in float16, in half the space; `config.json` still says float32, in which they load.

    Raises:
        ModelFolderError: if a weight is too large for float16.
    """
    for file in folder.glob("*.safetensors"):
        tensors = {name: tensor.half() for name, tensor in load_file(file).items()}
        too_large = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
        if too_large:
            raise ModelFolderError(
                f"{too_large[0]} has weights beyond ±65,504, which float16 cannot hold. Use float32."
            )
        save_file(tensors, file, metadata={"format": "pt"})


def share_weights(folder: Path) -> None:
    """
    Give the weights in a folder the permissions of its `config.json`, which follow the umask.

    safetensors gives its files to their owner only, whatever the umask says.
    """
    for weights in folder.glob("*.safetensors"):
        shutil.copymode(folder / "config.json", weights)
