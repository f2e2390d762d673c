"""Summarization: from text to text as in translation, within a language, scored by ROUGE."""

import sys
from collections.abc import Mapping
from typing import Any

import datasets

from training.data.batching import longest_sentence
from training.data.cleaning import report_lengths
from training.data.texts import ParallelText
from training.metrics.summarization import rouge
from training.tasks.translation import Translation, TranslationObjective
from vanilla_transformer import VanillaTransformerConfig, VanillaTransformerTokenizer
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
    name = "summarization"

    def check_languages(self, texts: dict[str, ParallelText]) -> None:
        """Nothing: both sides are of one language."""

    def adapt_settings(self, settings: Any, text: ParallelText) -> None:
        """Nothing: a text is summarized as a whole."""

    def make_objective(
        self,
        tokenizer: VanillaTransformerTokenizer,
        config: VanillaTransformerConfig,
        dataset: datasets.Dataset | None = None,
    ) -> SummarizationObjective:
        longest = min(longest_sentence(self.training), config.position_limit or sys.maxsize)
        return SummarizationObjective(tokenizer, self.training, longest, self.data.source_lang, dataset)

    def report(self, text: ParallelText) -> str:
        return report_lengths(text)

    def final_scores(
        self, measured: SplitScores, predictions: list[str], references: list[str]
    ) -> Mapping[str, Score]:
        """ROUGE, as it was measured."""
        return measured.scores
