"""
Language models on plain text: masked ones, whose encoder sees both sides (BERT), and causal ones (GPT, LaMDA).

A line is a text; with a separator it is a dialogue of several turns, each of which gets a `</s>`. Texts are joined and
cut into blocks of equal length, so that nothing is padded and long texts are not lost.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from transformers import DataCollatorForLanguageModeling

from training.arguments import RecipeError, TrainingArguments
from training.data import COLUMNED, read_rows
from training.metrics.language_modeling import perplexity
from training.tasks.task import FileTask
from training.trainer import VanillaTransformerTrainer
from vanilla_transformer import (
    VanillaTransformerConfig,
    VanillaTransformerForCausalLM,
    VanillaTransformerForMaskedLM,
    VanillaTransformerTokenizer,
)
from vanilla_transformer.loss_vanilla_transformer import IGNORED_LABEL
from vanilla_transformer.text import read_lines

MASK = "<mask>"


@dataclass
class PlainText:
    """
    Texts, or dialogues.

    Attributes:
        texts: the turns of each; one for a text that is no dialogue.
        dropped: reasons and how many texts were left out for each.
    """

    texts: list[list[str]]
    dropped: Counter[str] = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self.texts)


def read_texts(path: str, turn_separator: str | None = None) -> PlainText:
    """
    A file with a text a line.

    Raises:
        TextError, RecipeError: as `read_lines` and `part_turns`.
    """
    return part_turns(read_lines(path), turn_separator)


def part_turns(lines: Iterable[str], turn_separator: str | None = None) -> PlainText:
    """
    The turns of each text that is not blank; one where no separator stands.

    Raises:
        RecipeError: for an empty separator.
    """
    if turn_separator == "":
        raise RecipeError("`turn_separator` is empty. Give what stands between turns, such as '\\t', or leave it out.")
    found = PlainText([])
    for line in lines:
        turns = line.split(turn_separator) if turn_separator is not None else [line]
        turns = [turn.strip() for turn in turns if turn.strip()]
        if turns:
            found.texts.append(turns)
        else:
            found.dropped["that are blank"] += 1
    return found


def encode_blocks(
    texts: list[list[str]], tokenizer: VanillaTransformerTokenizer, block_size: int, drop_short: bool = True
) -> datasets.Dataset:
    """
    Texts one after the other, each turn with its `</s>`, cut into blocks of so many tokens.

    Args:
        drop_short: whether a last block that is shorter is left out, as in training, where all are of one length.

    Returns:
        columns `row` (position of the block), `input_ids`, `source_length`, `target_length`.

    Raises:
        RecipeError: if the texts do not fill a block.
    """
    blocks: list[list[int]] = []
    block: list[int] = []
    for ids in encode_turns(texts, tokenizer):
        block += ids
        while len(block) >= block_size:
            blocks.append(block[:block_size])
            block = block[block_size:]
    if len(block) > 1 and not (drop_short and blocks):
        blocks.append(block)
    if not blocks:
        raise RecipeError(f"The text has {len(block)} tokens, which make no block. Give more text.")
    lengths = [len(ids) for ids in blocks]
    return datasets.Dataset.from_dict(
        {"row": list(range(len(blocks))), "input_ids": blocks, "source_length": lengths, "target_length": lengths}
    )


def encode_turns(
    texts: list[list[str]], tokenizer: VanillaTransformerTokenizer, at_once: int = 1000
) -> Iterator[list[int]]:
    """The ids of each turn."""
    turns = [turn for text in texts for turn in text]
    for start in range(0, len(turns), at_once):
        yield from tokenizer(turns[start : start + at_once], split_special_tokens=True).input_ids


class CausalLanguageModelingTrainer(VanillaTransformerTrainer):
    """Train and evaluate a model that predicts each token from those before it, on what `encode_blocks` made."""

    def collate(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """input_ids, attention_mask and labels (B, T); the head shifts the labels."""
        batch = self.processing_class.pad({"input_ids": [row["input_ids"] for row in rows]}, return_tensors="pt")
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, IGNORED_LABEL)
        return {**batch, "labels": labels}

    def count_predicted(self, labels: torch.Tensor) -> int:
        """How many labels (B, T) a model is to predict."""
        return int((labels[:, 1:] != IGNORED_LABEL).sum())  # none for the first token

    def measure(self, model: Any, batch: dict[str, torch.Tensor], indices: list[int], dataset: Any) -> Any:
        """Summed log-loss and predicted tokens."""
        count = self.count_predicted(batch["labels"])
        return (model(**batch).loss.item() * count, count) if count else (0.0, 0)

    def summarize(self, parts: list[Any], dataset: Any) -> tuple[dict[str, float], np.ndarray]:
        """Mean log-loss of a predicted token, and perplexity. There are no predictions."""
        loss = sum(log_loss for log_loss, _ in parts) / max(1, sum(count for _, count in parts))
        return {"loss": loss, "perplexity": perplexity(loss)}, np.array([])


class MaskedLanguageModelingTrainer(CausalLanguageModelingTrainer):
    """
    Train and evaluate a model that fills in 15% of the tokens (Devlin et al. 2019): 80% of them are masked, 10% are
    others at random, 10% stay. In training they are drawn anew each time, in evaluation they are always the same.
    """

    def __init__(self, model: Any, args: TrainingArguments, processing_class: Any = None, **kwargs: Any):
        self.collator = DataCollatorForLanguageModeling(processing_class)
        super().__init__(model, args, processing_class=processing_class, **kwargs)

    def collate(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """input_ids with masks, attention_mask, and labels (B, T), -100 where nothing is to be filled in."""
        # As many seeds as there are first rows: the same in every evaluation, whatever shares the work.
        seeded = DataCollatorForLanguageModeling(self.processing_class, seed=int(rows[0]["row"]))
        return self.mask(seeded, rows)

    def collate_training(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        return {**self.mask(self.collator, rows), "row": torch.tensor([row["row"] for row in rows])}

    @staticmethod
    def mask(collator: DataCollatorForLanguageModeling, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """A batch with some tokens masked."""
        batch: dict[str, torch.Tensor] = dict(collator([{"input_ids": row["input_ids"]} for row in rows]))
        return batch

    def count_predicted(self, labels: torch.Tensor) -> int:
        return int((labels != IGNORED_LABEL).sum())


class LanguageModeling(FileTask):
    """What both kinds of language models share."""

    unit = "texts"
    fields = frozenset({"text_column", "turn_separator", "example"})
    length = 256

    def read_file(self, path: str) -> PlainText:
        """A text a line, or a column of a `.tsv`, `.csv` or `.jsonl` file."""
        if Path(path.removesuffix(".gz")).suffix in COLUMNED:
            return self.collect((row for _, row in read_rows(path)), path)
        return self.checked(read_texts(path, self.data.turn_separator), path)

    def read_dataset(self, dataset: datasets.Dataset, place: str) -> PlainText:
        return self.collect((dict(row) for row in dataset), place.removesuffix(", row"))

    def collect(self, rows: Iterable[dict[str, Any]], place: str) -> PlainText:
        """The lines of a column."""
        lines: list[str] = []
        for row in rows:
            if self.data.text_column not in row:
                raise RecipeError(
                    f"{place} has no {self.data.text_column!r}, only: {', '.join(map(str, row))}. Name the column "
                    "with `text_column`."
                )
            lines += str(row[self.data.text_column]).split("\n")
        return self.checked(part_turns(lines, self.data.turn_separator), place)

    @staticmethod
    def checked(text: PlainText, place: str) -> PlainText:
        if not len(text):
            raise RecipeError(f"{place} has no text: every line is blank.")
        return text

    def lines(self, text: PlainText) -> list[str]:
        return [turn for turns in text.texts for turn in turns]

    def encode(
        self,
        text: PlainText,
        split: str,
        config: VanillaTransformerConfig,
        tokenizer: VanillaTransformerTokenizer,
        longest: int,
        say: Callable[..., None],
    ) -> datasets.Dataset:
        return encode_blocks(text.texts, tokenizer, longest, drop_short=split == "train")

    def words(self, text: PlainText) -> list[str]:
        """Of the recipe's example, or of a text that it learns from: the first that has several and fits on a line."""
        lines = self.lines(text)
        return (self.data.example or next((line for line in lines if 20 <= len(line) <= 80), text.texts[0][0])).split()


class CausalLanguageModeling(LanguageModeling):
    name = "text-generation"
    model_class = VanillaTransformerForCausalLM
    trainer_class = CausalLanguageModelingTrainer

    def example(self, text: PlainText, dataset: datasets.Dataset) -> str:
        """A beginning."""
        words = self.words(text)
        return " ".join(words if self.data.example else words[: (len(words) + 1) // 2])


class MaskedLanguageModeling(LanguageModeling):
    name = "fill-mask"
    model_class = VanillaTransformerForMaskedLM
    trainer_class = MaskedLanguageModelingTrainer

    def example(self, text: PlainText, dataset: datasets.Dataset) -> str:
        """A text with a mask."""
        words = self.words(text)
        if not any(MASK in word for word in words):
            words[len(words) // 2] = MASK
        return " ".join(words)
