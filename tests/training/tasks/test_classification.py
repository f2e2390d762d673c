import datasets
import numpy as np
import pytest

from training.recipe.fields import DataFields
from training.tasks.classification import (
    TextClassification,
    accuracy_by_phenomenon,
    encode_labelled,
    label_names,
    number_labels,
    phenomena,
    read_labelled,
)
from vanilla_transformer.errors import RecipeError


@pytest.fixture
def pairs(tmp_path):
    path = tmp_path / "nli.tsv"
    rows = ["a man sleeps\ta man rests\t0", "\tno premise\t1", "a dog runs\t\t1", "a cat sits\tit flies\t2", "x\ty\t-"]
    path.write_text("premise\thypothesis\tlabel\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return path


def test_rows_are_read_and_incomplete_ones_counted(pairs):
    text = read_labelled(pairs, ("premise", "hypothesis"))
    assert text.texts == [("a man sleeps", "a man rests"), ("a cat sits", "it flies")]
    assert (text.labels, text.rows) == (["0", "2"], [2, 5])
    assert text.dropped == {"rows without premise or hypothesis": 2, "rows without a label (empty, - or -1)": 1}


def test_labels_are_numbered_by_size_or_alphabet(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text("sentence\tlabel\na\t10\nb\t9\n")
    text = read_labelled(path, ("sentence",))
    assert label_names(text) == ["9", "10"] and number_labels(text, ["9", "10"]) == [1, 0]
    path.write_text("sentence\tlabel\na\tpositive\nb\tnegative\n")
    assert label_names(read_labelled(path, ("sentence",))) == ["negative", "positive"]


def write_rows(path, *rows):
    path.write_text("".join(row + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_whole_number_is_one_class_however_it_is_written(tmp_path):
    rows = (
        f'{{"sentence": "a", "label": {label}}}' for label in ("0", "0.0", "1.0", '"1"', '" 1.00"', "-0.0", "true")
    )
    text = read_labelled(write_rows(tmp_path / "t.jsonl", *rows), ("sentence",))
    assert text.labels == ["0", "0", "1", "1", "1", "0", "True"]
    text = read_labelled(write_rows(tmp_path / "t.csv", "sentence,label", "a,0.0", "b,", "c,2."), ("sentence",))
    assert (text.labels, text.rows) == (["0", "2"], [2, 4])
    pairs = write_rows(tmp_path / "p.csv", "a,b,label", "x,y,-1.0", "x,y,0.0")
    assert read_labelled(pairs, ("a", "b")).labels == ["0"]


def test_missing_cells_are_counted(tmp_path):
    rows = ('"a", "label": NaN', '"a", "label": null', 'NaN, "label": 0', 'null, "label": 0', '"b", "label": 1')
    text = read_labelled(write_rows(tmp_path / "t.jsonl", *(f'{{"sentence": {row}}}' for row in rows)), ("sentence",))
    assert (text.texts, text.labels, text.rows) == ([("b",)], ["1"], [5])
    assert text.dropped == {"rows without a label (empty, -)": 2, "rows without sentence": 2}
    text = read_labelled(write_rows(tmp_path / "t.csv", "sentence,label", "a,0", "b,nan", "c,NaN"), ("sentence",))
    assert text.labels == ["0"] and text.dropped == {"rows without a label (empty, -)": 2}


@pytest.mark.parametrize(
    ("label", "named"),
    [
        ("0.73", "the number 0.73. A score is not a class"),
        ("Infinity", "the number inf. A score"),
        ('"3.800"', "the number 3.800. A score"),
        ("[0, 1]", r"the list \[0, 1\]. A text has one label"),
        ('["a"]', r"the list \['a'\]. A text has one label"),
        ('{"a": 1}', "the object {'a': 1}. A text has one label"),
    ],
)
def test_cells_without_a_class_are_refused_by_row_column_and_kind(tmp_path, label, named):
    path = write_rows(tmp_path / "t.jsonl", '{"text": "a", "class": 1}', f'{{"text": "b", "class": {label}}}')
    with pytest.raises(RecipeError, match=rf"t\.jsonl, line 2: column 'class' must be a class, .* but is {named}"):
        read_labelled(path, ("text",), "class")


@pytest.mark.parametrize(
    ("text", "named"),
    [("5", "the number 5"), ("false", "the boolean False"), ('["a", "b"]', r"the list \['a', 'b'\]\. Join its parts")],
)
def test_cells_without_text_are_refused_by_row_column_and_kind(tmp_path, text, named):
    path = write_rows(tmp_path / "t.jsonl", f'{{"sentence": {text}, "label": 1}}')
    with pytest.raises(RecipeError, match=f"line 1: column 'sentence' must be text, but is {named}"):
        read_labelled(path, ("sentence",))


def test_cells_of_a_data_set_are_read_alike(tmp_path):
    task = TextClassification(DataFields(), None)
    rows = [{"sentence": "a", "label": 0.0}, {"sentence": "b", "label": None}, {"sentence": None, "label": 1.0}]
    text = task.read_dataset(datasets.Dataset.from_list(rows), "set, train")
    assert (text.texts, text.labels) == ([("a",)], ["0"]) and sum(text.dropped.values()) == 2
    rows = [{"sentence": "a", "label": [0, 1, 0]}]
    with pytest.raises(RecipeError, match=r"set, train, row 1: column 'label' .* the list \[0, 1, 0\]"):
        task.read_dataset(datasets.Dataset.from_list(rows), "set, train")


def test_text_that_cannot_be_learned_is_named(pairs, tmp_path):
    text = read_labelled(pairs, ("premise", "hypothesis"))
    with pytest.raises(
        RecipeError, match=r"nli\.tsv, line 5 has the label '2', which the training text lacks\. It has: 0, 1"
    ):
        number_labels(text, ["0", "1"])
    with pytest.raises(RecipeError, match="line 2 has no 'sentence', only: premise, hypothesis, label"):
        read_labelled(pairs, ("sentence",))
    empty = tmp_path / "empty.tsv"
    empty.write_text("sentence\tlabel\n\t1\na\t-\n")
    dropped = {"rows without sentence": 1, "rows without a label (empty, -)": 1}
    assert dict(read_labelled(empty, ("sentence",)).dropped) == dropped
    with pytest.raises(RecipeError, match=r"ends in '\.txt'"):
        read_labelled(tmp_path / "a.txt", ("sentence",))


def test_pairs_are_encoded_with_an_end_after_each(pairs, tokenizer, capsys):
    text = read_labelled(pairs, ("premise", "hypothesis"))
    encoded = encode_labelled(text, ["0", "1", "2"], tokenizer, max_length=100)
    first = tokenizer("a man sleeps").input_ids + tokenizer("a man rests").input_ids
    assert encoded[0] == {
        "texts": ["a man sleeps", "a man rests"],
        "row": 2,
        "input_ids": first,
        "labels": 0,
        "source_length": len(first),
        "target_length": len(first),
    }
    assert encoded["labels"] == [0, 2]
    short = encode_labelled(text, ["0", "1", "2"], tokenizer, 8, "test")
    assert capsys.readouterr().out == "test: 2 texts cut to 8 tokens\n"
    assert tokenizer.backend_tokenizer.truncation is None
    assert max(short["source_length"]) == 8 and all(ids.count(2) == 2 for ids in short["input_ids"])


def test_phenomena_are_found_by_their_words():
    assert phenomena(("Nobody isn't here.", "Some DOGS run")) == {"negation", "quantifiers"}
    assert phenomena(("They can’t see", "a cat")) == {"negation", "pronouns"}
    assert phenomena(("another knot", "the itch of hers2")) == {"pronouns"}
    assert phenomena(("a man sleeps",)) == set()


def test_accuracy_is_told_for_each_phenomenon(pairs):
    text = read_labelled(pairs, ("premise", "hypothesis"))
    assert accuracy_by_phenomenon(text.texts, np.array([True, False])) == {
        "pronouns": (1, 0.0),
        "none of these": (1, 1.0),
    }
