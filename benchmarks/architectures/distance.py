"""
The copying task: the decoder writes a letter, a number of blanks and a mark, and then has to write the letter again.

The source says nothing of the letter, so that the decoder has to bring it over the distance by itself.
"""

import argparse
import random
from pathlib import Path
from typing import Any

import torch

from benchmarks.architectures import ARCHITECTURES
from benchmarks.architectures.study import Run, choose_rates, make_run, spread
from vanilla_transformer import VanillaTransformerTokenizer
from vanilla_transformer.loading import load_model

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
SOURCE, BLANK, MARK = "=", ".", "?"
BYTES = 256 + 4  # a vocabulary without merges: a token is a letter
SPLITS = {"train": 4000, "validation": 100}


def write(letter: str, distance: int) -> str:
    """Return a target, such as "A....?A"."""
    return letter + BLANK * distance + MARK + letter


def write_texts(options: argparse.Namespace) -> dict[str, str]:
    """Write the texts and the tokenizer of the task, and return the fields that name them."""
    options.work.mkdir(parents=True, exist_ok=True)
    draw, fields = random.Random(0), {}
    for split, count in SPLITS.items():
        distances = [draw.randint(*options.trained) for _ in range(count)]
        texts = {
            "source": [SOURCE] * count,
            "target": [write(draw.choice(LETTERS), distance) for distance in distances],
        }
        for side, lines in texts.items():
            file = options.work / f"{split}.{side}"
            file.write_text("\n".join(lines) + "\n", encoding="utf-8")
            fields[side if split == "train" else f"{split}_{side}"] = str(file)
    if not (options.work / "tokenizer").is_dir():
        VanillaTransformerTokenizer.train([SOURCE, *LETTERS], BYTES).save_pretrained(options.work / "tokenizer")
    return fields


@torch.no_grad()
def test_run(run: Run, distance: int) -> float:
    """Return of how many letters, in percent, the most probable token after the mark is the letter."""
    model, tokenizer = load_model(run.folder)
    source = tokenizer([SOURCE] * len(LETTERS), return_tensors="pt")
    target = tokenizer([write(letter, distance) for letter in LETTERS], return_tensors="pt").input_ids
    inputs = model.prepare_decoder_input_ids_from_labels(target)
    place = distance + 2  # letter, blanks, mark
    found = model(**source, decoder_input_ids=inputs[:, : place + 1], logits_to_keep=1).logits[:, -1].argmax(dim=-1)
    return 100 * float((found == target[:, place]).float().mean())


def compare(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Train what is not there yet, and return the table."""
    fields: dict[str, Any] = {**write_texts(options), "check_alignment": "false", "label_smoothing": 0.0}
    each = max(1, options.steps // 5)
    fields |= {"eval_strategy": "steps", "eval_steps": each, "save_steps": each, "average_checkpoints": 1}
    fields |= {"predict_with_generate": "false"}
    rates = choose_rates(options, **fields)
    runs: dict[str, list[Run]] = {name: [] for name in ARCHITECTURES}
    for seed in range(1, options.seeds + 1):
        for name in ARCHITECTURES:
            folder = options.work / f"{name}-{seed}"
            runs[name].append(make_run(name, folder, options, rates[name], seed=seed, **fields).complete())
    rows, results = [], {}
    for name, made in runs.items():
        found = {distance: [test_run(run, distance) for run in made] for distance in options.distances}
        row = {"architecture": name, "parameters": f"{load_model(made[0].folder)[0].num_parameters():,}"}
        row |= {"CPU ms a step": spread([1e3 * run.step_seconds for run in made], ".0f")}
        rows.append({**row, **{f"right over {distance}, %": spread(found[distance], ".1f") for distance in found}})
        results[name] = found
    if options.output is not None:
        plot(results, options.output.with_suffix(".png"))
    return rows


def plot(results: dict[str, dict[int, list[float]]], path: Path) -> None:
    """Draw the share of right letters by distance: the mean of the seeds, and each of them."""
    from matplotlib.figure import Figure  # without pyplot no window system is looked for

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, found in results.items():
        (line,) = axes.semilogx(list(found), [sum(each) / len(each) for each in found.values()], "-o", label=name)
        for distance, each in found.items():
            axes.plot([distance] * len(each), each, ".", color=line.get_color(), alpha=0.5)
    axes.axhline(100 / len(LETTERS), color="gray", linestyle="--", label="chance")
    axes.set(xlabel="distance, tokens", ylabel="right letters, %", ylim=(-3, 103))
    axes.set_xticks(list(next(iter(results.values()))), [str(each) for each in next(iter(results.values()))])
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=100)
