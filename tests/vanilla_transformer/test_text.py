import bz2
import gzip
import io
import json
import lzma
import tarfile
import zipfile

import pyarrow
import pyarrow.feather
import pyarrow.parquet
import pytest

from vanilla_transformer.errors import TextError
from vanilla_transformer.text import check_plain_text, read_lines, read_plain_text, split_lines

LINES = "El niño dijo que sí.\n" * 40


def test_lines_end_at_newline_only(tmp_path):
    path = tmp_path / "text"
    path.write_bytes("one\rstill one\ntwo\u0085still two\nthree\u2028still three\n".encode())
    assert read_lines(path) == ["one\rstill one", "two\u0085still two", "three\u2028still three"]


@pytest.mark.parametrize("content", ["a\nb\n", "a\nb", "a\r\nb\r\n", "\ufeffa\nb\n"])
def test_line_ends_of_any_system_and_byte_order_marks_are_not_text(tmp_path, content):
    path = tmp_path / "text"
    path.write_bytes(content.encode())
    assert read_lines(path) == ["a", "b"]


def test_empty_lines_keep_their_place(tmp_path):
    path = tmp_path / "text"
    path.write_bytes(b"a\n\nb\n\n")
    assert read_lines(path) == ["a", "", "b", ""]


def test_broken_utf8_is_named_by_line(tmp_path):
    path = tmp_path / "text"
    path.write_bytes("fine\nCómo\n".encode() + b"C\xf3mo\n")
    with pytest.raises(TextError, match=r"line 3 is not UTF-8: b'C\\xf3mo'.*iconv"):
        read_lines(path)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_is_told_by_its_name(tmp_path, encoding):
    path = tmp_path / "text"
    path.write_bytes("\ufeffCómo\n".encode(encoding))
    with pytest.raises(TextError, match=r"text is UTF-16.*iconv -f UTF-16 -t UTF-8"):
        read_lines(path)


@pytest.mark.parametrize("content", [b"", b"\n", b"\xef\xbb\xbf \n\n"])
def test_an_empty_file_is_refused(tmp_path, content):
    path = tmp_path / "text"
    path.write_bytes(content)
    with pytest.raises(TextError, match="is empty"):
        read_lines(path)


@pytest.mark.parametrize(("content", "lines"), [(b"\n", [""]), (b"\xef\xbb\xbf \n\n", [" ", ""])])
def test_blank_lines_are_read_where_they_are_allowed(tmp_path, content, lines):
    path = tmp_path / "text"
    path.write_bytes(content)
    assert read_lines(path, allow_blank=True) == lines
    path.write_bytes(b"")
    with pytest.raises(TextError, match="is empty"):
        read_lines(path, allow_blank=True)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(TextError, match="absent cannot be read: No such file"):
        read_lines(tmp_path / "absent")


def pack(kind):
    """Lines, or a table, in some format of bytes."""
    file, content = io.BytesIO(), LINES.encode()
    if kind == "zip":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("text", content)
    elif kind == "tar":
        with tarfile.open(fileobj=file, mode="w") as archive:
            member = tarfile.TarInfo("text")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    elif kind in ("Parquet", "Arrow"):
        write = pyarrow.parquet.write_table if kind == "Parquet" else pyarrow.feather.write_feather
        write(pyarrow.table({"text": [LINES]}), file)
    else:
        pack = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress}
        return pack[kind](content) if kind in pack else pyarrow.compress(content, codec=kind, asbytes=True)
    return file.getvalue()


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("xz", "is packed by xz.*`xz -d`"),
        ("bzip2", "is packed by bzip2.*`bzip2 -d`"),
        ("zstd", "is packed by zstd.*`zstd -d`"),
        ("lz4", "is packed by lz4"),
        ("gzip", r"is packed by gzip.*ends in \.gz"),
        ("zip", r"is a zip archive.*`unzip`"),
        ("tar", "is a tar archive"),
        ("Parquet", "is Parquet.*`dataset_name`"),
        ("Arrow", "is Arrow"),
    ],
)
@pytest.mark.parametrize("name", ["text", "text.gz"])
def test_packed_and_binary_files_are_told_by_their_names(tmp_path, kind, named, name):
    path = tmp_path / name
    path.write_bytes(pack(kind))
    if (kind, name) == ("gzip", "text.gz"):
        assert read_lines(path) == LINES.splitlines()
        path.write_bytes(gzip.compress(path.read_bytes()))  # packed twice
    with pytest.raises(TextError, match=named) as raised:
        read_lines(path)
    assert "iconv" not in str(raised.value)


def test_a_name_in_capitals_is_unpacked_too(tmp_path):
    path = tmp_path / "TEXT.GZ"
    path.write_bytes(gzip.compress(b"a\nb\n"))
    assert read_lines(path) == ["a", "b"]


