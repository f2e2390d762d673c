"""
How time and memory of our model grow with the length of sentences, the batch, the beam and the layers.

    python -m benchmarks.speed.scaling --output benchmarks/results/scaling.md

Each point is measured in a process of its own, on a tiny model of random weights. Beside it is what is expected:
the terms that theory gives (§4, Table 1 for the length), with the factors that fit all points but the largest, which
is thereby foretold.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import nnls

from benchmarks.machine import Row, describe, resident_bytes, show_table
from benchmarks.speed.generation_systems import END
from benchmarks.speed.systems import SHAPES, our_config
from benchmarks.speed.workers import Worker, serve
from vanilla_transformer import VanillaTransformerForConditionalGeneration

MODULE = "benchmarks.speed.scaling"


@dataclass(frozen=True)
class Point:
    """
    The work at one point of a curve.

    Attributes:
        length: tokens of a source, and of its target.
        batch: pairs at once.
        beams: of a translation; none for a step of training (forward, loss and backward).
        layers: of the encoder, and of the decoder.
    """

    length: int = 32
    batch: int = 16
    beams: int | None = None
    layers: int = 4


@dataclass(frozen=True)
class Curve:
    """
    Points that differ in one size.

    Attributes:
        title: what is done.
        size: the field of `Point` that differs.
        values: of it.
        point: the rest.
        terms: expected in time, as powers of the size.
        memory_terms: expected in memory. Fused attention keeps no scores, so that it grows with the length, not with
            its square.
    """

    title: str
    size: str
    values: tuple[int, ...]
    point: Point
    terms: tuple[int, ...] = (0, 1)
    memory_terms: tuple[int, ...] = (0, 1)


def in_words(terms: tuple[int, ...]) -> str:
    """A sum of powers of a size n."""
    return " + ".join({0: "a", 1: "b n", 2: "c n²"}[power] for power in terms)


CURVES = {
    "length": Curve(
        "training, one pair", "length", (16, 32, 64, 128, 256, 512, 1024, 2048, 4096), Point(batch=1), terms=(0, 1, 2)
    ),
    "translated length": Curve(
        "translating one sentence, 4 beams",
        "length",
        (16, 32, 64, 128, 256, 512, 1024, 2048, 4096),
        Point(batch=1, beams=4),
        terms=(0, 1, 2),
    ),
    "batch": Curve("training, 32 tokens a side", "batch", (1, 2, 4, 8, 16, 32, 64, 128), Point()),
    "beam": Curve("translating 16 sentences of 32 tokens", "beams", (2, 4, 8, 16, 32), Point()),
    "layers": Curve("training, 16 pairs of 32 tokens a side", "layers", (1, 2, 4, 8, 16, 32), Point()),
}


def prepare(point: Point) -> Callable[[], object]:
    """The work of a point, ready to be timed."""
    torch.manual_seed(0)
    shape = replace(SHAPES["tiny"], layers=point.layers)
    model = VanillaTransformerForConditionalGeneration(our_config(shape))
    source, target = torch.randint(4, shape.vocab_size, (2, point.batch, point.length))
    if point.beams is None:
        model.train()
        return lambda: model(input_ids=source, labels=target).loss.backward()
    with torch.no_grad():
        model.lm_head.weight[END] = 0.0  # a logit of 0, which is never the highest of many
    model.eval()
    return lambda: model.generate(source, num_beams=point.beams, max_new_tokens=point.length)


def work(point: Point, repeats: int) -> None:
    """The process of one point: the median of its seconds, and its highest memory above what importing takes."""

    def answer(_: Row) -> Row:
        before = resident_bytes()
        run = prepare(point)
        run()
        seconds = []
        for _ in range(repeats):
            started = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - started)
        return {"seconds": statistics.median(seconds), "memory": resident_bytes(peak=True) - before}

    serve(answer)


def measure(curve: Curve, options: argparse.Namespace) -> list[Row]:
    """Seconds and bytes at each value of a curve."""
    found = []
    for value in curve.values:
        point = replace(curve.point, **{curve.size: value})
        arguments = ["--point", json.dumps(vars(point)), "--repeats", str(options.repeats)]
        worker = Worker(MODULE, arguments, options.threads)
        try:
            answer = worker.ask()
        finally:
            worker.end()
        if "error" in answer:
            raise RuntimeError(f"{curve.size} {value}: {answer['error']}")
        found.append(answer)
    return found


def fit(values: tuple[int, ...], measured: list[float], terms: tuple[int, ...]) -> list[float]:
    """The sum of terms, with factors of 0 or more, nearest in relative error to all that was measured but the last."""
    sizes, known = np.array(values, dtype=float), np.array(measured[:-1])
    powers = np.stack([sizes**power for power in terms], axis=1)
    factors, _ = nnls(powers[:-1] / known[:, None], np.ones(len(known)))
    return list(map(float, powers @ factors))


def plot(results: dict[str, list[Row]], path: Path) -> None:
    """A picture with time and memory of every curve, and what is expected as dashes."""
    from matplotlib.figure import Figure  # without pyplot no window system is looked for

    figure = Figure(figsize=(4 * len(results), 7), layout="constrained")
    grid = figure.subplots(2, len(results), squeeze=False)
    for column, (name, found) in enumerate(results.items()):
        curve = CURVES[name]
        for row, (key, scale, label, terms) in enumerate(
            (("seconds", 1e3, "milliseconds", curve.terms), ("memory", 1e-6, "megabytes", curve.memory_terms))
        ):
            measured = [answer[key] * scale for answer in found]
            axes = grid[row][column]
            axes.loglog(curve.values, measured, "o", base=2, label="measured")
            axes.loglog(curve.values, fit(curve.values, measured, terms), "--", base=2, label=in_words(terms))
            axes.set(xlabel=name, ylabel=label, title=curve.title if row == 0 else None)
            axes.legend()
            axes.grid(alpha=0.3)
    figure.savefig(path, dpi=100)


def main() -> int:
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description="Measure how time and memory grow.")
    parser.add_argument("--curves", nargs="+", choices=CURVES, default=list(CURVES))
    parser.add_argument("--threads", type=int, default=1, help="(1)")
    parser.add_argument("--repeats", type=int, default=3, help="of each point, after one to warm up (3)")
    parser.add_argument("--output", type=Path, help="the tables and the picture have names that begin like this one")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--point", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(Point(**json.loads(options.point)), options.repeats)
        return 0
    results = {name: measure(CURVES[name], options) for name in options.curves}
    for name, found in results.items():
        curve = CURVES[name]
        times = fit(curve.values, [answer["seconds"] for answer in found], curve.terms)
        memory = fit(curve.values, [answer["memory"] for answer in found], curve.memory_terms)
        rows = [
            {
                name: value,
                "ms": f"{1e3 * answer['seconds']:,.1f}",
                f"expected, {in_words(curve.terms)}": f"{1e3 * seconds:,.1f}",
                "memory, MB": f"{answer['memory'] / 1e6:,.0f}",
                f"expected, MB, {in_words(curve.memory_terms)}": f"{size / 1e6:,.0f}",
            }
            for value, answer, seconds, size in zip(curve.values, found, times, memory, strict=True)
        ]
        output = options.output and options.output.with_stem(f"{options.output.stem}_{name.replace(' ', '_')}")
        show_table(f"{name}, {curve.title}, tiny; {describe(options.threads)}", rows, output)
    if options.output is not None:
        plot(results, options.output.with_suffix(".png"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
