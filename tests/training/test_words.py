import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.data import words
from training.data.phrasebook import phrasebook
from training.data.words import WordEncoder
from vanilla_transformer import VanillaTransformerTokenizer

PAIRS = phrasebook()["train"][:600]
LINES = [side for pair in PAIRS for side in pair]
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
]
ODD += [
    "a \u0301b",
    "don't 3,5 €5",
    "\u180e a",
    "a\u2028b c",
    "a\x1cb c",
    "語 \U0001f600 x",
    "\u1100\u1161 \u11a8",
    "'s 's",
]


@pytest.fixture(scope="module", params=[False, True])
def learned(request):
    return VanillaTransformerTokenizer.train(LINES, 500, request.param)


def encode_by(tokenizer, lines):
    return tokenizer(list(lines), split_special_tokens=True).input_ids


def test_lines_get_the_ids_that_the_tokenizer_gives_them(learned):
    encode = WordEncoder(learned)
    for lines in (LINES[:300], LINES, ODD, ODD[::-1]):
        assert encode(lines) == encode_by(learned, lines)
    assert encode([]) == []


@settings(max_examples=40, deadline=None)
@given(lines=st.lists(st.text(st.one_of(st.sampled_from(" ab'\t\u0301\u00a0é1.<s>"), st.characters(codec="utf-8")))))
def test_any_text_gets_the_ids_that_the_tokenizer_gives_it(learned, lines):
    assert WordEncoder(learned)(lines) == encode_by(learned, lines) if lines else True


def test_words_are_forgotten_before_they_are_too_many(learned, monkeypatch):
    monkeypatch.setattr(words, "KNOWN_WORDS", 50)
    encode = WordEncoder(learned)
    for start in range(0, 600, 20):
        assert encode(LINES[start : start + 20]) == encode_by(learned, LINES[start : start + 20])
        assert len(encode.first) + len(encode.following) < 250


def test_ids_that_are_given_belong_to_the_caller(learned):
    encode = WordEncoder(learned)
    encode(["house"])[0].append(7)
    assert encode(["house"]) == encode_by(learned, ["house"])
