"""Classification of sentences, and of pairs of sentences such as a premise and a hypothesis."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

import datasets
import numpy as np
import torch
from transformers import PreTrainedModel

from training.data.cleaning import list_reasons
from training.data.texts import Cells, describe_cell, is_missing, read_rows
from training.engine.evaluate import Evaluator
from training.engine.objective import Batch, Generation, Objective, Row
from training.engine.task import FileTask, choose_short
from training.log import logger
from training.metrics.classification import score_labels
from vanilla_transformer import (
    VanillaTransformerConfig,
    VanillaTransformerForSequenceClassification,
    VanillaTransformerTokenizer,
)
from vanilla_transformer.errors import RecipeError
from vanilla_transformer.scores import SplitScores

# The mark of a missing label: the annotators of SNLI and its followers did not agree on every pair, and the labels of
# some tests are not published.
NO_LABEL = "-"
# Causes of hard inference, by words of either sentence (MacCartney 2009 and later diagnostic sets look at the same).
PHENOMENA = {
    "negation": {"not", "no", "never", "nobody", "noone", "nothing", "nowhere", "none", "nor", "neither", "n't",
                 "without", "cannot"},
    "quantifiers": {"all", "some", "every", "each", "any", "most", "many", "much", "few", "several", "both", "half",
                    "no", "none", "everyone", "everybody", "everything", "someone", "somebody", "something", "anyone",
                    "anybody", "anything", "nobody", "nothing"},
    "pronouns": {"he", "she", "it", "they", "him", "her", "them", "his", "hers", "its", "their", "theirs", "himself",
                 "herself", "itself", "themselves", "we", "us", "our", "ours", "ourselves", "i", "me", "my", "mine",
                 "myself", "you", "your", "yours", "yourself", "who", "whom", "whose"},
}  # fmt: skip
# Numbers that a file without types writes with a point.
DECIMAL = re.compile(r"[-+]?(\d+\.\d*|\.\d+)([eE][-+]?\d+)?")
WORD = re.compile(r"n't\b|[a-z]+?(?=n't\b)|[a-z]+")


@dataclass
class LabelledText:
    """
    Texts with their labels.

    Attributes:
        texts: one or two sentences of each row.
        labels: as the file writes them.
        rows: where each is in what was read.
        place, unit: what was read and what its rows are called, such as "train.tsv" and "line".
        names: all labels that there can be, in their order, where the text says so.
        dropped: reasons and how many rows were left out for each.
    """

    texts: list[tuple[str, ...]]
    labels: list[str]
    rows: list[int]
    place: str
    unit: str
    names: list[str] | None = None
    dropped: Counter[str] = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self.texts)


def read_labelled(path: str | Path, columns: tuple[str, ...], label_column: str = "label") -> LabelledText:
    """
    A `.tsv`, `.csv` or `.jsonl` file with a column for each sentence and one for the label; `.gz` may follow.

    Raises:
        TextError, RecipeError: as `read_rows` and `collect_labelled`.
    """
    found = LabelledText([], [], [], str(path), "line")
    collect_labelled(found, read_rows(str(path)), columns, label_column)
    return found


def collect_labelled(
    found: LabelledText, rows: Iterable[tuple[int, Cells]], columns: tuple[str, ...], label_column: str
) -> None:
    """
    Add sentences and labels of numbered rows to a text. Those with an empty sentence or without a label are left out,
    and counted.

    Raises:
        RecipeError: for a column that is not there, and for a cell that is not a text or not a label.
    """
    no_label = (NO_LABEL, "-1") if len(columns) > 1 else (NO_LABEL,)
    for number, row in rows:
        missing = [name for name in (*columns, label_column) if name not in row]
        if missing:
            raise RecipeError(
                f"{found.place}, {found.unit} {number} has no {missing[0]!r}, only: {', '.join(map(str, row))}. Name "
                "the columns with `text_columns` and `label_column`."
            )
        place = f"{found.place}, {found.unit} {number}"
        texts = tuple(" ".join(read_text(row[name], f"{place}: column {name!r}").split()) for name in columns)
        label = read_label(row[label_column], f"{place}: column {label_column!r}")
        if not all(texts):
            found.dropped[f"rows without {' or '.join(columns)}"] += 1
        elif label in no_label or not label:
            found.dropped[f"rows without a label (empty, {' or '.join(no_label)})"] += 1
        else:
            found.texts.append(texts)
            found.labels.append(label)
            found.rows.append(number)


def read_text(cell: object, place: str) -> str:
    """
    The text of a cell, "" where it is missing.

    Raises:
        RecipeError: for any other kind of cell.
    """
    if isinstance(cell, str):
        return cell
    if is_missing(cell):
        return ""
    hint = "Join its parts into one text" if isinstance(cell, list) else "Name another with `text_columns`"
    raise RecipeError(f"{place} must be text, but is {describe_cell(cell)}. {hint}.")


WRITTEN_NAN = ("NaN", "nan")  # by pandas and by Python's csv, where a label is missing


def read_label(cell: object, place: str) -> str:
    """
    The name of the class in a cell, "" where it is missing. Whole numbers have one name however they are written:
    pandas makes 0.0 of 0 in a column where a label is missing.

    Raises:
        RecipeError: for a score, several labels, and other kinds of cells.
    """
    if is_missing(cell):
        return ""
    if isinstance(cell, int):
        return str(cell)
    label = str(cell).strip()
    if isinstance(cell, str) and not DECIMAL.fullmatch(label):
        return "" if label in WRITTEN_NAN else label
    shown, hint = describe_cell(cell), "A text has one label: keep one, or join several into a name"
    if isinstance(cell, str | float):
        if float(label).is_integer():
            return str(int(float(label)))
        shown, hint = (
            f"the number {label}",
            "A score is not a class: round it, or name its range, such as low and high",
        )
    raise RecipeError(f"{place} must be a class, a word or a whole number, but is {shown}. {hint}.")


def label_names(text: LabelledText) -> list[str]:
    """The labels of a training text as it orders them, or numbers by size and words by the alphabet."""
    if text.names is not None:
        return text.names
    names = set(text.labels)
    return sorted(names, key=int) if all(re.fullmatch(r"-?\d+", name) for name in names) else sorted(names)


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
                f"{text.place}, {text.unit} {row} has the label {label!r}, which the training text lacks. It has: "
                f"{', '.join(names)}."
            )
    return [numbers[label] for label in text.labels]


def encode_labelled(
    text: LabelledText,
    names: list[str],
    tokenizer: VanillaTransformerTokenizer,
    max_length: int,
    split: str = "train",
) -> datasets.Dataset:
    """
    Texts with their token ids, `first </s>` or `first </s> second </s>`; where both are too long, the longer is cut.

    Args:
        split: what to call the text.

    Returns:
        columns `texts` (one or two sentences), `row` (where it is in what was read), `input_ids`, `labels`,
        `source_length`, `target_length`.
    """
    labels = number_labels(text, names)
    sides = [[texts[i] for texts in text.texts] for i in range(len(text.texts[0]))]
    encoded = tokenizer(*sides, split_special_tokens=True).input_ids
    too_long = [i for i, ids in enumerate(encoded) if len(ids) > max_length]
    if too_long:
        cut = tokenizer(
            *([side[i] for i in too_long] for side in sides),
            split_special_tokens=True,
            truncation="longest_first",
            max_length=max_length,
        ).input_ids
        tokenizer.backend_tokenizer.no_truncation()  # else it is saved with the tokenizer
        for i, ids in zip(too_long, cut, strict=True):
            encoded[i] = ids
        logger.info(f"{split}: {len(too_long):,} texts cut to {max_length:,} tokens")
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
        phenomenon, or "none of these" -> number of rows, accuracy; only those that there are.
    """
    has = [phenomena(sentences) for sentences in texts]
    found = {}
    chosen = {name: np.array([name in each for each in has], dtype=bool) for name in PHENOMENA}
    chosen["none of these"] = np.array([not each for each in has], dtype=bool)
    for name, rows in chosen.items():
        if rows.any():
            found[name] = (int(rows.sum()), float(right[rows].mean()))
    return found


