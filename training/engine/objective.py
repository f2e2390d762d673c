"""What a task hands to the trainer: how rows make a batch, and what is measured of one."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

import datasets
import numpy as np
import torch

from training.data.encoding import lengths

Rows = list[dict[str, Any]]
Batch = dict[str, torch.Tensor]


class Objective(ABC):
    """
    What is learned and measured, on data sets with the columns `row`, `source_length` and `target_length` beside those
    of the task.

    Attributes:
        loss_unit: of which the model gives the mean loss. Rows of a step count the same, however many a device has.
        decodes: whether text can be generated, for scores of that.
    """

    loss_unit: ClassVar[Literal["token", "row"]] = "token"
    decodes: ClassVar[bool] = False

    def prepare(self, model: Any) -> None:  # noqa: B027
        """Set a model up to be trained."""

    @abstractmethod
    def collate(self, rows: Rows) -> Batch:
        """Make tensors that the model takes of rows of a data set."""

    def collate_training(self, rows: Rows, epoch: int) -> Batch:
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
    def measure(
        self,
        model: Any,
        batch: Batch,
        indices: list[int],
        dataset: datasets.Dataset,
        generation: dict[str, Any] | None,
    ) -> Any:
        """
        Measure a batch. What is returned travels between processes, as Python's own types.

        Args:
            indices: of its rows in the data set.
            generation: settings to generate text with; nothing is generated if `None`.
        """

    @abstractmethod
    def summarize(self, parts: list[Any], dataset: datasets.Dataset) -> tuple[dict[str, float], np.ndarray]:
        """Return figures of a whole set, "loss" among them, and predictions in its order, from what was measured."""
