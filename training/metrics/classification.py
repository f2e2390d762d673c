"""Scores of classification: accuracy, and precision, recall and F1 of each label and on average, by scikit-learn."""

from collections.abc import Sequence

import datasets
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from training.metrics.metric import Metric
from vanilla_transformer.errors import MetricError


def score_labels(
    predictions: list[int], references: list[int], names: Sequence[object] | None = None
) -> dict[str, float]:
    """
    Accuracy, the unweighted means of precision, recall and F1 over the labels, and these three for each label.

    A label that is never predicted has precision 0, one that is never right F1 0.

    Args:
        predictions, references: label numbers.
        names: of the labels 0, 1, ..., for the keys of the results; numbers without them.

    Returns:
        "accuracy", "precision", "recall", "f1", and "precision_NAME", "recall_NAME", "f1_NAME", from 0 to 1.

    Raises:
        MetricError: if the numbers of both differ, or are 0.
    """
    if len(predictions) != len(references) or len(references) == 0:
        raise MetricError(
            f"There are {len(predictions):,} predictions and {len(references):,} references. Give one for each."
        )
    labels = list(range(len(names))) if names is not None else sorted({*predictions, *references})
    names = names if names is not None else labels
    measured = precision_recall_fscore_support(references, predictions, labels=labels, zero_division=0.0)
    results = {"accuracy": float(accuracy_score(references, predictions))}
    for key, values in zip(("precision", "recall", "f1"), measured, strict=False):
        results[key] = float(values.mean())
        results |= {f"{key}_{name}": float(value) for name, value in zip(names, values, strict=True)}
    return results


class ClassificationMetric(Metric):
    """
    Scores of `score_labels` as an `evaluate.Metric`: predictions and references are label numbers.

    Args:
        keys: which of its results to give; all of them without it.
        names: of the labels.
    """

    takes = "predictions and references: label numbers"
    columns = {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}

    keys: tuple[str, ...] | None = None

    def __init__(self, names: list[str] | None = None):
        self.names = names
        super().__init__()

    def _compute(self, predictions: list[int], references: list[int]) -> dict[str, float]:
        results = score_labels(list(predictions), list(references), self.names)
        return results if self.keys is None else {key: results[key] for key in self.keys}


class Accuracy(ClassificationMetric):
    """The share of right labels."""

    keys = ("accuracy",)


class Precision(ClassificationMetric):
    """How many of the predictions of a label are right, averaged over the labels."""

    keys = ("precision",)


class Recall(ClassificationMetric):
    """How many that have a label get it, averaged over the labels."""

    keys = ("recall",)


class F1(ClassificationMetric):
    """The harmonic mean of precision and recall of each label, averaged over the labels."""

    keys = ("f1",)
