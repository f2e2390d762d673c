import json
from pathlib import Path

import pytest

from vanilla_transformer.model_card import ModelCardFacts
from vanilla_transformer.scores import Results, Robustness, Score, SplitScores, write_score

CHECKPOINT = Path(__file__).resolve().parents[2] / "checkpoints" / "tiny-en-es"
SIGNATURE = "METEOR (exact+stem)|nrefs:1"


def test_the_results_of_a_folder_from_before_are_read_and_written_as_they_were():
    table = json.loads((CHECKPOINT / "all_results.json").read_text(encoding="utf-8"))
    results = Results.from_json(table)
    assert json.dumps(results.to_json()) == json.dumps(table)
    assert (results.steps, results.splits["test"].rows) == (table["steps"], table["test_rows"])
    assert results.splits["test"].scores["chrf"].margin == table["test_chrf_margin"]
    assert ModelCardFacts.load(CHECKPOINT).results == results


@pytest.fixture
def results():
    now = {"meteor": Score(50.0, SIGNATURE, 0.5), "accuracy": Score(0.25), "unanswered": Score(3)}
    return Results(
        {"test": SplitScores(1.5, now, 20, {"label a": {"count": 3, "f1": 0.5}}), "a_loss": SplitScores(2.0)},
        {"test": SplitScores(2.5, now).without_details()},
        (Robustness("upper", 20, 3.0, 4.0),),
        30,
        1.5,
    )


def test_every_entry_comes_back_from_json(results):
    assert Results.from_json(json.loads(json.dumps(results.to_json()))) == results


def test_scores_are_described_by_the_names_of_their_signatures(results):
    before = "NLL 2.5000, METEOR (exact+stem) 50.00, accuracy 0.2500"
    assert results.describe("test") == (
        f"NLL 1.5000, METEOR (exact+stem) 50.00 ± 0.50, accuracy 0.2500 (before: {before})"
    )
    assert results.names == {"meteor": "METEOR (exact+stem)", "accuracy": "accuracy"}
    assert results.signatures == {"meteor": SIGNATURE}


def test_bleu_is_shown_and_kept_with_its_brevity_penalty_and_length_ratio():
    bleu = Score(40.0, "BLEU|nrefs:1", 1.5, brevity_penalty=0.98765, length_ratio=0.9876)
    results = Results({"test": SplitScores(1.5, {"bleu": bleu})})
    assert write_score("bleu", bleu) == "40.00 ± 1.50 (BP 0.988, ratio 0.988)"
    table = json.loads(json.dumps(results.to_json()))
    assert (table["test_bleu_brevity_penalty"], table["test_bleu_length_ratio"]) == (0.98765, 0.9876)
    assert Results.from_json(table) == results
    logged = {"eval_loss": 1.5, "eval_bleu": 40.0, "eval_bleu_brevity_penalty": 1.0, "eval_bleu_length_ratio": 1.02}
    expected = "NLL 1.5000, BLEU 40.00 (BP 1.000, ratio 1.020)"
    assert SplitScores.from_metrics(logged, "eval").describe() == expected


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [("accuracy", 0.5, "0.5000"), ("accuracy", 1.0, "1.00"), ("bleu", 0.5, "0.50"), ("perplexity", 0.5, "0.50")],
)
def test_shares_have_four_places(key, value, shown):
    assert write_score(key, Score(value)) == shown


def test_further_measurements_of_trainer_are_left_out():
    metrics = {"eval_loss": 1.0, "eval_f1": 0.5, "eval_accuracy": 1.0, "eval_runtime": 3.0, "epoch": 1.0}
    scores = SplitScores.from_metrics(metrics, "eval", rows=3)
    assert scores == SplitScores(1.0, {"f1": Score(0.5), "accuracy": Score(1.0)}, 3)
    assert scores.describe() == "NLL 1.0000, accuracy 1.00, F1 0.5000"


@pytest.mark.parametrize("table", [{"test_loss": "x"}, {"test_loss": 1, "test_bleu": None}, {"steps": True}])
def test_entries_of_another_type_are_refused(table):
    with pytest.raises(ValueError, match="must be a number, but is"):
        Results.from_json(table)
