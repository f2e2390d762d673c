"""What the training program asks of a task."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import datasets
import numpy as np

from training.arguments import DataArguments, RecipeError, TrainingArguments
from training.batching import longest_sentence
from training.cleaning import describe
from training.data import load_dataset
from training.encoding import lengths
from training.trainer import VanillaTransformerTrainer
from vanilla_transformer import (
    VanillaTransformerConfig,
    VanillaTransformerPreTrainedModel,
    VanillaTransformerTokenizer,
)

SPLITS = ("train", "validation", "test")
# What Trainer measures of itself, beside the scores.
SPEED = ("_runtime", "_per_second", "_preparation_time")


def choose_short(dataset: datasets.Dataset) -> int:
    """The first row of at most 24 source tokens, which fits into a picture; or the one that has the fewest."""
    source_lengths, _ = lengths(dataset)
    short = np.flatnonzero(source_lengths <= 24)
    return int(short[0] if len(short) else source_lengths.argmin())


class Task(ABC):
    """
    What text a task reads, which model learns it, and how that is scored.

    Args:
        data, args: the recipe's.

    Attributes:
        notes: what there is to say of the texts besides.
        name: as the Hub names the task, and the recipe's field `task`.
        model_class, trainer_class: what learns it.
        unit: what its texts are counted in.
        fields: recipe fields that have an effect in this task and not in all.
    """

    name: ClassVar[str]
    model_class: ClassVar[type[VanillaTransformerPreTrainedModel]]
    trainer_class: ClassVar[type[VanillaTransformerTrainer]]
    unit: ClassVar[str]
    fields: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, data: DataArguments, args: TrainingArguments):
        self.data, self.args = data, args
        self.notes: list[str] = []

    def make_trainer(self, **arguments: Any) -> VanillaTransformerTrainer:
        """What trains the model; the arguments are the trainer's."""
        return self.trainer_class(**arguments)

    # ----- text -----

    def load_texts(self) -> dict[str, Any]:
        """
        The texts that the recipe names, "train" among them.

        Raises:
            TextError, RecipeError: if a text cannot be read, or one that is needed is missing.
        """
        texts = {split: text for split in SPLITS if (text := self.read(split)) is not None}
        if "train" not in texts:
            raise RecipeError(self.no_training_text())
        texts |= {name: self.read_test_set(name, files) for name, files in self.data.named_test_sets().items()}
        texts = self.arrange(texts)
        if "validation" not in texts and self.args.eval_strategy != "no" and not self.data.report_only:
            raise RecipeError(
                f"`eval_strategy` is {self.args.eval_strategy.value} and there is no validation text. "
                f"{self.no_validation_text()}"
            )
        return texts

    def no_training_text(self) -> str:
        return "No training text. Name `train_file` or `dataset_name`."

    def no_validation_text(self) -> str:
        return "Name some with `validation_file`, or a split of a data set with `validation_split`."

    @abstractmethod
    def read(self, split: str) -> Any:
        """
        The text of "train", "validation" or "test" as the recipe names it; `None` if it names none. A text has a
        length, and `dropped`: reasons and how many were left out for each.

        Raises:
            TextError, RecipeError: if it is named twice or cannot be read.
        """

    @abstractmethod
    def read_test_set(self, name: str, files: tuple[str, ...]) -> Any:
        """One of the recipe's `test_sets`."""

    def arrange(self, texts: dict[str, Any]) -> dict[str, Any]:
        """Checks and changes that need all texts."""
        return texts

    def describe(self, text: Any, split: str) -> str:
        """A line on what was kept of a text and what was left out and why."""
        return describe(len(text), text.dropped, split, self.unit)

    def report(self, text: Any) -> str | None:
        """What the recipe's `report_only` prints besides."""
        return None

    @abstractmethod
    def lines(self, text: Any) -> list[str]:
        """What a tokenizer is learned from."""

    @abstractmethod
    def example(self, text: Any, dataset: datasets.Dataset) -> str | list[str]:
        """An input for the code on the model card: the recipe's, or one from a training text, which is encoded too."""

    # ----- model -----

    def config_fields(self, text: Any) -> dict[str, Any]:
        """Fields of the configuration that follow from the training text."""
        return {}

    def adapt_settings(self, settings: Any, text: Any) -> None:  # noqa: B027
        """Write into the generation settings of a model what follows from the training text."""

    @abstractmethod
    def encode_texts(
        self,
        texts: dict[str, Any],
        config: VanillaTransformerConfig,
        tokenizer: VanillaTransformerTokenizer,
        say: Callable[..., None],
    ) -> dict[str, datasets.Dataset]:
        """Every text with its token ids, no input longer than the recipe, a batch and the model allow."""

    # ----- scores -----

    def everyday_scores(
        self, trainer: VanillaTransformerTrainer, encoded: dict[str, datasets.Dataset]
    ) -> dict[str, Any]:
        """Scores of text as people type it, where the model was trained for that."""
        return {}

    def score(self, trainer: VanillaTransformerTrainer, dataset: datasets.Dataset, split: str) -> dict[str, Any]:
        """What is measured of a text: `{split}_loss` and others, and `{score}_signature` for scores that have one."""
        return self.without_speed(trainer.predict(dataset, metric_key_prefix=split).metrics)

    @staticmethod
    def without_speed(metrics: dict[str, float]) -> dict[str, float]:
        """Scores alone, of what Trainer measures."""
        return {name: value for name, value in metrics.items() if not name.endswith(SPEED)}


