"""
Extractive question answering on files in the form of SQuAD v1.1: the answer is a part of the context.

A question and its context make windows `question </s> part of the context </s>`, each overlapping the next, so that an
answer anywhere in a long context stands whole in one of them. In a window without the answer the right start and end
are the `</s>` after the question.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch

from training.arguments import RecipeError
from training.metrics.question_answering import score_answers
from training.trainer import VanillaTransformerTrainer
from vanilla_transformer import VanillaTransformerTokenizer


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
        questions: in its order.
        dropped: reasons and how many answers were left out for each.
    """

    questions: list[Question]
    dropped: Counter[str] = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self.questions)


def read_squad(path: str | Path) -> Questions:
    """
    A file in the form of SQuAD v1.1. An answer that does not stand where the file says is left out, and counted.

    Raises:
        RecipeError: for a file that cannot be read, is not JSON or of another form, or has no questions.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror}.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is not JSON: {error}.") from error
    found = Questions([])
    seen: set[str] = set()
    try:
        for article in content["data"]:
            for paragraph in article["paragraphs"]:
                context = paragraph["context"]
                for entry in paragraph["qas"]:
                    given = [(str(answer["text"]), int(answer["answer_start"])) for answer in entry.get("answers", [])]
                    right = [
                        (text, start) for text, start in given if context[start : start + len(text)] == text and text
                    ]
                    found.dropped["answers that are not where the file says"] += len(given) - len(right)
                    if entry["id"] in seen:
                        raise RecipeError(f"{path} has two questions with the id {entry['id']!r}. Give each its own.")
                    seen.add(entry["id"])
                    found.questions.append(Question(entry["id"], entry["question"], context, right))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, RecipeError):
            raise
        raise RecipeError(
            f"{path} is not in the form of SQuAD: {type(error).__name__}: {error}. It has data / paragraphs / context "
            "and qas / id, question, answers / text, answer_start."
        ) from error
    found.dropped = +found.dropped
    if not found.questions:
        raise RecipeError(f"{path} has no questions.")
    return found


def encode_questions(
    questions: list[Question],
    tokenizer: VanillaTransformerTokenizer,
    max_length: int,
    stride: int,
    with_answers: bool,
) -> datasets.Dataset:
    """
    Windows of questions with their contexts.

    Args:
        max_length: tokens of a window, question included.
        stride: tokens of the context that a window shares with the next.
        with_answers: whether the first right answer of each question becomes labels; one without is an error.

    Returns:
        columns `row` (the question's number), `id`, `context`, `answers`, `input_ids`, `source_length`,
        `target_length`, `offsets` (characters of the context, -1 outside it), and with answers `start_positions` and
        `end_positions`.

    Raises:
        RecipeError: for a question that leaves no room for its context, or has no right answer where one is needed.
    """
    columns: dict[str, list[Any]] = {name: [] for name in ("row", "id", "context", "answers", "input_ids", "offsets")}
    labels: dict[str, list[int]] = {"start_positions": [], "end_positions": []}
    for row, question in enumerate(questions):
        ids = tokenizer(question.text, split_special_tokens=True).input_ids
        room = max_length - len(ids) - 1  # for the context, before its </s>
        if room <= stride:
            raise RecipeError(
                f"The question {question.id!r} has {len(ids)} tokens, which leaves {max(room, 0)} of a window of "
                f"{max_length} for its context, with a stride of {stride}. Raise `max_length`, or shorten it."
            )
        context = tokenizer(
            question.context, split_special_tokens=True, add_special_tokens=False, return_offsets_mapping=True
        )
        if with_answers and not question.answers:
            raise RecipeError(f"The question {question.id!r} has no right answer to learn. Leave it out.")
        first = 0
        while True:
            part = slice(first, first + room)
            offsets = context.offset_mapping[part]
            columns["row"].append(row)
            columns["id"].append(question.id)
            columns["context"].append(question.context)
            columns["answers"].append([text for text, _ in question.answers])
            columns["input_ids"].append([*ids, *context.input_ids[part], tokenizer.eos_token_id])
            columns["offsets"].append([[-1, -1]] * len(ids) + [list(pair) for pair in offsets] + [[-1, -1]])
            if with_answers:
                start, end = answer_tokens(offsets, *question.answers[0])
                labels["start_positions"].append(len(ids) - 1 if start is None else len(ids) + start)
                labels["end_positions"].append(len(ids) - 1 if end is None else len(ids) + end)
            if first + room >= len(context.input_ids):
                break
            first += room - stride
    columns["source_length"] = columns["target_length"] = [len(ids) for ids in columns["input_ids"]]
    return datasets.Dataset.from_dict({**columns, **(labels if with_answers else {})})


def answer_tokens(offsets: list[tuple[int, int]], text: str, start: int) -> tuple[int | None, int | None]:
    """The first and the last token of an answer in a window of a context, if all of it is there."""
    end = start + len(text)
    inside = [i for i, (low, high) in enumerate(offsets) if high > start and low < end]
    if not inside or offsets[inside[0]][0] > start or offsets[inside[-1]][1] < end:
        return None, None
    return inside[0], inside[-1]


def find_answers(
    windows: datasets.Dataset,
    start_logits: Sequence[np.ndarray],
    end_logits: Sequence[np.ndarray],
    longest: int = 30,
    best: int = 20,
) -> dict[str, str]:
    """
    The best answer to each question, out of all of its windows.

    A span scores the sum of its logits, less that of the window's `</s>` after the question, which says that the
    answer is elsewhere: only so can windows be compared.

    Args:
        windows: as `encode_questions` makes them.
        start_logits, end_logits: of each window, arrays of shape (S,).
        longest: tokens of an answer.
        best: starts and ends that are tried in each window.

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
        for start in inside[np.argsort(-starts[inside])[:best]]:
            for end in inside[np.argsort(-ends[inside])[:best]]:
                if not start <= end < start + longest:
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


class QuestionAnsweringTrainer(VanillaTransformerTrainer):
    """Train and evaluate on data sets that `encode_questions` made."""

    def collate(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """input_ids and attention_mask (B, S), and start_positions and end_positions (B,) where they are known."""
        batch = self.processing_class.pad({"input_ids": [row["input_ids"] for row in rows]}, return_tensors="pt")
        known = [name for name in ("start_positions", "end_positions") if name in rows[0]]
        return {**batch, **{name: torch.tensor([row[name] for row in rows]) for name in known}}

    def measure(self, model: Any, batch: dict[str, torch.Tensor], indices: list[int], dataset: Any) -> Any:
        """Summed loss, and index and logits of each window."""
        outputs = model(**batch)
        lengths = batch["attention_mask"].sum(dim=-1).tolist()
        starts, ends = outputs.start_logits.float().cpu().numpy(), outputs.end_logits.float().cpu().numpy()
        logits = [
            (index, start[:length], end[:length])
            for index, start, end, length in zip(indices, starts, ends, lengths, strict=True)
        ]
        return 0.0 if outputs.loss is None else outputs.loss.item() * len(indices), logits

    def summarize(self, parts: list[Any], dataset: Any) -> tuple[dict[str, float], np.ndarray]:
        """Mean loss of a window, exact match and F1. The predictions are (question id, answer)."""
        logits = sorted((each for _, several in parts for each in several), key=lambda each: each[0])
        answers = find_answers(dataset, [start for _, start, _ in logits], [end for _, _, end in logits])
        references = {question: list(right) for question, right in zip(dataset["id"], dataset["answers"], strict=True)}
        scores = score_answers(answers, {question: right for question, right in references.items() if right})
        return {"loss": sum(loss for loss, _ in parts) / len(logits), **scores}, np.array(sorted(answers.items()))
