import datasets
import pytest
from transformers import BatchEncoding

from training.data.encoding import encode, within
from training.data.parallel import ParallelText


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
