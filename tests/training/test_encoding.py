import datasets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BatchEncoding

from training.data import encoding
from training.data.encoding import encode, encode_lines, within
from training.data.parallel import ParallelText
from vanilla_transformer import VanillaTransformerTokenizer

ODD = [
    "",
    " ",
    "a",
    " a",
    "a ",
    "a  b",
    "a\tb",
    "a\u00a0b",
    "a\u3000 b",
    "</s> a",
    "a </s>",
    "<s><pad> <mask>",
    "é è",
    "e\u0301 a\u0300",
    "a \u0301b",
    "don't 3,5 €5",
    "\u180e a",
    "a\u2028b c",
    "a\x1cb c",
    "語 \U0001f600 x",
    "\u1100\u1161 \u11a8",
    "'s 's",
]


def test_encoding_keeps_text_and_reads_special_tokens_as_text(tokenizer):
    text = ParallelText.from_lists(["the house", "the </s> car"], ["la casa", "el coche"], [4, 7])
    dataset = encode(text, tokenizer)
    assert dataset["source"][1] == "the </s> car"
    assert dataset["row"][:] == [4, 7]
    assert [ids.count(2) for ids in dataset["input_ids"]] == [1, 1]
    assert dataset["source_length"][:] == [len(ids) for ids in dataset["input_ids"]]
    longest = max(dataset["source_length"])
    assert len(within(dataset, longest - 1)) == 1
    assert len(within(dataset, longest)) == 2


def test_few_lines_are_objects_at_once(tokenizer, monkeypatch):
    text = ParallelText.from_pairs([("the house", "la casa")] * 25 + [("the red car", "el coche")])
    expected = encode(text, tokenizer)
    counts = []

    def count(_, lines, *is_target):
        counts.append(len(lines))
        return encode_lines(tokenizer, lines, *is_target)

    monkeypatch.setattr(encoding, "encode_lines", count)
    monkeypatch.setattr(encoding, "ENCODED_LINES", 10)
    assert encode(text, tokenizer)[:] == expected[:] and counts == [10, 10, 6] * 2


def test_long_pairs_of_a_mapped_text_are_left_out(tokenizer, tmp_path):
    pairs = [(" ".join(["house"] * (1 + i % 7)), " ".join(["casa"] * (1 + i % 3))) for i in range(50)]
    encoded = encode(ParallelText.from_pairs(pairs), tokenizer)
    middle = int(np.median(encoded["source_length"]))
    encoded.save_to_disk(tmp_path)
    mapped = datasets.load_from_disk(tmp_path)
    for dataset in (mapped, mapped.select([9, 3, 5, 13, 20])):
        assert dataset.cache_files
        short = [row for row in dataset if max(len(row["input_ids"]), len(row["labels"])) <= middle]
        assert 0 < len(short) < len(dataset) and list(within(dataset, middle)) == short


def test_a_tokenizer_that_tells_sides_apart_sees_the_target_as_one():
    """Such as Marian's, which has a model of each language."""

    def tokenize(text=None, text_target=None, **_):
        first = 1 if text is not None else 2
        return BatchEncoding({"input_ids": [[first, len(line)] for line in text or text_target]})

    row = encode(ParallelText.from_pairs([("ab", "abc")]), tokenize)[0]
    assert (row["input_ids"], row["labels"]) == ([1, 2], [2, 3])


def test_a_large_text_is_encoded_once_and_in_several_processes(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path))
    monkeypatch.setattr("training.data.encoding.CACHED_PAIRS", 4)
    text = ParallelText.from_pairs([(f"the house {i}", f"la casa {i}") for i in range(9)])
    first = encode(text, tokenizer, num_workers=2)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.arrow")}
    assert len(files) == 2  # one of each process
    again = encode(text, tokenizer, num_workers=2)
    assert again[:] == first[:]
    assert again["source"][:] == text.sources
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.arrow")} == files
    pairs = list(text)
    pairs[3] = (pairs[3][0], "el coche")
    changed = encode(ParallelText.from_pairs(pairs), tokenizer, num_workers=2)
    assert changed["labels"][3] != first["labels"][3]
    assert pytest.approx(len(changed)) == 9


@pytest.fixture(scope="module", params=[False, True])
def learned(request):
    return VanillaTransformerTokenizer.train(
        ["the house is red", "don't 3,5 €5", "la casa es roja"] * 4, 400, request.param
    )


def encode_as_users_do(tokenizer, lines):
    return tokenizer(list(lines), split_special_tokens=True).input_ids


def test_lines_get_the_ids_that_the_tokenizer_gives_them(learned):
    expected = encode_as_users_do(learned, ODD)
    assert encode_lines(learned, ODD) == expected
    learned(ODD, padding=True, truncation=True, max_length=4)  # which the backend keeps until the next call
    assert encode_lines(learned, ODD) == expected
    assert learned("</s> a").input_ids[0] == 2  # a call without `split_special_tokens` still reads them
    assert encode_lines(learned, []) == []


CHARACTERS = st.one_of(st.sampled_from(" ab'\t\u0301\u00a0é1.<s>"), st.characters(codec="utf-8"))


@settings(max_examples=40, deadline=None)
@given(lines=st.lists(st.text(CHARACTERS), min_size=1))
def test_any_text_gets_the_ids_that_the_tokenizer_gives_it(learned, lines):
    assert encode_lines(learned, lines) == encode_as_users_do(learned, lines)
