"""Evaluation of whole data sets, on any number of processes."""

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import datasets
import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, send_to_device
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from training.data.batching import TokenBudgetBatchSampler
from training.data.encoding import lengths
from training.engine.objective import AnyObjective, Batch, Generation
from vanilla_transformer import VanillaTransformerPreTrainedModel
from vanilla_transformer.errors import RecipeError

# Decoding keeps scores of the whole vocabulary for each beam, so that its batches are smaller than training's.
EVALUATION_TOKENS = 4096


@dataclass(frozen=True)
class Evaluation:
    """
    The measurements of a data set.

    Attributes:
        metrics: "loss" and scores.
        predictions: in the order of the data set, as its task makes them.
    """

    metrics: dict[str, float]
    predictions: np.ndarray


class Evaluator:
    """
    Measures data sets with a model; the processes share each of them, and all of them get the whole result.

    Args:
        model: may be wrapped.
        tokens: of a batch, at most `EVALUATION_TOKENS`; these if `None`.
        shows_progress: whether there is a bar where someone watches.

    Attributes:
        old_dataset: old text that validation looks at too, if any.
    """

    old_dataset: datasets.Dataset | None = None

    def __init__(
        self,
        model: VanillaTransformerPreTrainedModel,
        accelerator: Accelerator,
        objective: AnyObjective,
        tokens: int | None = None,
        shows_progress: bool = True,
    ):
        self.model, self.accelerator, self.objective = model, accelerator, objective
        self.tokens, self.shows_progress = tokens, shows_progress

    def make_loader(self, dataset: datasets.Dataset) -> DataLoader:
        """Return this process's share of the batches, every row once over all processes."""
        source_lengths, target_lengths = lengths(dataset)
        longest = int(max(source_lengths.max(), target_lengths.max()))
        budget = min(EVALUATION_TOKENS, self.tokens or EVALUATION_TOKENS)
        sampler = TokenBudgetBatchSampler(
            source_lengths, target_lengths, max(budget, longest), shuffle=False, spread=False
        )
        share = list(sampler)[self.accelerator.process_index :: self.accelerator.num_processes]
        # With a generator of its own it draws nothing from training's, which a resumed run would miss.
        return DataLoader(dataset, batch_sampler=share, collate_fn=self.objective.collate, generator=torch.Generator())

    def evaluate(
        self, dataset: datasets.Dataset, generation: Generation | None = None, in_full_precision: bool = False
    ) -> Evaluation:
        """
        Measure a data set.

        Args:
            generation: settings to generate text with; nothing is generated if `None`.
            in_full_precision: whether to compute in the precision of the weights, and not in training's.
        """
        return self.measure(self.make_loader(dataset), generation, in_full_precision)

    def measure(
        self, loader: DataLoader, generation: Generation | None = None, in_full_precision: bool = False
    ) -> Evaluation:
        """Measure what `make_loader` returned."""
        model = self.accelerator.unwrap_model(self.model)
        model.eval()
        dataset: datasets.Dataset = loader.dataset
        hidden = not (self.shows_progress and sys.stderr.isatty() and self.accelerator.is_main_process)
        parts = []
        with full_precision(model) if in_full_precision else nullcontext():
            batches = tqdm(loader, leave=False, dynamic_ncols=True, disable=hidden)
            for indices, batch in zip(list(loader.batch_sampler or ()), batches, strict=True):
                batch = send_to_device(batch, self.accelerator.device)
                # With autocast a model that is not in training yet computes as one that is.
                precision = nullcontext() if in_full_precision else self.accelerator.autocast()
                try:
                    with torch.no_grad(), precision:
                        parts.append(self.objective.measure(model, batch, indices, generation))
                except RuntimeError as error:
                    explain_memory(error, batch, batch["input_ids"].numel())
                    raise
        # Batches were dealt out whole, none twice: the parts of all processes make the whole set.
        metrics, predictions = self.objective.summarize(gather_object(parts), dataset)
        return Evaluation(metrics, predictions)

    def validate(self, loader: DataLoader, generation: Generation | None = None) -> Evaluation:
        """
        Measure the validation text, of which `make_loader` returned the loader.

        With old text the loss is the mean of its and of the new text's, which are "old_loss" and "new_loss".
        """
        evaluation = self.measure(loader, generation)
        if self.old_dataset is None:
            return evaluation
        new, old = evaluation.metrics["loss"], self.evaluate(self.old_dataset).metrics["loss"]
        both = {"loss": (new + old) / 2, "perplexity": math.exp((new + old) / 2), "new_loss": new, "old_loss": old}
        return Evaluation({**evaluation.metrics, **both}, evaluation.predictions)


@contextmanager
def full_precision(model: torch.nn.Module) -> Iterator[None]:
    """Let a model compute in the precision of its weights, and not in training's."""
    with_autocast = model.__dict__.pop("forward", None)  # Accelerate's, once a training has begun
    try:
        yield
    finally:
        if with_autocast is not None:
            model.forward = with_autocast


def explain_memory(error: RuntimeError, batch: Batch, budget: int, then: str = "") -> None:
    """
    Say what to do if memory ran out, and what happens then.

    Raises:
        RecipeError: if it did.
    """
    words = str(error)
    out = isinstance(error, torch.OutOfMemoryError) or "allocate memory" in words or "not enough memory" in words
    if not out:
        return
    shapes = [
        f"{name} {batch[key].shape[0]} x {batch[key].shape[1]}"
        for name, key in (("source", "input_ids"), ("target", "labels"))
        if key in batch and batch[key].dim() == 2
    ]
    raise RecipeError(
        f"Out of memory with a batch of {' and '.join(shapes)} tokens. Set `tokens_per_device: "
        f"{max(1, budget // 2)}`{then}."
    ) from error
