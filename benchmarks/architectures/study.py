"""Trainings of a comparison, by the training program. One that is finished is found again, and not made twice."""

import argparse
import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.architectures import ARCHITECTURES
from benchmarks.architectures.train import CLOCK
from training.engine.checkpoints import find_checkpoints, step_of
from vanilla_transformer import VanillaTransformerTokenizer

SHAPE = ("hidden_size", "intermediate_size", "encoder_layers", "decoder_layers", "num_attention_heads")
# Of a checkpoint, what only a training that goes on reads.
OF_TRAINING = ("optimizer.pt", "scheduler.pt", "rng_state*.pth")


@dataclass(frozen=True)
class Run:
    """
    A training.

    Attributes:
        architecture: its name.
        folder: of the result.
        words: the fields of the recipe, as the training program reads them.
    """

    architecture: str
    folder: Path
    words: tuple[str, ...]

    def complete(self) -> "Run":
        """Train, or go on from the last checkpoint, unless that is done."""
        if not (self.folder / CLOCK).is_file():
            command = [sys.executable, "-m", "benchmarks.architectures.train", self.architecture, *self.words]
            command += ["--output_dir", str(self.folder), "--resume_from_checkpoint", "auto"]
            self.folder.mkdir(parents=True, exist_ok=True)
            with open(self.folder.parent / f"{self.folder.name}.log", "a", encoding="utf-8") as log:
                subprocess.run(command, check=True, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"})
            if not (self.folder / CLOCK).is_file():
                raise SystemExit(f"{self.folder} was stopped. Repeat the command to go on.")
            for checkpoint in find_checkpoints(self.folder):
                for pattern in OF_TRAINING:
                    for file in checkpoint.glob(pattern):
                        file.unlink()
            print(f"trained: {self.folder}", flush=True)
        return self

    @property
    def step_seconds(self) -> float:
        """CPU seconds of a step, in the mean."""
        clock = json.loads((self.folder / CLOCK).read_text(encoding="utf-8"))
        return float(clock["seconds"] / max(1, clock["steps"]))

    def history(self, name: str) -> dict[int, float]:
        """Return what evaluations in training measured under a name, by steps."""
        last = max(find_checkpoints(self.folder), key=step_of)
        log = json.loads((last / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
        return {entry["step"]: entry[name] for entry in log if name in entry}


def shape_words(name: str, options: argparse.Namespace, tokenizer: VanillaTransformerTokenizer) -> dict[str, Any]:
    """Return the sizes of an architecture with as many parameters as the options' Transformer, whose gain it has."""
    transformer = {field: getattr(options, field) for field in SHAPE}
    shape = ARCHITECTURES[name].shape(len(tokenizer), **transformer)
    return {**shape, "attention_init_gain": options.attention_init_gain} if name == "Transformer" else shape


def make_run(name: str, folder: Path, options: argparse.Namespace, rate: float, **fields: Any) -> Run:
    """
    Return a training of an architecture.

    Args:
        folder: of the result; the tokenizer is in that of `options.work`.
        rate: the highest learning rate of the paper's schedule.
        fields: of the recipe, which win.
    """
    place = options.work / "tokenizer"
    shape = shape_words(name, options, VanillaTransformerTokenizer.from_pretrained(place))
    recipe = {
        "preset": "tiny",
        "config_overrides": json.dumps(shape),
        "tokenizer": place,
        "dropout": options.dropout,
        "noam_scale": rate * (shape["hidden_size"] * options.warmup_steps) ** 0.5,
        "warmup_steps": options.warmup_steps,
        "max_steps": options.steps,
        "tokens_per_step": options.tokens_per_step,
        "max_grad_norm": 1.0,
        "run_on": "cpu",
        "report_to": "none",
        "preprocessing_num_workers": 1,
        **fields,
    }
    return Run(name, folder, tuple(word for key, value in recipe.items() for word in (f"--{key}", str(value))))


def choose_rates(options: argparse.Namespace, **fields: Any) -> dict[str, float]:
    """Return the learning rate of each architecture with the best validation NLL after `tune_steps`, of one seed."""
    if len(options.rates) == 1:
        return dict.fromkeys(ARCHITECTURES, options.rates[0])
    short = {"max_steps": options.tune_steps, "eval_steps": options.tune_steps, "save_steps": options.tune_steps}
    chosen = {}
    for name in ARCHITECTURES:
        losses = {}
        for rate in options.rates:
            folder = options.work / "rates" / f"{name}-{rate:g}"
            run = make_run(name, folder, options, rate, **{**fields, **short, "predict_with_generate": "false"})
            losses[rate] = min(run.complete().history("eval_loss").values())
        chosen[name] = min(losses, key=lambda rate: losses[rate])
        print(f"{name}: validation NLL by learning rate {losses}", flush=True)
    return chosen


def spread(values: list[float], form: str) -> str:
    """Return the mean of several seeds, and their standard deviation."""
    mean = format(statistics.mean(values), form)
    return mean if len(values) == 1 else f"{mean} ± {format(statistics.stdev(values), form)}"
