"""Parallel text as it comes: two text files, one file with columns, a data set, or the corpus of this project."""

import csv
import dataclasses
import functools
import io
import itertools
import json
import operator
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from training.data.files import read_blocks, read_plain_blocks, strip_packing
from training.data.memories import MEMORIES, read_memory
from training.data.parallel import BATCH, ParallelText, Row
from training.data.phrasebook import everyday, phrasebook
from training.data.tables import (
    WORKBOOKS,
    find_separator,
    name_columns,
    read_table_blocks,
    read_table_lines,
    refuse_workbook,
)
from training.recipe.fields import DataFields
from vanilla_transformer.errors import RecipeError, TextError
from vanilla_transformer.scores import Json
from vanilla_transformer.text import check_line_ends, find_text_format, is_json

Cells = dict[str, Json]  # of a row of a file with columns
# Files with columns.
COLUMNED = (".jsonl", ".csv", ".tsv", ".parquet")
CORPORA = {"phrasebook": phrasebook, "everyday": everyday}  # that come with the project

# Rows of cells with tabs between them, of which none has a quote that neither delimits it nor is doubled.
QUOTED_TABLE = re.compile(r'(?:(?:"(?:[^"]|"")*+"|[^"\t\n]*+)[\t\n])*+')

# The use of rows that are read, one after the other: a text in memory, or in a file. The counts of what was left
# out may grow while they are read.
Collect = Callable[[Iterable[Row], dict[str, int]], ParallelText]


def read_two_files(source: str, target: str, collect: Collect = ParallelText.from_rows) -> ParallelText:
    """
    Two aligned text files; a name that ends in .gz or .zst is unpacked.

    Raises:
        TextError, RecipeError: as `read_plain_blocks`, and if the files do not have the same number of lines.
    """
    return collect(pair_lines(source, target), {})


def pair_lines(source: str, target: str) -> Iterator[Row]:
    """The numbered pairs of two files; see `read_two_files`."""
    sides = [(line for block in read_plain_blocks(path) for line in block) for path in (source, target)]
    number = 0
    for number, (left, right) in enumerate(itertools.zip_longest(*sides), start=1):
        if left is None or right is None:
            counts = [
                number - (line is None) + sum(1 for _ in side) for line, side in zip((left, right), sides, strict=True)
            ]
            raise RecipeError(
                f"{source} has {counts[0]:,} lines and {target} has {counts[1]:,}. Line n of one must "
                "belong to line n of the other: find where they part, for instance with `paste`."
            )
        yield number, left, right


def read_one_file(path: str, arguments: DataFields, collect: Collect = ParallelText.from_rows) -> ParallelText:
    """
    A `.jsonl` file of objects, or a `.csv`, `.tsv` or `.parquet` file, with both sides in the columns that the recipe
    names; or a translation memory, `.tmx` or `.xliff`, with both languages that it names. `.gz` or `.zst` may follow.

    Objects may also hold both sides under "translation", as many data sets on the Hub do.

    Raises:
        TextError, RecipeError: as `read_blocks` and `read_memory`, and for another kind of file, a missing column or a
            broken line.
    """
    kind = column_format(path)
    if kind in MEMORIES:
        dropped: dict[str, int] = {}
        return collect(whole_units(path, arguments, dropped), dropped)
    columns = arguments.source_column, arguments.target_column
    place = f"{path}, {'row' if kind == '.parquet' else 'line'}"
    return collect(pair_columns(read_rows(path, *columns), place, *columns), {})


def whole_units(path: str, arguments: DataFields, dropped: dict[str, int]) -> Iterator[Row]:
    """The sentence pairs of a translation memory; units that lack a side are counted as left out."""
    for unit in read_memory(path, arguments.source_lang, arguments.target_lang):
        if unit.source and unit.target:
            yield unit
        else:
            dropped["without translation"] = dropped.get("without translation", 0) + 1


def read_rows(path: str, source_column: str = "", target_column: str = "") -> Iterator[tuple[int, Cells]]:
    """
    The numbered rows of a `.jsonl`, `.csv`, `.tsv` or `.parquet` file; `.gz` or `.zst` may follow.

    Args:
        source_column, target_column: the recipe's; numbers name the columns of a table without a header.

    Raises:
        TextError, RecipeError: as `read_blocks`, and for another kind of file or a broken line.
    """
    kind = column_format(path)
    refuse_workbook(path, kind)
    if kind not in COLUMNED:
        raise RecipeError(
            f"{path} ends in {kind!r}. Give .jsonl, .csv, .tsv, .parquet, .tmx or .xliff here, or text files."
        )
    if kind == ".parquet":
        return read_parquet_rows(path, [name for name in (source_column, target_column) if name])
    blocks = read_blocks(path) if kind == ".jsonl" else read_table_blocks(path)
    lines = next(blocks)
    form = find_text_format(lines)
    if form is not None and not (kind == ".jsonl" and form.name.startswith("JSON")):
        raise TextError(f"{path} is {form.name}, not what its name says. {form.remedy}")
    rest = (line for block in blocks for line in block)
    if kind == ".jsonl":
        return read_jsonl_rows(path, lines, rest)
    read = read_csv_rows if kind == ".csv" else read_tsv_rows
    return read(path, lines, rest, source_column, target_column)


