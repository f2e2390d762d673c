"""Time and memory by length (Table 1 of the paper, measured): a training step, and greedy decoding of one sentence."""

import argparse
import copy
import functools
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch

from benchmarks.architectures import ARCHITECTURES
from benchmarks.architectures.study import SHAPE
from benchmarks.machine import reset_peak, resident_bytes
from benchmarks.speed.workers import rotated
from vanilla_transformer import VanillaTransformerConfig

KINDS = ("training step", "decoding", "decoding without a cache")
END = 2


@functools.cache
def configure(name: str, vocab_size: int, **transformer: int) -> VanillaTransformerConfig:
    """Return the configuration of an architecture of a Transformer's size."""
    architecture = ARCHITECTURES[name]
    return architecture.config_class(vocab_size=vocab_size, **architecture.shape(vocab_size, **transformer))


def prepare(name: str, kind: str, options: argparse.Namespace) -> Callable[[int], Any]:
    """Return what is measured, a function of the length: one pair of random tokens, as long on both sides."""
    torch.manual_seed(0)
    config = configure(name, options.vocab_size, **{field: getattr(options, field) for field in SHAPE})
    model = ARCHITECTURES[name].model_class(copy.deepcopy(config))
    if kind == "training step":
        model.train()
        optimizer = torch.optim.Adam(model.parameters())

        def step(length: int) -> None:
            source, target = torch.randint(4, options.vocab_size, (2, 1, length))
            optimizer.zero_grad()
            model(input_ids=source, labels=target).loss.backward()
            optimizer.step()

        return step
    with torch.no_grad():
        model.lm_head.weight[END] = 0.0  # a logit of 0, which is never the highest of many
    model.eval()

    def decode(length: int) -> None:
        source = torch.randint(4, options.vocab_size, (1, length))
        model.generate(source, num_beams=1, max_new_tokens=length, use_cache=kind == "decoding")

    return decode


def run_once(name: str, kind: str, length: int, options: argparse.Namespace) -> dict[str, float]:
    """Return CPU seconds, and the highest memory above that of two tokens; both after a time to warm up."""
    run = prepare(name, kind, options)
    run(2)
    reset_peak()
    before = resident_bytes()
    run(length)
    start = time.process_time()
    run(length)
    return {"seconds": time.process_time() - start, "memory": resident_bytes(peak=True) - before}


def compare(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure kinds and lengths that are not known yet, the architectures in turns, and return the table."""
    options.work.mkdir(parents=True, exist_ok=True)
    rows = []
    for kind in KINDS:
        lengths = [each for each in options.lengths if kind != KINDS[-1] or each <= options.longest_without_cache]
        file = options.work / f"{kind.replace(' ', '_')}.json"
        if not file.is_file():
            file.write_text(json.dumps(measure(kind, lengths, options)) + "\n", encoding="utf-8")
        found = json.loads(file.read_text(encoding="utf-8"))
        for name in ARCHITECTURES:
            for key, unit, factor in (("seconds", "CPU ms", 1e3), ("memory", "MB", 1e-6)):
                values = {length: factor * found[name][str(length)][key] for length in lengths}
                row = {"measured": f"{kind}, {unit}", "architecture": name}
                row |= {
                    f"{length}": f"{values[length]:,.{0 if key == 'seconds' else 1}f}" if length in values else ""
                    for length in options.lengths
                }
                before = values[lengths[-2]] if len(lengths) > 1 else 0.0
                rows.append({**row, "last / before": f"{values[lengths[-1]] / before:.1f}" if before else ""})
    if options.output is not None:
        plot(options)
    return rows


def measure(kind: str, lengths: list[int], options: argparse.Namespace) -> dict[str, dict[int, dict[str, float]]]:
    """
    Return medians of CPU seconds and of the highest memory, by architecture and length.

    Each time is measured in a process of its own, which is a fork: it has imported everything.
    """
    for name in ARCHITECTURES:  # once, before the forks
        configure(name, options.vocab_size, **{field: getattr(options, field) for field in SHAPE})
    context = multiprocessing.get_context("fork")
    found: dict[str, dict[int, dict[str, float]]] = {name: {} for name in ARCHITECTURES}
    for length in lengths:
        answers: dict[str, list[dict[str, float]]] = {name: [] for name in ARCHITECTURES}
        for turn in range(options.repeats):
            for name, taken in rotated(answers, turn):
                with ProcessPoolExecutor(1, mp_context=context) as process:
                    taken.append(process.submit(run_once, name, kind, length, options).result())
        for name, taken in answers.items():
            found[name][length] = {
                key: statistics.median(each[key] for each in taken) for key in ("seconds", "memory")
            }
        print(f"{kind}, {length} tokens: {found}", flush=True)
    return found


def plot(options: argparse.Namespace) -> None:
    """Draw time and memory of every kind by length."""
    from matplotlib.figure import Figure  # without pyplot no window system is looked for

    figure = Figure(figsize=(12, 7), layout="constrained")
    grid = figure.subplots(2, len(KINDS), squeeze=False)
    for column, kind in enumerate(KINDS):
        found = json.loads((options.work / f"{kind.replace(' ', '_')}.json").read_text(encoding="utf-8"))
        for row, (key, label, factor) in enumerate((("seconds", "CPU milliseconds", 1e3), ("memory", "MB", 1e-6))):
            axes = grid[row][column]
            for name, values in found.items():
                axes.loglog(list(map(int, values)), [factor * each[key] for each in values.values()], "-o", label=name)
            lengths = list(map(int, next(iter(found.values()))))
            axes.set_xticks(lengths, list(map(str, lengths)), minor=False)
            axes.minorticks_off()
            axes.set(xlabel="tokens on each side", ylabel=label, title=kind if row == 0 else None)
            axes.legend()
            axes.grid(alpha=0.3)
    path: Path = options.output.with_suffix(".png")
    figure.savefig(path, dpi=100)
