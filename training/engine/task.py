"""The interface of a task for the training program."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar, Generic, Protocol, TypeVar

import datasets
import numpy as np
from transformers import GenerationConfig, PreTrainedModel

from training.data.batching import longest_sentence
from training.data.cleaning import describe
from training.data.encoding import lengths
from training.data.texts import load_dataset
from training.engine.evaluate import Evaluator
from training.engine.objective import AnyObjective
from training.log import logger
from training.recipe.fields import DataFields, TrainingFields
from vanilla_transformer import (
    VanillaTransformerConfig,
    VanillaTransformerPreTrainedModel,
    VanillaTransformerTokenizer,
)
from vanilla_transformer.errors import RecipeError
from vanilla_transformer.scores import Robustness, SplitScores

SPLITS = ("train", "validation", "test")


def choose_short(dataset: datasets.Dataset) -> int:
    """The first row of at most 24 source tokens, which fits into a picture; or the one that has the fewest."""
    source_lengths, _ = lengths(dataset)
    short = np.flatnonzero(source_lengths <= 24)
    return int(short[0] if len(short) else source_lengths.argmin())


def choose_evenly(count: int, at_most: int) -> np.ndarray:
    """At most `at_most` positions among `count`, at even distances."""
    chosen = min(count, at_most)
    return np.arange(chosen) * count // chosen


def describe_sample(used: int, count: int, unit: str) -> str:
    """Say from how much of a text the vocabulary is learned."""
    return f"vocabulary: learned from {used:,} of {count:,} {unit}, as `input_sentence_size` says"


class Text(Protocol):
    """The common part of the texts of all tasks: a length, and how many rows were left out for each reason."""

    @property
    def dropped(self) -> Mapping[str, int]: ...

    def __len__(self) -> int: ...


T = TypeVar("T", bound=Text)


class Task(ABC, Generic[T]):
    """
    A task: the text of type `T` that it reads, the model that learns it, and how that is scored.

    Args:
        data, training: the recipe's.

    Attributes:
        notes: what there is to say of the texts besides.
        name: as the Hub names the task, and the recipe's field `task`.
        model_class: what learns it.
        unit: what its texts are counted in.
    """

    name: ClassVar[str]
    model_class: ClassVar[type[VanillaTransformerPreTrainedModel]]
    unit: ClassVar[str]

    def __init__(self, data: DataFields, training: TrainingFields):
        self.data, self.training = data, training
        self.notes: list[str] = []

    @abstractmethod
    def make_objective(
        self,
        tokenizer: VanillaTransformerTokenizer,
        config: VanillaTransformerConfig,
        dataset: datasets.Dataset | None = None,
    ) -> AnyObjective:
        """
        Return what the trainer learns and measures.

        Args:
            config: of the model.
            dataset: the encoded training text.
        """

    # ----- text -----

    def load_texts(self) -> dict[str, T]:
        """
        The texts that the recipe names, "train" among them.

        Raises:
            TextError, RecipeError: if a text cannot be read, or one that is needed is missing.
        """
        self.check_settings()
        texts = {split: text for split in SPLITS if (text := self.read(split)) is not None}
        if "train" not in texts:
            raise RecipeError(self.no_training_text())
        texts |= {name: self.read_test_set(name, files) for name, files in self.data.named_test_sets().items()}
        texts = self.arrange(texts)
        if "validation" not in texts and self.training.eval_strategy != "no" and not self.data.report_only:
            raise RecipeError(
                "`eval_strategy` must be `no` where there is no validation text, but is "
                f"{self.training.eval_strategy}. {self.no_validation_text()}"
            )
        return texts

    def check_settings(self) -> None:
        """
        Refuse settings that only this task can check.

        Raises:
            UserError: naming the field.
        """

    def no_training_text(self) -> str:
        return "No training text. Name `train_file` or `dataset_name`."

    def no_validation_text(self) -> str:
        return "Name some with `validation_file`, or a split of a data set with `validation_split`."

    @abstractmethod
    def read(self, split: str) -> T | None:
        """
        The text of "train", "validation" or "test" as the recipe names it; `None` if it names none.

        Raises:
            TextError, RecipeError: if it is named twice or cannot be read.
        """

    @abstractmethod
    def read_test_set(self, name: str, files: tuple[str, ...]) -> T:
        """One of the recipe's `test_sets`."""

    def arrange(self, texts: dict[str, T]) -> dict[str, T]:
        """Checks and changes that need all texts."""
        return texts

    def describe(self, text: T, split: str) -> str:
        """A line on what was kept of a text and what was left out and why."""
        return describe(len(text), text.dropped, split, self.unit)

    def report(self, text: T) -> str | None:
        """Return the further lines of the recipe's `report_only`."""
        return None

    @abstractmethod
    def lines(self, text: T) -> Iterable[str]:
        """Return the lines that a tokenizer is learned from."""

    def sample_lines(self, text: T, at_most: int | None) -> Iterable[str]:
        """
        Return `lines`, or some of them at even distances: in every run the same ones.

        Args:
            at_most: how many; of a text with two sides, how many pairs; all if `None`.
        """
        if at_most is None:
            return self.lines(text)
        lines = list(self.lines(text))
        if len(lines) <= at_most:
            return lines
        logger.info(describe_sample(at_most, len(lines), "lines"))
        return [lines[i] for i in choose_evenly(len(lines), at_most)]

    def name_lines(self, text: T) -> str | None:
        """A name for `lines`, by which the cache knows a tokenizer of them; `None` where it is not to be kept."""
        return None

    @abstractmethod
    def example(self, text: T, dataset: datasets.Dataset) -> str | list[str]:
        """An input for the code on the model card: the recipe's, or one from a training text, which is encoded too."""

    def add_old_text(self, texts: dict[str, T], translate: Callable[[list[str]], list[str]]) -> dict[str, T]:
        """
        The texts, with old text mixed in where the recipe asks for it, and some of it held out as "replay".

        Args:
            translate: by the model that training starts from.
        """
        return texts

    # ----- model -----

    def config_fields(self, text: T) -> Mapping[str, object]:
        """Fields of the configuration that follow from the training text."""
        return {}

    def adapt_model(self, model: VanillaTransformerPreTrainedModel, text: T, dataset: datasets.Dataset) -> None:
        """Write into a model what follows from the training text and its encoding."""
        if model.config.is_encoder_decoder:
            longest = int(lengths(dataset)[0].max())
            # Translating tells by it which texts are far from all that was learned, before a fine-tuning too.
            settings = model.generation_config
            known = getattr(settings, "longest_source", None) or 0
            settings.longest_source = max(longest, known)
            self.adapt_settings(settings, text)

    def adapt_settings(self, settings: GenerationConfig, text: T) -> None:
        """Write into the generation settings of a model what follows from the training text."""

    @abstractmethod
    def encode_texts(
        self,
        texts: dict[str, T],
        config: VanillaTransformerConfig,
        tokenizer: VanillaTransformerTokenizer,
    ) -> dict[str, datasets.Dataset]:
        """Every text with its token ids, no input longer than the recipe, a batch and the model allow."""

    # ----- scores -----

    def score(self, evaluator: Evaluator, dataset: datasets.Dataset) -> SplitScores:
        """Measure a text after the training, in float32, in which the weights are saved."""
        metrics = evaluator.evaluate(dataset, in_full_precision=True).metrics
        return SplitScores.from_metrics(metrics, rows=len(dataset))

    def scores_in_training(self, logged: dict[str, float]) -> SplitScores:
        """Return the scores of an evaluation in training, out of what was logged of it."""
        return SplitScores.from_metrics(logged, "eval")

    def score_everyday_input(
        self, model: PreTrainedModel, tokenizer: VanillaTransformerTokenizer, encoded: dict[str, datasets.Dataset]
    ) -> tuple[Robustness, ...]:
        """Measure text as people type it, where the model was trained for that."""
        return ()


