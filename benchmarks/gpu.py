"""
Every figure of one GPU, in at most ten minutes: training and translation, beside MarianMTModel.

    python -m benchmarks.gpu --output benchmarks/results/gpu.md
    python -m benchmarks.gpu --smoke

`--smoke` runs all parts with small sizes on a CPU, to see that they work. Every part has a process of its own, and may
fail by itself. What is measured is written as it comes. Training is forward, label-smoothed loss, backward and fused
Adam, with weights in float32 and products in bfloat16, on batches of 25,000 tokens a side whose lengths are drawn as
those of WMT sentences are. Speed is the median over the steps of source and target tokens a second, without padding.
MFU is the arithmetic of our model over what the maker says that the GPU can do, or where this is not known over the
speed of a large product. Translation has weights in bfloat16, 28 tokens in every source and target, and 4 beams.
"""

import argparse
import multiprocessing
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.utils import logging

from benchmarks.machine import describe, format_report
from benchmarks.speed.generation_systems import END, SEARCH, by_generate
from benchmarks.speed.systems import (
    SHAPES,
    Shape,
    count_operations,
    learn,
    make_loss_of_marian,
    make_loss_of_ours,
    marian_model,
    our_config,
)
from benchmarks.text import Batch, pad
from training.data.batching import TokenBudgetBatchSampler
from vanilla_transformer import VanillaTransformerForConditionalGeneration
from vanilla_transformer.conversion.marian import to_marian

# FLOP a second of products of bfloat16 that add up in float32, without sparsity, as the makers say.
PEAKS = {"H200": 989e12, "H100 80GB HBM3": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12}
SIDE = 8192  # of the large product
TOKENS = 28  # of a translated sentence
LEAST = 10.0  # seconds that must be left to begin a part


@dataclass(frozen=True)
class Part:
    """
    The work of one process.

    Attributes:
        work: "training" or "translating", or "product" for the fastest product.
        shape: of the model.
        system: "ours" or "MarianMTModel".
        is_compiled: whether by `torch.compile`.
    """

    work: str
    shape: str = ""
    system: str = ""
    is_compiled: bool = False

    def __str__(self) -> str:
        return ", ".join(filter(None, (self.work, self.shape, self.system, "compiled" if self.is_compiled else "")))


# Parts that may take longest come last.
PARTS = (
    Part("product"),
    *(Part("training", shape, system) for shape in ("base", "big") for system in ("ours", "MarianMTModel")),
    *(Part("translating", "base", system) for system in ("ours", "MarianMTModel")),
    *(Part("training", shape, system, True) for shape in ("base", "big") for system in ("ours", "MarianMTModel")),
)


@dataclass(frozen=True)
class Sizes:
    """
    How much is measured.

    Attributes:
        device: where.
        tokens: of either side of a batch, at most.
        seconds: that a figure is measured for, after what warms up.
        steps: of it, at most.
        batches: sentences that are translated at once.
        limit: seconds of all parts together.
        peak: FLOP a second that MFU is a part of; 0 if it is not known.
    """

    device: str = "cuda"
    tokens: int = 25_000
    seconds: float = 6.0
    steps: int = 40
    batches: tuple[int, ...] = (1, 64, 512)
    limit: float = 570.0
    peak: float = 0.0

    @property
    def is_smoke(self) -> bool:
        return self.device == "cpu"


SMOKE = Sizes("cpu", tokens=200, seconds=0.0, steps=2, batches=(1, 3), limit=300.0, peak=1e12)
SMALL = Shape(vocab_size=100, layers=1, width=16, inner=32, heads=2, dropout=0.1)


