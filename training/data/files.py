"""Text files of any size, packed or not: opened, and read block by block in flat memory."""

import gzip
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa

from vanilla_transformer.errors import TextError
from vanilla_transformer.text import check_line_ends, check_plain_text, find_binary_format, split_lines

# Bytes that are read at once. What a format shows by is looked for in the first of them.
BLOCK = 16 << 20
# How names of packed files end, and what packs them.
PACKERS = {".gz": "gzip", ".zst": "zstd"}
HEAD = 1 << 12


def strip_packing(path: str | Path) -> str:
    """The name of a file in small letters, without the end that says how it is packed."""
    name = str(path).lower()
    return name[: -len(Path(name).suffix)] if Path(name).suffix in PACKERS else name


def find_packer(path: str | Path) -> str | None:
    """Return the program that has packed a file, by its name."""
    return PACKERS.get(Path(str(path).lower()).suffix)


def open_file(path: str | Path) -> BinaryIO:
    """
    A file to read, unpacked if its name ends in .gz or .zst.

    Raises:
        OSError: if it is not there.
        TextError: if it is of another binary format than its name says.
    """
    packer = find_packer(path)
    if packer is None:
        return open(path, "rb")
    with open(path, "rb") as file:
        form = find_binary_format(file.read(HEAD))
    if form is not None and form.name != f"packed by {packer}":
        raise TextError(f"{path} is {form.name}, not UTF-8 text. {form.remedy}")
    if packer == "gzip":
        return cast(BinaryIO, gzip.open(path))
    return cast(BinaryIO, pa.CompressedInputStream(pa.OSFile(str(path)), "zstd"))


@contextmanager
def explain_damage(path: str | Path) -> Iterator[None]:
    """
    Say what is wrong with a file that cannot be read or unpacked.

    Raises:
        TextError: for it.
    """
    packer = find_packer(path)
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error, pa.ArrowInvalid) as error:
        raise TextError(
            f"{path} cannot be unpacked: {error}. Check that it is complete, and made by {packer}."
        ) from error
    except OSError as error:
        if packer == "zstd" and error.errno is None:  # of pyarrow
            raise TextError(
                f"{path} cannot be unpacked: {error}. Check that it is complete, and made by {packer}."
            ) from error
        raise TextError(
            f"{path} cannot be read: {error.strerror or error}. Check its path and permissions."
        ) from error


def read_fully(file: BinaryIO, size: int) -> bytes:
    """So many bytes, or all that are left."""
    parts: list[bytes] = []
    while size > 0 and (part := file.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def read_bytes(path: str | Path, most: int | None = None) -> bytes:
    """
    The unpacked content of a file, or the whole lines in its first bytes, of which there are so many at most.

    Raises:
        TextError: if it cannot be read or unpacked.
    """
    with explain_damage(path), open_file(path) as file:
        content = file.read() if most is None else read_fully(file, most)
    return content if most is None or len(content) < most else content[: content.rfind(b"\n") + 1] or content


def read_blocks(
    path: str | Path,
    allow_blank: bool = False,
    check: Callable[[list[str], str], object] = lambda lines, name: None,
    check_first: Callable[[list[str], str], object] = lambda lines, name: None,
) -> Iterator[list[str]]:
    """
    The lines of a UTF-8 file, as `split_lines` splits them, in blocks.

    Args:
        allow_blank: whether all lines may be blank.
        check_first, check: what is called with the first block, and with each other one, and the name of the file.

    Raises:
        TextError: as `split_lines`, and if the file cannot be read or unpacked.
    """
    name, number, is_blank, rest = str(path), 1, not allow_blank, b""
    with explain_damage(path), open_file(path) as file:
        is_last = False
        while not is_last:
            chunk = read_fully(file, BLOCK)
            is_last, content = len(chunk) < BLOCK, rest + chunk
            cut = len(content) if is_last else content.rfind(b"\n") + 1
            block, rest = content[:cut], content[cut:]
            is_first = number == 1
            if block or (is_last and is_first):
                lines = split_lines(block, name, allow_blank or not (is_last and is_first), first_line=number)
                is_blank = is_blank and not block.strip()
                (check_first if is_first else check)(lines, name)
                number += len(lines)
                yield lines
    if is_blank:
        split_lines(b"", name)  # which says that it is empty


def read_lines(path: str | Path, allow_blank: bool = False) -> list[str]:
    """All lines of a UTF-8 file in any format of text; see `read_blocks`."""
    return [line for block in read_blocks(path, allow_blank) for line in block]


def read_plain_blocks(path: str | Path, allow_blank: bool = False) -> Iterator[list[str]]:
    """
    The lines of a file of plain text, a sentence a line, in blocks.

    Raises:
        TextError: as `read_blocks`, and if it is of another format or its lines end in `\\r`.
    """
    return read_blocks(path, allow_blank, check=check_line_ends, check_first=check_plain_text)


def read_plain_text(path: str | Path, allow_blank: bool = False) -> list[str]:
    """All lines of a file of plain text; see `read_plain_blocks`."""
    return [line for block in read_plain_blocks(path, allow_blank) for line in block]
