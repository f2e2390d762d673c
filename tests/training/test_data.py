import csv
import dataclasses
import gzip
import json

import datasets
import pandas
import pytest

from training.data.phrasebook import phrasebook
from training.data.texts import load_split
from training.recipe.fields import DataFields
from vanilla_transformer.errors import RecipeError, TextError


@pytest.fixture
def write(tmp_path):
    def write(name: str, content: str | bytes) -> str:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


def test_two_files(write):
    text = load_split(DataFields(source=write("en", "a\n\nb\n"), target=write("es", "x\ny\nz\n")), "train")
    assert (text.sources, text.targets, text.rows) == (["a", "", "b"], ["x", "y", "z"], [1, 2, 3])


def test_packed_files(write):
    source, target = write("en.gz", gzip.compress(b"a\nb\n")), write("es.gz", gzip.compress(b"x\ny\n"))
    assert load_split(DataFields(source=source, target=target), "train").sources == ["a", "b"]
    table = write("t.csv.gz", gzip.compress(b"source,target\na,x\n"))
    assert load_split(DataFields(train_file=table), "train").targets == ["x"]
    for broken in (b"plain text\n", gzip.compress(b"a\n" * 1000)[:-12]):
        with pytest.raises(TextError, match=r"en2\.gz cannot be unpacked"):
            load_split(DataFields(source=write("en2.gz", broken), target=target), "train")


def test_odd_line_separators_inside_sentences_misalign_nothing(write):
    source = write("en", "one\rone\ntwo\u0085two\nthree\u2028three\n")
    text = load_split(DataFields(source=source, target=write("es", "1\n2\n3\n")), "train")
    assert text.targets == ["1", "2", "3"]
    assert text.sources[1] == "two\u0085two"


def test_files_of_different_lengths_are_refused_with_both_counts(write):
    source, target = write("en", "a\n" * 100_001), write("es", "a\n" * 100_000)
    with pytest.raises(RecipeError, match=r"en has 100,001 lines and .*es has 100,000"):
        load_split(DataFields(source=source, target=target), "train")


def test_an_empty_file_and_broken_utf8_are_refused(write):
    fine = write("es", "x\ny\n")
    with pytest.raises(TextError, match="en is empty"):
        load_split(DataFields(source=write("en", ""), target=fine), "train")
    with pytest.raises(TextError, match="en, line 2 is not UTF-8"):
        load_split(DataFields(source=write("en", b"a\n\xff\n"), target=fine), "train")


def test_cells_without_text_are_empty_sides_and_half_characters_are_refused(write):
    path = write("t.jsonl", '{"source": "a", "target": null}\n')
    assert load_split(DataFields(train_file=path), "train").targets == [""]
    assert load_split(DataFields(train_file=write("t.tsv", "source\ttarget\n\t\n")), "train").rows == [2]
    with pytest.raises(RecipeError, match="line 1 is not text"):
        load_split(DataFields(train_file=write("u.jsonl", '{"source": "\\ud83d", "target": "x"}\n')), "train")


@pytest.mark.parametrize("nested", [False, True])
def test_jsonl(write, nested):
    rows = [{"en": "a\nb", "es": "x"}, {"en": "c", "es": "¿y?"}]
    content = "".join(json.dumps({"translation": row} if nested else row) + "\n" for row in rows)
    arguments = DataFields(train_file=write("t.jsonl", content), source_column="en", target_column="es")
    text = load_split(arguments, "train")
    assert (text.sources, text.targets) == (["a\nb", "c"], ["x", "¿y?"])


def test_tsv(write):
    path = write("t.tsv", 'id\ttarget\tsource\n1\tx "quoted\ta\n2\ty\tb\n')
    text = load_split(DataFields(validation_file=path), "validation")
    assert (text.sources, text.targets) == (["a", "b"], ['x "quoted', "y"])


def test_csv(write):
    content = 'id,target,source\n1,"x, ""quoted""",a\n2,"two\nlines",b\n3,z,c\n'
    text = load_split(DataFields(train_file=write("t.csv", content)), "train")
    assert text.sources == ["a", "b", "c"]
    assert text.targets == ['x, "quoted"', "two\nlines", "z"]
    assert text.rows == [2, 4, 5]