# Scores of a whole text.
TOTALS = ("accuracy", "precision", "recall", "f1")


class LabelledRow(Row):
    labels: int


# The summed loss of a batch, and index and predicted label of each row.
Predicted = tuple[float, list[tuple[int, int]]]


class LabelFields(TypedDict):
    """Fields of a configuration that say what labels there are."""

    id2label: dict[int, str]
    label2id: dict[str, int]
    problem_type: str


class ClassificationObjective(Objective[LabelledRow, Predicted]):
    """Learn and measure classification on data sets that `encode_labelled` made, with so many labels."""

    loss_unit = "row"

    def __init__(self, tokenizer: VanillaTransformerTokenizer, num_labels: int):
        self.tokenizer, self.num_labels = tokenizer, num_labels

    def collate(self, rows: list[LabelledRow]) -> Batch:
        """Return input_ids and attention_mask (B, S), labels (B,)."""
        batch = self.tokenizer.pad({"input_ids": [row["input_ids"] for row in rows]}, return_tensors="pt")
        return {**batch, "labels": torch.tensor([row["labels"] for row in rows])}

    def measure(
        self, model: PreTrainedModel, batch: Batch, indices: list[int], generation: Generation | None
    ) -> Predicted:
        """Return summed loss, and index and label of each row."""
        outputs = model(**batch)
        predicted = outputs.logits.argmax(dim=-1).tolist()
        return outputs.loss.item() * len(indices), list(zip(indices, predicted, strict=True))

    def summarize(self, parts: list[Predicted], dataset: datasets.Dataset) -> tuple[dict[str, float], np.ndarray]:
        """
        Return the mean loss of a row, accuracy, and the means of precision, recall and F1 over the labels. The
        predictions are label numbers.
        """
        predictions = [label for _, label in sorted(each for _, pairs in parts for each in pairs)]
        scores = score_labels(predictions, list(dataset["labels"]), range(self.num_labels))
        loss = sum(loss for loss, _ in parts) / len(predictions)
        return {"loss": loss, **{key: scores[key] for key in TOTALS}}, np.array(predictions)


