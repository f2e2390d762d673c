"""
Train one of the architectures by a recipe: everything but the model is the training program's.

    python -m benchmarks.architectures.train LSTM training/recipes/demo.yaml --output_dir runs/lstm

Beside the result lies `clock.json`: the CPU seconds of a step, without those of evaluations.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import datasets
import torch
from transformers.utils import SAFE_WEIGHTS_NAME

from benchmarks.architectures import ARCHITECTURES
from training.engine.evaluate import Evaluator
from training.engine.objective import Batch
from training.engine.processes import end_with_sigterm, launch
from training.recipe.resolve import resolve_recipe
from training.tasks.translation import Translation, TranslationObjective
from training.train import train
from vanilla_transformer.errors import RecipeError, run_command
from vanilla_transformer.scores import SplitScores

CLOCK = "clock.json"


class ClockedObjective(TranslationObjective):
    """Also counts the CPU seconds from one training batch to the next, unless something was measured between them."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.seconds, self.steps = 0.0, 0
        self._since: float | None = None

    def count_tokens(self, inputs: Batch) -> torch.Tensor:
        now = time.process_time()
        if self._since is not None:
            self.seconds, self.steps = self.seconds + now - self._since, self.steps + 1
        self._since = now
        return super().count_tokens(inputs)

    def measure(self, *args: Any, **kwargs: Any) -> Any:
        self._since = None
        return super().measure(*args, **kwargs)


class ArchitectureTranslation(Translation):
    """Translation by any of the architectures; at the end NLL only, since `training.score` scores translations."""

    def make_objective(self, tokenizer: Any, config: Any, dataset: Any = None) -> ClockedObjective:
        plain = super().make_objective(tokenizer, config, dataset)
        self.objective = ClockedObjective(tokenizer, self.training, plain.longest, plain.language, dataset)
        return self.objective

    def score(self, evaluator: Evaluator, dataset: datasets.Dataset) -> SplitScores:
        return super(Translation, self).score(evaluator, dataset)


def run(words: list[str]) -> int:
    """Train; the first word is the name of the architecture, the others are the training program's."""
    if not words or words[0] not in ARCHITECTURES:
        raise RecipeError(f"The first word must be one of {', '.join(ARCHITECTURES)}, but is {words[:1]}.")
    recipe = resolve_recipe(words[1:])
    task = ArchitectureTranslation(recipe.data, recipe.training)
    task.model_class = ARCHITECTURES[words[0]].model_class  # type: ignore[misc]
    args = launch(recipe, words[1:])
    train(recipe, args, task, task.load_texts())
    if Path(args.output_dir, SAFE_WEIGHTS_NAME).is_file():  # else stopped by SIGTERM, to go on later
        clock = {"seconds": task.objective.seconds, "steps": task.objective.steps}
        Path(args.output_dir, CLOCK).write_text(json.dumps(clock) + "\n", encoding="utf-8")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Train what the command names; returns the exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    with end_with_sigterm() as ended:
        ended.status = run_command(lambda: run(words), "interrupted: repeat the command to go on.")
    return ended.status


if __name__ == "__main__":
    sys.exit(main())
