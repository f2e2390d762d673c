"""Parallel text: reading, checking, encoding."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from training.arguments import DataArguments, RecipeError
from training.phrasebook import phrasebook
from vanilla_transformer import VanillaTransformerTokenizer
from vanilla_transformer.text import read_lines


@dataclass
class ParallelText:
    """
    Sentence pairs as text.

    Attributes:
        sources, targets: as many sentences on each side, none empty.
        empty: pairs that were left out since a side was empty.
    """

    sources: list[str]
    targets: list[str]
    empty: int = 0

    def __len__(self) -> int:
        return len(self.sources)


def without_empty(sources: list[str], targets: list[str]) -> ParallelText:
    kept = [(s, t) for s, t in zip(sources, targets, strict=True) if s.strip() and t.strip()]
    return ParallelText([s for s, _ in kept], [t for _, t in kept], empty=len(sources) - len(kept))


def read_two_files(source: str, target: str) -> ParallelText:
    """
    Two aligned text files.

    Raises:
        TextError, RecipeError: as `read_lines`, and if the files do not have the same number of lines.
    """
    sources, targets = read_lines(source), read_lines(target)
    if len(sources) != len(targets):
        raise RecipeError(
            f"{source} has {len(sources):,} lines and {target} has {len(targets):,}. Line n of one must translate "
            "line n of the other: find where they part, for instance with `paste`."
        )
    return without_empty(sources, targets)


def read_one_file(path: str, source_column: str, target_column: str) -> ParallelText:
    """
    A `.jsonl` file of objects, or a `.tsv` file with a header, with both sides in named columns.

    Objects may also hold them under "translation", as many data sets on the Hub do.

    Raises:
        TextError, RecipeError: as `read_lines`, and for another kind of file, a missing column or a broken line.
    """
    lines = read_lines(path)
    suffix = Path(path).suffix
    if suffix == ".jsonl":
        rows = read_jsonl_rows(path, lines)
    elif suffix == ".tsv":
        rows = read_tsv_rows(path, lines)
    else:
        raise RecipeError(f"{path} ends in {suffix!r}. Give .jsonl or .tsv here, or two text files.")
    sources: list[str] = []
    targets: list[str] = []
    for number, row in rows:
        for column, side in ((source_column, sources), (target_column, targets)):
            if not isinstance(row.get(column), str):
                raise RecipeError(
                    f"{path}, line {number} has no text under {column!r}, only: {', '.join(map(str, row))}. "
                    "Name the columns with `source_column` and `target_column`."
                )
            side.append(row[column])
    return without_empty(sources, targets)


def read_jsonl_rows(path: str, lines: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise RecipeError(f"{path}, line {number} is not JSON: {error.msg}.") from None
        if not isinstance(row, dict):
            raise RecipeError(f"{path}, line {number} is no JSON object. Write one object a line.")
        yield number, row["translation"] if isinstance(row.get("translation"), dict) else row


def read_tsv_rows(path: str, lines: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    header = lines[0].split("\t")
    for number, line in enumerate(lines[1:], start=2):
        cells = line.split("\t")
        if len(cells) != len(header):
            raise RecipeError(
                f"{path}, line {number} has {len(cells)} columns and the header has {len(header)}: {line[:60]!r}."
            )
        yield number, dict(zip(header, cells, strict=True))


def load_split(arguments: DataArguments, split: str) -> ParallelText | None:
    """
    The text of "train", "validation" or "test" as the recipe names it; `None` if it names none.

    Raises:
        RecipeError: if a side is missing, or the split is named twice, or the text is not readable.
    """
    prefix = "" if split == "train" else f"{split}_"
    source, target = getattr(arguments, f"{prefix}source"), getattr(arguments, f"{prefix}target")
    file = getattr(arguments, f"{split}_file")
    named = [name for name, value in (("corpus", arguments.corpus), (f"{split}_file", file)) if value]
    if source or target:
        named.append(f"{prefix}source")
    if len(named) > 1:
        raise RecipeError(f"The {split} text is named twice, by `{'` and `'.join(named)}`. Keep one.")
    if arguments.corpus:
        if arguments.corpus != "phrasebook":
            raise RecipeError(f"`corpus` is {arguments.corpus!r}. The only one is 'phrasebook'.")
        pairs = phrasebook()[split]
        return ParallelText([source for source, _ in pairs], [target for _, target in pairs])
    if file:
        text = read_one_file(file, arguments.source_column, arguments.target_column)
    elif source and target:
        text = read_two_files(source, target)
    elif source or target:
        missing = f"{prefix}target" if source else f"{prefix}source"
        raise RecipeError(f"`{missing}` is missing. Both sides of the {split} text are needed.")
    else:
        return None
    if not len(text):
        raise RecipeError(f"The {split} text has no pair with words on both sides.")
    return text


def encode(
    text: ParallelText, tokenizer: VanillaTransformerTokenizer, description: str = "Encoding"
) -> datasets.Dataset:
    """
    Text with its token ids.

    Special tokens that stand in the text are read as text. `</s>` ends both sides.

    Returns:
        columns `source`, `target` (text), `input_ids`, `labels` (ids), `source_length`, `target_length` (tokens).
    """

    def encode_batch(batch: dict[str, list[str]]) -> dict[str, list[Any]]:
        source_ids = tokenizer(batch["source"], split_special_tokens=True).input_ids
        target_ids = tokenizer(batch["target"], split_special_tokens=True).input_ids
        return {
            "input_ids": source_ids,
            "labels": target_ids,
            "source_length": [len(ids) for ids in source_ids],
            "target_length": [len(ids) for ids in target_ids],
        }

    dataset = datasets.Dataset.from_dict({"source": text.sources, "target": text.targets})
    return dataset.map(encode_batch, batched=True, desc=description)


def lengths(dataset: datasets.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Tokens of each source and of each target, two arrays of shape (len(dataset),)."""
    return np.asarray(dataset["source_length"]), np.asarray(dataset["target_length"])


def within(dataset: datasets.Dataset, max_tokens: int) -> datasets.Dataset:
    """The pairs of which neither side is longer than `max_tokens`."""
    source_lengths, target_lengths = lengths(dataset)
    kept = np.flatnonzero((source_lengths <= max_tokens) & (target_lengths <= max_tokens))
    return dataset if len(kept) == len(dataset) else dataset.select(kept)
