"""Text files: one sentence a line."""

import gzip
import zlib
from pathlib import Path


class TextError(ValueError):
    """A text that cannot be read as it should, in words for the person who gave it."""


def split_lines(content: bytes, name: str) -> list[str]:
    """
    The lines of UTF-8 text, without their ends and without a byte order mark.

    Lines end at `\\n` and nowhere else: `str.splitlines` and the `text` loader of `datasets` also split at `\\r`,
    U+0085 and U+2028, which real corpora have inside sentences, and one such line misaligns all that follow. A `\\r`
    at the end of a line is part of that end.

    Args:
        content: the bytes of a file.
        name: what to call it in an error.

    Raises:
        TextError: if it is empty or not UTF-8; the line is named.
    """
    content = content.removeprefix(b"\xef\xbb\xbf")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise TextError(f"{name} is UTF-16. Convert it, for instance with `iconv -f UTF-16 -t UTF-8`.")
    if not content.strip():
        raise TextError(f"{name} is empty. Give one sentence a line.")
    lines = []
    for number, line in enumerate(content.removesuffix(b"\n").split(b"\n"), start=1):
        try:
            lines.append(line.decode("utf-8").removesuffix("\r"))
        except UnicodeDecodeError as error:
            raise TextError(
                f"{name}, line {number} is not UTF-8: {line[:60]!r}. Convert it, for instance with "
                "`iconv -f ISO-8859-1 -t UTF-8`."
            ) from error
    return lines


def read_lines(path: str | Path) -> list[str]:
    """
    The lines of a UTF-8 file, as `split_lines` splits them; a name that ends in .gz is unpacked.

    Raises:
        TextError: if the file is not there, is empty, is not UTF-8, or is a damaged archive.
    """
    try:
        content = Path(path).read_bytes()
        if Path(path).suffix == ".gz":
            content = gzip.decompress(content)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise TextError(f"{path} cannot be unpacked: {error}. Is it whole, and made by gzip?") from error
    except OSError as error:
        raise TextError(f"{path} cannot be read: {error.strerror}.") from error
    return split_lines(content, str(path))
