"""A text of a recipe, checked and cleaned: read at each start if it is small, else once and then found in a cache."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from training.data.alignment import check_alignment
from training.data.cache import digest_file, keep, name_content
from training.data.cleaning import choose_held, clean, count_held, hold_out
from training.data.files import find_packer
from training.data.memories import MEMORIES
from training.data.parallel import ParallelText, Row, write_rows
from training.data.texts import COLUMNED, column_format, load_dataset, load_split
from training.log import logger
from training.recipe.fields import DataFields

# Bytes of the files of a text from which on it is kept in the cache. Smaller ones are read in about a second.
LARGE = 16 << 20
PACKED_FACTOR = 4  # by which packed files grow, about
TEXT, FACTS, HELD = "text.arrow", "facts.json", "held.npy"

Prepared = tuple[ParallelText, list[str]]


def load_clean(arguments: DataFields, split: str) -> Prepared | None:
    """
    The text of "train", "validation" or "test" as the recipe names it, checked and cleaned, with notes on it; `None`
    if it names none.

    Raises:
        TextError, RecipeError: as `load_split`, and for text that is refused.
    """
    files = find_files(arguments, split)
    if sum(unpacked_size(file) for _, file in files) < LARGE:
        text = load_split(arguments, split)
        return None if text is None else check_and_clean(text, arguments, split)

    def write(folder: Path) -> None:
        logger.info(f"{split}: preparing a large text, only once; the result is kept in {folder.parent}")
        write_text(arguments, split, folder)

    def read(folder: Path) -> Prepared:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        text = ParallelText.read(folder / TEXT, facts["dropped"], name)
        if len(text) != facts["pairs"]:
            raise ValueError(f"{folder} has {len(text)} of {facts['pairs']} pairs")
        return text, facts["notes"]

    content = [(role, name_format(file), digest_file(file)) for role, file in files]
    name = f"text-{name_content(content, name_choices(arguments, split))}"
    return keep(name, write, read)


def find_files(arguments: DataFields, split: str) -> list[tuple[str, Path]]:
    """The files on this machine that a text is made of, with what each is; none if it has more than files."""
    prefix = "" if split == "train" else f"{split}_"
    roles = {"source": f"{prefix}source", "target": f"{prefix}target", "file": f"{split}_file"}
    named = {role: getattr(arguments, name) for role, name in roles.items()}
    if split == "train":
        named["corrections"] = arguments.corrections
    files = [(role, Path(name)) for role, name in named.items() if name is not None]
    if split == "train" and arguments.text_sources:
        parts = [find_files(arguments.of_source(each), split) for each in arguments.text_sources]
        files = [file for part in parts for file in part] if all(parts) else []
    if not files and arguments.dataset_name and not arguments.corpus:
        dataset = load_dataset(arguments, split)
        files = [] if dataset is None else [("data set", Path(file["filename"])) for file in dataset.cache_files]
    return files if all(file.is_file() for _, file in files) else []


def name_format(file: Path) -> str:
    """How a file is read."""
    kind = column_format(str(file))
    return f"{find_packer(file)} {kind if kind in (*COLUMNED, *MEMORIES) else ''}"


def unpacked_size(file: Path) -> int:
    """The bytes of a file, or about those in it."""
    is_packed = find_packer(file) is not None or column_format(str(file)) == ".parquet"
    return file.stat().st_size * (PACKED_FACTOR if is_packed else 1)


def name_choices(arguments: DataFields, split: str) -> list[object]:
    """Return all that a text follows from besides the content of its files."""
    cleaning = (arguments.drop_duplicates, arguments.max_length_ratio) if split == "train" else ()
    sources = [
        {name: value for name, value in vars(each).items() if name not in ("source", "target", "file", "dataset_name")}
        for each in arguments.text_sources
    ]
    dataset = (arguments.dataset_config_name, getattr(arguments, f"{split}_split")) if arguments.dataset_name else ()
    return [
        *(split, arguments.check_alignment, cleaning, arguments.corpus, dataset, sources),
        *(arguments.source_column, arguments.target_column, arguments.source_lang, arguments.target_lang),
    ]


def check_and_clean(text: ParallelText, arguments: DataFields, split: str) -> Prepared:
    """Refuse sides that do not belong together, line by line, before lines are left out."""
    notes = check_alignment(text, split) if arguments.check_alignment else []
    return clean(text, arguments, split), notes


def write_text(arguments: DataFields, split: str, folder: Path) -> None:
    """Read, check and clean a text of any size, and write it into a folder."""
    raw: list[Path] = []

    def collect(rows: Iterable[Row], dropped: dict[str, int]) -> ParallelText:
        raw.append(folder / f"raw-{len(raw)}.arrow")
        write_rows(rows, raw[-1])
        return ParallelText.read(raw[-1], dropped)

    read = load_split(arguments, split, collect)
    assert read is not None
    text, notes = check_and_clean(read, arguments, split)
    text.write(folder / TEXT)
    facts = {"pairs": len(text), "dropped": text.dropped, "notes": notes}
    (folder / FACTS).write_text(json.dumps(facts), encoding="utf-8")
    del read, text  # which map the files
    for file in raw:
        file.unlink()


def hold_out_once(text: ParallelText, at_most: int) -> tuple[ParallelText, ParallelText]:
    """
    Part a text into training and validation, as `hold_out` does.

    Raises:
        RecipeError: as `hold_out`.
    """
    if text.key is None:
        return hold_out(text, at_most)

    def write(folder: Path) -> None:
        np.save(folder / HELD, choose_held(text, count_held(text, at_most)))

    def read(folder: Path) -> np.ndarray:
        held: np.ndarray = np.load(folder / HELD)
        return held

    name = f"held-{name_content(text.key, at_most)}"
    training, validation = hold_out(text, at_most, keep(name, write, read))
    training.key, validation.key = f"{name}-train", f"{name}-validation"
    return training, validation
