"""Augmentation: what becomes of a training pair, by nothing but the seed, the epoch and its row."""

import random

import pytest

from training.data.everyday import KINDS, Everyday, Items, Pair, lower, no_stop, title, upper
from training.recipe.augmentation import DEFAULT_SHARES, read_shares
from vanilla_transformer.errors import RecipeError

NOTHING = dict.fromkeys(DEFAULT_SHARES, 0.0)
PAIRS = [
    ("Tom sees the house.", "Tom ve la casa."),
    ("Tom buys the house.", "Tom compra la casa."),
    ("We paint a house.", "Pintamos una casa."),
    ("They sell the house.", "Venden la casa."),
    ("They have 25 dogs.", "Tienen 25 perros."),
]


def test_each_change_of_case_and_of_marks():
    pair = Pair("Is Tom's old house here?", "¿Está aquí la vieja casa de Tom?")
    assert upper(pair) == ("IS TOM'S OLD HOUSE HERE?", "¿ESTÁ AQUÍ LA VIEJA CASA DE TOM?")
    assert title(pair) == ("Is Tom's Old House Here?", pair.target)
    assert lower(pair) == ("is tom's old house here?", pair.target)
    assert no_stop(pair) == ("Is Tom's old house here", "Está aquí la vieja casa de Tom")
    assert no_stop(Pair("Wait...", "Espera…")) == ("Wait", "Espera")
    assert no_stop(Pair("Wait.", "Espera")) == ("Wait.", "Espera")  # one side has no mark to leave out
    assert no_stop(Pair("...", "...")) == ("...", "...")


def test_shares_are_those_of_the_pairs():
    everyday = Everyday(PAIRS, {**NOTHING, "upper": 0.2, "title": 0.3, "lower": 0.1, "no_stop": 0}, seed=1)
    source, target = PAIRS[1]
    shown = [everyday(source, target, row, epoch=0) for row in range(5000)]
    for text, share in (("TOM BUYS THE HOUSE", 0.2), ("Tom Buys The House", 0.3), ("tom buys the house", 0.1)):
        assert sum(pair.source.rstrip(".") == text for pair in shown) / 5000 == pytest.approx(share, abs=0.03)
    assert sum(pair == (source, target) for pair in shown) / 5000 == pytest.approx(0.4, abs=0.03)


def test_single_words_are_changed_three_times_as_often():
    everyday = Everyday(PAIRS, {**NOTHING, "lower": 0.1, "no_stop": 0.1}, seed=1)
    shown = [everyday("House.", "Casa.", row, epoch=0) for row in range(5000)]
    assert sum(pair.source[0] == "h" for pair in shown) / 5000 == pytest.approx(0.3, abs=0.03)
    assert sum(pair == ("House", "Casa") for pair in shown) / 5000 == pytest.approx(0.7 * 0.3, abs=0.03)


def test_the_change_of_a_pair_depends_on_seed_epoch_and_row_only():
    first, again, other = (Everyday(PAIRS, DEFAULT_SHARES, seed) for seed in (1, 1, 2))
    rows = range(400)
    shown = [first(*PAIRS[row % 5], row, epoch=3) for row in rows]
    assert [again(*PAIRS[row % 5], row, epoch=3) for row in reversed(rows)] == shown[::-1]
    assert [first(*PAIRS[row % 5], row, epoch=4) for row in rows] != shown
    assert [other(*PAIRS[row % 5], row, epoch=3) for row in rows] != shown


@pytest.mark.parametrize("kind", KINDS)
def test_copies_are_on_both_sides(kind):
    everyday = Everyday(PAIRS, {**NOTHING, "copies": 1.0}, seed=1)
    for number in range(300):
        pair, item = everyday.with_copy(Pair(*PAIRS[number % 5]), random.Random(number), kind)
        assert item and item in pair.source and item in pair.target
        assert pair.source.count(item) == pair.target.count(item)


def test_copies_take_the_place_of_words_that_translate_each_other():
    everyday = Everyday(PAIRS, {**NOTHING, "copies": 1.0}, seed=1)
    assert everyday.places(Pair(*PAIRS[0])) == [("Tom", "Tom"), ("house", "casa")]
    assert ("25", "25") in everyday.places(Pair(*PAIRS[4]))
    replaced = {everyday.with_copy(Pair(*PAIRS[0]), random.Random(number), "mask")[0] for number in range(100)}
    assert any(pair.source == "① sees the house." and pair.target == "① ve la casa." for pair in replaced)
    assert any(pair.source == "Tom sees the ②." and pair.target == "Tom ve la ②." for pair in replaced)


def test_items_are_of_many_kinds():
    items = Items(random.Random(1), ["house", "garden"])
    drawn = {kind: {getattr(items, kind)() for _ in range(200)} for kind in KINDS}
    assert {"%s", "{0}"} & drawn["placeholder"] and any(item.startswith("{{") for item in drawn["placeholder"])
    assert all("@" in item for item in drawn["email_address"])
    assert len(drawn["name"]) > 150 and len(drawn["web_address"]) > 150


@pytest.mark.parametrize("off", [None, False, "false", {}, {"upper": 0}])
def test_augmentation_is_off(off):
    assert read_shares(off) == {}


def test_augmentation_is_read():
    assert read_shares(True) == read_shares("true") == DEFAULT_SHARES
    assert read_shares("{lower: 0.5}") == {**NOTHING, "lower": 0.5}
    for value, message in (
        ({"uper": 0.1}, "`augmentation` must have shares of upper, title, lower, no_stop, copies, but has `uper`"),
        ({"upper": 2}, "`upper` in `augmentation` must be a number from 0 to 1, but is 2"),
        (
            {"upper": 0.6, "lower": 0.6},
            "`augmentation` must have at most 1 for upper, title, lower together, but has 1.2",
        ),
        ("all", "`augmentation` must be names and values, but is 'all'. Write, for example, '{upper:"),
    ):
        with pytest.raises(RecipeError, match=message.replace("{", r"\{")):
            read_shares(value)
