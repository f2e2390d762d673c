"""What a folder for another engine says of itself, in a file beside the engine's own."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from transformers import GenerationConfig

from .configuration_vanilla_transformer import Named, VanillaTransformerConfig
from .errors import ModelFolderError
from .text import read_json

FACTS_OF_EXPORT = "vanilla_transformer.json"
# The engine that runs what `export --to` writes under each name.
ENGINES_OF_FORMATS = {"ctranslate2": "ctranslate2", "onnx": "onnxruntime"}


@dataclass(frozen=True)
class Exported:
    """
    What an exported model is, and how it translates.

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
    try:
        found = Exported(**read_json(file))
    except (TypeError, ValueError) as error:
        raise ModelFolderError(f"{file} is damaged: {error}. Copy the folder again, or export it anew.") from error
    if found.format not in ENGINES_OF_FORMATS:
        raise ModelFolderError(
            f"`format` in {file} must be one of {', '.join(ENGINES_OF_FORMATS)}, but is {found.format!r}. Update "
            "vanilla_transformer."
        )
    return found


def check_engine(folder: Path, engine: str) -> None:
    """
    Refuse a folder that another engine runs, with the line that works.

    Raises:
        ModelFolderError: for such a folder.
    """
    exported = read_exported(folder)
    if exported is not None and exported.engine != engine:
        raise ModelFolderError(
            f"{folder} holds a model for {exported.engine}, not for {engine}. "
            f"Run: vanilla-transformer translate --model {folder} --engine {exported.engine}"
        )
    if exported is None and engine in ENGINES_OF_FORMATS.values():
        target = next(name for name, runs in ENGINES_OF_FORMATS.items() if runs == engine)
        if (folder / "model.safetensors").is_file() or (folder / "model.safetensors.index.json").is_file():
            raise ModelFolderError(
                f"{folder} holds a model for torch, not for {engine}. Run: vanilla-transformer translate --model "
                f"{folder} --engine torch; or write one for {engine}: vanilla-transformer export {folder} "
                f"{folder}-{target} --to {target}"
            )
        raise ModelFolderError(
            f"{folder} has no {FACTS_OF_EXPORT}. Name a folder that `vanilla-transformer export --to {target}` wrote."
        )
