"""ROUGE (Lin 2004) by rouge-score, as it is reported for summaries."""

import unicodedata
from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import Tokenizer

KEYS = ("rouge1", "rouge2", "rougeL", "rougeLsum")


class WordTokenizer(Tokenizer):
    """Words of letters, marks and digits of any script, where rouge-score's own are of a-z and 0-9 alone."""

    def tokenize(self, text: str) -> list[str]:
        return "".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in text.lower()).split()


def rouge(
    summaries: Sequence[str], references: Sequence[str], use_stemmer: bool = True, language: str | None = None
) -> dict[str, float]:
    """
    Mean F1 of words (rouge1), pairs of words (rouge2) and longest common subsequences (rougeL; rougeLsum sentence by
    sentence, at line ends), in percent.

    Args:
        summaries, references: as many texts each.
        use_stemmer: whether words of English are cut to their stems.
        language: code of the language, English without it. What another one has is no published score: rouge-score
            knows no letters but a-z. Text without spaces between its words has to be split before.

    Raises:
        ValueError: if the numbers of texts differ, or are 0.
    """
    if len(summaries) != len(references) or len(references) == 0:
        raise ValueError(
            f"There are {len(summaries):,} summaries and {len(references):,} references. Give one for each."
        )
    english = language in (None, "en", "eng")
    scorer = RougeScorer(KEYS, use_stemmer, tokenizer=None if english else WordTokenizer())
    scores = [scorer.score(reference, summary) for summary, reference in zip(summaries, references, strict=True)]
    return {key: 100 * sum(score[key].fmeasure for score in scores) / len(scores) for key in KEYS}


class Rouge(evaluate.Metric):
    """`rouge` as an `evaluate.Metric`: predictions and references are texts."""

    def __init__(self, use_stemmer: bool = True, language: str | None = None):
        self.use_stemmer, self.language = use_stemmer, language
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
        return rouge(predictions, references, self.use_stemmer, self.language)