CELLS = [
    ('He said "yes".', 'Dijo "sí".'),
    ("a", "x"),
    ("a\ttab", "y"),
    ("two\nlines", ""),
    ('"all"', "it's"),
    ("b", "z"),
]


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
@pytest.mark.parametrize("rows", [CELLS, CELLS[:2], CELLS[1:3], CELLS[3:4], CELLS[4:], CELLS[1:2]])
def test_a_tsv_with_quoted_cells_is_read_as_the_csv_of_the_same_frame(tmp_path, quoting, rows):
    frame = pandas.DataFrame(rows, columns=["source", "target"])
    for name, separator in (("t.csv", ","), ("t.tsv", "\t"), ("excel.csv", ";")):
        frame.to_csv(tmp_path / name, sep=separator, index=False, quoting=quoting)
        text = load_split(DataFields(train_file=str(tmp_path / name)), "train")
        assert list(zip(text.sources, text.targets, strict=True)) == rows


def test_a_tsv_of_a_data_set_is_read_as_it_was_written(tmp_path):
    datasets.Dataset.from_list([{"source": a, "target": b} for a, b in CELLS]).to_csv(tmp_path / "t.tsv", sep="\t")
    text = load_split(DataFields(train_file=str(tmp_path / "t.tsv")), "train")
    assert list(zip(text.sources, text.targets, strict=True)) == CELLS


@pytest.mark.parametrize(
    "rows",
    [
        ['x "quoted', "y"],
        ['"Yes," he said.', 'He said ""yes"".'],
        ['"Hello."', '"Bye."'],
        ['"opened here', 'and closed here"'],
        ['5" nails', "''"],
    ],
)
def test_stray_quotes_of_a_tsv_are_text(write, rows):
    path = write("t.tsv", "target\tsource\n" + "".join(f"{row}\ta\n" for row in rows))
    assert load_split(DataFields(train_file=path), "train").targets == rows
    path = write("t.tsv", "source\ttarget\n" + "".join(f"a\t{row}\n" for row in rows))
    assert load_split(DataFields(train_file=path), "train").targets == rows


