"""
Translators over other engines, with the interface of the translation pipeline.

Each engine is a module with `load(folder, exported, tokenizer, device)`.
"""

from importlib import import_module
from pathlib import Path

from transformers import TokenizersBackend

from ..errors import ModelFolderError, SettingsError
from ..exported import check_engine, read_exported
from ..pipeline_vanilla_transformer import VanillaTransformerTranslationPipeline

MODULES = {"ctranslate2": "ctranslate2_engine", "onnxruntime": "onnxruntime_engine"}
ENGINES = ("torch", *MODULES)


def load_engine(folder: str | Path, engine: str, device: str = "cpu") -> VanillaTransformerTranslationPipeline:
    """
    Return a translator over a folder that `export` wrote.

    Args:
        folder: of the exported model.
        engine: one of `MODULES`.
        device: where it runs; "auto" is a CPU.

    Raises:
        ModelFolderError: if the folder holds no usable model for this engine.
        SettingsError: for an engine that there is not, or that is not installed.
    """
    folder = Path(folder)
    if engine not in MODULES:
        raise SettingsError(f"`engine` must be one of {', '.join(ENGINES)}, but is {engine!r}.")
    check_engine(folder, engine)
    exported = read_exported(folder)
    assert exported is not None
    try:
        tokenizer = TokenizersBackend.from_pretrained(folder)
    except Exception as error:  # a damaged file can make tokenizers raise anything
        said = str(error).strip().partition("\n")[0].removesuffix(".")
        raise ModelFolderError(f"The tokenizer in {folder} is damaged: {said}. Copy the folder again.") from error
    module = import_module(f".{MODULES[engine]}", __name__)
    translator: VanillaTransformerTranslationPipeline = module.load(folder, exported, tokenizer, device)
    return translator
