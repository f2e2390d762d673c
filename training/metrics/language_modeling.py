"""Perplexity of language models."""

import math
from typing import Any

import datasets
import evaluate

from vanilla_transformer.errors import MetricError


def perplexity(negative_log_likelihood: float) -> float:
    """exp of the mean negative log-likelihood of a token; infinite past what a float holds."""
    try:
        return math.exp(negative_log_likelihood)
    except OverflowError:
        return math.inf


class Perplexity(evaluate.Metric):
    """
    Perplexity as an `evaluate.Metric`: predictions are the summed log-losses of texts, references their numbers of
    tokens; the results are `loss`, the mean log-loss of a token, and `perplexity`.
    """

    def __init__(self) -> None:
        super().__init__(keep_in_memory=True)

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=type(self).__doc__,
            citation="",
            inputs_description="predictions: log-losses in nats; references: tokens",
            features=datasets.Features(
                {"predictions": datasets.Value("float64"), "references": datasets.Value("int64")}
            ),
        )

    def _compute(self, predictions: list[float], references: list[int]) -> dict[str, Any]:
        tokens = sum(references)
        if not tokens:
            raise MetricError("There are no tokens to measure. Give the number of tokens of each text.")
        loss = math.fsum(predictions) / tokens
        return {"loss": loss, "perplexity": perplexity(loss)}