def test_a_data_set_with_its_splits(tmp_path, write):
    for split in ("train", "test"):
        rows = [{"translation": {"en": f"{split} {i}", "es": f"{i} de {split}"}} for i in range(3)]
        write(f"{split}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    arguments = DataFields(dataset_name=str(tmp_path), source_column="en", target_column="es")
    text = load_split(arguments, "train")
    assert (text.sources[2], text.targets[2], text.rows) == ("train 2", "2 de train", [1, 2, 3])
    assert load_split(arguments, "test").sources[0] == "test 0"
    assert load_split(arguments, "validation") is None
    with pytest.raises(RecipeError, match=r"train, row 1 has no text under 'source', only: en, es"):
        load_split(DataFields(dataset_name=str(tmp_path)), "train")
    with pytest.raises(RecipeError, match=r"`dataset_name` .*absent cannot be loaded"):
        load_split(DataFields(dataset_name=str(tmp_path / "absent")), "train")


@pytest.mark.parametrize(
    ("cell", "named"),
    [
        ("3", "the number 3"),
        ("0.5", "the number 0.5"),
        ("NaN", "NaN"),
        ("true", "the boolean True"),
        ('["a", "b"]', r"the list \['a', 'b'\]"),
        ('{"b": 1}', "the object {'b': 1}"),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_a_cell_that_is_not_text_is_told_by_its_kind(write, cell, named, nested):
    row = f'{{"source": "a", "target": {cell}}}'
    path = write("t.jsonl", f'{{"translation": {row}}}\n' if nested else f"{row}\n")
    with pytest.raises(RecipeError, match=rf"line 1 has no text under 'target', but {named}\. .*`target_column`"):
        load_split(DataFields(train_file=path), "train")


def test_cells_of_a_data_set_are_told_by_their_kind_and_missing_columns_with_all_that_there_are(tmp_path):
    rows = [{"source": "a", "other": "b", "target": 1.5}, {"source": "a", "other": "b", "target": None}]
    datasets.Dataset.from_list(rows).to_parquet(tmp_path / "train.parquet")
    arguments = DataFields(dataset_name=str(tmp_path))
    with pytest.raises(RecipeError, match=r"row 1 has no text under 'target', but the number 1\.5"):
        load_split(arguments, "train")
    with pytest.raises(RecipeError, match="row 1 has no text under 'es', only: source, other, target"):
        load_split(dataclasses.replace(arguments, target_column="es"), "train")


def test_splits_are_added_and_cut_as_datasets_does(tmp_path, write):
    for split in ("train", "test"):
        write(f"{split}.csv", "source,target\n" + "".join(f"{split} {i},x\n" for i in range(4)))

    def read(split):
        return load_split(DataFields(dataset_name=str(tmp_path), train_split=split), "train").sources

    both = [f"{split} {i}" for split in ("train", "test") for i in range(4)]
    assert read("train+test") == read("all") == both
    assert read("test[1:2]+train[:50%]") == ["test 1", "train 0", "train 1"]
    with pytest.raises(RecipeError, match=r"`train_split` must be one of train, test for .*, but is 'nope'"):
        read("train[:2]+nope[:1]")


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("t.jsonl", '{"source": "a"}\n', "line 1 has no text under 'target', only: source"),
        ("t.jsonl", '{"source": "a", "target": "b"}\n{"source"\n', "line 2 is not JSON"),
        ("t.jsonl", "[1]\n", "line 1 is not a JSON object"),
        ("t.jsonl", '{"source": ' + "7" * 5000 + "}\n", "line 1 is not JSON: Exceeds the limit"),
        ("t.jsonl", "[" * 200_000 + "\n", "line 1 is not JSON: maximum recursion"),
        ("t.tsv", "source\ttarget\tsource\na\tb\tc\n", "has two columns 'source'"),
        ("t.csv", "target,target\na,b\n", "has two columns 'target'"),
        ("t.tsv", "source\ttarget\na\n", "line 2 has 1 columns and the header has 2"),
        ("t.tsv", "source\tother\na\tb\n", "line 2 has no text under 'target'"),
        ("t.csv", "source,target\na,b,c\n", "line 2 has 3 columns and the header has 2"),
        ("t.csv", 'source,target\na,"b\n', "is not CSV"),
        ("t.xml", "<a>", "ends in '.xml'"),
    ],
)
def test_broken_tables_are_refused_by_line(write, name, content, named):
    with pytest.raises(RecipeError, match=named):
        load_split(DataFields(train_file=write(name, content)), "train")


def test_suffixes_in_capitals(write):
    path = write("T.TSV", "source\ttarget\na\tx\n")
    assert load_split(DataFields(train_file=path), "train").targets == ["x"]
    path = write("T.Jsonl.GZ", gzip.compress(b'{"source": "a", "target": "x"}\n'))
    assert load_split(DataFields(train_file=path), "train").sources == ["a"]


def test_lines_of_a_table_that_end_in_cr(write):
    path = write("t.csv", "source,target\ra,x\rb,y\r")
    assert load_split(DataFields(train_file=path), "train").targets == ["x", "y"]
    for path in (write("t.tsv", "source\ttarget\ra\tx\r"), write("t.jsonl", '{"source": "a"}\r{"source": "b"}\r')):
        with pytest.raises(TextError, match="lines that end in CR"):
            load_split(DataFields(train_file=path), "train")


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("t.csv", "<!DOCTYPE html>\n<html>\n", r"t\.csv is HTML, not what its name says"),
        ("t.tsv", '{"source": "a", "target": "b"}\n', r"t\.tsv is JSON"),
        ("t.jsonl", '<?xml version="1.0"?>\n<tmx version="1.4">\n', r"t\.jsonl is TMX"),
        ("t.jsonl", '[{"source": "a"}, {"source": "b"}]', "is one JSON document, not JSON Lines.*jq -c"),
        ("t.jsonl", '[\n  {"source": "a"}\n]\n', "is one JSON document, not JSON Lines"),
    ],
)
def test_a_table_under_the_name_of_another_format_is_named(write, name, content, named):
    with pytest.raises((TextError, RecipeError), match=named):
        load_split(DataFields(train_file=write(name, content)), "train")


def test_files_of_other_formats_are_not_aligned_text(write):
    path = write("t.tmx", '<?xml version="1.0"?>\n<tmx version="1.4">\n')
    with pytest.raises(TextError, match="is TMX, not plain text"):
        load_split(DataFields(source=path, target=path), "train")


