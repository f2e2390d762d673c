import json

import pytest

from training.arguments import DataArguments, RecipeError
from training.data import encode, load_split, within
from vanilla_transformer.text import TextError


@pytest.fixture
def write(tmp_path):
    def write(name: str, content: str | bytes) -> str:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


def test_two_files(write):
    text = load_split(DataArguments(source=write("en", "a\n\nb\n"), target=write("es", "x\ny\nz\n")), "train")
    assert (text.sources, text.targets, text.empty) == (["a", "b"], ["x", "z"], 1)


def test_odd_line_separators_inside_sentences_misalign_nothing(write):
    source = write("en", "one\rone\ntwo\u0085two\nthree\u2028three\n")
    text = load_split(DataArguments(source=source, target=write("es", "1\n2\n3\n")), "train")
    assert text.targets == ["1", "2", "3"]
    assert text.sources[1] == "two\u0085two"


def test_files_of_different_lengths_are_refused_with_both_counts(write):
    source, target = write("en", "a\n" * 100_001), write("es", "a\n" * 100_000)
    with pytest.raises(RecipeError, match=r"en has 100,001 lines and .*es has 100,000"):
        load_split(DataArguments(source=source, target=target), "train")


def test_an_empty_file_and_broken_utf8_are_refused(write):
    fine = write("es", "x\ny\n")
    with pytest.raises(TextError, match="en is empty"):
        load_split(DataArguments(source=write("en", ""), target=fine), "train")
    with pytest.raises(TextError, match="en, line 2 is not UTF-8"):
        load_split(DataArguments(source=write("en", b"a\n\xff\n"), target=fine), "train")


@pytest.mark.parametrize("nested", [False, True])
def test_jsonl(write, nested):
    rows = [{"en": "a\nb", "es": "x"}, {"en": "c", "es": "¿y?"}]
    content = "".join(json.dumps({"translation": row} if nested else row) + "\n" for row in rows)
    arguments = DataArguments(train_file=write("t.jsonl", content), source_column="en", target_column="es")
    text = load_split(arguments, "train")
    assert (text.sources, text.targets) == (["a\nb", "c"], ["x", "¿y?"])


def test_tsv(write):
    path = write("t.tsv", 'id\ttarget\tsource\n1\tx "quoted\ta\n2\ty\tb\n')
    text = load_split(DataArguments(validation_file=path), "validation")
    assert (text.sources, text.targets) == (["a", "b"], ['x "quoted', "y"])


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("t.jsonl", '{"source": "a"}\n', "line 1 has no text under 'target', only: source"),
        ("t.jsonl", '{"source": "a", "target": "b"}\n{"source"\n', "line 2 is not JSON"),
        ("t.jsonl", "[1]\n", "line 1 is no JSON object"),
        ("t.tsv", "source\ttarget\na\n", "line 2 has 1 columns and the header has 2"),
        ("t.tsv", "source\tother\na\tb\n", "line 2 has no text under 'target'"),
        ("t.xml", "<a>", "ends in '.xml'"),
    ],
)
def test_broken_tables_are_refused_by_line(write, name, content, named):
    with pytest.raises(RecipeError, match=named):
        load_split(DataArguments(train_file=write(name, content)), "train")


def test_one_side_two_names_and_unknown_corpora_are_refused(write):
    path = write("en", "a\n")
    with pytest.raises(RecipeError, match="`validation_target` is missing"):
        load_split(DataArguments(validation_source=path), "validation")
    with pytest.raises(RecipeError, match="named twice, by `corpus` and `source`"):
        load_split(DataArguments(corpus="phrasebook", source=path, target=path), "train")
    with pytest.raises(RecipeError, match="`corpus` is 'tatoeba'"):
        load_split(DataArguments(corpus="tatoeba"), "train")
    with pytest.raises(RecipeError, match="no pair with words on both sides"):
        load_split(DataArguments(source=write("en2", "a\n\n"), target=write("es", "\nx\n")), "train")


def test_no_names_give_no_split():
    assert load_split(DataArguments(), "test") is None


def test_encoding_keeps_text_and_reads_special_tokens_as_text(write, tokenizer):
    source, target = write("en", "the house\nthe </s> car\n"), write("es", "la casa\nel coche\n")
    dataset = encode(load_split(DataArguments(source=source, target=target), "train"), tokenizer)
    assert dataset["source"][1] == "the </s> car"
    assert [ids.count(2) for ids in dataset["input_ids"]] == [1, 1]
    assert dataset["source_length"][:] == [len(ids) for ids in dataset["input_ids"]]
    longest = max(dataset["source_length"])
    assert len(within(dataset, longest - 1)) == 1
    assert len(within(dataset, longest)) == 2
