"""Classification of sentences, and of pairs of sentences such as a premise and a hypothesis."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch

from training.arguments import RecipeError
from training.data import read_rows
from training.metrics.classification import score_labels
from training.tasks.task import FileTask, choose_short
from training.trainer import VanillaTransformerTrainer
from vanilla_transformer import (
    VanillaTransformerConfig,
    VanillaTransformerForSequenceClassification,
    VanillaTransformerTokenizer,
)

# Labels of pairs on which the annotators of SNLI and its followers did not agree.
NO_LABEL = ("-", "-1")
# What makes inference hard, by words of either sentence (MacCartney 2009 and later diagnostic sets look at the same).
PHENOMENA = {
    "negation": {"not", "no", "never", "nobody", "nothing", "none", "nor", "neither", "n't", "without", "cannot"},
    "quantifiers": {"all", "some", "every", "each", "any", "most", "many", "few", "several", "both", "none"},
    "pronouns": {"he", "she", "it", "they", "him", "her", "them", "his", "hers", "its", "their", "theirs", "himself",
                 "herself", "itself", "themselves", "we", "us", "our", "i", "me", "my", "you", "your"},
}  # fmt: skip
WORD = re.compile(r"n't\b|[a-z]+?(?=n't\b)|[a-z]+")


@dataclass
class LabelledText:
    """
    Texts with their labels.

    Attributes:
        texts: one or two sentences of each row.
        labels: as the file writes them.
        rows: where each stands in what was read: lines of a file, rows of a data set.
        place: of the rows, for errors, such as "train.tsv, line".
        dropped: reasons and how many rows were left out for each.
    """

    texts: list[tuple[str, ...]]
    labels: list[str]
    rows: list[int]
    place: str
    dropped: Counter[str] = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self.texts)


def read_labelled(path: str | Path, columns: tuple[str, ...], label_column: str = "label") -> LabelledText:
    """
    A `.tsv`, `.csv` or `.jsonl` file with a column for each sentence and one for the label; `.gz` may follow.

    Raises:
        TextError, RecipeError: as `read_rows` and `collect_labelled`.
    """
    return collect_labelled(read_rows(str(path)), f"{path}, line", columns, label_column)


def collect_labelled(
    rows: Iterable[tuple[int, dict[str, Any]]], place: str, columns: tuple[str, ...], label_column: str
) -> LabelledText:
    """
    Sentences and labels out of numbered rows. Those with an empty sentence or without a label are left out, and
    counted.

    Raises:
        RecipeError: for a column that is not there, and if no row is left.
    """
    found = LabelledText([], [], [], place)
    for number, row in rows:
        missing = [name for name in (*columns, label_column) if name not in row]
        if missing:
            raise RecipeError(
                f"{place} {number} has no {missing[0]!r}, only: {', '.join(map(str, row))}. Name the columns "
                "with `text_columns` and `label_column`."
            )
        texts = tuple(" ".join(str(row[name] if row[name] is not None else "").split()) for name in columns)
        label = str(row[label_column]).strip()
        if not all(texts):
            found.dropped[f"rows without {' or '.join(columns)}"] += 1
        elif label in NO_LABEL or not label or row[label_column] is None:
            found.dropped["rows without a label"] += 1
        else:
            found.texts.append(texts)
            found.labels.append(label)
            found.rows.append(number)
    if not found.texts:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in found.dropped.items()) or "it has no rows"
        raise RecipeError(f"{place.rpartition(', ')[0]} has nothing to learn from: {reasons}.")
    return found


def label_names(text: LabelledText) -> list[str]:
    """The labels of a training text, numbers by size and words by the alphabet."""
    names = set(text.labels)
    return sorted(names, key=int) if all(re.fullmatch(r"\d+", name) for name in names) else sorted(names)


def number_labels(text: LabelledText, names: list[str]) -> list[int]:
    """
    The number of each label.

    Raises:
        RecipeError: for a label that training does not have; its row is named.
    """
    numbers = {name: i for i, name in enumerate(names)}
    for label, row in zip(text.labels, text.rows, strict=True):
        if label not in numbers:
            raise RecipeError(
                f"{text.place} {row} has the label {label!r}, which is none of the training text: {', '.join(names)}."
            )
    return [numbers[label] for label in text.labels]


def encode_labelled(
    text: LabelledText, names: list[str], tokenizer: VanillaTransformerTokenizer, max_length: int
) -> datasets.Dataset:
    """
    Texts with their token ids, `first </s>` or `first </s> second </s>`; where both are too long, the longer is cut.

    Returns:
        columns `texts` (one or two sentences), `row` (where it stands in what was read), `input_ids`, `labels`,
        `source_length`, `target_length`.
    """
    labels = number_labels(text, names)
    sides = [[texts[i] for texts in text.texts] for i in range(len(text.texts[0]))]
    encoded = tokenizer(*sides, split_special_tokens=True, truncation="longest_first", max_length=max_length).input_ids
    lengths = [len(ids) for ids in encoded]
    return datasets.Dataset.from_dict(
        {
            "texts": [list(texts) for texts in text.texts],
            "row": text.rows,
            "input_ids": encoded,
            "labels": labels,
            "source_length": lengths,
            "target_length": lengths,
        }
    )


def phenomena(texts: Sequence[str]) -> set[str]:
    """Which of `PHENOMENA` have a word in one of the sentences."""
    words = {word for text in texts for word in WORD.findall(text.lower().replace("’", "'"))}
    return {name for name, listed in PHENOMENA.items() if words & listed}


def accuracy_by_phenomenon(texts: Iterable[Sequence[str]], right: np.ndarray) -> dict[str, tuple[int, float]]:
    """
    Rows with a phenomenon, and how many of them are right.

    Args:
        texts: the sentences of each row.
        right: whether each row is, an array of shape (len(texts),).

    Returns:
        phenomenon -> number of rows, accuracy; only those that there are.
    """
    has = [phenomena(sentences) for sentences in texts]
    found = {}
    for name in PHENOMENA:
        chosen = np.array([name in each for each in has])
        if chosen.any():
            found[name] = (int(chosen.sum()), float(right[chosen].mean()))
    return found


class ClassificationTrainer(VanillaTransformerTrainer):
    """Train and evaluate a classifier on data sets that `encode_labelled` made."""

    def collate(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """input_ids and attention_mask (B, S), labels (B,)."""
        batch = self.processing_class.pad({"input_ids": [row["input_ids"] for row in rows]}, return_tensors="pt")
        return {**batch, "labels": torch.tensor([row["labels"] for row in rows])}

    def measure(self, model: Any, batch: dict[str, torch.Tensor], indices: list[int], dataset: Any) -> Any:
        """Summed loss, and index and label of each row."""
        outputs = model(**batch)
        predicted = outputs.logits.argmax(dim=-1).tolist()
        return outputs.loss.item() * len(indices), list(zip(indices, predicted, strict=True))

    def summarize(self, parts: list[Any], dataset: Any) -> tuple[dict[str, float], np.ndarray]:
        """Mean loss of a row, accuracy, and precision, recall and F1. The predictions are label numbers."""
        predictions = [label for _, label in sorted(each for _, pairs in parts for each in pairs)]
        names = list(self.model.config.id2label.values())
        scores = score_labels(predictions, list(dataset["labels"]), names)
        return {"loss": sum(loss for loss, _ in parts) / len(predictions), **scores}, np.array(predictions)


class TextClassification(FileTask):
    """Labels of sentences, or of pairs of sentences where `text_columns` names two."""

    name = "text-classification"
    model_class = VanillaTransformerForSequenceClassification
    trainer_class = ClassificationTrainer
    unit = "texts"
    fields = frozenset({"text_columns", "label_column"})
    length = 512

    def read_file(self, path: str) -> LabelledText:
        return read_labelled(path, tuple(self.data.text_columns), self.data.label_column)

    def read_dataset(self, dataset: datasets.Dataset, place: str) -> LabelledText:
        """Labels that are numbers with names get their names."""
        column = self.data.label_column
        names = getattr(dataset.features.get(column), "names", None)
        rows = (dict(row) for row in dataset)
        if names is not None:
            rows = ({**row, column: names[row[column]] if row[column] >= 0 else NO_LABEL[0]} for row in rows)
        return collect_labelled(enumerate(rows, start=1), place, tuple(self.data.text_columns), column)

    def lines(self, text: LabelledText) -> list[str]:
        return [sentence for sentences in text.texts for sentence in sentences]

    def example(self, text: LabelledText, dataset: datasets.Dataset) -> str | list[str]:
        texts: list[str] = dataset[choose_short(dataset)]["texts"]
        return texts if len(texts) > 1 else texts[0]

    def config_fields(self, text: LabelledText) -> dict[str, Any]:
        """
        The labels of the training text.

        Raises:
            RecipeError: if there is only one.
        """
        names = label_names(text)
        if len(names) == 1:
            raise RecipeError(
                f"{text.place.rpartition(', ')[0]} has the label {names[0]!r} alone. There is nothing to tell apart: "
                "give texts of two labels or more."
            )
        return {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}

    def encode(
        self,
        text: LabelledText,
        split: str,
        config: VanillaTransformerConfig,
        tokenizer: VanillaTransformerTokenizer,
        longest: int,
        say: Callable[..., None],
    ) -> datasets.Dataset:
        return encode_labelled(text, [config.id2label[i] for i in range(config.num_labels)], tokenizer, longest)

    def score(self, trainer: VanillaTransformerTrainer, dataset: datasets.Dataset, split: str) -> dict[str, Any]:
        """Also, of pairs, the accuracy on those with a phenomenon, and how many these are."""
        output = trainer.predict(dataset, metric_key_prefix=split)
        results = self.without_speed(output.metrics)
        if len(self.data.text_columns) > 1:
            right = output.predictions == np.array(dataset["labels"])
            for name, (count, accuracy) in accuracy_by_phenomenon(dataset["texts"], right).items():
                results |= {f"{split}_accuracy_{name}": accuracy, f"{split}_count_{name}": count}
        return results
