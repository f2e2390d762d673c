"""
Extractive question answering on files in the form of SQuAD v1.1: the answer is a part of the context.

A question and its context make windows `question </s> part of the context </s>`, each overlapping the next, so that an
answer anywhere in a long context is whole in one of them. In a window without the answer the right start and end
are the `</s>` after the question.
"""

import json
import unicodedata
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

import datasets
import numpy as np
import torch
from transformers import PreTrainedModel

from training.data.cleaning import list_reasons
from training.data.files import read_lines
from training.data.texts import check_characters, describe_cell
from training.engine.objective import Batch, Generation, Objective, Row
from training.engine.task import FileTask
from training.log import logger
from training.metrics.question_answering import score_answers
from vanilla_transformer import (
    VanillaTransformerConfig,
    VanillaTransformerForQuestionAnswering,
    VanillaTransformerTokenizer,
)
from vanilla_transformer.errors import RecipeError, TextError

C = TypeVar("C")
KINDS: dict[type, str] = {str: "text", int: "a whole number"}  # of cells


@dataclass
class Question:
    """
    A question on a context.

    Attributes:
        id: unique in its file.
        text, context: in words.
        answers: (text, first character in the context) of each right answer; none where they are not known.
    """

    id: str
    text: str
    context: str
    answers: list[tuple[str, int]]


@dataclass
class Questions:
    """
    The questions of a file.

    Attributes:
        place: what was read.
        questions: in its order, each with an answer at least.
        misplaced: answers that are not where the file says, and were left out.
        dropped: reasons and how many questions were left out for each.
        ids: of all that were read.
    """

    place: str
    questions: list[Question] = field(default_factory=list)
    misplaced: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    ids: set[str] = field(default_factory=set)

    def __len__(self) -> int:
        return len(self.questions)

    def add(
        self, name: object, text: object, context: object, answers: list[tuple[object, object]], place: str
    ) -> None:
        """
        Check the cells of a question, and keep it if one of its answers is right.

        Args:
            answers: text and first character of each.
            place: of the question, for errors.

        Raises:
            RecipeError: for a cell of another kind, or an id that another question has.
        """
        check_cell(name, "id", (str, int), place)
        asked, read = check_cell(text, "question", (str,), place), check_cell(context, "context", (str,), place)
        given = [
            (check_cell(words, "text", (str,), place), check_cell(start, "answer_start", (int,), place))
            for words, start in answers
        ]
        if str(name) in self.ids:
            raise RecipeError(f"{self.place} has two questions with the id {str(name)!r}. Give each its own.")
        self.ids.add(str(name))
        located = (locate_answer(read, words, start) for words, start in given)
        right = [answer for answer in located if answer is not None]
        misplaced = len(given) - len(right)
        self.misplaced += misplaced
        if right:
            # Some questions of SQuAD begin with many spaces, which would take a window's room.
            self.questions.append(Question(str(name), " ".join(asked.split()), read, right))
        elif misplaced:
            self.dropped["whose answers are not where the file says"] += 1
        else:
            self.dropped["without an answer"] += 1


def check_cell(cell: object, name: str, kinds: tuple[type[C], ...], place: str) -> C:
    """Return a cell that is text, or a whole number; raises RecipeError for any other."""
    if not isinstance(cell, kinds) or isinstance(cell, bool):
        wanted = " or ".join(KINDS[kind] for kind in kinds)
        raise RecipeError(
            f"{place}: `{name}` must be {wanted}, but is {describe_cell(cell)}. Mend it, or leave the question out."
        )
    return cell


def count_characters(text: str, length: int, form: Literal["NFC", "NFD"]) -> int:
    """Return how many characters of a text have at most so many once they are in a form of Unicode."""
    lengths = range(len(text) + 1)
    return bisect_right(lengths, length, key=lambda end: len(unicodedata.normalize(form, text[:end]))) - 1


