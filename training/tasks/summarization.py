"""Summarization: from text to text as in translation, within a language, scored by ROUGE."""

from collections.abc import Mapping

from transformers import GenerationConfig

from training.data.cleaning import report_lengths
from training.data.parallel import ParallelText
from training.metrics.summarization import rouge
from training.tasks.translation import Translation, TranslationObjective
from vanilla_transformer.scores import Score, SplitScores


class SummarizationObjective(TranslationObjective):
    """
    Learn and measure summarization on data sets that `training.data.encoding.encode` made.

    Attributes:
        language: of the summaries, English without it.
    """

    def score_texts(self, texts: list[str], references: list[str]) -> dict[str, float]:
        return rouge(texts, references, language=self.language)


class Summarization(Translation):
    objective_class = SummarizationObjective

    name = "summarization"

    def check_languages(self, texts: dict[str, ParallelText]) -> None:
        """Nothing: both sides are of one language."""

    def adapt_settings(self, settings: GenerationConfig, text: ParallelText) -> None:
        """Nothing: a text is summarized as a whole."""

    @property
    def language(self) -> str | None:
        return self.data.source_lang

    def report(self, text: ParallelText) -> str:
        return report_lengths(text)

    def final_scores(
        self, measured: SplitScores, predictions: list[str], references: list[str]
    ) -> Mapping[str, Score]:
        """ROUGE, as it was measured."""
        return measured.scores
