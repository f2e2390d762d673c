"""Scores of text as people type it."""

import pytest

from training.data.everyday import KINDS
from training.data.parallel import ParallelText
from training.tasks.robustness import COPIES, bare, measure, share_copied, table
from vanilla_transformer.scores import Robustness

PAIRS = [("The house is red.", "La casa es roja."), ("Is Tom here?", "¿Está Tom aquí?")]


class Echo:
    """A translator that knows some sources; of others it gives the source itself, or nothing of it."""

    text_key = "translation_text"

    def __init__(self, known, copies=True):
        self.known, self.copies, self.seen = known, copies, []

    def __call__(self, sources, **settings):
        self.seen.append((sources, settings))
        return [{self.text_key: self.known.get(source, source if self.copies else "x")} for source in sources]


def test_each_copy_is_scored_with_and_without_what_the_pipeline_does():
    echo = Echo(dict(PAIRS))
    rows = measure(echo, ParallelText.from_pairs(PAIRS), "es")
    assert [row.copy for row in rows] == [*COPIES, *(kind.replace("_", " ") for kind in KINDS if kind != "mask")]
    by_copy = {row.copy: row for row in rows}
    assert by_copy["plain"].pipeline == by_copy["plain"].generate == pytest.approx(100)
    assert by_copy["upper"].pipeline < 50  # the echo knows nothing of them
    assert by_copy["email address"].pipeline == 100
    sources = [sources for sources, _ in echo.seen]
    assert sources[2] == ["THE HOUSE IS RED.", "IS TOM HERE?"] and sources[4] == ["The House Is Red.", "Is Tom Here?"]
    assert sources[8] == ["The house is red", "Is Tom here"] and sources[10][0].strip() == "The house is red."
    assert [settings for _, settings in echo.seen[:2]] == [
        {},
        {"split_sentences": False, "protect_copies": False, "restore_case": False},
    ]


def test_a_thing_that_is_not_copied_is_seen():
    rows = measure(Echo({}, copies=False), ParallelText.from_pairs(PAIRS), "es")
    assert all(row.pipeline == 0 for row in rows if row.copy not in COPIES)
    assert share_copied(["a {x}", "b {y}", "{z} c"], ["{x}", "{y}", "{z}"], ["{x}", "{y} {y}", ""]) == pytest.approx(
        100 / 3
    )


def test_scores_are_without_case_and_marks():
    assert bare("¡HOLA, Señor  Núñez!") == "hola señor núñez"
    shown = table([Robustness("upper", 2000, 46.25, 1.5), Robustness("path", 40, 100, 7.5)])
    assert "46.2" in shown and "copied once" in shown and "2,000" in shown