def read_parquet_rows(path: str, columns: list[str]) -> Iterator[tuple[int, Cells]]:
    """
    The numbered rows of a Parquet file, with some of its columns, or with all if it lacks those.

    Raises:
        TextError: if it cannot be read.
    """
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            wanted = ["translation"] if "translation" in names and columns else columns
            chosen = wanted if wanted and set(wanted) <= set(names) else None
            batches = file.iter_batches(BATCH, columns=chosen)
            yield from enumerate((row for batch in batches for row in batch.to_pylist()), start=1)
    except pa.ArrowException as error:
        raise TextError(f"{path} is damaged, or is not Parquet: {error}. Write it again.") from error
    except OSError as error:
        said = str(error) if error.errno is None else os.strerror(error.errno)
        raise TextError(f"{path} cannot be read: {said}.") from error


def column_format(path: str) -> str:
    """The end of a file's name that tells its format, in small letters and without that of a packed file."""
    return Path(strip_packing(path)).suffix


def holds_both_sides(path: str) -> bool:
    """Return whether a file's name is that of a table, of a translation memory or of a workbook."""
    return column_format(path) in (*COLUMNED, *MEMORIES, *WORKBOOKS)


def pair_columns(
    rows: Iterable[tuple[int, Cells]], place: str, source_column: str, target_column: str
) -> Iterator[Row]:
    """Both sides out of numbered rows; `place` and the number say in an error where it was."""
    for number, row in rows:
        inside = row.get("translation")
        row = inside if isinstance(inside, dict) else row
        sides = []
        for column in (source_column, target_column):
            words = "" if column in row and row[column] is None else row.get(column)  # an empty cell
            if column in row and not isinstance(words, str):
                raise RecipeError(
                    f"{place} {number} has no text under {column!r}, but {describe_cell(words)}. Write text, or "
                    "null where there is none, or name another column with `source_column` or `target_column`."
                )
            if not isinstance(words, str):
                raise RecipeError(
                    f"{place} {number} has no text under {column!r}, only: {', '.join(map(str, row))}. "
                    "Name the columns with `source_column` and `target_column`."
                )
            sides.append(words)
        yield number, sides[0], sides[1]


def is_missing(value: object) -> bool:
    """Return whether a cell is empty: null, or pandas' NaN."""
    return value is None or (isinstance(value, float) and value != value)


def describe_cell(value: object) -> str:
    """The kind of a cell that is not text, with its beginning."""
    if is_missing(value):
        return "null" if value is None else "NaN"
    kinds: dict[type, str] = {
        bool: "the boolean",
        int: "the number",
        float: "the number",
        list: "the list",
        dict: "the object",
    }
    shown = repr(value)
    return (
        f"{kinds.get(type(value), f'the {type(value).__name__}')} {shown if len(shown) <= 60 else shown[:57] + '...'}"
    )


