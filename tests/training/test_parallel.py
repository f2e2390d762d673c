import datasets
import numpy as np
import pytest

from training.data import duplicates, parallel
from training.data.cleaning import clean, hold_out
from training.data.duplicates import find_first, mark_first, mark_unique
from training.data.parallel import ParallelText, keep_rows, read_numbers, write_rows
from training.recipe.fields import DataFields

PAIRS = [(f"source {i % 70}", f"target {i % 35}") for i in range(100)] + [("", "x"), ("source 3", "target 3")]


@pytest.fixture(params=["memory", "file", "file in parts"])
def text(request, tmp_path, monkeypatch):
    """The same pairs, wherever they are."""
    if request.param == "memory":
        return ParallelText.from_pairs(PAIRS)
    monkeypatch.setattr(parallel, "BATCH", 7)
    monkeypatch.setattr(parallel, "PART", 10 if "parts" in request.param else 1000)
    path = tmp_path / "text.arrow"
    write_rows(((i, *pair) for i, pair in enumerate(PAIRS, start=1)), path)
    found = ParallelText.read(path)
    assert found.dataset.cache_files
    return found


def test_a_text_is_read_as_a_sequence_from_memory_or_a_file(text):
    assert list(text) == PAIRS and len(text) == len(PAIRS)
    assert text.sources == [source for source, _ in PAIRS] and text.rows == list(range(1, len(PAIRS) + 1))
    assert (
        text.sources[3] == "source 3"
        and text.sources[-1] == "source 3"
        and text.targets[5:90:40] == [PAIRS[i][1] for i in (5, 45, 85)]
    )
    assert text.sources[200:] == [] and text.sources != ["source 0"]


def test_selected_pairs_keep_their_rows_and_count_the_others(text):
    some = text.select(range(0, 102, 3), "for a reason").select([0, 2, 33], "for another")
    assert list(some) == [PAIRS[i] for i in (0, 6, 99)] and some.rows == [1, 7, 100]
    assert some.dropped == {"for a reason": 68, "for another": 31}
    assert text.dropped == {}
    is_even = np.arange(len(PAIRS)) % 2 == 0
    marked = text.select(is_even, "odd").select(np.arange(51) > 48)
    assert list(marked) == [PAIRS[98], PAIRS[100]] and marked.rows == [99, 101]
    assert marked.dropped == {"odd": 51} and list(text.select(is_even | True)) == PAIRS
    assert len(text.select(np.array([]))) == 0
    with pytest.raises(ValueError, match="`is_kept` must be of 102 rows, but is of 50"):
        text.select(is_even[:50])


def test_texts_are_added_and_written(text, tmp_path):
    more = ParallelText.from_pairs([("a", "b"), ("c", "d")])
    both = text.select(range(1, 40)) + more.with_weight(0.5)
    assert list(both) == [*PAIRS[1:40], ("a", "b"), ("c", "d")]
    assert both.rows == [*range(2, 41), 41, 42]
    both.write(tmp_path / "both.arrow")
    again = ParallelText.read(tmp_path / "both.arrow")
    assert list(again) == list(both) and again.rows == both.rows
    assert again.dataset["weight"][:] == [1.0] * 39 + [0.5] * 2


def test_cleaning_and_holding_out_do_not_depend_on_where_a_text_is(text):
    arguments = DataFields(drop_duplicates=True, max_length_ratio=3)
    cleaned = clean(text, arguments, "train")
    assert list(cleaned) == list(dict.fromkeys(pair for pair in PAIRS if pair[0]))
    assert cleaned.dropped == {"with an empty side": 1, "that repeat another": 31}
    lines = ParallelText.from_pairs([*PAIRS[:100], *((f"only {i}", f"solo {i}") for i in range(100))])
    train, held = hold_out(lines, at_most=3)
    assert len(held) == 3 and all(source.startswith("only") for source in held.sources)
    assert sorted([*train, *held]) == sorted(lines)


@pytest.mark.parametrize("hashed", [hash, lambda item: 0, lambda item: len(str(item)) % 3])
def test_pairs_with_one_hash_are_told_apart_by_their_text(monkeypatch, hashed):
    chance = np.random.default_rng(0)
    pairs = [(f"a{i}", f"b{i % 7}") for i in chance.integers(0, 300, 1000)]
    text = ParallelText.from_pairs(pairs)
    hashes = np.array([hashed(pair) for pair in pairs])
    monkeypatch.setattr(duplicates, "BATCH", 64)
    known = {}
    first = [known.setdefault(pair, i) for i, pair in enumerate(pairs)]
    assert find_first(hashes, text.take).tolist() == first
    monkeypatch.setattr(duplicates, "COMPARED", 170)
    assert mark_first(hashes, text.take).tolist() == [place == i for i, place in enumerate(first)]
    assert mark_unique(hashes, text.take).tolist() == [first.count(place) == 1 for place in first]


def test_a_file_in_parts_is_mapped_no_longer_than_a_part_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(parallel, "PART", 10)
    path = tmp_path / "text.arrow"
    write_rows(((i, *pair) for i, pair in enumerate(PAIRS, start=1)), path)
    dataset = datasets.Dataset.from_file(str(path))
    found = list(parallel.parts(dataset.select([5, 3, 99, *range(20)])))
    assert [len(part) for part in found] == [10, 10, 3]
    assert found[0]["source"][:3] == ["source 5", "source 3", "source 29"]
    assert all(part.data.table is not dataset.data.table for part in found)
    found = list(parallel.parts(keep_rows(dataset, np.arange(len(PAIRS)) != 12)))
    assert [len(part) for part in found] == [10] * 10 + [1]
    assert found[1]["source"][:4] == ["source 10", "source 11", "source 13", "source 14"]


def test_numbers_of_a_column_come_in_the_order_of_the_pairs():
    numbers = np.arange(100, dtype=np.int32)
    dataset = datasets.Dataset.from_dict({"row": numbers, "weight": (numbers / 8).astype(np.float32)})
    order = np.random.default_rng(0).permutation(100)[:60]
    for chosen, rows in ((dataset, numbers), (dataset.select(order), order), (dataset.select([]), numbers[:0])):
        for name, expected in (("row", rows.astype(np.int32)), ("weight", (rows / 8).astype(np.float32))):
            found = read_numbers(chosen, name)
            assert found.dtype == expected.dtype and np.array_equal(found, expected)
            found[:] = 0  # which the data set does not see
    assert dataset["row"][99] == 99
