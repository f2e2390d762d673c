"""
Translators over other engines, with the interface of the translation pipeline.

Each engine is a module with `load(folder, exported, tokenizer, device)`.
"""

from importlib import import_module
from pathlib import Path

import transformers
from transformers import PreTrainedTokenizerBase

from ..errors import ModelFolderError, SettingsError
from ..exported import check_engine, read_exported
from ..fsmt import FSMTTokenizer
from ..pipeline_vanilla_transformer import VanillaTransformerTranslationPipeline

MODULES = {"ctranslate2": "ctranslate2_engine", "onnxruntime": "onnxruntime_engine"}
ENGINES = ("torch", *MODULES)


def load_engine(folder: str | Path, engine: str, device: str = "auto") -> VanillaTransformerTranslationPipeline:
    """
    Return a translator over a folder that `export` wrote.

    Args:
        folder: of the exported model.
        engine: one of `MODULES`.
        device: "auto" or "cpu"; CTranslate2 has "cuda" too.

    Raises:
        ModelFolderError: if the folder holds no usable model for this engine.
        SettingsError: for an engine that there is not, or that is not installed.
    """
    folder = Path(folder)
    if engine not in MODULES:
        raise SettingsError(
            f"`engine` must be one of {', '.join(MODULES)} for an exported model, but is {engine!r}. Load others with "
            "`load_translator`."
        )
    check_engine(folder, engine)
    exported = read_exported(folder)
    assert exported is not None
    device = "cpu" if device == "auto" else device
    module = import_module(f".{MODULES[engine]}", __name__)
    translator: VanillaTransformerTranslationPipeline = module.load(folder, exported, load_tokenizer(folder), device)
    return translator


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """
    Return the tokenizer of an exported folder, whose config.json is another library's.

    Raises:
        ModelFolderError: if it is damaged.
        SettingsError: if it needs a library that is not installed.
    """
    kind: type[PreTrainedTokenizerBase] = transformers.TokenizersBackend
    if (folder / "source.spm").is_file():
        kind = transformers.MarianTokenizer
    if (folder / "vocab-src.json").is_file():
        kind = FSMTTokenizer
    if kind is transformers.TokenizersBackend and not (folder / "tokenizer.json").is_file():
        raise ModelFolderError(f"{folder} has no tokenizer.json. Copy the folder again.")
    try:
        tokenizer: PreTrainedTokenizerBase = kind.from_pretrained(folder)
    except ImportError as error:
        raise SettingsError(
            f"The tokenizer in {folder} needs a library that is not installed. Install it: "
            'pip install "vanilla-transformer[marian]"'
        ) from error
    except Exception as error:  # a damaged file can make tokenizers raise anything
        said = str(error).strip().partition("\n")[0].removesuffix(".")
        raise ModelFolderError(f"The tokenizer in {folder} is damaged: {said}. Copy the folder again.") from error
    if tokenizer.pad_token is None:
        raise ModelFolderError(
            f"The tokenizer in {folder} has no padding token, which its tokenizer_config.json names. Copy the folder "
            "again."
        )
    return tokenizer
