"""The part of a task that the trainer gets: how rows make a batch, and how one is measured."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Generic, Literal, TypedDict, TypeVar

import datasets
import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from transformers import PreTrainedModel

from training.data.encoding import lengths

Batch = dict[str, torch.Tensor]
# Settings of `generate`.
Generation = dict[str, int]


class Row(TypedDict):
    """A row of an encoded text, with the columns that every task has."""

    row: int
    input_ids: list[int]


R = TypeVar("R", bound=Row)
Part = TypeVar("Part")  # what is measured of a batch


class Objective(ABC, Generic[R, Part]):
    """
    The loss, learned and measured on data sets with the columns `row`, `source_length` and `target_length` beside the
    task's own.

    Attributes:
        loss_unit: of which the model gives the mean loss. Rows of a step count the same, however many a device has.
        decodes: whether text can be generated, for scores of that.
    """

    loss_unit: ClassVar[Literal["token", "row"]] = "token"
    decodes: ClassVar[bool] = False

    def prepare(self, model: PreTrainedModel) -> None:
        """Set a model up to be trained."""

    @abstractmethod
    def collate(self, rows: list[R]) -> Batch:
        """Make tensors that the model takes of rows of a data set."""

    def collate_training(self, rows: list[R], epoch: int) -> Batch:
        """Make a batch to learn from, as an epoch shows it."""
        return self.collate(rows)

    def shows_other_text(self) -> bool:
        """Return whether epochs show the training text in other words, so that `measure_epoch` has to be asked."""
        return False

    def measure_epoch(self, dataset: datasets.Dataset, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the tokens of each source and of each target as an epoch shows them."""
        return lengths(dataset)

    def count_tokens(self, inputs: Batch) -> torch.Tensor:
        """Return the tokens of a batch, padding not counted."""
        return inputs["attention_mask"].sum()

    @abstractmethod
    def measure(self, model: PreTrainedModel, batch: Batch, indices: list[int], generation: Generation | None) -> Part:
        """
        Measure a batch. What is returned travels between processes, as Python's own types.

        Args:
            indices: of its rows in the data set.
            generation: settings to generate text with; nothing is generated if `None`.
        """

    @abstractmethod
    def summarize(self, parts: list[Part], dataset: datasets.Dataset) -> tuple[dict[str, float], np.ndarray]:
        """Return figures of a whole set, "loss" among them, and predictions in its order, from what was measured."""


AnyObjective = Objective[Any, Any]


def measure_together(objective: AnyObjective, dataset: datasets.Dataset, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """The lengths that an epoch gives to both sides of each row; every process measures a part of the rows."""
    state = PartialState()
    count, index = state.num_processes, state.process_index
    if count == 1 or len(dataset) < count:
        return objective.measure_epoch(dataset, epoch)
    part = dataset.select(range(len(dataset) * index // count, len(dataset) * (index + 1) // count))
    sides = zip(*gather_object([objective.measure_epoch(part, epoch)]), strict=True)
    sources, targets = (np.concatenate(side) for side in sides)
    return sources, targets