class FileTask(Task[T]):
    """A task whose text is a file, or a data set."""

    # Tokens of an input where the recipe says nothing.
    length: ClassVar[int]

    def read(self, split: str) -> T | None:
        file = getattr(self.data, f"{split}_file")
        if file and split == "train" and self.data.dataset_name:
            raise RecipeError("The train text is named twice, by `train_file` and `dataset_name`. Keep one.")
        if file:
            return self.read_file(file)
        dataset = load_dataset(self.data, split) if self.data.dataset_name else None
        return None if dataset is None else self.read_dataset(dataset, f"{self.data.dataset_name}, {split}")

    def read_test_set(self, name: str, files: tuple[str, ...]) -> T:
        if len(files) != 1:
            raise RecipeError(
                f"`test_sets` must have one file under {name!r}, but has {len(files)}. Name one: {{{name}: FILE}}."
            )
        return self.read_file(files[0])

    @abstractmethod
    def read_file(self, path: str) -> T:
        """A text from a file."""

    @abstractmethod
    def read_dataset(self, dataset: datasets.Dataset, place: str) -> T:
        """The same from a data set; `place` is what to call it in an error."""

    def encode_texts(
        self,
        texts: dict[str, T],
        config: VanillaTransformerConfig,
        tokenizer: VanillaTransformerTokenizer,
    ) -> dict[str, datasets.Dataset]:
        longest = min(self.data.max_length or self.length, config.position_limit or sys.maxsize)
        encoded = {split: self.encode(text, split, config, tokenizer, longest) for split, text in texts.items()}
        budget, needed = longest_sentence(self.training), int(lengths(encoded["train"])[0].max())
        if needed > budget:  # what is learned must not depend on what fits on a device
            raise RecipeError(
                f"A training input has {needed:,} tokens, but a batch holds {budget:,}. Raise `tokens_per_step` or "
                f"`tokens_per_device`, or lower `max_length`, which is {longest:,}."
            )
        return encoded

    @abstractmethod
    def encode(
        self,
        text: T,
        split: str,
        config: VanillaTransformerConfig,
        tokenizer: VanillaTransformerTokenizer,
        longest: int,
    ) -> datasets.Dataset:
        """A text with its token ids, at most `longest` of them in an input."""
