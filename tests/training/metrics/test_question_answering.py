import json
import unicodedata
from pathlib import Path

import evaluate
import pytest

from tests.conftest import DATA, corpus
from training.metrics.question_answering import AnswerF1, ExactMatch, normalize, score_answers

# Exact match and F1 of the official evaluator, and how many questions have no prediction.
SYSTEMS = {
    "BERT": (86.2062, 92.1956, 0),
    "r-net+": (82.4693, 88.4779, 0),
    "SLQA+": (81.9489, 88.3839, 0),
    "Match-LSTM": (67.6348, 76.7556, 0),
    "Logistic": (40.1419, 50.9815, 13),
}


def test_answers_are_normalized_as_the_evaluator_does():
    assert normalize("The  U.S.A.'s, a-b An") == "usas ab"


def test_scores_do_not_depend_on_the_form_of_unicode():
    answers = ["à la carte", "ăn ở đó", "한국어", "\u212bngström"]
    references = {str(i): [answer] for i, answer in enumerate(answers)}
    composed = {str(i): unicodedata.normalize("NFC", f"{answer} más") for i, answer in enumerate(answers)}
    apart = {name: unicodedata.normalize("NFD", answer) for name, answer in composed.items()}
    assert score_answers(apart, references) == score_answers(composed, references)
    assert score_answers(apart, {name: [answer] for name, answer in composed.items()})["exact_match"] == 100
    assert normalize(apart["0"]) == "à la carte más"


def test_by_hand():
    results = score_answers(
        {"1": "the red house", "2": "cat sat", "3": "wrong"},
        {"1": ["Red house!"], "2": ["dog", "the cat sat down"], "3": ["right"], "4": ["missing"]},
    )
    assert results["exact_match"] == 100 / 4
    assert results["precision"] == pytest.approx(100 * (1 + 1) / 4)
    assert results["recall"] == pytest.approx(100 * (1 + 2 / 3) / 4)
    assert results["f1"] == pytest.approx(100 * (1 + 2 * 2 / 3 / (1 + 2 / 3)) / 4)
    assert results["unanswered"] == 1


def official_scores(predictions, references):
    """The evaluator of SQuAD v1.1 in other words: words as lists, the best reference for each of both scores."""
    exact = f1 = 0.0
    for question, answers in references.items():
        if question not in predictions:
            continue
        predicted = normalize(predictions[question]).split()
        best_exact = best_f1 = 0.0
        for answer in answers:
            words = normalize(answer).split()
            best_exact = max(best_exact, float(words == predicted))
            rest, same = list(words), 0
            for word in predicted:
                if word in rest:
                    rest.remove(word)
                    same += 1
            if same:
                best_f1 = max(best_f1, 2 * same / (len(predicted) + len(words)))
        exact, f1 = exact + best_exact, f1 + best_f1
    return 100 * exact / len(references), 100 * f1 / len(references)


def read_references(path: Path) -> dict[str, list[str]]:
    articles = json.loads(path.read_text(encoding="utf-8"))["data"]
    return {
        question["id"]: [answer["text"] for answer in question["answers"]]
        for article in articles
        for paragraph in article["paragraphs"]
        for question in paragraph["qas"]
    }


def check_official(predictions: dict[str, str], references: dict[str, list[str]]) -> dict[str, float]:
    results, official = score_answers(predictions, references), official_scores(predictions, references)
    assert results["exact_match"] == pytest.approx(official[0], abs=1e-9)
    assert results["f1"] == pytest.approx(official[1], abs=1e-9)
    assert results["f1"] <= max(results["precision"], results["recall"])
    return results


@pytest.mark.parametrize("system", ["BERT", "Logistic"])
def test_answers_of_systems_are_scored_as_the_official_evaluator_does(system):
    predictions = json.loads((DATA / "squad_predictions.json").read_text(encoding="utf-8"))[system]
    assert 0 < check_official(predictions, read_references(DATA / "squad.json"))["exact_match"] < 100


@pytest.mark.slow
@pytest.mark.parametrize("system", SYSTEMS)
def test_published_systems_have_the_scores_of_the_official_evaluator(system):
    references = read_references(corpus("squad", "dev-v1.1.json"))
    predictions = json.loads(corpus("oracles", "squad", f"pred.{system}.json").read_text(encoding="utf-8"))
    predictions = {question: text for question, text in predictions.items() if question in references}
    results = check_official(predictions, references)
    exact, f1, unanswered = SYSTEMS[system]
    assert (round(results["exact_match"], 4), round(results["f1"], 4)) == (exact, f1)
    assert results["unanswered"] == unanswered


@pytest.mark.parametrize(
    ("prediction", "answer", "f1"),
    [("北京大学", "北京大学校", 100 * 8 / 9), ("ภาษา", "ภาษาไทย", 100 * 8 / 11), ("the Peking", "北京", 0)],
)
def test_characters_are_counted_in_scripts_without_spaces(prediction, answer, f1):
    results = score_answers({"1": prediction}, {"1": [answer]})
    assert (results["exact_match"], results["f1"]) == (0, pytest.approx(f1))
    # One such answer among others is a word, as the official evaluator counts it.
    references = {"1": [answer], "2": ["a red house in the old town"]}
    assert score_answers({"1": prediction}, references)["f1"] == 0


def test_they_are_metrics_of_evaluate():
    predictions = [{"id": "1", "prediction_text": "red house"}, {"id": "2", "prediction_text": "a cat"}]
    references = [{"id": "1", "answers": ["the red house"]}, {"id": "2", "answers": ["cat sat", "dog"]}]
    results = evaluate.combine([ExactMatch(), AnswerF1()]).compute(predictions=predictions, references=references)
    assert results == {"exact_match": 50.0, "f1": pytest.approx(100 * (1 + 2 / 3) / 2)}


def test_files_that_cannot_be_scored_are_named():
    with pytest.raises(ValueError, match="There are no questions"):
        score_answers({}, {})
    with pytest.raises(ValueError, match="'2', which is not the id of a question"):
        score_answers({"2": "x"}, {"1": ["x"]})
    with pytest.raises(ValueError, match="'1' has no right answer"):
        score_answers({}, {"1": []})
