"""
What each remedy against forgetting gives: BLEU on new and on old text after a fine-tuning with and without it.

    python -m benchmarks.quality.forgetting --init_from runs/own_files --old train.en train.es \
        --old_test test.en test.es --seeds 1 2 3 --output_dir runs/forgetting \
        --output benchmarks/results/forgetting.md -- --corpus phrasebook

Words after `--` go to the training program: they name the new text, with its test text.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path

import torch

from benchmarks.machine import describe, show_table
from training.train import main as train
from vanilla_transformer.errors import RecipeError, run_command

RECIPE = Path(__file__).resolve().parents[2] / "training" / "recipes" / "finetune.yaml"
# Each remedy, and whether the old text comes with its translations; `None` is no old text.
REMEDIES: dict[str, tuple[bool | None, bool]] = {
    "none": (None, False),
    "old pairs": (True, False),
    "old pairs, mean of weights": (True, True),
    "own translations": (False, False),
    "own translations, mean of weights": (False, True),
}


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality.forgetting", description="Compare remedies.")
    parser.add_argument("--init_from", required=True, help="the model to fine-tune")
    parser.add_argument("--old", nargs=2, required=True, metavar=("SOURCE", "TARGET"), help="text that it knows")
    parser.add_argument("--old_test", nargs=2, required=True, metavar=("SOURCE", "TARGET"), help="to score on")
    parser.add_argument("--share", type=float, default=0.5, help="of the training pairs that are old (0.5)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1], help="a training for each (1)")
    parser.add_argument("--remedies", nargs="+", choices=list(REMEDIES), default=list(REMEDIES), help="which (all)")
    parser.add_argument("--output_dir", type=Path, required=True, help="for the models")
    parser.add_argument("--output", type=Path, help="a report to write")
    parser.add_argument("words", nargs="*", help="for the training program, after --")
    return parser


def train_with(options: argparse.Namespace, remedy: str, seed: int) -> dict[str, float]:
    """
    Fine-tune with a remedy, and return the scores.

    Raises:
        RecipeError: if the training program refuses it.
    """
    has_targets, interpolates = REMEDIES[remedy]
    folder = options.output_dir / f"{remedy.replace(', ', '_').replace(' ', '_')}_{seed}"
    replay = {"source": options.old[0], "share": options.share}
    if has_targets:
        replay["target"] = options.old[1]
    words = [str(RECIPE), "--init_from", options.init_from, "--output_dir", str(folder), "--seed", str(seed)]
    words += ["--test_sets", json.dumps({"old": list(options.old_test)}), "--interpolate", str(interpolates).lower()]
    words += [] if has_targets is None else ["--replay", json.dumps(replay)]
    if train([*words, *options.words]) != 0:
        raise RecipeError(f"The training with {remedy!r} failed.")
    scores: dict[str, float] = json.loads((folder / "all_results.json").read_text(encoding="utf-8"))
    return scores


def compare(options: argparse.Namespace) -> int:
    """Fine-tune with each remedy, and print the table."""
    rows = []
    for remedy in options.remedies:
        scores = [train_with(options, remedy, seed) for seed in options.seeds]
        if not rows:
            before = {name: f"{scores[0][f'{name}_bleu_before']:.2f}" for name in ("test", "old")}
            rows.append(
                {"remedy": "before the fine-tuning", "new text, BLEU": before["test"], "old text, BLEU": before["old"]}
            )
        shown = {name: " ".join(f"{each[f'{name}_bleu']:.2f}" for each in scores) for name in ("test", "old")}
        rows.append({"remedy": remedy, "new text, BLEU": shown["test"], "old text, BLEU": shown["old"]})
        minutes = (
            statistics.mean(each["train_runtime"] for each in scores) / 60 if "train_runtime" in scores[0] else None
        )
        rows[-1]["minutes"] = "" if minutes is None else f"{minutes:.1f}"
    rows[0]["minutes"] = ""
    seeds = " ".join(map(str, options.seeds))
    show_table(
        f"what is forgotten in a fine-tuning, seeds {seeds}; {describe(torch.get_num_threads())}", rows, options.output
    )
    return 0


def main(arguments: list[str] | None = None) -> int:
    options = build_parser().parse_args(arguments)
    return run_command(lambda: compare(options))


if __name__ == "__main__":
    sys.exit(main())
