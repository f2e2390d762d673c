"""Perplexity of language models."""

import math

import datasets

from training.metrics.metric import Metric
from vanilla_transformer.errors import MetricError


def perplexity(negative_log_likelihood: float) -> float:
    """exp of the mean negative log-likelihood of a token; infinite past what a float holds."""
    try:
        return math.exp(negative_log_likelihood)
    except OverflowError:
        return math.inf


class Perplexity(Metric):
    """
    Perplexity as an `evaluate.Metric`: predictions are the summed log-losses of texts, references their numbers of
    tokens; the results are `loss`, the mean log-loss of a token, and `perplexity`.
    """

    takes = "predictions: log-losses in nats; references: tokens"
    columns = {"predictions": datasets.Value("float64"), "references": datasets.Value("int64")}

    def _compute(self, predictions: list[float], references: list[int]) -> dict[str, float]:
        tokens = sum(references)
        if not tokens:
            raise MetricError("There are no tokens to measure. Give the number of tokens of each text.")
        loss = math.fsum(predictions) / tokens
        return {"loss": loss, "perplexity": perplexity(loss)}