class TextClassification(FileTask[LabelledText]):
    """Labels of sentences, or of pairs of sentences where `text_columns` names two."""

    name = "text-classification"
    model_class = VanillaTransformerForSequenceClassification
    unit = "texts"
    length = 512

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self.data.text_columns or ["sentence"])

    def read_file(self, path: str) -> LabelledText:
        return read_labelled(path, self.columns, self.data.label_column)

    def read_dataset(self, dataset: datasets.Dataset, place: str) -> LabelledText:
        """Labels that are numbers with names get their names, in their order."""
        column = self.data.label_column
        names: list[str] | None = getattr(dataset.features.get(column), "names", None)
        rows: Iterable[Cells] = (dict(row) for row in dataset)
        if names is not None:
            known: dict[object, str] = dict(enumerate(names))
            rows = ({**row, column: known.get(row[column], NO_LABEL)} for row in rows)
        found = LabelledText([], [], [], place, "row", names)
        collect_labelled(found, enumerate(rows, start=1), self.columns, column)
        return found

    def arrange(self, texts: dict[str, LabelledText]) -> dict[str, LabelledText]:
        """
        Leave out texts without any label: tests whose labels are not published.

        Raises:
            RecipeError: if the training text is one.
        """
        for split, text in texts.items():
            if not len(text):
                reasons = list_reasons(text.dropped) or "it has no rows"
                if split == "train":
                    raise RecipeError(f"{text.place} has nothing to learn from: {reasons}.")
                self.notes.append(f"{split}: no text is left: {reasons}")
        return {split: text for split, text in texts.items() if len(text)}

    def describe(self, text: LabelledText, split: str) -> str:
        counts = Counter(text.labels)
        named = [f"{label} {counts[label]:,}" for label in sorted(counts)[:10]]
        return f"{super().describe(text, split)}; labels {', '.join(named)}{', ...' if len(counts) > 10 else ''}"

    def lines(self, text: LabelledText) -> list[str]:
        return [sentence for sentences in text.texts for sentence in sentences]

    def example(self, text: LabelledText, dataset: datasets.Dataset) -> str | list[str]:
        texts: list[str] = dataset[choose_short(dataset)]["texts"]
        return texts if len(texts) > 1 else texts[0]

    def config_fields(self, text: LabelledText) -> LabelFields:
        """
        The labels of the training text.

        Raises:
            RecipeError: if there is only one.
        """
        names = label_names(text)
        if len(names) == 1:
            raise RecipeError(
                f"{text.place} has only the label {names[0]!r}. There is nothing to tell apart: "
                "give texts of two labels or more."
            )
        return {
            "id2label": dict(enumerate(names)),
            "label2id": {name: i for i, name in enumerate(names)},
            "problem_type": "single_label_classification",
        }

    def encode(
        self,
        text: LabelledText,
        split: str,
        config: VanillaTransformerConfig,
        tokenizer: VanillaTransformerTokenizer,
        longest: int,
    ) -> datasets.Dataset:
        return encode_labelled(text, config.label_names, tokenizer, longest, split)

    def make_objective(
        self,
        tokenizer: VanillaTransformerTokenizer,
        config: VanillaTransformerConfig,
        dataset: datasets.Dataset | None = None,
    ) -> ClassificationObjective:
        return ClassificationObjective(tokenizer, len(config.label_names))

    def score(self, evaluator: Evaluator, dataset: datasets.Dataset) -> SplitScores:
        """Also of parts: precision, recall and F1 of each label, and accuracy on pairs with a phenomenon."""
        evaluation = evaluator.evaluate(dataset, in_full_precision=True)
        predictions, labels = evaluation.predictions, np.array(dataset["labels"])
        names = evaluator.model.config.label_names
        scores = score_labels(predictions.tolist(), labels.tolist(), range(len(names)))
        parts: dict[str, dict[str, float]] = {
            f"label {name}": {
                "count": int((labels == i).sum()),
                **{key: scores[f"{key}_{i}"] for key in ("precision", "recall", "f1")},
            }
            for i, name in enumerate(names)
        }
        if len(self.columns) > 1:
            for name, (count, accuracy) in accuracy_by_phenomenon(dataset["texts"], predictions == labels).items():
                parts[f"pairs with {name}"] = {"count": count, "accuracy": accuracy}
        return SplitScores.from_metrics(evaluation.metrics, rows=len(dataset), parts=parts)
