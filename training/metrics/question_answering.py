"""
Scores of extractive question answering: exact match and F1 as the evaluator of SQuAD v1.1 defines them (Rajpurkar et
al. 2016), with the precision and the recall behind F1.
"""

import re
import string
import unicodedata
from collections import Counter
from typing import TypedDict

import datasets

from training.metrics.metric import Metric
from training.metrics.segmentation import lacks_spaces, separate_characters
from vanilla_transformer.errors import MetricError

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize(answer: str) -> str:
    """Lower-cased, without punctuation and articles, with single spaces, in NFC: accents apart would be no letters."""
    return " ".join(ARTICLES.sub(" ", unicodedata.normalize("NFC", answer).lower().translate(PUNCTUATION)).split())


def exact_match(prediction: str, reference: str) -> float:
    """1 if both are the same once they are normalized, else 0."""
    return float(normalize(prediction) == normalize(reference))


def overlap(prediction: str, reference: str, characters: bool = False) -> tuple[float, float, float]:
    """F1, precision and recall of the words of a prediction, as bags; of `characters` in scripts without spaces."""
    part = separate_characters if characters else str
    predicted, referred = (part(normalize(answer)).split() for answer in (prediction, reference))
    common = sum((Counter(predicted) & Counter(referred)).values())
    if not common:
        return 0.0, 0.0, 0.0
    precision, recall = common / len(predicted), common / len(referred)
    return 2 * precision * recall / (precision + recall), precision, recall


def score_answers(predictions: dict[str, str], references: dict[str, list[str]]) -> dict[str, float]:
    """
    Exact match and F1 in percent, each with the best reference of a question; a question without prediction has 0. F1
    counts words, or characters if the references are mostly in a script without spaces between words.

    Args:
        predictions: question id -> answer.
        references: question id -> right answers, at least one.

    Returns:
        "exact_match", "f1", "precision", "recall" (of the reference with the best F1), and "unanswered", a number.

    Raises:
        MetricError: if there are no questions, one has no right answer, or a prediction is for another question.
    """
    if not references:
        raise MetricError("There are no questions to score. Give the right answers by the ids of their questions.")
    if unknown := sorted(set(predictions) - set(references)):
        raise MetricError(
            f"There is a prediction for {unknown[0]!r}, which is not the id of a question. Leave it out."
        )
    keys = ("exact_match", "f1", "precision", "recall")
    characters = lacks_spaces([answer for answers in references.values() for answer in answers])
    totals = dict.fromkeys((*keys, "unanswered"), 0.0)
    for question, answers in references.items():
        if not answers:
            raise MetricError(f"The question {question!r} has no right answer. Leave it out.")
        prediction = predictions.get(question)
        if prediction is None:
            totals["unanswered"] += 1
            continue
        totals["exact_match"] += max(exact_match(prediction, answer) for answer in answers)
        f1, precision, recall = max(overlap(prediction, answer, characters) for answer in answers)
        for name, value in (("f1", f1), ("precision", precision), ("recall", recall)):
            totals[name] += value
    return {**{key: 100 * totals[key] / len(references) for key in keys}, "unanswered": totals["unanswered"]}


class Prediction(TypedDict):
    id: str
    prediction_text: str


class Reference(TypedDict):
    id: str
    answers: list[str]


class AnswerMetric(Metric):
    """
    Scores of `score_answers` as an `evaluate.Metric`: predictions are {"id", "prediction_text"}, references {"id",
    "answers"} with the right answers.
    """

    takes = 'predictions: {"id", "prediction_text"}; references: {"id", "answers"}'
    columns = {
        "predictions": {"id": datasets.Value("string"), "prediction_text": datasets.Value("string")},
        "references": {"id": datasets.Value("string"), "answers": datasets.Sequence(datasets.Value("string"))},
    }

    keys: tuple[str, ...] = ("exact_match", "f1", "precision", "recall", "unanswered")

    def _compute(self, predictions: list[Prediction], references: list[Reference]) -> dict[str, float]:
        results = score_answers(
            {each["id"]: each["prediction_text"] for each in predictions},
            {each["id"]: list(each["answers"]) for each in references},
        )
        return {key: results[key] for key in self.keys}


class ExactMatch(AnswerMetric):
    """Answers that are a right one to the letter, but for case, punctuation and articles."""

    keys = ("exact_match",)


class AnswerF1(AnswerMetric):
    """The overlap of answers with the nearest right one, in words."""

    keys = ("f1",)
