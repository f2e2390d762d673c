"""Text files: one sentence a line."""

import gzip
import json
import os
import re
import zlib
from pathlib import Path
from typing import Any, NamedTuple

from .errors import TextError


class Format(NamedTuple):
    """
    A format that is not plain text.

    Attributes:
        name: what it is called, after "is".
        remedy: what to do with a file in it.
    """

    name: str
    remedy: str


UNPACK = "Unpack it first, for instance with `{}`."
CONVERT = "Convert it, for instance with `iconv -f {} -t UTF-8`."
EXPORT = "Save its text first, one sentence a line, or as .csv with a header."
COLUMNS = "Name its folder as `dataset_name`, or write it to a .jsonl file, as `Dataset.to_json` does."
GZIP = Format("packed by gzip", "Give it a name that ends in .gz, or unpack it with `gzip -d`.")
# The first bytes of files that do not hold UTF-8 text. Where two begin alike, the longer comes first.
BINARY_FORMATS: tuple[tuple[bytes, Format], ...] = (
    (rb"\xff\xfe\0\0|\0\0\xfe\xff", Format("UTF-32", CONVERT.format("UTF-32"))),
    (rb"\xff\xfe|\xfe\xff", Format("UTF-16", CONVERT.format("UTF-16"))),
    (rb"\x1f\x8b", GZIP),
    (rb"\x1f\x9d", Format("packed by compress", UNPACK.format("uncompress"))),
    (rb"\xfd7zXZ\0|\]\0\0", Format("packed by xz", UNPACK.format("xz -d"))),
    (rb"BZh[1-9](1AY&SY|\x17rE8P\x90)", Format("packed by bzip2", UNPACK.format("bzip2 -d"))),
    (rb"\x28\xb5\x2f\xfd", Format("packed by zstd", UNPACK.format("zstd -d"))),
    (rb"\x04\x22\x4d\x18", Format("packed by lz4", UNPACK.format("lz4 -d"))),
    (rb"LZIP\x01", Format("packed by lzip", UNPACK.format("lzip -d"))),
    (rb"PK(\x03\x04|\x05\x06)", Format("a zip archive, as .xlsx and .docx are too", UNPACK.format("unzip"))),
    (rb"7z\xbc\xaf\x27\x1c", Format("a 7-Zip archive", UNPACK.format("7z x"))),
    (rb"Rar!\x1a\x07", Format("a RAR archive", UNPACK.format("unrar x"))),
    (rb".{257}ustar(\0|  \0)", Format("a tar archive", UNPACK.format("tar -xf"))),
    (rb"PAR1\x15", Format("Parquet", COLUMNS)),
    (rb"ARROW1\0|\xff{4}", Format("Arrow", COLUMNS)),
    (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", Format("an old Microsoft Office document", EXPORT)),
    (rb"%PDF-\d", Format("PDF", EXPORT)),
    (rb"\{\\rtf\d", Format("RTF", EXPORT)),
    (rb"SQLite format 3\0", Format("an SQLite database", EXPORT)),
)

SEGMENTS = "Write its segments to a text file first, one a line."
MEMORY = "Training reads it as `train_file`, with `source_lang` and `target_lang`. Elsewhere, w" + SEGMENTS[1:]
JSON_LINES = Format(
    "JSON Lines", "Write a sentence a line, or give it as a file with columns, with a name that ends in .jsonl."
)
JSON = Format(
    "JSON", "Write a sentence a line, or for a file with columns (.jsonl) an object a line, as `jq -c '.[]'` does."
)
XML = Format("XML or SGML", SEGMENTS)
ATTRIBUTE = r"\s+[\w:.-]+\s*=\s*(\"[^\"]*\"|'[^']*'|[^\s<>]+)"
# How files begin that are text and not sentences, past what XML may have before its first element.
TEXT_FORMATS: tuple[tuple[str, Format], ...] = (
    (r"<!DOCTYPE tmx|<tmx\b", Format("TMX", MEMORY)),
    (r"<xliff\b", Format("XLIFF", MEMORY)),
    (
        rf"<!DOCTYPE html|<(html|head|body)({ATTRIBUTE})*\s*>[^\S\n]*+(\n|<|$)",
        Format("HTML", "Save its text first, one sentence a line."),
    ),
    (
        rf"<!DOCTYPE (srcset|refset|tstset)|<(srcset|refset|tstset|mteval|dataset)({ATTRIBUTE})*\s*>[^\S\n]*+(\n|<|$)"
        rf"|<(doc|hl|seg)({ATTRIBUTE})*\s*>(?=[\s\S]*</seg>)",
        Format("SGML", SEGMENTS[:-1] + r", for instance with `sed -nE 's/.*<seg[^>]*> *(.*[^ ]) *<\/seg>.*/\1/p'`."),
    ),
    (
        rf"<(url|talkid|keywords)>[^<\n]*+</|<doc({ATTRIBUTE})+\s*>[^\S\n]*+\n",
        Format("SGML", "Leave out the lines that begin with a tag: `grep -v '^<'`."),
    ),
    (r"<!(DOCTYPE|ELEMENT|ENTITY)\s", XML),
    (
        r"\d+\s*\n\d+:\d\d:\d\d[,.]\d+ -->|WEBVTT\b(.*\n)+?.*-->|\[Script Info\]",
        Format("subtitles with times", SEGMENTS),
    ),
    (r'(#.*+\n|\s)*+msgid "', Format("a gettext catalogue", SEGMENTS)),
)
BEGINNING = 100  # lines in which a format shows
MOST_JSON = 1 << 28  # bytes of a file of settings or results
PROLOG = re.compile(r"\s*(<\?xml\b.*?\?>)?(\s|<!--.*?-->|<\?.*?\?>)*", re.DOTALL)
LONE_TAG = re.compile(rf"<([A-Za-z][\w:.-]*)(({ATTRIBUTE})*)\s*>")
JSON_OBJECT = re.compile(r'\s*\[?\s*\{\s*"([^"\\]|\\.)*"\s*:')


def split_lines(content: bytes, name: str, allow_blank: bool = False, first_line: int = 1) -> list[str]:
    """
    The lines of UTF-8 text, without their ends and without a byte order mark.

    Lines end at `\\n` and nowhere else: `str.splitlines` and the `text` loader of `datasets` also split at `\\r`,
    U+0085 and U+2028, which real corpora have inside sentences, and one such line misaligns all that follow. A `\\r`
    at the end of a line is part of that end.

    Args:
        content: the bytes of a file, or of a part of it that ends with a line.
        name: what to call it in an error.
        allow_blank: whether all lines may be blank.
        first_line: the number of the first line of the part; what shows by the beginning of a file is looked for in 1.

    Raises:
        TextError: if it is empty, packed, binary or not UTF-8; the format or the line is named.
    """
    form = None
    if first_line == 1:
        content = content.removeprefix(b"\xef\xbb\xbf")
        form = find_binary_format(content)
    if form is not None:
        raise TextError(f"{name} is {form.name}, not UTF-8 text. {form.remedy}")
    if not (content if allow_blank else content.strip()):
        raise TextError(f"{name} is empty. Give one sentence a line.")
    lines = []
    for number, line in enumerate(content.removesuffix(b"\n").split(b"\n"), start=first_line):
        try:
            lines.append(line.decode("utf-8").removesuffix("\r"))
        except UnicodeDecodeError as error:
            shown = line[max(0, error.start - 30) : error.start + 30]
            raise TextError(
                f"{name}, line {number} is not UTF-8: {shown!r}. {remedy_for_encoding(content)}"
            ) from error
    if b"\0" in content:
        number = content[: content.index(b"\0")].count(b"\n")
        raise TextError(
            f"{name}, line {first_line + number} has a NUL byte, which text lacks: {lines[number][:60]!r}. Check what "
            "wrote the file, or delete such bytes with `tr -d '\\000'`."
        )
    return lines


def find_binary_format(content: bytes) -> Format | None:
    """Return the format of bytes that are not UTF-8 text, where their beginning shows it."""
    for pattern, form in BINARY_FORMATS:
        if re.match(pattern, content, re.DOTALL):
            return form
    encoding = guess_wide_encoding(content[:4096])
    return None if encoding is None else Format(encoding, CONVERT.format(encoding))


def guess_wide_encoding(content: bytes) -> str | None:
    """
    Return which of UTF-16 and UTF-32 some bytes without a byte order mark are, by where their NUL bytes are.

    In UTF-32 every character has one; in UTF-16 the spaces, digits and line ends of any language do, on one side.
    """
    shares = [part.count(0) / max(1, len(part)) for part in (content[i::4] for i in range(4))]
    for encoding, (lowest, _, high, highest) in (("UTF-32LE", shares), ("UTF-32BE", shares[::-1])):
        if highest == 1 and high > 0.5 > lowest:
            return encoding
    left, right = shares[::2], shares[1::2]
    for encoding, empty, filled in (("UTF-16LE", right, left), ("UTF-16BE", left, right)):
        if min(empty) > 0.02 and not any(filled):
            return encoding
    return None


def remedy_for_encoding(content: bytes) -> str:
    """Return what to do with text that is not UTF-8, by whether some places are damaged or it is another encoding."""
    if b"\0" in content:
        return "It has NUL bytes too, so it is not text at all: name the file that has the text."
    text = content.decode("utf-8", errors="replace")
    broken = text.count("\ufffd")
    if sum(character > "\x7f" for character in text) >= 2 * broken:
        return "The rest of it is UTF-8: mend that place, or leave such bytes out with `iconv -f UTF-8 -t UTF-8 -c`."
    try:
        content.decode("cp1252")
        # In the languages of Western Europe most letters have no accent; elsewhere every letter is such a byte.
        western = 2 * broken <= sum(character.isalpha() for character in text)
    except UnicodeDecodeError:
        western = False
    if western:
        return "Convert it, for a language of Western Europe with `iconv -f WINDOWS-1252 -t UTF-8`."
    return (
        "Convert it with `iconv -f ENCODING -t UTF-8`, where ENCODING is the one it was written in, such as "
        "WINDOWS-1252, WINDOWS-1251 or SHIFT_JIS."
    )


def read_lines(path: str | Path, allow_blank: bool = False) -> list[str]:
    """
    The lines of a UTF-8 file in any format of text, as `split_lines` splits them; a name that ends in .gz is unpacked.

    Raises:
        TextError: as `split_lines`, and if the file is not there or is a damaged archive.
    """
    try:
        content = Path(path).read_bytes()
        if Path(path).suffix.lower() == ".gz":
            form = find_binary_format(content)
            if form is None or form.name == GZIP.name:
                content = gzip.decompress(content)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise TextError(f"{path} cannot be unpacked: {error}. Check that it is complete, and made by gzip.") from error
    except OSError as error:
        raise TextError(f"{path} cannot be read: {error.strerror}. Check its path and permissions.") from error
    return split_lines(content, str(path), allow_blank)


def parse_json(text: str) -> Any:
    """
    Return what some JSON holds.

    Raises:
        ValueError: if it is none, or has more levels than Python reads.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it has too many levels") from error


def read_json(path: str | Path) -> Any:
    """
    Return what a file of settings or results holds.

    Raises:
        ValueError: if it is not JSON in UTF-8, has too many levels, or is larger than such a file.
        OSError: if it cannot be read.
    """
    size = Path(path).stat().st_size
    if size > MOST_JSON:
        raise ValueError(f"it has {size:,} bytes, but such a file has at most {MOST_JSON:,}")
    return parse_json(Path(path).read_text(encoding="utf-8"))


def write_whole(path: Path, text: str) -> None:
    """Write a file that is whole under its name, whenever the program is killed and however full the disk is."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8", newline="\n")
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def read_plain_text(path: str | Path, allow_blank: bool = False) -> list[str]:
    """
    The lines of a file of plain text, a sentence a line; a name that ends in .gz is unpacked.

    Raises:
        TextError: as `read_lines` and `check_plain_text`.
    """
    return check_plain_text(read_lines(path, allow_blank), str(path))


