"""ROUGE (Lin 2004) by rouge-score, as it is reported for summaries."""

import re
import unicodedata
import warnings
from collections.abc import Sequence

import datasets
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import Tokenizer

from training.metrics.metric import Metric
from training.metrics.segmentation import separate_characters, two_letters
from vanilla_transformer.errors import MetricError

KEYS = ("rouge1", "rouge2", "rougeL", "rougeLsum")
ENGLISH = re.compile("[a-z0-9]")


class WordTokenizer(Tokenizer):
    """
    Words of letters, marks and digits of any script, where rouge-score's own are only of a-z and 0-9. Each character
    is one in scripts without spaces between words, and in a text without any word.
    """

    def tokenize(self, text: str) -> list[str]:
        text = separate_characters(text.lower())
        words = "".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in text).split()
        return words or list("".join(text.split()))


def reads_as_english(text: str) -> bool:
    """Whether most words of a text have a letter or digit that rouge-score's own tokenizer knows."""
    words = WordTokenizer().tokenize(text)
    return 2 * sum(ENGLISH.search(word) is not None for word in words) > len(words)


def rouge(
    summaries: Sequence[str], references: Sequence[str], use_stemmer: bool = True, language: str | None = None
) -> dict[str, float]:
    """
    Mean F1 of words (rouge1), pairs of words (rouge2) and longest common subsequences (rougeL; rougeLsum sentence by
    sentence, at line ends), in percent.

    Args:
        summaries, references: as many texts each.
        use_stemmer: whether words of English are cut to their stems.
        language: code of the language, English without it. The scores of another language are not comparable with
            published ones: rouge-score knows only the letters a-z. So are those of references that do not read as
            English, whatever the language; where most are such, a warning says so. Characters are counted where a
            script has no spaces between words.

    Raises:
        MetricError: if the numbers of texts differ, or are 0.
    """
    if len(summaries) != len(references) or len(references) == 0:
        raise MetricError(
            f"There are {len(summaries):,} summaries and {len(references):,} references. Give one for each."
        )
    english = [two_letters(language) in (None, "en") and reads_as_english(reference) for reference in references]
    if two_letters(language) in (None, "en") and 2 * sum(english) < sum(map(bool, map(str.strip, references))):
        warnings.warn(
            f"`language` is {language}, and most references do not read as English: their words, or characters where "
            "a script has no spaces, are counted without stems. Name the language, such as zh or ru, which is "
            "`source_lang` in a recipe.",
            stacklevel=2,
        )
    official, any_script = RougeScorer(KEYS, use_stemmer), RougeScorer(KEYS, tokenizer=WordTokenizer())
    scores = [
        (official if is_english else any_script).score(reference, summary)
        for summary, reference, is_english in zip(summaries, references, english, strict=True)
    ]
    return {key: 100 * sum(score[key].fmeasure for score in scores) / len(scores) for key in KEYS}


class Rouge(Metric):
    """`rouge` as an `evaluate.Metric`: predictions and references are texts."""

    description_text = rouge.__doc__
    takes = "predictions and references: texts"
    columns = {"predictions": datasets.Value("string"), "references": datasets.Value("string")}

    def __init__(self, use_stemmer: bool = True, language: str | None = None):
        self.use_stemmer, self.language = use_stemmer, language
        super().__init__()

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, float]:
        return rouge(predictions, references, self.use_stemmer, self.language)
