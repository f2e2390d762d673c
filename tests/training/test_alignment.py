import random
import re
from pathlib import Path

import pytest

from training.data.alignment import Shift, check_alignment, find_shift
from training.data.languages import compare_languages
from training.data.parallel import ParallelText
from training.data.phrasebook import greetings, phrasebook
from training.train import main
from vanilla_transformer.errors import RecipeError

RECIPE = Path(__file__).resolve().parents[2] / "training" / "recipes" / "own_files.yaml"
PAIRS = phrasebook()["train"][len(list(greetings())) :]


def shift_target(pairs, offset, first):
    """From a position on, the target of source n is n + offset, as after lines too many or too few."""
    sources, targets = ([*side] for side in zip(*pairs, strict=True))
    if offset > 0:
        targets = [*targets[:first], *["Una línea de más."] * offset, *targets[first:-offset]]
    else:
        targets = [*targets[:first], *targets[first - offset :], *targets[:-offset]]
    return ParallelText.from_lists(sources, targets, list(range(1, len(sources) + 1)))


def test_the_check_can_be_switched_off(tmp_path):
    """Where each line answers the one before it, for instance."""
    text = shift_target(PAIRS, 1, 100)
    for name, side in (("a", text.sources), ("b", text.targets)):
        (tmp_path / f"train.{name}").write_text("\n".join(side) + "\n", encoding="utf-8")
    arguments = ["--source", tmp_path / "train.a", "--target", tmp_path / "train.b", "--output_dir", tmp_path / "run"]
    arguments = [str(word) for word in (RECIPE, *arguments, "--report_only", "true")]
    assert main(arguments) == 2
    assert main([*arguments, "--check_alignment", "false"]) == 0


def shorten(line):
    """Leave a word out, as a model's translation of the same sentence may."""
    words = line.split()
    return " ".join(words[1:] if len(words) > 3 else words)


def test_text_that_augmentation_made_passes():
    """Real pairs several times, and each with a side that a model made; also both directions in one text."""
    sources, targets = (list(side) for side in zip(*PAIRS[:600], strict=True))
    made = [*sources * 3, *map(shorten, sources)], [*targets * 2, *map(shorten, targets), *targets]
    for left, right in (made, ([*sources, *targets], [*targets, *sources])):
        text = ParallelText.from_lists(left, right, list(range(1, len(left) + 1)))
        assert check_alignment(text, "train") == []
        compare_languages(text, "en", "es")


@pytest.mark.parametrize("offset", [-2, -1, 1, 2])
@pytest.mark.parametrize(("count", "first"), [(200, 0), (1000, 0), (1000, 400)])
def test_a_shift_is_found_with_its_first_row(offset, count, first):
    text = shift_target(PAIRS[:count], offset, first)
    shift, share = find_shift(text)
    assert shift is not None and shift.offset == offset
    assert abs(shift.first - first) <= 12 and share > 0.8 * (count - first) / count
    longer, row = ("target", "after") if offset > 0 else ("source", "before")
    rows = "1 row" if abs(offset) == 1 else "2 rows"
    named = rf"in the train text, from about row {shift.first + 1} on, .* {rows} {row} .* There the {longer} has"
    with pytest.raises(RecipeError, match=named):
        check_alignment(text, "train")


def test_a_shift_by_lines_that_lack_in_the_source_is_found():
    text = shift_target(PAIRS[:500], 1, 100)
    swapped = ParallelText.from_lists(text.targets, text.sources, text.rows)
    shift, _ = find_shift(swapped)
    assert shift is not None and shift.offset == -1 and abs(shift.first - 100) <= 5


def test_a_long_text_is_searched_in_windows(monkeypatch):
    monkeypatch.setattr("training.data.alignment.CHECKED_PAIRS", 1000)
    monkeypatch.setattr("training.data.alignment.WINDOW", 100)
    shift, share = find_shift(shift_target(PAIRS, -1, 3650))
    assert shift is not None and shift.offset == -1 and abs(shift.first - 3650) <= 5 and 0.3 < share < 0.45
    assert find_shift(ParallelText.from_pairs(PAIRS)) == (None, 0.0)


def test_a_small_part_out_of_step_is_told_of():
    text = shift_target(PAIRS[:2000], 1, 0)
    pairs = [*PAIRS[:1000], *zip(text.sources[1000:1120], text.targets[1000:1120], strict=True), *PAIRS[1120:]]
    (note,) = check_alignment(ParallelText.from_pairs(pairs), "train")
    assert re.fullmatch(
        r"train: from about row (99\d|1,00\d) on, sources fit the target 1 row after their own. .*", note
    )


def test_texts_in_step_and_texts_that_never_were_raise_no_alarm():
    shuffled = [target for _, target in PAIRS]
    random.Random(1).shuffle(shuffled)
    sources = [source for source, _ in PAIRS]
    for count in (1, 2, 3, 30, 200, 2000):
        assert check_alignment(ParallelText.from_pairs(PAIRS[:count]), "train") == []
        assert (
            check_alignment(ParallelText.from_lists(sources[:count], shuffled[:count], [*range(count)]), "train") == []
        )
    ordered = sorted(PAIRS[:3000], key=lambda pair: (len(pair[0]), pair[0]))
    assert find_shift(ParallelText.from_pairs(ordered)) == (None, 0.0)
    assert find_shift(ParallelText.from_pairs(PAIRS[:1] * 300)) == (None, 0.0)


def test_lines_of_other_scripts_are_compared_by_their_lengths_and_marks():
    draw = random.Random(3)
    pairs = [
        ("я" * size + mark, "我" * (size // 3) + mark) for size in draw.choices(range(9, 90), k=400) for mark in "。"
    ]
    assert find_shift(ParallelText.from_pairs(pairs)) == (None, 0.0)
    assert find_shift(shift_target(pairs, -1, 0))[0] == Shift(-1, 1, 400)


@pytest.mark.parametrize("change", [lambda line: line, lambda line: f" {line} ", lambda line: line.replace(" ", "  ")])
def test_the_same_text_on_both_sides_is_refused(change):
    pairs = [(source, change(source)) for source, _ in PAIRS[:40]]
    with pytest.raises(RecipeError, match="the validation text must differ, but are the same in all 40 pairs"):
        check_alignment(ParallelText.from_pairs([*pairs, ("", "")]), "validation")
    (note,) = check_alignment(ParallelText.from_pairs(pairs + PAIRS[40:60]), "train")
    assert note == "train: source and target are the same in 40 of 60 pairs"
    assert check_alignment(ParallelText.from_pairs(pairs + PAIRS[40:100]), "train") == []
