"""Summarization: from text to text as in translation, within a language, scored by ROUGE."""

from typing import Any

from training.cleaning import report_lengths
from training.data import ParallelText
from training.metrics.summarization import rouge
from training.tasks.translation import Translation, TranslationTrainer


class SummarizationTrainer(TranslationTrainer):
    """
    Train and evaluate a model that summarizes, on data sets that `training.encoding.encode` made.

    Attributes:
        language: of the summaries, English without it.
    """

    def score_texts(self, texts: list[str], references: list[str]) -> dict[str, float]:
        return rouge(texts, references, language=self.language)


class Summarization(Translation):
    name = "summarization"
    trainer_class = SummarizationTrainer
    fields = Translation.fields - {
        *("bleu_tokenize", "compound_bleu", "bootstrap_samples", "augmentation"),
        *("corpus", "target_lang"),
    }

    def check_languages(self, texts: dict[str, ParallelText]) -> None:
        """Nothing: both sides are of one language."""

    def adapt_settings(self, settings: Any, text: ParallelText) -> None:
        """Nothing: a text is summarized as a whole."""

    def make_trainer(self, **arguments: Any) -> SummarizationTrainer:
        trainer = SummarizationTrainer(**arguments)
        trainer.language = self.data.source_lang
        return trainer

    def report(self, text: ParallelText) -> str:
        return report_lengths(text)

    def final_scores(self, output: Any, references: list[str], split: str) -> dict[str, Any]:
        return {name: value for name, value in output.metrics.items() if name.startswith(f"{split}_rouge")}
