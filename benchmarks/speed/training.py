"""
How fast systems train, side by side: the same batches of real text, the same shape, one process each, in turn.

    python -m benchmarks.speed.training --shape tiny --threads 1
    python -m benchmarks.speed.training --shape base --precision bfloat16 --systems ours marian marian-fp32
    python -m benchmarks.speed.training --shape tiny --profile

Every step is forward, label-smoothed loss, backward and fused Adam. Speed is source and target tokens a second,
without padding; memory is the highest that a process takes above what importing takes; the part of the ceiling is the
arithmetic of our model over the fastest matrix product of this machine in the same precision. Ratios are taken in each
round, and their median is shown.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.machine import Row, describe, matmul_ceiling, resident_bytes, show_profile, show_table
from benchmarks.speed.systems import MARIAN_RANDOM, SHAPES, TRAINING_SYSTEMS, count_operations
from benchmarks.speed.workers import Worker, rotated, serve
from benchmarks.text import Batch, random_batches, sentence_pairs, token_batches

MODULE = "benchmarks.speed.training"
# Sentences in a batch and how they are drawn, as a Trainer does it unasked.
TRAINER_BATCH = 8


def load_batches(path: str) -> list[Batch]:
    """Batches that `main` has saved."""
    return [Batch(source, target) for source, target in torch.load(path)]


def work(options: argparse.Namespace) -> None:
    """The process of one system."""
    torch.manual_seed(0)
    build = TRAINING_SYSTEMS[options.systems[0]]
    before = resident_bytes()
    step = build(SHAPES[options.shape], options.precision)
    sets = {name: load_batches(path) for name, path in json.loads(options.batches).items()}

    def answer(request: Row) -> Row:
        batches = sets[request["set"]][request["first"] : request["last"]]
        started = time.perf_counter()
        loss = 0.0
        for batch in batches:
            loss = step(batch)
        seconds = time.perf_counter() - started
        tokens = sum(batch.tokens for batch in batches)
        return {"seconds": seconds, "tokens": tokens, "loss": loss, "memory": resident_bytes(peak=True) - before}

    if options.profile:
        profile(step, sets["ours"])
    else:
        serve(answer)


def profile(step: Callable[[Batch], float], batches: list[Batch]) -> None:
    """Print where the time of a few steps goes."""
    for batch in batches[:2]:
        step(batch)
    with show_profile():
        for batch in batches[2:6]:
            step(batch)


def measure(options: argparse.Namespace, paths: dict[str, str]) -> list[Row]:
    """Rows of the table."""
    workers, found = {}, {name: [] for name in options.systems}
    for name in options.systems:
        arguments = ["--systems", name, "--shape", options.shape, "--precision", options.precision]
        workers[name] = Worker(MODULE, [*arguments, "--batches", json.dumps(paths)], options.threads)
    failed: dict[str, str] = {}
    try:
        for turn in range(options.rounds + 1):  # the first warms up
            for name, worker in rotated(workers, turn):
                if name in failed:
                    continue
                batches = "random" if name == MARIAN_RANDOM else "ours"
                scale = options.random_steps if batches == "random" else options.steps
                answer = worker.ask(set=batches, first=turn * scale, last=(turn + 1) * scale)
                if "error" in answer:
                    failed[name] = answer["error"]
                elif turn:
                    found[name].append(answer)
    finally:
        for worker in workers.values():
            worker.end()
    rows = []
    operations = count_operations(SHAPES[options.shape], load_batches(paths["ours"])[0])
    ceilings = {each: matmul_ceiling(getattr(torch, each), options.threads) for each in {options.precision, "float32"}}
    for name in options.systems:
        if name in failed:
            rows.append({"system": name, "tokens/s": f"failed: {failed[name]}"})
            continue
        speeds = [answer["tokens"] / answer["seconds"] for answer in found[name]]
        ours = [answer["tokens"] / answer["seconds"] for answer in found.get("ours", [])]
        ratios = [mine / other for mine, other in zip(ours, speeds, strict=False)]
        ceiling = ceilings["float32" if name == "marian-fp32" else options.precision]
        rows.append(
            {
                "system": name,
                "tokens/s": f"{statistics.median(speeds):,.0f}",
                "lowest to highest": f"{min(speeds):,.0f} to {max(speeds):,.0f}",
                "ours / this": f"{statistics.median(ratios):.2f}" if ratios else "",
                "memory, MB": f"{max(answer['memory'] for answer in found[name]) / 1e6:,.0f}",
                "of the ceiling": f"{statistics.median(speeds) * operations / ceiling:.0%}",
                "loss": f"{found[name][-1]['loss']:.3f}",
            }
        )
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description="Compare speeds of training.")
    parser.add_argument("--shape", default="tiny", choices=SHAPES, help="of the model (tiny)")
    parser.add_argument("--systems", nargs="+", choices=TRAINING_SYSTEMS, default=list(TRAINING_SYSTEMS))
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"], help="(float32)")
    parser.add_argument("--threads", type=int, default=1, help="of each system (1)")
    parser.add_argument("--tokens", type=int, default=2048, help="of a batch, on either side (2048)")
    parser.add_argument("--steps", type=int, default=3, help="in a round (3)")
    parser.add_argument("--rounds", type=int, default=7, help="in which each system has its turn (7)")
    parser.add_argument("--profile", action="store_true", help="show where the time of the first system goes")
    parser.add_argument("--output", type=Path, help="file for the table")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--batches", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options)
        return 0
    if options.precision == "float32":  # there they are the same as marian, or slower
        options.systems = [name for name in options.systems if name not in ("marian-fp32", "marian-eager")]
    shape = SHAPES[options.shape]
    needed = options.steps * (options.rounds + 1)
    ours = token_batches(shape.vocab_size, options.tokens, max(needed, 6))
    # The Trainer's batches hold fewer sentences: as many of them as make about as many tokens.
    in_a_round = sum(batch.tokens for batch in ours[: options.steps])
    random = random_batches(shape.vocab_size, TRAINER_BATCH, 1000)
    options.random_steps = max(1, round(in_a_round * 1000 / sum(batch.tokens for batch in random)))
    if options.random_steps * (options.rounds + 1) > len(random):
        random = random_batches(shape.vocab_size, TRAINER_BATCH, options.random_steps * (options.rounds + 1))
    with tempfile.TemporaryDirectory() as folder:
        paths = {}
        for name, batches in {"ours": ours, "random": random}.items():
            paths[name] = str(Path(folder) / name)
            torch.save([(batch.source, batch.target) for batch in batches], paths[name])
        if options.profile:
            options.batches = json.dumps(paths)
            torch.set_num_threads(options.threads)
            work(options)
            return 0
        rows = measure(options, paths)
    text = f"batches of {options.tokens:,} tokens a side of {sentence_pairs()[2]}"
    head = f"Training: {options.shape}, {options.precision}, {text}; {describe(options.threads)}"
    show_table(f"{head}; median of {options.rounds} rounds", rows, options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
