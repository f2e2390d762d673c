"""Models of other implementations as ours: which kinds there are, and the folder that import writes."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, hf_hub_download, snapshot_download
from huggingface_hub.errors import HFValidationError
from safetensors import SafetensorError
from transformers import MarianTokenizer, PreTrainedTokenizerBase

from ..configuration_vanilla_transformer import Named
from ..errors import ConversionError, ModelCardError
from ..fsmt import FSMTTokenizer
from ..loading import check_model_folder, forget_origin, read_generation_config, share_weights
from ..model_card import LICENSES, ModelCardFacts, ModelPlace, check_language, folder_card
from ..modeling_vanilla_transformer import VanillaTransformerForConditionalGeneration
from ..text import read_json
from .from_fairseq import load_fairseq_tokenizer, model_from_fairseq, model_from_fsmt, order_languages
from .from_marian import MARIAN_TOKENIZER, model_from_marian

DOWNLOADED = ["*.json", "*.spm", "*.txt", "*.safetensors", "*.bin", "README.md"]
FSMT_TOKENIZER = ("vocab-src.json", "vocab-tgt.json", "merges.txt")
NEEDS_SACREMOSES = "FSMT's tokenizer needs the library sacremoses. Install it: pip install sacremoses"
NEEDS_SENTENCEPIECE = "Marian's tokenizer needs the library sentencepiece. Install it: pip install sentencepiece"


@dataclass(frozen=True)
class Source:
    """
    A model of another implementation.

    Attributes:
        name: as it was given: a folder, a file, or a repository on the Hub.
        kind: a key of `KINDS`.
        folder: where its files are.
        entries: of its config.json.
    """

    name: str
    kind: str
    folder: Path
    entries: Named

    def describe(self) -> ModelCardFacts:
        """Return the facts for the model card: where it came from, its languages and its licence."""
        words = read_object(self.folder / "tokenizer_config.json")
        named = self.entries.get("langs") or words.get("langs") or (words.get("source_lang"), words.get("target_lang"))
        source_lang, target_lang = map(language_or_none, named)
        return ModelCardFacts(
            base_model=self.folder.resolve().name if Path(self.name).exists() else self.name,
            base_model_on_hub=not Path(self.name).exists(),
            license=find_license(self.folder),
            segmentation=KINDS[self.kind].segmentation,
            source_lang=source_lang,
            target_lang=target_lang,
        )


@dataclass(frozen=True)
class Kind:
    """
    A kind of models that can be imported.

    Attributes:
        convert: makes the model of a source, with fields of its configuration changed.
        load_tokenizer: loads the tokenizer of a source.
        segmentation: what its tokens are.
    """

    convert: Callable[..., VanillaTransformerForConditionalGeneration]
    load_tokenizer: Callable[[Source], PreTrainedTokenizerBase]
    segmentation: str


def read_object(file: Path) -> Named:
    """
    Return the content of a file of JSON; nothing where there is none.

    Raises:
        ConversionError: if it is damaged.
    """
    try:
        content = read_json(file) if file.is_file() else {}
    except ValueError as error:
        raise ConversionError(f"{file} is damaged: {error}. Copy the folder again.") from error
    if not isinstance(content, dict):
        raise ConversionError(f"{file} is damaged: it is not a JSON object. Copy the folder again.")
    return content


def language_or_none(code: object) -> str | None:
    """A language code, if it is one that the Hub knows."""
    try:
        if isinstance(code, str):
            check_language(code)
            return code
    except ModelCardError:
        pass
    return None


def find_license(folder: Path) -> str | None:
    """The licence that the model page in a folder names."""
    page = folder / "README.md"
    if not page.is_file():
        return None
    try:
        named = ModelCard.load(page).data.license
    except (ValueError, OSError):  # a page without metadata, or with damaged ones
        return None
    return named if isinstance(named, str) and named in LICENSES else None


def convert_marian(source: Source, **config_fields: Any) -> VanillaTransformerForConditionalGeneration:
    """Return the model of a folder of a `MarianMTModel`."""
    settings = read_generation_config(source.folder) or {}
    return model_from_marian(source.folder, source.entries, settings, **config_fields)


def load_own_tokenizer(
    source: Source, tokenizer: type[PreTrainedTokenizerBase], files: tuple[str, ...], needs: str
) -> PreTrainedTokenizerBase:
    """
    Return the tokenizer that a model was trained with, of the class of its own implementation.

    Args:
        tokenizer: the class.
        files: that it reads.
        needs: what to say where the library is missing that it uses.

    Raises:
        ConversionError: without that library or one of the files, or if one is damaged.
    """
    for name in files:
        if not (source.folder / name).is_file():
            kind = tokenizer.__name__.removesuffix("Tokenizer")
            raise ConversionError(f"{source.folder} has no {name}, which {kind}'s tokenizer needs. Copy it there.")
    try:
        return forget_origin(tokenizer.from_pretrained(source.folder))
    except ImportError as error:
        raise ConversionError(needs) from error
    except Exception as error:  # a damaged file can make its libraries raise anything
        said = str(error).strip().partition("\n")[0].removesuffix(".")
        raise ConversionError(f"The tokenizer in {source.folder} is damaged: {said}. Copy it again.") from error


def convert_fsmt(source: Source, **config_fields: Any) -> VanillaTransformerForConditionalGeneration:
    """Return the model of a folder of an `FSMTForConditionalGeneration`."""
    settings = read_generation_config(source.folder) or {}
    return model_from_fsmt(source.folder, source.entries, settings, **config_fields)


def convert_fairseq(source: Source, **config_fields: Any) -> VanillaTransformerForConditionalGeneration:
    """Return the model of a checkpoint of fairseq."""
    return model_from_fairseq(Path(source.entries["file"]), **config_fields)


def load_tokenizer_of_fairseq(source: Source) -> PreTrainedTokenizerBase:
    """
    Return a tokenizer of the dictionaries and the codes beside a checkpoint of fairseq.

    Raises:
        ConversionError: without sacremoses, or if a file is missing or damaged.
    """
    try:
        return load_fairseq_tokenizer(source.folder, source.entries["langs"])
    except ImportError as error:
        raise ConversionError(NEEDS_SACREMOSES) from error


load_marian = partial(load_own_tokenizer, tokenizer=MarianTokenizer, files=MARIAN_TOKENIZER, needs=NEEDS_SENTENCEPIECE)
load_fsmt = partial(load_own_tokenizer, tokenizer=FSMTTokenizer, files=FSMT_TOKENIZER, needs=NEEDS_SACREMOSES)
KINDS = {
    "marian": Kind(convert_marian, load_marian, "SentencePiece"),
    "fsmt": Kind(convert_fsmt, load_fsmt, "BPE of Moses tokens"),
    "fairseq": Kind(convert_fairseq, load_tokenizer_of_fairseq, "BPE of Moses tokens"),
}


def find_fairseq(path: Path) -> Source | None:
    """
    The checkpoint of fairseq that a file is, or the only one in a folder.

    Raises:
        ConversionError: if there is one without the two dictionaries beside it, or several.
    """
    files = [path] if path.is_file() else sorted(path.glob("*.pt"))
    if not files or files[0].suffix != ".pt" or (path.is_dir() and not any(path.glob("dict.*.txt"))):
        return None
    if len(files) > 1:
        raise ConversionError(
            f"{path} has {len(files)} checkpoints, such as {files[0].name}. Name one of these files."
        )
    folder = files[0].parent
    codes = [file.name.removeprefix("dict.").removesuffix(".txt") for file in sorted(folder.glob("dict.*.txt"))]
    return Source(str(path), "fairseq", folder, {"file": str(files[0]), "langs": order_languages(files[0], codes)})


def find_source(name: str | Path) -> Source | None:
    """
    Return the model under a name, if it is one of another implementation that can be imported.

    Args:
        name: a folder, or a repository on the Hub, of which only the configuration is fetched unless it is one.

    Raises:
        ConversionError: if its configuration is damaged.
    """
    path = Path(name)
    file = path / "config.json"
    if path.exists() and not file.is_file():
        return find_fairseq(path)
    if not path.exists():
        try:
            file = Path(hf_hub_download(str(name), "config.json"))
        except (OSError, HFValidationError):
            return None
    entries = read_object(file)
    kind = entries.get("model_type")
    if kind not in KINDS:
        return None
    folder = path if path.exists() else Path(snapshot_download(str(name), allow_patterns=DOWNLOADED))
    return Source(str(name), kind, folder, entries)


def need_source(name: str | Path) -> Source:
    """
    As `find_source`.

    Raises:
        ConversionError: if there is no such model.
    """
    source = find_source(name)
    if source is not None:
        return source
    kinds = "'marian' or 'fsmt'"
    file = Path(name) / "config.json"
    if not Path(name).exists():
        said = "is neither a folder here nor a model on the Hub that can be reached"
    elif not file.is_file():
        said = "has no config.json"
    else:
        said = f"has `model_type` {read_object(file).get('model_type')!r} in its config.json"
    raise ConversionError(
        f"{name} {said}. Name a model with `model_type` {kinds} there, or a checkpoint of fairseq (.pt) with its "
        "dictionaries (dict.SOURCE.txt, dict.TARGET.txt) beside it."
    )


def import_model(
    source: Source, **config_fields: Any
) -> tuple[VanillaTransformerForConditionalGeneration, PreTrainedTokenizerBase]:
    """
    The model of a source as one of ours, in float32, with its own tokenizer.

    Args:
        config_fields: to change in its configuration, such as `dropout`.

    Raises:
        ConversionError: for what would not be the same model, and for damaged files.
    """
    kind = KINDS[source.kind]
    tokenizer = kind.load_tokenizer(source)
    model = kind.convert(source, **config_fields)
    if len(tokenizer) > model.config.vocab_size:
        raise ConversionError(
            f"The tokenizer in {source.folder} has {len(tokenizer)} entries and the model {model.config.vocab_size}: "
            "they do not belong together. Copy both from one place."
        )
    return model, tokenizer


def import_folder(name: str | Path, output: str | Path) -> ModelCardFacts:
    """
    Write a model of another implementation as one of ours, with its tokenizer, its settings and a card.

    The folder is written aside and gets its name when it is whole.

    Args:
        name: a folder, or a repository on the Hub.
        output: a folder that does not exist yet.

    Returns:
        what its card says of where it came from.

    Raises:
        ConversionError: for what would not be the same model, for damaged files, and if `output` exists or cannot be
            written.
    """
    output = Path(output)
    if output.exists():
        raise ConversionError(f"{output} exists already. Name another folder, or delete it.")
    source = need_source(name)
    model, tokenizer = import_model(source)
    facts = source.describe()
    unfinished = output.with_name(f"{output.name}.{os.getpid()}.unfinished")
    try:
        model.save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)
        share_weights(unfinished)
        facts.save(unfinished)
        check_model_folder(unfinished)
        folder_card(unfinished, ModelPlace(output.as_posix())).save(unfinished / "README.md")
        unfinished.rename(output)
    except (OSError, SafetensorError) as error:
        raise ConversionError(f"{output} cannot be written: {error}. {name} is unchanged.") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return facts
