import numpy as np
import pytest

from training.arguments import RecipeError
from training.tasks.classification import (
    accuracy_by_phenomenon,
    encode_labelled,
    label_names,
    number_labels,
    phenomena,
    read_labelled,
)


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


def test_what_cannot_be_learned_is_named(pairs, tmp_path):
    text = read_labelled(pairs, ("premise", "hypothesis"))
    with pytest.raises(
        RecipeError, match=r"nli\.tsv, line 5 has the label '2', which is none of the training text: 0, 1"
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


def test_pairs_are_encoded_with_an_end_after_each(pairs, tokenizer):
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
    said = []
    short = encode_labelled(text, ["0", "1", "2"], tokenizer, 8, "test", said.append)
    assert said == ["test: 2 texts cut to 8 tokens"] and tokenizer.backend_tokenizer.truncation is None
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
