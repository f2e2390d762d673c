"""Translation of Multi30k by each architecture: after equal updates, after equal time, and how fast each decodes."""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.architectures import ARCHITECTURES
from benchmarks.architectures.study import Run, choose_rates, make_run, spread
from benchmarks.speed.workers import rotated
from training.engine.averaging import write_mean
from training.engine.checkpoints import find_checkpoints, step_of
from training.score import main as score
from vanilla_transformer import VanillaTransformerTokenizer
from vanilla_transformer.loading import load_model
from vanilla_transformer.text import read_lines

TEXTS = {"source": "train.en", "target": "train.de", "validation_source": "val.en", "validation_target": "val.de"}
TEST = ("test_2016_flickr.en", "test_2016_flickr.de")
EVALUATIONS = 20  # in a training
AVERAGED = 5  # checkpoints in a result (§6.1)
Runs = dict[str, list[Run]]


def compare(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Train and score what is not there yet, and return the table."""
    options.work.mkdir(parents=True, exist_ok=True)
    texts = {field: str(options.data / file) for field, file in TEXTS.items()}
    if not (options.work / "tokenizer").is_dir():
        lines = [line for side in ("source", "target") for line in read_lines(Path(texts[side]))]
        VanillaTransformerTokenizer.train(lines, options.vocab_size).save_pretrained(options.work / "tokenizer")
    each = max(2, options.steps // EVALUATIONS)  # of two steps the clock counts one
    fields = {**texts, "bleu_tokenize": "none", "eval_strategy": "steps", "eval_steps": each, "save_steps": each}
    fields |= {"generation_num_beams": 1, "average_checkpoints": AVERAGED}
    rates = choose_rates(options, **fields)
    runs: Runs = {name: [] for name in ARCHITECTURES}
    for seed in range(1, options.seeds + 1):
        for name in ARCHITECTURES:
            folder = options.work / f"{name}-{seed}"
            runs[name].append(make_run(name, folder, options, rates[name], seed=seed, **fields).complete())
    seconds = {name: statistics.mean(run.step_seconds for run in made) for name, made in runs.items()}
    budget = options.steps * min(seconds.values())  # in which the fastest takes all of its steps
    decoding = measure_decoding(runs, options)
    rows = []
    for name, made in runs.items():
        affordable = max(each, int(budget / seconds[name]) // each * each)
        whole = [score_folder(run.folder, run.folder / "scores", options) for run in made]
        equal = [score_until(run, affordable, options) for run in made]
        rows.append(
            {
                "architecture": name,
                "parameters": f"{count(made[0].folder):,}",
                "learning rate": f"{rates[name]:g}",
                "CPU ms a step": spread([1e3 * run.step_seconds for run in made], ".0f"),
                f"BLEU after {options.steps:,} steps": spread([each["bleu"] for each in whole], ".2f"),
                "NLL": spread([each["loss"] for each in whole], ".3f"),
                f"steps in {budget:,.0f} CPU s": f"{min(affordable, options.steps):,}",
                "BLEU in equal time": spread([each["bleu"] for each in equal], ".2f"),
                "CPU ms a translation": f"{1e3 * decoding[name]['cache']:.1f}",
                "without a cache": f"{1e3 * decoding[name]['no cache']:.1f}",
            }
        )
    if options.output is not None:
        plot(runs, seconds, options.output.with_suffix(".png"))
    return rows


def count(folder: Path) -> int:
    """Return the parameters of the model in a folder."""
    return int(load_model(folder)[0].num_parameters())


def score_folder(model: Path, output: Path, options: argparse.Namespace) -> dict[str, float]:
    """Return BLEU and NLL of the test text by a model, scored by `training.score` once."""
    if not (output / "scores.json").is_file():
        source, reference = (str(options.data / file) for file in TEST)
        words = ["--model", str(model), "--source", source, "--reference", reference, "--target_lang", "de"]
        if score([*words, "--tokenize", "none", "--samples", "0", "--run_on", "cpu", "--output", str(output)]):
            raise RuntimeError(f"{model} was not scored.")
    (found,) = json.loads((output / "scores.json").read_text(encoding="utf-8"))["texts"].values()
    return {"bleu": found["scores"]["bleu"]["value"], "loss": found["loss"]}


def score_until(run: Run, steps: int, options: argparse.Namespace) -> dict[str, float]:
    """Return the scores of a training that ends after so many steps: of the mean of its last checkpoints."""
    if steps >= options.steps:
        return score_folder(run.folder, run.folder / "scores", options)
    folder = run.folder / f"until_{steps}"
    if not folder.is_dir():
        found = sorted((each for each in find_checkpoints(run.folder) if step_of(each) <= steps), key=step_of)
        write_mean(found[-AVERAGED:], folder)
    return score_folder(folder, folder / "scores", options)


def measure_decoding(runs: Runs, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Return the CPU seconds of a translation by beam search, with and without a cache, in turns, measured once."""
    file = options.work / "decoding.json"
    if not file.is_file():
        models = {name: load_model(made[0].folder)[0] for name, made in runs.items()}
        tokenizer = VanillaTransformerTokenizer.from_pretrained(options.work / "tokenizer")
        lines = read_lines(options.data / TEST[0])[: options.decoded]
        inputs = tokenizer(lines, return_tensors="pt", padding=True)
        times: dict[str, dict[str, list[float]]] = {name: {"cache": [], "no cache": []} for name in models}
        for turn in range(3):
            for name, model in rotated(models, turn):
                for kind, taken in times[name].items():
                    start = time.process_time()
                    model.generate(**inputs, use_cache=kind == "cache")
                    taken.append((time.process_time() - start) / len(lines))
        medians = {
            name: {kind: statistics.median(taken) for kind, taken in kinds.items()} for name, kinds in times.items()
        }
        file.write_text(json.dumps(medians) + "\n", encoding="utf-8")
    found: dict[str, dict[str, float]] = json.loads(file.read_text(encoding="utf-8"))
    return found


def plot(runs: Runs, seconds: dict[str, float], path: Path) -> None:
    """Draw validation BLEU (greedy) by updates and by CPU time: the mean of the seeds, and worst to best."""
    from matplotlib.figure import Figure  # without pyplot no window system is looked for

    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, label in zip(figure.subplots(1, 2, sharey=True), ("updates", "CPU seconds"), strict=True):
        for name, made in runs.items():
            histories = [run.history("eval_bleu") for run in made]
            steps = sorted(histories[0])
            scores = torch.tensor([[history[step] for step in steps] for history in histories])
            places = [step * (1 if label == "updates" else seconds[name]) for step in steps]
            (line,) = axes.plot(places, scores.mean(dim=0), label=name)
            axes.fill_between(places, scores.amin(dim=0), scores.amax(dim=0), color=line.get_color(), alpha=0.2)
        axes.set(xlabel=label, ylabel="validation BLEU, greedy")
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=100)
