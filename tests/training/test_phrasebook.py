import re

import pytest

from training.data.phrasebook import (
    FIXED,
    WORDS,
    actions,
    agree,
    descriptions,
    everyday,
    feelings,
    noun_phrase,
    phrasebook,
    places,
)


@pytest.fixture(scope="module")
def corpus():
    return phrasebook()


def words(pairs, side):
    return {word for pair in pairs for word in re.findall(r"\w+", pair[side])}


def test_the_tutorials_sentence_is_in_the_training_part(corpus):
    assert corpus["train"][0] == ("How are you?", "¿Cómo estás?")


def test_parts_are_large_and_share_no_sentence(corpus):
    assert [len(corpus[part]) for part in ("train", "validation", "test")] == [7000, 250, 500]
    train, validation, test = ({english for english, _ in pairs} for pairs in corpus.values())
    assert not train & validation and not train & test and not validation & test
    repeated = 19 * len(FIXED) + 4 * len(", ".join(WORDS.values()).split(", "))
    assert (len(train), len(validation), len(test)) == (7000 - repeated, 250, 500)


@pytest.fixture(scope="module")
def sentences():
    return [sentence for rule in (descriptions, feelings, actions, places) for sentence in rule()]


def test_an_english_sentence_has_one_translation(sentences):
    pairs: dict[str, str] = {}
    for sentence in sentences:
        assert pairs.setdefault(sentence.english, sentence.spanish) == sentence.spanish


def test_test_sentences_are_those_with_a_combination_that_training_lacks(corpus, sentences):
    combinations = {sentence.english: sentence.combinations for sentence in sentences}
    seen = {
        combination
        for part in ("train", "validation")
        for english, _ in corpus[part]
        for combination in combinations.get(english, ())
    }
    for english, _ in corpus["test"]:
        assert set(combinations[english]) - seen, english


def test_every_word_of_the_test_part_is_in_training(corpus):
    for side in (0, 1):
        assert words(corpus["test"], side) <= words(corpus["train"], side)


@pytest.mark.parametrize(
    ("english", "spanish"),
    [
        ("The tables are not clean.", "Las mesas no están limpias."),  # estar, agreement
        ("The table is red.", "La mesa es roja."),  # ser
        ("Is the big table clean?", "¿Está limpia la mesa grande?"),
        ("How tired Ana is!", "¡Qué cansada está Ana!"),
        ("What an old car!", "¡Qué coche tan viejo!"),
    ],
)
def test_the_grammar(english, spanish):
    pairs = {sentence.english: sentence.spanish for rule in (descriptions, feelings, places) for sentence in rule()}
    assert pairs[english] == spanish


def test_adjectives_agree_and_buen_is_before_its_noun():
    assert [agree("rojo", gender, plural) for gender in "mf" for plural in (False, True)] == [
        "rojo",
        "rojos",
        "roja",
        "rojas",
    ]
    assert agree("verde", "f", True) == "verdes"
    book = ("book", "books", "libro", "libros", "m")
    assert noun_phrase(book, ("good", "bueno"), False, False) == ("a good book", "un buen libro")
    assert noun_phrase(book, ("good", "bueno"), True, True) == ("the good books", "los buenos libros")
    assert noun_phrase(book, ("old", "viejo"), False, False) == ("an old book", "un libro viejo")


def test_the_everyday_corpus_has_each_word_as_people_type_it_and_lists_that_agree_word_by_word(corpus):
    typed = everyday()["train"][7000:]
    assert everyday()["train"][:7000] == corpus["train"]
    assert (everyday()["validation"], everyday()["test"]) == (corpus["validation"], corpus["test"])
    known = dict(pair.split() for pair in ", ".join(WORDS.values()).split(", "))
    phrases = {("how are you", "cómo estás"), ("good morning", "buenos días"), ("hi", "hola")}
    assert phrases <= set(typed) and len(set(typed) & {*known.items()}) == len(known)
    lists = [pair for pair in typed if ", " in pair[0] and pair[0].split(", ")[0] in known]
    assert len(lists) > 4000
    for english, spanish in lists:
        assert [known[word] for word in english.split(", ")] == spanish.split(", ")
