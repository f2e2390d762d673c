"""The facts about a folder for another engine, in a file beside the engine's own."""

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import GenerationConfig

from .configuration_vanilla_transformer import Named, VanillaTransformerConfig
from .errors import ModelFolderError
from .text import read_json

FACTS_OF_EXPORT = "vanilla_transformer.json"
PRECISIONS = ("float32", "int8")
# Errors of transformers about entries that do not fit: of its checks, and of their use without a check.
LIBRARY_ERRORS = (StrictDataclassError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError)
# The engine that runs what `export --to` writes under each name.
ENGINES_OF_FORMATS = {"ctranslate2": "ctranslate2", "onnx": "onnxruntime"}


@dataclass(frozen=True)
class Exported:
    """
    Facts about an exported model, and its settings of the search.

    Attributes:
        format: the name of the target, a key of `ENGINES_OF_FORMATS`.
        precision: of its weights.
        max_positions: tokens that a sentence may have; `None` means no limit.
        config, generation_config: the entries of the original's files.
    """

    format: str
    precision: str
    max_positions: int | None
    config: Named
    generation_config: Named

    @property
    def engine(self) -> str:
        """The name of the engine that runs it."""
        return ENGINES_OF_FORMATS[self.format]

    def model_config(self) -> VanillaTransformerConfig:
        """Return the configuration of the model."""
        return VanillaTransformerConfig.from_dict(self.config)

    def settings(self) -> GenerationConfig:
        """Return the settings of the search."""
        return GenerationConfig.from_dict(self.generation_config)

    def save(self, folder: Path) -> None:
        """Write it into a folder."""
        text = json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False)
        (folder / FACTS_OF_EXPORT).write_text(text + "\n", encoding="utf-8")


def read_exported(folder: Path) -> Exported | None:
    """
    Return what an exported folder says of itself; none for other folders.

    Raises:
        ModelFolderError: for a damaged file, and for a target that this version does not know.
    """
    file = folder / FACTS_OF_EXPORT
    if not file.is_file():
        return None
    with damage_of(file, (ValueError, TypeError)):
        found = Exported(**read_json(file))
        check_types(found)
    with damage_of(file, LIBRARY_ERRORS):
        found.model_config()
        found.settings()
    if found.format not in ENGINES_OF_FORMATS:
        raise ModelFolderError(
            f"`format` in {file} must be one of {', '.join(ENGINES_OF_FORMATS)}, but is {found.format!r}. Update "
            "vanilla_transformer."
        )
    return found


@contextmanager
def damage_of(file: Path, kinds: tuple[type[Exception], ...]) -> Iterator[None]:
    """Raise errors of those kinds, to which the content of a file leads, as a `ModelFolderError`; others are bugs."""
    try:
        yield
    except kinds as error:
        said = str(error).strip().partition("\n")[0].removesuffix(".")
        raise ModelFolderError(f"{file} is damaged: {said}. Copy the folder again, or export it anew.") from error


def check_types(found: Exported) -> None:
    """
    Refuse entries of other types than those of `Exported`.

    Raises:
        ValueError: with the name of the first one.
    """
    kinds: dict[str, tuple[Any, str]] = {
        **{"format": (str, "a string"), "precision": (str, "a string"), "max_positions": (int | None, "a number")},
        **{"config": (dict, "an object"), "generation_config": (dict, "an object")},
    }
    for name, (kind, text) in kinds.items():
        value = getattr(found, name)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ValueError(f"`{name}` must be {text}, but is {value!r:.60}")
    if found.precision not in PRECISIONS:
        raise ValueError(f"`precision` must be one of {', '.join(PRECISIONS)}, but is {found.precision!r:.60}")
    if found.max_positions is not None and found.max_positions < 2:
        raise ValueError(f"`max_positions` must be at least 2, but is {found.max_positions}")
    for name in ("decoder_start_token_id", "eos_token_id", "pad_token_id"):
        if found.generation_config.get(name) is None:
            raise ValueError(f"`generation_config` must have `{name}`, but lacks it")


def check_engine(folder: Path, engine: str) -> None:
    """
    Refuse a folder that another engine runs, with the line that works.

    Raises:
        ModelFolderError: for such a folder.
    """
    exported = read_exported(folder)
    if exported is not None and exported.engine != engine:
        raise ModelFolderError(
            f"{folder} holds a model for {exported.engine}, not for {engine}. Translate with it: vanilla-transformer "
            f"translate --model {folder} --engine {exported.engine}; for everything else, name the folder that it "
            "was exported from."
        )
    if exported is not None or engine not in ENGINES_OF_FORMATS.values():
        return
    target = next(name for name, runs in ENGINES_OF_FORMATS.items() if runs == engine)
    if not folder.is_dir():
        raise ModelFolderError(
            f"{folder} is not a folder here, and {engine} runs only folders that `vanilla-transformer export --to "
            f"{target}` wrote. Name one, or download the repository and export it."
        )
    if not any((folder / name).is_file() for name in ("model.safetensors", "model.safetensors.index.json")):
        raise ModelFolderError(
            f"{folder} has no {FACTS_OF_EXPORT}. Name a folder that `vanilla-transformer export --to {target}` wrote."
        )
    is_ours = read_model_type(folder) in (None, VanillaTransformerConfig.model_type)
    raise ModelFolderError(
        f"{folder} holds a model for torch, not for {engine}. Run: vanilla-transformer translate --model {folder} "
        f"--engine torch; or write one for {engine}"
        f"{'' if is_ours else ' from the original, or from what `vanilla-transformer import` writes'}: "
        f"vanilla-transformer export {folder if is_ours else 'ORIGINAL'} {folder}-{target} --to {target}"
    )


def read_model_type(folder: Path) -> object:
    """Return the type of model that a folder says it holds; none where it does not say one."""
    try:
        config = read_json(folder / "config.json")
    except (OSError, ValueError):
        return None
    return config.get("model_type") if isinstance(config, dict) else None