@pytest.mark.parametrize(
    "text", [LINES, "Привет, мир. Это текст.\n" * 9, "你好，世界。\n" * 9], ids=["es", "ru", "zh"]
)
@pytest.mark.parametrize("encoding", ["UTF-16LE", "UTF-16BE", "UTF-32LE", "UTF-32BE"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_wide_encodings_are_told_apart_with_and_without_a_mark(text, encoding, mark):
    named = encoding[:-2] if mark else encoding
    with pytest.raises(TextError, match=rf"text is {named}, .*iconv -f {named} -t UTF-8"):
        split_lines((mark + text).encode(encoding), "text")


@pytest.mark.parametrize("content", [b"fine\none\0two\n", b"fine\n" + b"\0" * 50])
def test_nul_bytes_are_refused_by_line(content):
    with pytest.raises(TextError, match="line 2 has a NUL byte"):
        split_lines(content, "text")


@pytest.mark.parametrize("content", [b"one\rtwo", b"one\rtwo\rthree\r", b"one\rtwo\rthree\n"])
def test_lines_that_end_in_cr_are_refused(tmp_path, content):
    path = tmp_path / "text"
    path.write_bytes(content)
    with pytest.raises(TextError, match=r"lines that end in CR without LF.*tr '\\r' '\\n'"):
        read_plain_text(path)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("He said “yes” for 5 €.\n".encode("cp1252"), r"\\x93yes\\x94 for 5 \\x80.*iconv -f WINDOWS-1252 -t"),
        ("ça va très bien\n".encode("latin-1"), "iconv -f WINDOWS-1252 -t"),
        (b"word " * 50 + b"caf\xe9 au lait\n", r"'[^']*caf\\xe9 au lait'"),
        ("Привет, мир. Это текст.\n".encode("cp1251"), "iconv -f ENCODING -t UTF-8`, where"),
        ("テストです。\n".encode("shift_jis"), "iconv -f ENCODING -t UTF-8`, where"),
        (LINES.encode() + b"cut \xc3\n", "The rest of it is UTF-8"),
        (b"\x80\x04\x95\x10\0\0\0\0\0\0\0\x8c\x05", "is not text at all"),
    ],
)
def test_the_advice_fits_the_bytes_at_fault(content, named):
    with pytest.raises(TextError, match=named):
        split_lines(content, "text")


ROWS = [{"source": "a", "target": "x"}, {"source": "b", "target": "y"}]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ('<srcset setid="news" srclang="any">\n<doc docid="1">\n<seg id="1"> Hello. </seg>\n', "SGML.*sed -nE"),
        ('<!DOCTYPE srcset SYSTEM "mteval.dtd">\n<srcset>\n', "SGML"),
        ("<url>http://example.org</url>\n<talkid>1</talkid>\nHello.\n", "SGML.*grep -v"),
        ('<doc id="1" url="x" title="y">\nHello.\n</doc>\n', "SGML.*grep -v"),
        ('<doc docid="1">\n<seg id="1"> Hello. </seg>\n', "SGML.*sed -nE"),
        ('# Spanish\n#\n\nmsgid ""\nmsgstr ""\n', "a gettext"),
        ("[Script Info]\nTitle: a\n", "subtitles"),
        ('<CHAPTER ID=1>\nHello.\n<SPEAKER ID=2 NAME="A">\nBye.\n', "XML or SGML"),
        ('<?xml version="1.0"?>\n<!-- x -->\n<!DOCTYPE tmx SYSTEM "a.dtd">\n<tmx version="1.4">\n', "TMX"),
        ('<?xml version="1.0" ?><xliff version="1.2"></xliff>', "XLIFF"),
        ('<?xml version="1.0"?>\n<corpus>\n', "XML"),
        ("<corpus>\n<s>Hello.</s>\n</corpus>\n", "XML"),
        ("\n<!doctype HTML>\n<html lang=en>\n", "HTML"),
        ("<html><body>Hello.</body></html>\n", "HTML"),
        (json.dumps(ROWS), "JSON.*jq -c"),
        (json.dumps(ROWS, indent=2), "JSON"),
        (json.dumps(["a", "b"], indent=2), "JSON"),
        (json.dumps({"data": ROWS}), "JSON"),
        ('[{"source": "a"},\n{"sour', "JSON"),
        ("\n".join(map(json.dumps, ROWS)), "JSON Lines"),
        ("1\n00:00:01,000 --> 00:00:02,000\nHello.\n", "subtitles"),
        ('msgid ""\nmsgstr ""\n', "a gettext"),
    ],
)
def test_other_formats_are_not_plain_text(tmp_path, content, named):
    path = tmp_path / "text"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(TextError, match=rf"text is {named}"):
        read_plain_text(path)


@pytest.mark.parametrize(
    "line",
    [
        *("<3 you", "< 5 mg a day", "<b>Bold</b> claim", "<s> a b </s>", "<2es> Hello", "<head of state> said"),
        *('<a href="x">link</a> to it', "<noise>", "[laughter] Yes.", "[1] See there", "[2019, 2020]", "[[a]]"),
        *('["Yes," he said]', "{ this }", "{}", '{"Hello"} he said', "BZhang is here", "PAR1 is a protein", "%PDF"),
        *("1", "WEBVTT is a format", "doc <seg>", "<url> rt <user> great", "<body> is a tag of HTML.", "# msgid"),
        f"{'a' * 256} ajustar y gustaría",
    ],
)
def test_text_that_merely_begins_like_another_format_is_taken(line):
    lines = [line, "and so on", line]
    assert check_plain_text(lines, "text") == split_lines("\n".join(lines).encode(), "text") == lines
    assert check_plain_text([line], "text") == [line]