def read_jsonl_rows(path: str, lines: list[str], rest: Iterable[str] = ()) -> Iterator[tuple[int, Cells]]:
    check_line_ends(lines, path)
    for number, line in enumerate(itertools.chain(lines, rest), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:  # also too many digits, or brackets
            check_is_not_document(path, lines)
            raise RecipeError(f"{path}, line {number} is not JSON: {getattr(error, 'msg', error)}.") from None
        if not isinstance(row, dict):
            check_is_not_document(path, lines)
            raise RecipeError(f"{path}, line {number} is not a JSON object. Write one object a line.")
        check_characters(row, f"{path}, line {number}")
        yield number, row


def check_is_not_document(path: str, lines: list[str]) -> None:
    """
    Refuse one JSON document in the place of JSON Lines.

    Raises:
        RecipeError: if the lines together are one with rows.
    """
    if is_json("\n".join(lines)):
        raise RecipeError(
            f"{path} is one JSON document, not JSON Lines. Write one object a line, for instance with `jq -c '.[]'`."
        )


def check_characters(content: Json, place: str) -> None:
    """
    Refuse JSON with half of a character, which it can write and UTF-8 cannot.

    Raises:
        RecipeError: with the place of the content.
    """
    try:
        json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        shown = error.object[max(0, error.start - 20) : error.start + 20]
        raise RecipeError(f"{place} is not text: {shown!r} has half of a character.") from None


def read_csv_rows(
    path: str,
    lines: list[str],
    rest: Iterable[str] = (),
    source_column: str = "",
    target_column: str = "",
    delimiter: str | None = None,
) -> Iterator[tuple[int, Cells]]:
    """
    Rows whose cells may be quoted, with a comma, a semicolon as of Excel, or a tab between them.

    Args:
        lines, rest: the first of the file, by which its form is found, and those after them.
    """
    if delimiter is None:
        delimiter, lines = find_separator(path, lines)
    reader = csv.reader(end_lines(itertools.chain(lines, rest)), delimiter=delimiter, strict=True)
    try:
        first = next(reader)
        header = name_columns(first, source_column, target_column)
        if header is None:
            header = check_header(path, first)
        else:
            yield from check_cells(path, reader.line_num, header, first)
        for cells in reader:
            yield from check_cells(path, reader.line_num, header, cells)
    except csv.Error as error:
        raise RecipeError(f"{path}, line {reader.line_num} is not CSV: {error}.") from None


def end_lines(lines: Iterable[str]) -> Iterator[str]:
    """Lines with their ends, for `csv`: quoted cells may hold several, and a CR ends one too."""
    for line in lines:
        if "\r" in line:
            yield from io.StringIO(line + "\n", newline="")
        else:
            yield line + "\n"


def read_tsv_rows(
    path: str, lines: list[str], rest: Iterable[str] = (), source_column: str = "", target_column: str = ""
) -> Iterator[tuple[int, Cells]]:
    """Rows with tabs between cells, in which quotes are text unless the whole file quotes cells as CSV does."""
    check_line_ends(lines, path)
    if has_quoted_cells(lines):
        yield from read_csv_rows(path, lines, rest, source_column, target_column, "\t")
        return
    header = name_columns(lines[0].split("\t"), source_column, target_column)
    start = 0 if header is not None else 1
    header = check_header(path, lines[0].split("\t")) if header is None else header
    for number, line in enumerate(itertools.chain(lines[start:], rest), start=start + 1):
        yield from check_cells(path, number, header, line.split("\t"))


def has_quoted_cells(lines: list[str]) -> bool:
    """
    Return whether the quotes of a table with tabs delimit cells, as pandas and `Dataset.to_csv` write them, or are
    text, as in GLUE's files.

    They delimit cells if every quote fits that, and one could not be there otherwise: a doubled one inside a cell, one
    of a header that is quoted all over, or one of a cell with a tab or several lines.
    """
    text = "\n".join(lines) + "\n"
    if '"' not in text or not QUOTED_TABLE.fullmatch(text):
        return False
    columns = lines[0].split("\t")
    uneven = any(line and line.count("\t") != len(columns) - 1 for line in lines)
    return uneven or '""' in text or all(name.startswith('"') for name in columns)


def check_header(path: str, header: list[str]) -> list[str]:
    """The names of the columns, each of which must be another."""
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise RecipeError(f"{path} has two columns {twice!r}. Give each its own name.")
    return header


def check_cells(path: str, number: int, header: list[str], cells: list[str]) -> Iterator[tuple[int, Cells]]:
    """A row as a dictionary; a blank line is none."""
    if cells in ([], [""]):
        return
    if len(cells) != len(header):
        raise RecipeError(
            f"{path}, line {number} has {len(cells)} columns and the header has {len(header)}: "
            f"{' | '.join(cells)[:60]!r}."
        )
    yield number, dict(zip(header, cells, strict=True))


def load_dataset(arguments: DataFields, split: str) -> datasets.Dataset | None:
    """
    The "train", "validation" or "test" part of a data set on the Hub or in a folder; `None` for validation or test if
    it has no split of that name and the recipe names no other.

    Raises:
        RecipeError: if it cannot be loaded, or lacks the split that is needed.
    """
    name, configuration = str(arguments.dataset_name), arguments.dataset_config_name
    named = getattr(arguments, f"{split}_split")
    wanted = named or split
    try:
        splits = datasets.get_dataset_split_names(name, configuration)
        absent = [part for part in re.findall(r"(?:^|\+)\s*([^\[+\s]*)", wanted) if part not in (*splits, "all")]
        if not absent:
            return datasets.load_dataset(name, configuration, split=wanted)
    except Exception as error:  # of the network, of the folder, of a file in it: `datasets` raises anything
        said = str(error).strip().partition("\n")[0].removesuffix(".")
        raise RecipeError(
            f"`dataset_name` {name} cannot be loaded: {said}. Give the name of a data set on the Hub, with its "
            "`dataset_config_name` where it has several, or a folder."
        ) from error
    if named is None and split != "train":
        return None
    raise RecipeError(
        f"`{split}_split` must be one of {', '.join(splits)} for `dataset_name` {name}, but is {absent[0]!r}. Name "
        "one."
    )


def read_dataset(arguments: DataFields, split: str, collect: Collect = ParallelText.from_rows) -> ParallelText | None:
    """
    Both sides of a split of a data set, in named columns; `None` if it has no such split.

    Raises:
        RecipeError: as `load_dataset`, and if it has no such columns.
    """
    dataset = load_dataset(arguments, split)
    if dataset is None:
        return None
    names = dataset.column_names
    needed = ["translation"] if "translation" in names else [arguments.source_column, arguments.target_column]
    if set(needed) <= set(names):  # else the error lists all that there are
        dataset = dataset.select_columns(sorted(set(needed)))
    rows = enumerate(unpack_batches(dataset), start=1)
    place = f"{arguments.dataset_name}, {split}, row"
    return collect(pair_columns(rows, place, arguments.source_column, arguments.target_column), {})


def unpack_batches(dataset: datasets.Dataset) -> Iterator[Cells]:
    """The rows of a data set, which are read some at once."""
    for batch in dataset.iter(BATCH):
        for values in zip(*batch.values(), strict=True):
            yield dict(zip(batch, values, strict=True))


def load_corpus(name: str, split: str) -> ParallelText:
    """
    A split of a corpus that comes with the project.

    Raises:
        RecipeError: for another name than one of `CORPORA`.
    """
    if name not in CORPORA:
        raise RecipeError(f"`corpus` must be {' or '.join(map(repr, CORPORA))}, but is {name!r}.")
    return ParallelText.from_pairs(CORPORA[name]()[split])


def read_corrections(path: str, arguments: DataFields, collect: Collect = ParallelText.from_rows) -> ParallelText:
    """
    A few corrected translations: in named columns, or in the first two of a table without a header.

    Raises:
        TextError, RecipeError: as `read_one_file`.
    """
    kind = column_format(path)
    if kind in (".csv", ".tsv"):
        lines = read_table_lines(path)
        separator = "\t" if kind == ".tsv" else find_separator(path, lines)[0]
        first = next(csv.reader(lines[:1], delimiter=separator), [])
        if not {arguments.source_column, arguments.target_column} <= set(first):
            arguments = dataclasses.replace(arguments, source_column="1", target_column="2")
    return read_one_file(path, arguments, collect)


def read_sources(arguments: DataFields, collect: Collect) -> ParallelText:
    """
    The texts of `sources`, one after the other, with their weights where one is not 1.

    Raises:
        TextError, RecipeError: as `load_split`.
    """
    sources = arguments.text_sources
    texts = [load_split(arguments.of_source(each), "train", collect) for each in sources]
    found = [text for text in texts if text is not None]
    if any(each.weight != 1 for each in sources):
        found = [text.with_weight(each.weight) for text, each in zip(found, sources, strict=True)]
    return functools.reduce(operator.add, found)


def load_split(arguments: DataFields, split: str, collect: Collect = ParallelText.from_rows) -> ParallelText | None:
    """
    The text of "train", "validation" or "test" as the recipe names it; `None` if it names none.

    Files take the place of the validation and the test part of a corpus, which is added to their training text.

    Args:
        collect: makes a text of rows that are read.

    Raises:
        RecipeError: if a side is missing, or the split is named twice, or the text is not readable.
    """
    prefix = "" if split == "train" else f"{split}_"
    source, target = getattr(arguments, f"{prefix}source"), getattr(arguments, f"{prefix}target")
    file = getattr(arguments, f"{split}_file")
    named = [name for name, value in ((f"{prefix}source", source or target), (f"{split}_file", file)) if value]
    whole = [name for name in ("corpus", "dataset_name") if getattr(arguments, name)]
    if len(whole) > 1:
        named += whole
    elif split == "train" and arguments.dataset_name:
        named.append("dataset_name")
    if split == "train" and arguments.text_sources:
        named.append("sources")
    if len(named) > 1:
        raise RecipeError(f"The {split} text is named twice, by `{'` and `'.join(named)}`. Keep one.")
    text = None
    if split == "train" and arguments.corrections:
        corrections = read_corrections(arguments.corrections, arguments, collect)
        others = load_split(dataclasses.replace(arguments, corrections=None), "train", collect)
        return corrections if others is None else others + corrections
    if split == "train" and arguments.text_sources:
        text = read_sources(arguments, collect)
    elif file:
        text = read_one_file(file, arguments, collect)
    elif source and target:
        text = read_two_files(source, target, collect)
    elif source or target:
        missing = f"{prefix}target" if source else f"{prefix}source"
        raise RecipeError(f"`{missing}` is missing. Both sides of the {split} text are needed.")
    if arguments.corpus and (text is None or split == "train"):
        corpus = load_corpus(arguments.corpus, split)
        return corpus if text is None else text + corpus
    return read_dataset(arguments, split, collect) if text is None and arguments.dataset_name else text
