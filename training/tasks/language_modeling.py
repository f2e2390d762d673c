"""
Language models on plain text: masked ones, whose encoder sees both sides (BERT), and causal ones (GPT, LaMDA).

A line is a text; with a separator it is a dialogue of several turns, each of which gets a `</s>`. Texts are joined and
cut into blocks of equal length, so that nothing is padded and long texts are not lost.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

import datasets
import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import DataCollatorForLanguageModeling, PreTrainedModel

from training.data.files import read_plain_text
from training.data.texts import COLUMNED, Cells, column_format, describe_cell, is_missing, read_rows
from training.engine.objective import Batch, Generation, Objective, Row
from training.engine.task import FileTask
from training.metrics.language_modeling import perplexity
from vanilla_transformer import (
    VanillaTransformerConfig,
    VanillaTransformerForCausalLM,
    VanillaTransformerForMaskedLM,
    VanillaTransformerTokenizer,
)
from vanilla_transformer.configuration_vanilla_transformer import IGNORED_LABEL
from vanilla_transformer.errors import RecipeError
from vanilla_transformer.kernels_vanilla_transformer import label_smoothed_loss

MASK = "<mask>"


@dataclass
class PlainText:
    """
    Texts, or the turns of dialogues, each of which gets a `</s>`.

    Attributes:
        turns: in their order; a text that is not a dialogue is one turn.
        dropped: reasons and how many texts were left out for each.
    """

    turns: list[str]
    dropped: Counter[str] = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self.turns)


def read_texts(path: str, turn_separator: str | None = None) -> PlainText:
    """
    A file with a text a line.

    Raises:
        TextError, RecipeError: as `read_plain_text` and `part_turns`.
    """
    return part_turns(read_plain_text(path), path, turn_separator)


def part_turns(texts: Iterable[str | list[str]], place: str, turn_separator: str | None = None) -> PlainText:
    """
    The turns of each text that is not blank.

    Args:
        texts: each a text, or the turns of a dialogue.
        place: what to call all of it in an error.
        turn_separator: what is between the turns of a dialogue that is one text.

    Raises:
        RecipeError: for a separator that is empty or is in no text, and if all texts are blank.
    """
    if turn_separator == "":
        raise RecipeError(
            "`turn_separator` must be what is between turns, but is empty. Give, for example, a tab, or leave it out."
        )
    texts = list(texts)
    if turn_separator and not any(turn_separator in part for text in texts for part in as_turns(text)):
        raise RecipeError(
            f'`turn_separator` must be in {place}, but is {turn_separator!r}, which is not. A tab is written "\\t" in '
            "a recipe and $'\\t' in a shell."
        )
    found = PlainText([])
    for text in texts:
        parts = as_turns(text)
        if turn_separator is not None:
            parts = [turn for part in parts for turn in part.split(turn_separator)]
        turns = [turn.strip() for turn in parts if turn.strip()]
        found.turns += turns
        if not turns:
            found.dropped["that are blank"] += 1
    if not found.turns:
        raise RecipeError(f"{place} has no text: every line is blank.")
    return found


def as_turns(text: str | list[str]) -> list[str]:
    """A text, or the turns that it is in already."""
    return [text] if isinstance(text, str) else text


def encode_blocks(
    turns: list[str], tokenizer: VanillaTransformerTokenizer, block_size: int, drop_short: bool = True
) -> datasets.Dataset:
    """
    Texts one after the other, each with its `</s>`, cut into blocks of so many tokens.

    Args:
        drop_short: whether a last block that is shorter is left out, as in training, where all are of one length.

    Returns:
        columns `row` (position of the block), `input_ids`, `source_length`, `target_length`.
    """
    parts = []
    for start in range(0, len(turns), 1000):
        encoded = tokenizer(turns[start : start + 1000], split_special_tokens=True).input_ids
        parts.append(np.concatenate([np.array(ids, dtype=np.int32) for ids in encoded]))
    tokens = np.concatenate(parts)
    blocks = [tokens[start : start + block_size] for start in range(0, len(tokens), block_size)]
    if len(blocks) > 1 and len(blocks[-1]) < (block_size if drop_short else 2):
        blocks.pop()
    lengths = [len(ids) for ids in blocks]
    return datasets.Dataset.from_dict(
        {"row": list(range(len(blocks))), "input_ids": blocks, "source_length": lengths, "target_length": lengths}
    )


# Of a batch: summed log-loss, and predicted tokens.
Measured = tuple[float, int]


class CausalLanguageModelingObjective(Objective[Row, Measured]):
    """Learn and measure the prediction of each token from those before it, on what `encode_blocks` made."""

    def __init__(self, tokenizer: VanillaTransformerTokenizer, seed: int = 0):
        self.tokenizer, self.seed = tokenizer, seed

    def prepare(self, model: PreTrainedModel) -> None:
        model.training_loss = label_smoothed_loss  # with ε = 0; the logits of a batch are never made

    def collate(self, rows: list[Row]) -> Batch:
        """Return input_ids, attention_mask and labels (B, T); the head shifts the labels."""
        batch = self.tokenizer.pad({"input_ids": [row["input_ids"] for row in rows]}, return_tensors="pt")
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, IGNORED_LABEL)
        return {**batch, "labels": labels}

    def count_predicted(self, labels: torch.Tensor) -> int:
        """How many labels (B, T) a model is to predict."""
        return int((labels[:, 1:] != IGNORED_LABEL).sum())  # none for the first token

    def measure(
        self, model: PreTrainedModel, batch: Batch, indices: list[int], generation: Generation | None
    ) -> Measured:
        """Return summed log-loss and predicted tokens."""
        count = self.count_predicted(batch["labels"])
        return (model(**batch).loss.item() * count, count) if count else (0.0, 0)

    def summarize(self, parts: list[Measured], dataset: datasets.Dataset) -> tuple[dict[str, float], np.ndarray]:
        """Return the mean log-loss of a predicted token, and perplexity. There are no predictions."""
        loss = sum(log_loss for log_loss, _ in parts) / max(1, sum(count for _, count in parts))
        return {"loss": loss, "perplexity": perplexity(loss)}, np.array([])


class MaskedLanguageModelingObjective(CausalLanguageModelingObjective):
    """
    Learn and measure filling in 15% of the tokens (Devlin et al. 2019): 80% of them are masked, 10% are
    others at random, 10% stay. In training they are drawn anew in each epoch, in evaluation they are always the same,
    whichever process has a block and after whatever interruption.
    """

    def __init__(self, tokenizer: VanillaTransformerTokenizer, seed: int = 0):
        super().__init__(tokenizer, seed)
        self.collator = DataCollatorForLanguageModeling(tokenizer)

    def collate(self, rows: list[Row]) -> Batch:
        """Return input_ids with masks, attention_mask, and labels (B, T), -100 where nothing is to be filled in."""
        return self.mask(rows)

    def collate_training(self, rows: list[Row], epoch: int) -> Batch:
        return self.mask(rows, self.seed, 1 + epoch)

    def mask(self, rows: list[Row], *seeds: int) -> Batch:
        """A batch with some tokens masked, which depend only on the block and the seeds."""
        masked = []
        for row in rows:
            (seed,) = np.random.SeedSequence((*seeds, row["row"])).generate_state(1)
            self.collator.generator = torch.Generator().manual_seed(int(seed))
            masked.append(self.collator([{"input_ids": row["input_ids"]}]))
        padding = {"input_ids": self.tokenizer.pad_token_id, "attention_mask": 0, "labels": IGNORED_LABEL}
        return {
            name: pad_sequence([each[name][0] for each in masked], batch_first=True, padding_value=value)
            for name, value in padding.items()
        }

    def count_predicted(self, labels: torch.Tensor) -> int:
        return int((labels != IGNORED_LABEL).sum())


class LanguageModeling(FileTask[PlainText]):
    """The common part of both kinds of language models."""

    objective_class: ClassVar[type[CausalLanguageModelingObjective]]

    unit = "texts"
    length = 256

    def make_objective(
        self,
        tokenizer: VanillaTransformerTokenizer,
        config: VanillaTransformerConfig,
        dataset: datasets.Dataset | None = None,
    ) -> CausalLanguageModelingObjective:
        return self.objective_class(tokenizer, self.training.seed)

    def read_file(self, path: str) -> PlainText:
        """A text a line, or a column of a `.tsv`, `.csv` or `.jsonl` file."""
        if column_format(path) in COLUMNED:
            return self.collect(read_rows(path), path, "line")
        return read_texts(path, self.data.turn_separator)

    def read_dataset(self, dataset: datasets.Dataset, place: str) -> PlainText:
        return self.collect(enumerate((dict(row) for row in dataset), start=1), place, "row")

    def collect(self, rows: Iterable[tuple[int, Cells]], place: str, unit: str) -> PlainText:
        """The lines of a column; a list of them is a dialogue."""
        columns = self.data.text_columns or ["text"]
        if len(columns) > 1:
            raise RecipeError(
                f"`text_columns` must be one column in {self.name}, but is {columns}. Name the one with the text."
            )
        texts: list[str | list[str]] = []
        for number, row in rows:
            text = row.get(columns[0])
            if is_missing(text) and columns[0] in row:
                texts.append("")
            elif isinstance(text, str):
                texts += text.split("\n")
            elif isinstance(text, list) and all(isinstance(turn, str) for turn in text):
                texts.append([str(turn) for turn in text])
            elif columns[0] in row:
                raise RecipeError(
                    f"{place}, {unit} {number} has no text under {columns[0]!r}, but {describe_cell(text)}. Write "
                    "text, or a list of the turns of a dialogue, or name another column with `text_columns`."
                )
            else:
                raise RecipeError(
                    f"{place}, {unit} {number} has no text under {columns[0]!r}, only: {', '.join(map(str, row))}. "
                    "Name the column with `text_columns`."
                )
        return part_turns(texts, place, self.data.turn_separator)

    def lines(self, text: PlainText) -> list[str]:
        return text.turns

    def encode(
        self,
        text: PlainText,
        split: str,
        config: VanillaTransformerConfig,
        tokenizer: VanillaTransformerTokenizer,
        longest: int,
    ) -> datasets.Dataset:
        return encode_blocks(text.turns, tokenizer, longest, drop_short=split == "train")

    def words(self, text: PlainText) -> list[str]:
        """Of the recipe's example, or of a text that it learns from: a dozen of the first that fills half a line."""
        given = (self.data.example or "").split()
        return given or next((line for line in text.turns if len(line) >= 40), text.turns[0]).split()[:12]


class CausalLanguageModeling(LanguageModeling):
    name = "text-generation"
    model_class = VanillaTransformerForCausalLM
    objective_class = CausalLanguageModelingObjective

    def check_settings(self) -> None:
        if self.data.max_length == 1:
            raise RecipeError(
                "`max_length` must be at least 2, since a block of one token has none to predict, but is 1. Give more."
            )

    def example(self, text: PlainText, dataset: datasets.Dataset) -> str:
        """A beginning."""
        words = self.words(text)
        return " ".join(words if self.data.example else words[: (len(words) + 1) // 2])


class MaskedLanguageModeling(LanguageModeling):
    name = "fill-mask"
    model_class = VanillaTransformerForMaskedLM
    objective_class = MaskedLanguageModelingObjective

    def example(self, text: PlainText, dataset: datasets.Dataset) -> str:
        """A text with a mask."""
        words = self.words(text)
        if not any(MASK in word for word in words):
            words[len(words) // 2] = MASK
        return " ".join(words)