def check_plain_text(lines: list[str], name: str) -> list[str]:
    """
    Return the lines of plain text as they are.

    Raises:
        TextError: if they are of another format, which is named, or end in `\\r`.
    """
    form = find_text_format(lines)
    if form is not None:
        raise TextError(f"{name} is {form.name}, not plain text. {form.remedy}")
    check_line_ends(lines, name)
    return lines


def check_line_ends(lines: list[str], name: str) -> None:
    """
    Refuse lines that end in `\\r` without `\\n`. Of those, real corpora have a few inside sentences.

    Raises:
        TextError: if there are far more of them than of lines.
    """
    if sum(line.rstrip("\r").count("\r") for line in lines) > 2 * max(0, len(lines) - 1):
        raise TextError(f"{name} has lines that end in CR without LF. Convert it with `tr '\\r' '\\n'`.")


def find_text_format(lines: list[str]) -> Format | None:
    """Return the format of text that is not plain, where its beginning shows it. A sentence may begin with < or [."""
    filled = [line for line in lines if line.strip()]
    first, beginning = filled[0].strip() if filled else "", "\n".join(filled[:BEGINNING])
    prolog = PROLOG.match(beginning)
    start = beginning[prolog.end() :] if prolog else beginning
    for pattern, form in TEXT_FORMATS:
        if re.match(pattern, start, re.IGNORECASE):
            return form
    if first.startswith("<?xml") or is_markup(start, filled):
        return XML
    if JSON_OBJECT.match(beginning):
        return JSON_LINES if is_json(first) and not is_json(" ".join(filled[:2])) else JSON
    if first.startswith("["):
        return JSON if is_json("\n".join(lines)) or all(map(is_json, filled[:2])) else None
    return None


def is_markup(start: str, filled: list[str]) -> bool:
    """Return whether text is one element, or has a tag with attributes in its first line and more tags below."""
    tag = LONE_TAG.match(start)
    if tag is None:
        return False
    end = f"</{tag[1]}>"
    if len(filled) > 1 and filled[-1].rstrip().endswith(end) and sum(line.count(end) for line in filled) == 1:
        return True
    tags = sum(line.lstrip().startswith("<") for line in filled[:BEGINNING])
    return bool(tag[2]) and tag[0] == start.partition("\n")[0].strip() and 10 * tags >= len(filled[:BEGINNING])


def is_json(text: str) -> bool:
    """Return whether text is an object or an array of JSON that holds more than numbers."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return False
    if isinstance(content, list):
        return any(not isinstance(each, int | float) for each in content)
    return isinstance(content, dict) and bool(content)
