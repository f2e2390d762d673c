import evaluate
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score

from training.metrics.classification import F1, Accuracy, Precision, Recall, score_labels


def test_by_hand():
    results = score_labels([0, 0, 1, 1, 1], [0, 1, 1, 1, 0], ["no", "yes"])
    assert results["accuracy"] == pytest.approx(3 / 5)
    assert (results["precision_no"], results["recall_no"]) == (pytest.approx(1 / 2), pytest.approx(1 / 2))
    assert (results["precision_yes"], results["recall_yes"]) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert results["f1"] == pytest.approx((1 / 2 + 2 / 3) / 2)


@pytest.mark.parametrize("labels", [2, 3, 7])
def test_random_labels_have_the_scores_of_scikit_learn(labels):
    generator = np.random.default_rng(labels)
    predictions, references = generator.integers(0, labels, size=(2, 200)).tolist()
    results = score_labels(predictions, references)
    assert score_labels(np.array(predictions), np.array(references)) == results
    assert results["accuracy"] == accuracy_score(references, predictions)
    for key, function in (("precision", precision_score), ("recall", recall_score), ("f1", f1_score)):
        assert results[key] == pytest.approx(function(references, predictions, average="macro"), abs=1e-12)
    combined = evaluate.combine([Accuracy(), Precision(), Recall(), F1()])
    found = combined.compute(predictions=predictions, references=references)
    assert found == {key: results[key] for key in ("accuracy", "precision", "recall", "f1")}


def test_labels_that_nobody_uses_count_as_nothing():
    results = score_labels([0, 0], [0, 0], ["a", "b"])
    assert (results["f1_b"], results["f1"]) == (0.0, 0.5)


def test_numbers_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="1 predictions and 2 references"):
        score_labels([0], [0, 1])
    with pytest.raises(ValueError, match="0 predictions"):
        score_labels([], [])
