"""Figures of translation: BLEU, and perplexity per token."""

import math
from dataclasses import dataclass

import sacrebleu


@dataclass
class Bleu:
    """A corpus BLEU score in percent, with sacreBLEU's signature, without which it cannot be compared."""

    score: float
    signature: str


def corpus_bleu(hypotheses: list[str], references: list[str], tokenize: str = "13a") -> Bleu:
    """
    BLEU of a whole test set with sacreBLEU (Post 2018).

    Args:
        hypotheses, references: as many lines each, detokenized text unless `tokenize` is "none".
        tokenize: one of sacreBLEU's tokenizers.
    """
    metric = sacrebleu.metrics.BLEU(tokenize=tokenize, force=tokenize == "none")
    score = metric.corpus_score(hypotheses, [references])
    return Bleu(score.score, str(metric.get_signature()))


def perplexity(negative_log_likelihood: float) -> float:
    """exp of the mean negative log-likelihood of a token; infinite past what a float holds."""
    try:
        return math.exp(negative_log_likelihood)
    except OverflowError:
        return math.inf