class FileTask(Task):
    """A task whose text is a file, or a data set."""

    # Tokens of an input where the recipe says nothing.
    length: ClassVar[int]

    def read(self, split: str) -> Any:
        file = getattr(self.data, f"{split}_file")
        if file and split == "train" and self.data.dataset_name:
            raise RecipeError("The train text is named twice, by `train_file` and `dataset_name`. Keep one.")
        if file:
            return self.read_file(file)
        dataset = load_dataset(self.data, split) if self.data.dataset_name else None
        return None if dataset is None else self.read_dataset(dataset, f"{self.data.dataset_name}, {split}")

    def read_test_set(self, name: str, files: tuple[str, ...]) -> Any:
        if len(files) != 1:
            raise RecipeError(f"`test_sets` has {len(files)} files under {name!r}. Name one: {{{name}: FILE}}.")
        return self.read_file(files[0])

    @abstractmethod
    def read_file(self, path: str) -> Any:
        """A text from a file."""

    @abstractmethod
    def read_dataset(self, dataset: datasets.Dataset, place: str) -> Any:
        """The same from a data set; `place` is what to call it in an error."""

    def encode_texts(
        self,
        texts: dict[str, Any],
        config: VanillaTransformerConfig,
        tokenizer: VanillaTransformerTokenizer,
        say: Callable[..., None],
    ) -> dict[str, datasets.Dataset]:
        longest = min(self.data.max_length or self.length, config.position_limit or sys.maxsize)
        encoded = {split: self.encode(text, split, config, tokenizer, longest, say) for split, text in texts.items()}
        budget, needed = longest_sentence(self.args), int(lengths(encoded["train"])[0].max())
        if needed > budget:  # what is learned must not depend on what fits on a device
            raise RecipeError(
                f"A training input has {needed:,} tokens and a batch {budget:,}. Raise `tokens_per_step` or "
                f"`tokens_per_device`, or lower `max_length`, which is {longest:,}."
            )
        return encoded

    @abstractmethod
    def encode(
        self,
        text: Any,
        split: str,
        config: VanillaTransformerConfig,
        tokenizer: VanillaTransformerTokenizer,
        longest: int,
        say: Callable[..., None],
    ) -> datasets.Dataset:
        """A text with its token ids, at most `longest` of them in an input."""