def locate_answer(context: str, text: str, start: int) -> tuple[str, int] | None:
    """
    Find an answer where a file says, whichever form of Unicode it, its context and the count of characters are in.

    Returns:
        the part of the context and its first character; None if the answer is blank or not there.
    """
    if not text or not text.strip() or start < 0:
        return None
    if context[start : start + len(text)] == text:
        return text, start
    if context.isascii() and text.isascii():
        return None
    composed = unicodedata.normalize("NFC", text)
    for first in (start, count_characters(context, start, "NFC"), count_characters(context, start, "NFD")):
        part = context[first : first + count_characters(context[first:], len(composed), "NFC")]
        if unicodedata.normalize("NFC", part) == composed:
            return part, first
    return None


def read_squad(path: str | Path) -> Questions:
    """
    A file in the form of SQuAD v1.1; a name that ends in .gz is unpacked. Answers that are not where it says, and
    questions without a right answer, are left out and counted.

    Raises:
        TextError, RecipeError: as `read_lines`, and for a file that is not JSON or of another form, or has no
            question to learn.
    """
    try:
        content = json.loads("\n".join(read_lines(path)))
    except (ValueError, RecursionError) as error:
        if isinstance(error, TextError):
            raise
        raise RecipeError(f"{path} is not JSON: {error}.") from error
    check_characters(content, str(path))
    found, name = Questions(str(path)), ""
    try:
        for article in content["data"]:
            for paragraph in article["paragraphs"]:
                context = paragraph["context"]
                for entry in paragraph["qas"]:
                    name = f" with the question {entry['id']!r}"
                    given = [(answer["text"], answer["answer_start"]) for answer in entry.get("answers", [])]
                    found.add(entry["id"], entry["question"], context, given, f"{path}{name}")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, RecipeError):
            raise
        raise RecipeError(
            f"{path} is not in the form of SQuAD{name}: {type(error).__name__}: {error}. That has data / paragraphs / "
            "context and qas / id, question, answers / text, answer_start."
        ) from error
    return check_questions(found)


def check_questions(found: Questions) -> Questions:
    """
    Refuse a text without questions.

    Raises:
        RecipeError: with the reasons.
    """
    if not found.questions:
        reasons = list_reasons(found.dropped) or "it has none"
        raise RecipeError(f"{found.place} has no question to learn: {reasons}.")
    return found


def encode_questions(
    questions: list[Question],
    tokenizer: VanillaTransformerTokenizer,
    max_length: int,
    stride: int,
) -> datasets.Dataset:
    """
    Windows of questions with their contexts; the labels are the first right answer of each.

    Args:
        max_length: tokens of a window, question included.
        stride: tokens of the context that a window shares with the next.

    Returns:
        columns `row` (the question's number), `id`, `context`, `answers`, `input_ids`, `offsets` (characters of the
        context, -1 outside it), `start_positions`, `end_positions`, `source_length`, `target_length`. A question that
        leaves no room for its context is left out.
    """
    names = ("row", "id", "context", "answers", "input_ids", "offsets", "start_positions", "end_positions")
    columns: dict[str, list[object]] = {name: [] for name in names}
    lengths: list[int] = []
    context_text, context = "", tokenizer("", return_offsets_mapping=True)
    for row, question in enumerate(questions):
        ids = tokenizer(question.text, split_special_tokens=True).input_ids
        room = max_length - len(ids) - 1  # for the context, before its </s>
        if room <= stride:
            continue
        if question.context != context_text:  # the questions of one context follow each other
            context_text = question.context
            context = tokenizer(
                context_text, split_special_tokens=True, add_special_tokens=False, return_offsets_mapping=True
            )
        first = 0
        while True:
            part = slice(first, first + room)
            offsets = context.offset_mapping[part]
            columns["row"].append(row)
            columns["id"].append(question.id)
            columns["context"].append(question.context)
            columns["answers"].append([text for text, _ in question.answers])
            window = [*ids, *context.input_ids[part], tokenizer.eos_token_id]
            columns["input_ids"].append(window)
            lengths.append(len(window))
            columns["offsets"].append([[-1, -1]] * len(ids) + [list(pair) for pair in offsets] + [[-1, -1]])
            start, end = answer_tokens(offsets, *question.answers[0])
            columns["start_positions"].append(len(ids) - 1 if start is None else len(ids) + start)
            columns["end_positions"].append(len(ids) - 1 if end is None else len(ids) + end)
            if first + room >= len(context.input_ids):
                break
            first += room - stride
    return datasets.Dataset.from_dict({**columns, "source_length": lengths, "target_length": lengths})


