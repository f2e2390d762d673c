"""Tables as Excel writes them: the encoding and the separator are found, and said."""

import csv
import io
from collections.abc import Iterator

from training.data.files import BLOCK, read_blocks, read_bytes
from training.log import logger
from vanilla_transformer.errors import TextError
from vanilla_transformer.text import find_binary_format, guess_wide_encoding, remedy_for_encoding, split_lines

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
WORKBOOKS = (".xlsx", ".xlsm", ".xls", ".ods")
BYTE_ORDER_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
LOOKED_AT = 100  # lines in which a separator shows


def refuse_workbook(path: str, kind: str) -> None:
    """
    Raises:
        TextError: for a workbook, with the way to export it.
    """
    if kind in WORKBOOKS:
        raise TextError(
            f"{path} is a workbook, which is not read. Save the sheet from its program as 'CSV UTF-8 (comma "
            "delimited)' (.csv), and name that file."
        )


def read_table_blocks(path: str) -> Iterator[list[str]]:
    """
    The lines of a table in UTF-8, UTF-16 or Windows-1252, which is said if it is not the first, in blocks; .gz and
    .zst are unpacked.

    Raises:
        TextError: as `split_lines`, and if the file is not there or is a damaged archive.
    """
    encoding = find_encoding(read_bytes(path, BLOCK))
    if encoding == "UTF-8":
        yield from read_blocks(path)
        return
    try:
        content = read_bytes(path).decode(encoding).encode()
    except UnicodeDecodeError as error:
        raise TextError(f"{path} begins as {encoding}, but is damaged: {error.reason}. Export it again.") from error
    logger.info(f"{path} is read as {encoding}")
    yield split_lines(content, path)


def read_table_lines(path: str) -> list[str]:
    """All lines of a table; see `read_table_blocks`."""
    return [line for block in read_table_blocks(path) for line in block]


def find_encoding(content: bytes) -> str:
    """The encoding of a table: UTF-16 by its NUL bytes, Windows-1252 where only that reads it, or else UTF-8."""
    marked = BYTE_ORDER_MARKS.get(content[:2])
    wide = marked if marked and content[2:4] != b"\0\0" else guess_wide_encoding(content[:4096])
    if wide is not None and wide.startswith("UTF-16"):
        return wide
    if find_binary_format(content) is None:
        try:
            content.decode("utf-8")
        except UnicodeDecodeError:
            if "WINDOWS-1252" in remedy_for_encoding(content).partition(" where ")[0]:
                return "Windows-1252"
    return "UTF-8"


def find_separator(path: str, lines: list[str]) -> tuple[str, list[str]]:
    """
    Return the separator of the cells of a table, which is said if it is not a comma, and its lines.

    It is the first of comma, semicolon and tab by which all rows have as many cells, or else the first in the first
    line. A first line "sep=;", as Excel reads it, names it and is left out.
    """
    if lines[0].lower().startswith("sep=") and lines[0][4:5] in SEPARATORS:
        return lines[0][4], lines[1:]
    text = "\n".join(lines[:LOOKED_AT]) + "\n"
    found = next((each for each in SEPARATORS if is_even(text, each, len(lines) > LOOKED_AT)), None)
    if found is None:
        found = next((each for each in SEPARATORS if each in lines[0]), ",")
    if found != ",":
        logger.info(f"{path} is read with {SEPARATORS[found]} between its columns")
    return found, lines


def is_even(text: str, separator: str, is_cut: bool) -> bool:
    """Return whether all rows of a table have as many cells, two or more; of a part of it without the last row."""
    try:
        rows = [
            row for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=not is_cut) if row
        ]
    except csv.Error:
        return False
    widths = {len(row) for row in (rows[:-1] if is_cut else rows)}
    return len(widths) == 1 and widths.pop() > 1


def name_columns(first: list[str], source_column: str, target_column: str) -> list[str] | None:
    """
    The numbers of the columns of a table without a header, from 1, as their names; `None` for one with a header.

    Args:
        first: the cells of its first line.
        source_column, target_column: the recipe's; numbers say that there is no header, unless it has them as names.
    """
    named = (source_column, target_column)
    if not all(name.isdecimal() for name in named) or set(named) <= set(first):
        return None
    return [str(number) for number in range(1, len(first) + 1)]
