import pytest

from training.data.cleaning import (
    HELD_OUT_SHARE,
    LanguageEvidence,
    check_direction,
    clean,
    describe,
    hold_out,
    report_lengths,
    report_swapped,
)
from training.data.parallel import ParallelText
from training.data.phrasebook import phrasebook
from training.recipe.fields import DataFields
from vanilla_transformer.errors import RecipeError


def test_pairs_that_are_left_out_are_counted_by_reason():
    pairs = [(f"sentence number {i}", f"la frase número {i}") for i in range(20)]
    pairs += [
        ("", "x"),
        ("a", " "),
        pairs[3],
        pairs[3],
        ("short", "muy largo " * 30),
        ("much too long " * 30, "corto"),
    ]
    arguments = DataFields(drop_duplicates=True, max_length_ratio=3)
    text = clean(ParallelText.from_pairs(pairs), arguments, "train")
    assert text.rows == list(range(1, 21))
    assert describe(len(text), text.dropped, "train", "pairs") == (
        "train: 20 pairs, 6 left out: 2 with an empty side, 2 with lengths more than 3 times off the usual ratio, "
        "2 that repeat another"
    )
    # Only what cannot be used leaves a test.
    assert len(clean(ParallelText.from_pairs(pairs), arguments, "test")) == 24


def test_a_text_without_words_is_refused():
    with pytest.raises(RecipeError, match="no pair with words on both sides"):
        clean(ParallelText.from_pairs([("a", ""), (" ", "x")]), DataFields(), "train")


def test_the_held_out_part_shares_no_side_and_does_not_depend_on_the_order():
    pairs = [(f"source {i % 280}", f"target {i % 290}") for i in range(600)] + [("hi", "hola"), ("hey", "hola")]
    pairs += [(f"only {i}", f"solo {i}") for i in range(400)]
    train, validation = hold_out(ParallelText.from_pairs(pairs), at_most=2000)
    assert len(validation) == len(pairs) // HELD_OUT_SHARE
    assert len(train) == len(pairs) - len(validation)
    assert not set(train.sources) & set(validation.sources) and not set(train.targets) & set(validation.targets)
    assert not validation.dropped
    _, again = hold_out(ParallelText.from_pairs(pairs[::-1]), at_most=2000)
    assert set(again.sources) == set(validation.sources)
    assert len(hold_out(ParallelText.from_pairs(pairs), at_most=5)[1]) == 5


@pytest.mark.parametrize("pairs", [[("a", "b")], [("a", "b"), ("a", "c")]])
def test_a_text_that_cannot_be_parted_is_refused(pairs):
    with pytest.raises(RecipeError, match="none that could be held out"):
        hold_out(ParallelText.from_pairs(pairs), at_most=2000)


def test_swapped_sides_are_found():
    corpus = phrasebook()
    pairs = corpus["train"][-1000:]
    train = ParallelText.from_pairs(pairs)
    fair = ParallelText.from_pairs(corpus["test"][:100])
    check_direction(LanguageEvidence(train), fair, "validation")
    with pytest.raises(RecipeError, match="100 of the 100 validation pairs read like the other language"):
        check_direction(
            LanguageEvidence(train), ParallelText.from_lists(fair.targets, fair.sources, fair.rows), "validation"
        )
    some = [(target, source) if i in (17, 400) else (source, target) for i, (source, target) in enumerate(pairs)]
    text = ParallelText.from_pairs(some)
    shown = report_lengths(text) + report_swapped(text)
    assert "2 pairs look swapped" in shown and "row 18:" in shown and "row 401:" in shown
    assert "usual ratio of target to source: 1." in shown


def test_the_same_language_on_both_sides_is_not_swapped():
    sides = [f"a text of {i} words that is copied" for i in range(50)]
    text = ParallelText.from_lists(sides, [side[:20] for side in sides], list(range(1, 51)))
    check_direction(
        LanguageEvidence(text), ParallelText.from_lists(text.targets, text.sources, text.rows), "validation"
    )