def answer_tokens(offsets: list[tuple[int, int]], text: str, start: int) -> tuple[int | None, int | None]:
    """The first and the last token of an answer in a window of a context, if all of it is there."""
    start += len(text) - len(text.lstrip())  # no token covers the space before it
    end = start + len(text.strip())
    inside = [i for i, (low, high) in enumerate(offsets) if high > start and low < end]
    if not inside or offsets[inside[0]][0] > start or offsets[inside[-1]][1] < end:
        return None, None
    return inside[0], inside[-1]


def find_answers(
    windows: datasets.Dataset,
    start_logits: Sequence[np.ndarray],
    end_logits: Sequence[np.ndarray],
    max_answer_length: int = 30,
    n_best_size: int = 20,
) -> dict[str, str]:
    """
    The best answer to each question, out of all of its windows.

    A span scores the sum of its logits, less that of the window's `</s>` after the question, which says that the
    answer is elsewhere: only so can windows be compared.

    Args:
        windows: as `encode_questions` makes them.
        start_logits, end_logits: of each window, arrays of shape (S,).
        max_answer_length: in tokens.
        n_best_size: starts and ends that are tried in each window.

    Returns:
        question id -> answer.
    """
    found: dict[str, tuple[float, str]] = {}
    for window, starts, ends in zip(windows, start_logits, end_logits, strict=True):
        offsets = np.array(window["offsets"])  # (S, 2)
        inside = np.flatnonzero(offsets[:, 0] >= 0)
        if not len(inside):
            continue
        elsewhere = inside[0] - 1
        nothing = starts[elsewhere] + ends[elsewhere]
        for start in inside[np.argsort(-starts[inside])[:n_best_size]]:
            for end in inside[np.argsort(-ends[inside])[:n_best_size]]:
                if not start <= end < start + max_answer_length:
                    continue
                score = float(starts[start] + ends[end] - nothing)
                text = window["context"][offsets[start, 0] : offsets[end, 1]].strip()
                if text and score > found.get(window["id"], (-np.inf, ""))[0]:
                    found[window["id"]] = (score, text)
    return {question: text for question, (_, text) in found.items()}


def answerless(windows: datasets.Dataset) -> list[str]:
    """Questions whose answer is whole in none of their windows."""
    held: dict[str, bool] = {}
    for question, start, offsets in zip(windows["id"], windows["start_positions"], windows["offsets"], strict=True):
        held[question] = held.get(question, False) or offsets[start][0] >= 0
    return [question for question, is_held in held.items() if not is_held]


class WindowRow(Row):
    start_positions: int
    end_positions: int


# The summed loss of a batch, and index and logits (S,) of starts and ends of each window.
Predicted = tuple[float, list[tuple[int, np.ndarray, np.ndarray]]]


class QuestionAnsweringObjective(Objective[WindowRow, Predicted]):
    """Learn and measure answers on data sets that `encode_questions` made."""

    loss_unit = "row"

    def __init__(self, tokenizer: VanillaTransformerTokenizer):
        self.tokenizer = tokenizer

    def collate(self, rows: list[WindowRow]) -> Batch:
        """Return input_ids and attention_mask (B, S), start_positions and end_positions (B,)."""
        batch = self.tokenizer.pad({"input_ids": [row["input_ids"] for row in rows]}, return_tensors="pt")
        labels = {name: torch.tensor([row[name] for row in rows]) for name in ("start_positions", "end_positions")}
        return {**batch, **labels}

    def measure(
        self, model: PreTrainedModel, batch: Batch, indices: list[int], generation: Generation | None
    ) -> Predicted:
        """Return summed loss, and index and logits of each window."""
        outputs = model(**batch)
        lengths = batch["attention_mask"].sum(dim=-1).tolist()
        starts, ends = outputs.start_logits.float().cpu().numpy(), outputs.end_logits.float().cpu().numpy()
        logits = [
            (index, start[:length], end[:length])
            for index, start, end, length in zip(indices, starts, ends, lengths, strict=True)
        ]
        return outputs.loss.item() * len(indices), logits

    def summarize(self, parts: list[Predicted], dataset: datasets.Dataset) -> tuple[dict[str, float], np.ndarray]:
        """Return the mean loss of a window, exact match and F1. The predictions are (question id, answer)."""
        logits = sorted((each for _, several in parts for each in several), key=lambda each: each[0])
        answers = find_answers(dataset, [start for _, start, _ in logits], [end for _, _, end in logits])
        references = {question: list(right) for question, right in zip(dataset["id"], dataset["answers"], strict=True)}
        scores = score_answers(answers, references)
        return {"loss": sum(loss for loss, _ in parts) / len(logits), **scores}, np.array(sorted(answers.items()))


