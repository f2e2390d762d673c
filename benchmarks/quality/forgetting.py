"""
The gain of each remedy against forgetting: BLEU on new and on old text after a fine-tuning with and without it.

    python -m benchmarks.quality.forgetting --init_from runs/own_files --old train.en train.es \
        --old_test test.en test.es --seeds 1 2 3 --output_dir runs/forgetting \
        --output benchmarks/results/forgetting.md -- --corpus phrasebook

Words after `--` go to the training program: they name the new text, with its test text.
"""

import argparse
import json
import shutil
import statistics
import sys
from pathlib import Path

import torch

from benchmarks.machine import describe, show_table
from training.train import main as run_recipe
from vanilla_transformer.errors import RecipeError, run_command

RECIPE = Path(__file__).resolve().parents[2] / "training" / "recipes" / "finetune.yaml"
# Each remedy, and whether the old text comes with its translations; `None` means no old text.
REMEDIES: dict[str, bool | None] = {"none": None, "old pairs": True, "own translations": False}
INTERPOLATED = (1.0, 0.97)  # `interpolate`


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


def train(options: argparse.Namespace, remedy: str, seed: int, interpolate: float | None) -> dict[str, float]:
    """
    Fine-tune with a remedy, and return the scores, which are kept: a run that was interrupted goes on.

    Args:
        interpolate: for a mean of old and new weights, where the new are those of the training without it.

    Raises:
        RecipeError: if the training program refuses it.
    """
    folder = options.output_dir / f"{remedy.replace(' ', '_')}_{seed}"
    kept = folder / ("results.json" if interpolate is None else f"results_of_mean_{interpolate}.json")
    if not kept.is_file():
        replay = {"source": options.old[0], "share": options.share}
        if REMEDIES[remedy]:
            replay["target"] = options.old[1]
        words = [str(RECIPE), "--init_from", options.init_from, "--output_dir", str(folder), "--seed", str(seed)]
        words += ["--test_sets", json.dumps({"old": list(options.old_test)}), "--resume_from_checkpoint", "auto"]
        words += ["--interpolate", "null" if interpolate is None else str(interpolate)]
        words += [] if REMEDIES[remedy] is None else ["--replay", json.dumps(replay)]
        if run_recipe([*words, *options.words]) != 0:
            raise RecipeError(f"The training with {remedy!r} failed.")
        shutil.copyfile(folder / "all_results.json", kept)
    scores: dict[str, float] = json.loads(kept.read_text(encoding="utf-8"))
    return scores


def make_row(name: str, scores: list[dict[str, float]]) -> dict[str, str]:
    """A row of the table: BLEU of each seed."""
    shown = {split: " ".join(f"{each[f'{split}_bleu']:.2f}" for each in scores) for split in ("test", "old")}
    minutes = statistics.mean(each["train_seconds"] for each in scores) / 60
    return {
        "remedy": name,
        "new text, BLEU": shown["test"],
        "old text, BLEU": shown["old"],
        "minutes": f"{minutes:.1f}",
    }


def compare(options: argparse.Namespace) -> int:
    """Fine-tune with each remedy, and print the table."""
    rows = []
    for remedy in options.remedies:
        scores = [train(options, remedy, seed, None) for seed in options.seeds]
        if not rows:
            before = {split: f"{scores[0][f'{split}_bleu_before']:.2f}" for split in ("test", "old")}
            rows.append({"remedy": "before", "new text, BLEU": before["test"], "old text, BLEU": before["old"]})
        rows.append(make_row(remedy, scores))
        if REMEDIES[remedy] is not None:
            for enough in INTERPOLATED:
                scores = [train(options, remedy, seed, enough) for seed in options.seeds]
                rows.append(make_row(f"{remedy}, `interpolate: {enough}`", scores))
    rows[0]["minutes"] = ""
    seeds = " ".join(map(str, options.seeds))
    title = f"what is forgotten in a fine-tuning, seeds {seeds}; {describe(torch.get_num_threads())}"
    show_table(title, rows, options.output)
    return 0


def main(arguments: list[str] | None = None) -> int:
    options = build_parser().parse_args(arguments)
    return run_command(lambda: compare(options))


if __name__ == "__main__":
    sys.exit(main())
