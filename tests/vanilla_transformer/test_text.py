import pytest

from vanilla_transformer.text import TextError, read_lines


def test_lines_end_at_newline_alone(tmp_path):
    path = tmp_path / "text"
    path.write_bytes("one\rstill one\ntwo\u0085still two\nthree\u2028still three\n".encode())
    assert read_lines(path) == ["one\rstill one", "two\u0085still two", "three\u2028still three"]


@pytest.mark.parametrize("content", ["a\nb\n", "a\nb", "a\r\nb\r\n", "\ufeffa\nb\n"])
def test_line_ends_of_any_system_and_byte_order_marks_are_no_text(tmp_path, content):
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


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(TextError, match="absent cannot be read: No such file"):
        read_lines(tmp_path / "absent")