class QuestionAnswering(FileTask[Questions]):
    name = "question-answering"
    model_class = VanillaTransformerForQuestionAnswering
    unit = "questions"
    length = 384

    def read_file(self, path: str) -> Questions:
        return read_squad(path)

    def read_dataset(self, dataset: datasets.Dataset, place: str) -> Questions:
        """A data set in the form of `squad`: `answers` has `text` and `answer_start`, a list each."""
        found = Questions(place)
        for number, row in enumerate(dataset, start=1):
            try:
                answers = list(zip(row["answers"]["text"], row["answers"]["answer_start"], strict=True))
                question = row["id"], row["question"], row["context"]
            except (KeyError, TypeError, ValueError) as error:
                raise RecipeError(
                    f"{place}, row {number} is not in the form of SQuAD: {type(error).__name__}: {error}. It has id, "
                    "question, context, and answers with text and answer_start."
                ) from error
            found.add(*question, answers, f"{place}, row {number}")
        return check_questions(found)

    def make_objective(
        self,
        tokenizer: VanillaTransformerTokenizer,
        config: VanillaTransformerConfig,
        dataset: datasets.Dataset | None = None,
    ) -> QuestionAnsweringObjective:
        return QuestionAnsweringObjective(tokenizer)

    def describe(self, text: Questions, split: str) -> str:
        line = super().describe(text, split)
        return line + (f"; {text.misplaced:,} answers are not where the file says" if text.misplaced else "")

    def lines(self, text: Questions) -> list[str]:
        contexts = dict.fromkeys(question.context for question in text.questions)
        return [*(question.text for question in text.questions), *contexts]

    def example(self, text: Questions, dataset: datasets.Dataset) -> list[str]:
        """The question with the shortest context."""
        shortest = min(text.questions, key=lambda question: len(question.context))
        return [shortest.text, shortest.context]

    def encode(
        self,
        text: Questions,
        split: str,
        config: VanillaTransformerConfig,
        tokenizer: VanillaTransformerTokenizer,
        longest: int,
    ) -> datasets.Dataset:
        """
        Windows; of training text without questions whose answer is whole in none of them.

        Raises:
            RecipeError: if there is no other question, or every one is too long.
        """
        windows = encode_questions(text.questions, tokenizer, longest, self.data.stride)
        too_long = len(text) - len(set(windows["id"]))
        if too_long:
            what = f"that leave no room in a window of {longest} tokens with a stride of {self.data.stride}"
            if too_long == len(text):
                raise RecipeError(f"{text.place} has only questions {what}. Raise `max_length`, or lower `stride`.")
            logger.info(f"{split}: {too_long:,} questions {what}, left out")
        lost = set(answerless(windows))
        if lost:
            what = "left out" if split == "train" else "kept, and scored as all others"
            logger.info(
                f"{split}: {len(lost):,} questions whose answer is whole in no window of {longest} tokens, {what}"
            )
        if not lost or split != "train":
            return windows
        if len(lost) == len(text) - too_long:
            raise RecipeError(
                f"No answer of the training text is whole in a window of {longest} tokens with a stride of "
                f"{self.data.stride}. Raise `stride` or `max_length`."
            )
        return windows.select([i for i, question in enumerate(windows["id"]) if question not in lost])
