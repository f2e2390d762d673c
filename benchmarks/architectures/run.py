"""
Recurrent, convolutional and Transformer encoder-decoders of equal size, side by side.

    python -m benchmarks.architectures.run --task copy --output benchmarks/results/architectures_copy.md
    python -m benchmarks.architectures.run --task recall --steps 2000 --longest 500
    python -m benchmarks.architectures.run --task cost

`copy`: write the source again. `recall`: write the first token after a distance of others, tested at some distances.
`cost`: CPU time of a training step on copying, by length. All have the same optimizer, batches, loss and greedy
search, which reads everything again for each token, without caches. This program is its own: a comparison behind the
training program, on real text, is still to be made.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.architectures.models import ARCHITECTURES, PADDING, build_equal, count_parameters
from benchmarks.machine import Row, describe, show_table

START, END, FIRST = 0, 2, 4
LENGTHS = (16, 64, 256)


def make_batch(
    options: argparse.Namespace, draw: torch.Generator, length: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return sources (B, S) and targets (B, T), both ending in `</s>`, of one length that is drawn if not given."""
    if length is None:
        length = int(torch.randint(4, options.longest + 1, (1,), generator=draw))
    source = torch.randint(FIRST, options.vocab_size, (options.batch_size, length), generator=draw)
    end = torch.full((options.batch_size, 1), END)
    target = source[:, :1] if options.task == "recall" else source
    return torch.cat((source, end), dim=1), torch.cat((target, end), dim=1)


def step(model: nn.Module, optimizer: torch.optim.Optimizer, source: torch.Tensor, target: torch.Tensor) -> float:
    """Train on a batch; return the loss."""
    inputs = torch.cat((torch.full_like(target[:, :1], START), target[:, :-1]), dim=1)
    loss = F.cross_entropy(model(source, inputs).flatten(0, 1), target.flatten(), ignore_index=PADDING)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.item()


@torch.no_grad()
def decode(model: nn.Module, source: torch.Tensor, length: int) -> torch.Tensor:
    """Write so many tokens, the most probable each time: (B, length)."""
    written = torch.full((len(source), 1), START)
    for _ in range(length):
        written = torch.cat((written, model(source, written)[:, -1].argmax(dim=-1, keepdim=True)), dim=1)
    return written[:, 1:]


def train(name: str, options: argparse.Namespace, seed: int) -> tuple[nn.Module, float]:
    """Train an architecture; return it and the CPU seconds that a step takes."""
    torch.manual_seed(seed)
    model = build_equal(name, options.vocab_size, options.width, options.layers).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=options.learning_rate, betas=(0.9, 0.98))
    draw = torch.Generator().manual_seed(seed)
    start = time.process_time()
    for number in range(1, options.steps + 1):
        rate = min(1.0, number / max(1, options.steps // 10)) * (1 - 0.9 * number / options.steps)
        optimizer.param_groups[0]["lr"] = options.learning_rate * rate
        step(model, optimizer, *make_batch(options, draw))
    return model.eval(), (time.process_time() - start) / options.steps


def test_model(model: nn.Module, options: argparse.Namespace, length: int) -> tuple[float, float]:
    """Return the share of right tokens in percent on new sequences of a length, and CPU seconds a written token."""
    source, target = make_batch(options, torch.Generator().manual_seed(10_000 + length), length)
    start = time.process_time()
    found = decode(model, source, target.shape[1])
    seconds = (time.process_time() - start) / target.numel()
    return 100 * float((found == target).float().mean()), seconds


def spread(values: list[float], form: str) -> str:
    """Return the mean of several seeds, and how far they are from it."""
    mean = format(statistics.mean(values), form)
    return mean if len(values) == 1 else f"{mean} ± {format(statistics.stdev(values), form)}"


def measure_quality(options: argparse.Namespace) -> list[Row]:
    """Return a row for each architecture: accuracy by length, and times."""
    rows = []
    for name in ARCHITECTURES:
        results: dict[str, list[float]] = {}
        for seed in range(options.seeds):
            model, seconds = train(name, options, seed)
            results.setdefault("training step, ms", []).append(1000 * seconds)
            for length in options.test_lengths:
                right, written = test_model(model, options, length)
                results.setdefault(f"right at {length}, %", []).append(right)
            results.setdefault("written token, ms", []).append(1000 * written)
        row = {"architecture": name, "parameters": f"{count_parameters(model):,}"}
        rows.append(
            {**row, **{key: spread(values, ".2f" if "ms" in key else ".1f") for key, values in results.items()}}
        )
    return rows


def measure_cost(options: argparse.Namespace) -> list[Row]:
    """Return a row for each architecture: CPU milliseconds of a training step by length, the median of a few."""
    rows = []
    for name in ARCHITECTURES:
        model = build_equal(name, options.vocab_size, options.width, options.layers).train()
        optimizer = torch.optim.Adam(model.parameters())
        row = {"architecture": name, "parameters": f"{count_parameters(model):,}"}
        for length in options.test_lengths:
            batch = make_batch(options, torch.Generator().manual_seed(0), length)
            step(model, optimizer, *batch)
            times = []
            for _ in range(options.steps if options.steps < 20 else 5):
                start = time.process_time()
                step(model, optimizer, *batch)
                times.append(1000 * (time.process_time() - start))
            row[f"{length} tokens, ms"] = f"{statistics.median(times):.0f}"
        rows.append(row)
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Measure, print a table, and write it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.architectures.run")
    parser.add_argument("--task", choices=["copy", "recall", "cost"], default="copy")
    for name, value in {
        "steps": 400,
        "seeds": 3,
        "width": 64,
        "layers": 2,
        "vocab_size": 40,
        "batch_size": 16,
    }.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--longest", type=int, default=20, help="of the training's sources")
    parser.add_argument("--test_lengths", type=int, nargs="+")
    parser.add_argument("--learning_rate", type=float, default=2e-3)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args(arguments)
    lengths = LENGTHS if options.task == "cost" else (options.longest // 2, options.longest, 2 * options.longest)
    options.test_lengths = options.test_lengths or list(lengths)
    rows = measure_cost(options) if options.task == "cost" else measure_quality(options)
    title = f"Architectures of equal size: {options.task}"
    if options.task != "cost":
        title += f", {options.steps} steps, trained up to {options.longest} tokens, {options.seeds} seeds"
    show_table(f"{title}; {describe(torch.get_num_threads())}", rows, options.output)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
