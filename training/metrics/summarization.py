"""ROUGE (Lin 2004) by rouge-score, as it is reported for summaries."""

from typing import Any

import datasets
import evaluate
from rouge_score.rouge_scorer import RougeScorer

KEYS = ("rouge1", "rouge2", "rougeL", "rougeLsum")


def rouge(summaries: list[str], references: list[str], use_stemmer: bool = True) -> dict[str, float]:
    """
    Mean F1 of words (rouge1), pairs of words (rouge2) and longest common subsequences (rougeL; rougeLsum sentence by
    sentence, at line ends), in percent.

    Args:
        summaries, references: as many texts each.
        use_stemmer: whether words are cut to their stems, which is made for English.

    Raises:
        ValueError: if the numbers of texts differ, or are 0.
    """
    if len(summaries) != len(references) or not references:
        raise ValueError(
            f"There are {len(summaries):,} summaries and {len(references):,} references. Give one for each."
        )
    scorer = RougeScorer(KEYS, use_stemmer=use_stemmer)
    scores = [scorer.score(reference, summary) for summary, reference in zip(summaries, references, strict=True)]
    return {key: 100 * sum(score[key].fmeasure for score in scores) / len(scores) for key in KEYS}


class Rouge(evaluate.Metric):
    """`rouge` as an `evaluate.Metric`: predictions and references are texts."""

    def __init__(self, use_stemmer: bool = True):
        self.use_stemmer = use_stemmer
        super().__init__(keep_in_memory=True)

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=rouge.__doc__,
            citation="",
            inputs_description="predictions and references: texts",
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, Any]:
        return rouge(predictions, references, self.use_stemmer)