def draw_batches(vocab_size: int, tokens: int, count: int, seed: int = 0) -> list[Batch]:
    """
    So many batches of random ids, of lengths as in WMT sentences: log-normal, 28 tokens in the mean, 4 to 200.

    Args:
        tokens: of either side of a batch, padding included, at most.
    """
    rng = np.random.default_rng(seed)
    pairs = max(64, count * tokens // 16)
    source = np.clip(rng.lognormal(3.15, 0.6, pairs), 4, min(200, tokens)).astype(int)
    target = np.clip(source * rng.lognormal(0.0, 0.2, pairs), 4, min(200, tokens)).astype(int)
    sampler = TokenBudgetBatchSampler(source, target, tokens, seed=seed, spread=False)
    drawn = [rows for _, rows in zip(range(count), sampler, strict=False)]

    def fill(lengths: np.ndarray) -> torch.Tensor:
        return pad([[*rng.integers(4, vocab_size, length - 1).tolist(), END] for length in lengths])

    return [Batch(fill(source[rows]), fill(target[rows])) for rows in drawn]


def wait(device: str) -> None:
    """Wait for what a GPU was told to do."""
    if device == "cuda":
        torch.cuda.synchronize()


def measure_peak_memory(device: str) -> str:
    """The most memory of tensors since the part began, in GB; on a CPU nothing."""
    return f"{torch.cuda.max_memory_allocated() / 1e9:.1f}" if device == "cuda" else ""


def measure(part: Part, sizes: Sizes) -> Iterator[dict[str, str]]:
    """Rows of the table."""
    if sizes.is_smoke:
        torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.manual_seed(0)
    if part.work == "product":
        yield measure_product(sizes)
    elif part.work == "training":
        yield measure_training(part, sizes)
    else:
        yield from measure_translating(part, sizes)


def measure_product(sizes: Sizes) -> dict[str, str]:
    """The speed of a large product of bfloat16."""
    side = 64 if sizes.is_smoke else SIDE
    left, right = (torch.randn(side, side, device=sizes.device, dtype=torch.bfloat16) for _ in range(2))
    best = float("inf")
    for _ in range(20):
        wait(sizes.device)
        started = time.perf_counter()
        left @ right
        wait(sizes.device)
        best = min(best, time.perf_counter() - started)
    return {"what": f"product of {side:,} x {side:,}", "speed": f"{2 * side**3 / best / 1e12:,.1f} TFLOP/s"}


def measure_training(part: Part, sizes: Sizes) -> dict[str, str]:
    """Tokens a second of training, MFU and memory."""
    shape = SMALL if sizes.is_smoke else SHAPES[part.shape]
    batches = draw_batches(shape.vocab_size, sizes.tokens, 8)
    usual = sorted(batches, key=lambda batch: batch.source.shape[1])[len(batches) // 2]
    operations = count_operations(shape, Batch(usual.source[:4], usual.target[:4]))
    if part.system == "ours":
        model: Any = VanillaTransformerForConditionalGeneration(our_config(shape))
    else:
        model = marian_model(shape)
    model.to(sizes.device)
    called = torch.compile(model, backend="eager" if sizes.is_smoke else "inductor") if part.is_compiled else model
    loss_of = make_loss_of_ours(called) if part.system == "ours" else make_loss_of_marian(called)
    step = learn(model, "bfloat16", loss_of)
    placed = [Batch(batch.source.to(sizes.device), batch.target.to(sizes.device)) for batch in batches]
    for batch in placed[: 6 if part.is_compiled and not sizes.is_smoke else 3]:
        step(batch)
    wait(sizes.device)
    speeds: list[float] = []
    started = time.perf_counter()
    while not speeds or (time.perf_counter() - started < sizes.seconds and len(speeds) < sizes.steps):
        batch = placed[len(speeds) % len(placed)]
        before = time.perf_counter()
        loss = step(batch)
        wait(sizes.device)
        speeds.append(batch.tokens / (time.perf_counter() - before))
    if not torch.isfinite(loss):
        raise ArithmeticError(f"the loss is {loss.item()}")
    speed = statistics.median(speeds)
    return {
        "what": str(part),
        "speed": f"{speed:,.0f} tokens/s",
        "lowest to highest": f"{min(speeds):,.0f} to {max(speeds):,.0f}",
        "MFU": f"{speed * operations / sizes.peak:.1%}" if sizes.peak else "",
        "memory, GB": measure_peak_memory(sizes.device),
    }


def measure_translating(part: Part, sizes: Sizes) -> Iterator[dict[str, str]]:
    """Sentences a second of beam search, and memory, by the size of the batch."""
    shape = SMALL if sizes.is_smoke else SHAPES[part.shape]
    model = VanillaTransformerForConditionalGeneration(our_config(shape)).eval()
    with torch.no_grad():
        model.lm_head.weight[END] = 0.0  # a logit of 0, which is never the highest of many
    translated: Any = model if part.system == "ours" else to_marian(model)
    search = SEARCH if part.system == "ours" else {}
    translate = by_generate(translated.to(sizes.device, torch.bfloat16), **search)
    for size in sizes.batches:
        source = torch.randint(4, shape.vocab_size, (size, TOKENS), device=sizes.device)
        source[:, -1] = END
        if sizes.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        translate(source, 4, TOKENS)
        speeds: list[float] = []
        started = time.perf_counter()
        while not speeds or (time.perf_counter() - started < sizes.seconds and len(speeds) < sizes.steps):
            before = time.perf_counter()
            translate(source, 4, TOKENS)
            speeds.append(size / (time.perf_counter() - before))
        yield {
            "what": f"{part}, batch of {size}",
            "speed": f"{statistics.median(speeds):,.2f} sentences/s",
            "lowest to highest": f"{min(speeds):,.2f} to {max(speeds):,.2f}",
            "memory, GB": measure_peak_memory(sizes.device),
        }


def work(part: Part, sizes: Sizes, connection: Connection) -> None:
    """The process of a part."""
    try:
        for row in measure(part, sizes):
            connection.send(row)
    except Exception as error:  # a part that fails must not end the others
        said = " ".join(str(error).split())[:200]
        connection.send({"what": str(part), "speed": f"failed: {type(error).__name__}: {said}"})
    connection.close()


def run_part(part: Part, sizes: Sizes, seconds: float) -> Iterator[dict[str, str]]:
    """Rows of a part, from a process that gets so many seconds."""
    if seconds < LEAST:
        yield {"what": str(part), "speed": "not measured: the time was over"}
        return
    # A fork has imported everything, but no GPU survives it.
    context = multiprocessing.get_context("fork" if sizes.is_smoke and sys.platform == "linux" else "spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(part, sizes, sender), daemon=True)  # type: ignore[attr-defined]
    process.start()
    sender.close()
    deadline, rows = time.monotonic() + seconds, 0
    try:
        while receiver.poll(max(0.0, deadline - time.monotonic())):
            yield receiver.recv()
            rows += 1
    except EOFError:
        process.join()
        if process.exitcode:
            yield {"what": str(part), "speed": f"failed: the process ended with status {process.exitcode}"}
    else:
        yield {"what": str(part), "speed": f"not measured: it took more than {seconds:.0f} s"}
    finally:
        process.kill()
        process.join()


def find_peak(name: str) -> float:
    """FLOP a second that the maker of a GPU says, or 0."""
    words = name.replace("-", " ")
    return next((peak for model, peak in PEAKS.items() if f" {model} " in f" {words} "), 0.0)


def complete(row: dict[str, str]) -> dict[str, str]:
    """A row with all columns of the table."""
    return {name: row.get(name, "") for name in ("what", "speed", "lowest to highest", "MFU", "memory, GB")}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="Measure one GPU, in ten minutes.")
    parser.add_argument("--smoke", action="store_true", help="all parts with small sizes, on a CPU")
    parser.add_argument("--tokens", type=int, default=Sizes.tokens, help=f"of a side of a batch ({Sizes.tokens:,})")
    parser.add_argument("--output", type=Path, help="file for the table, written anew after each figure")
    options = parser.parse_args(arguments)
    if not options.smoke and not torch.cuda.is_available():
        parser.error("torch finds no GPU here. --smoke runs the same on a CPU")
    name = "" if options.smoke else torch.cuda.get_device_name()
    sizes = SMOKE if options.smoke else Sizes(tokens=options.tokens, peak=find_peak(name))
    title = "Training in bfloat16 and translating, on one GPU" + (": nothing but a trial on a CPU" * options.smoke)
    machine = describe(torch.get_num_threads())
    print(f"{title}; {machine}", flush=True)
    started, rows = time.monotonic(), []
    for part in PARTS:
        for row in run_part(part, sizes, sizes.limit - (time.monotonic() - started)):
            if part.work == "product" and not sizes.peak and row["speed"].endswith(" TFLOP/s"):
                peak = float(row["speed"].removesuffix(" TFLOP/s").replace(",", "")) * 1e12
                sizes = Sizes(tokens=options.tokens, peak=peak)
            rows.append(complete(row))
            print(" | ".join(filter(None, rows[-1].values())), flush=True)
            if options.output is not None:
                of = f"MFU: of {sizes.peak / 1e12:,.0f} TFLOP/s"
                report = format_report(title, f"{machine}; {of}", rows)
                options.output.write_text(report, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