def test_one_side_two_names_and_unknown_corpora_are_refused(write):
    path = write("en", "a\n")
    with pytest.raises(RecipeError, match="`validation_target` is missing"):
        load_split(DataFields(validation_source=path), "validation")
    with pytest.raises(RecipeError, match="named twice, by `source` and `dataset_name`"):
        load_split(DataFields(dataset_name="someone/pairs", source=path, target=path), "train")
    with pytest.raises(RecipeError, match="named twice, by `corpus` and `dataset_name`"):
        load_split(DataFields(dataset_name="someone/pairs", corpus="phrasebook"), "test")
    with pytest.raises(RecipeError, match="`corpus` must be 'phrasebook' or 'everyday', but is 'tatoeba'"):
        load_split(DataFields(corpus="tatoeba"), "train")


def test_a_corpus_is_added_to_the_training_text_of_files(write):
    source, target = write("en", "a\nb\n"), write("es", "c\nd\n")
    arguments = DataFields(
        corpus="phrasebook", source=source, target=target, validation_source=source, validation_target=target
    )
    pairs = phrasebook()["train"]
    text = load_split(arguments, "train")
    assert text.sources == ["a", "b", *(pair[0] for pair in pairs)]
    assert text.targets == ["c", "d", *(pair[1] for pair in pairs)]
    assert text.rows == list(range(1, len(pairs) + 3))
    assert load_split(arguments, "validation").sources == ["a", "b"]
    assert load_split(arguments, "test").sources == [pair[0] for pair in phrasebook()["test"]]


def test_no_names_give_no_split():
    assert load_split(DataFields(), "test") is None


EXCEL = [("English", "Spanish"), ("How much, please?", "¿Cuánto, por favor?"), ("It’s 5 €.", "Son 5 €; nada más.")]


def write_excel(separator):
    def quote(cell):
        return f'"{cell}"' if separator in cell else cell

    return "".join(f"{quote(a)}{separator}{quote(b)}\r\n" for a, b in EXCEL)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
def test_a_table_as_excel_writes_it_is_read_whatever_its_encoding_and_separator(write, encoding, separator, caplog):
    path = write("excel.csv", write_excel(separator).encode(encoding))
    with caplog.at_level("INFO"):
        text = load_split(DataFields(train_file=path, source_column="English", target_column="Spanish"), "train")
    assert list(zip(text.sources, text.targets, strict=True)) == EXCEL[1:]
    assert text.rows == [2, 3]


def test_findings_about_a_table_are_said(write, capsys):
    arguments = DataFields(source_column="English", target_column="Spanish")
    path = write("excel.csv", write_excel(";").encode("cp1252"))
    load_split(dataclasses.replace(arguments, train_file=path), "train")
    shown = capsys.readouterr()
    said = shown.out + shown.err
    assert "is read as Windows-1252" in said and "with semicolons between its columns" in said
    load_split(dataclasses.replace(arguments, train_file=write("plain.csv", write_excel(","))), "train")
    shown = capsys.readouterr()
    assert "plain.csv" not in shown.out + shown.err


def test_a_separator_in_a_first_line_of_its_own_is_obeyed(write):
    path = write("excel.csv", "sep=;\nsource;target\na, b;x\n")
    assert load_split(DataFields(train_file=path), "train").sources == ["a, b"]


@pytest.mark.parametrize(("name", "separator"), [("t.csv", ";"), ("t.csv", ","), ("t.tsv", "\t")])
def test_columns_without_a_header_go_by_number(write, name, separator):
    path = write(name, f"You are the best.{separator}Eres la mejor.{separator}n\nHi!{separator}¡Hola!{separator}n\n")
    text = load_split(DataFields(train_file=path, source_column="2", target_column="1"), "train")
    assert (text.sources, text.targets) == (["Eres la mejor.", "¡Hola!"], ["You are the best.", "Hi!"])
    assert text.rows == [1, 2]
    with pytest.raises(RecipeError, match="has no text under '4', only: 1, 2, 3"):
        load_split(DataFields(train_file=path, source_column="4", target_column="1"), "train")


@pytest.mark.parametrize("name", ["book.xlsx", "book.xls", "book.ods"])
def test_a_workbook_is_refused_with_the_way_to_export_it(write, name):
    with pytest.raises(TextError, match=r"is a workbook.*CSV UTF-8"):
        load_split(DataFields(train_file=write(name, b"PK\x03\x04")), "train")
