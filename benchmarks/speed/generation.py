"""
How fast systems translate, side by side: the same sentences, the same weights, one process each, in turn.

    python -m benchmarks.speed.generation --shape base --batch 1 16 64 --beams 4 --threads 1
    python -m benchmarks.speed.generation --model checkpoints/tiny-en-es --batch 64 --tokens 100
    python -m benchmarks.speed.generation --systems ours-int8 --batch 64 --profile

Without `--model` the weights are random, `</s>` is never chosen, and every system generates `--tokens` tokens for each
sentence. With one, sentences end where they end.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch
from transformers.utils import logging

from benchmarks.machine import Row, describe, reset_peak, resident_bytes, show_profile, show_table
from benchmarks.speed.generation_systems import END, GENERATION_SYSTEMS, PADDING
from benchmarks.speed.systems import SHAPES, our_config
from benchmarks.speed.workers import Worker, rotated, serve
from benchmarks.text import pad, sentence_pairs
from vanilla_transformer import VanillaTransformerForConditionalGeneration
from vanilla_transformer.loading import load_model

MODULE = "benchmarks.speed.generation"
TOKENS = 28  # of a sentence, in source and target, of random weights


def build(options: argparse.Namespace) -> VanillaTransformerForConditionalGeneration:
    """The model in a folder, or one of random weights that never ends a sentence."""
    if options.model is not None:
        return load_model(options.model)[0]
    torch.manual_seed(0)
    model = VanillaTransformerForConditionalGeneration(our_config(SHAPES[options.shape])).eval()
    with torch.no_grad():
        model.lm_head.weight[END] = 0.0  # a logit of 0, which is never the highest of many
    return model


def sentences(options: argparse.Namespace, vocab_size: int) -> list[list[int]]:
    """Source ids: of real text with a model, else random and of equal lengths."""
    if options.model is not None:
        tokenizer = load_model(options.model)[1]
        texts = sentence_pairs("test")[0][: options.sentences]
        return [ids for ids in tokenizer(texts).input_ids if len(ids) <= 128]
    torch.manual_seed(1)
    ids = torch.randint(4, vocab_size, (options.sentences, TOKENS))
    ids[:, -1] = END
    return [list(map(int, row)) for row in ids]


def work(options: argparse.Namespace) -> None:
    """The process of one system."""
    before = resident_bytes()
    model = build(options)
    rows = sentences(options, model.config.vocab_size)
    logging.set_verbosity_error()
    translate = GENERATION_SYSTEMS[options.systems[0]](model)
    del model  # others have converted it
    reset_peak()
    if options.profile:
        batch = pad(rows[: options.batch[0]])
        with torch.no_grad():
            translate(batch, options.beams, options.tokens)
            with show_profile():
                translate(batch, options.beams, options.tokens)
        return

    def answer(request: Row) -> Row:
        batch = pad([rows[i % len(rows)] for i in range(request["first"], request["first"] + request["size"])])
        started = time.perf_counter()
        with torch.no_grad():
            output = translate(batch, request["beams"], request["tokens"])
        seconds = time.perf_counter() - started
        found = [[i for i in row if i not in (PADDING, END)] for row in output]
        return {"seconds": seconds, "output": found, "memory": resident_bytes(peak=True) - before}

    serve(answer)


def measure(options: argparse.Namespace) -> list[Row]:
    """Rows of the table: a system in each, a size of batch in each pair of columns."""
    source = ["--model", str(options.model)] if options.model else ["--shape", options.shape]
    arguments = [*source, "--sentences", str(options.sentences), "--threads", str(options.threads)]
    workers = {name: Worker(MODULE, [*arguments, "--systems", name], options.threads) for name in options.systems}
    rows = {name: {"system": name} for name in options.systems}
    failed: dict[str, str] = {}
    try:
        for size in options.batch:
            seconds: dict[str, list[float]] = {name: [] for name in options.systems}
            outputs: dict[str, list[list[int]]] = {}
            for turn in range(options.rounds + 1):  # the first warms up
                first = turn * size % max(1, options.sentences - size + 1)
                for name, worker in rotated(workers, turn):
                    if name in failed:
                        continue
                    answer = worker.ask(first=first, size=size, beams=options.beams, tokens=options.tokens)
                    if "error" in answer:
                        failed[name] = answer["error"]
                        continue
                    outputs[name] = answer["output"]
                    rows[name]["memory, MB"] = f"{answer['memory'] / 1e6:,.0f}"
                    if turn:
                        seconds[name].append(answer["seconds"])
            for name, times in seconds.items():
                if name in failed:
                    rows[name][f"batch {size}: sentences/s"] = f"failed: {failed[name]}"
                    continue
                rows[name][f"batch {size}: sentences/s"] = f"{size / statistics.median(times):.2f}"
                ratios = [other / ours for other, ours in zip(times, seconds.get("ours", []), strict=False)]
                same = sum(a == b for a, b in zip(outputs[name], outputs.get("ours", []), strict=False))
                if ratios and name != "ours":
                    rows[name][f"batch {size}: ours / this"] = f"{statistics.median(ratios):.2f}"
                    rows[name][f"batch {size}: same tokens"] = f"{same} of {len(outputs[name])}"
    finally:
        for worker in workers.values():
            worker.end()
    return list(rows.values())


def main() -> int:
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description="Compare speeds of translation.")
    parser.add_argument("--model", type=Path, help="folder of a trained model; random weights without it")
    parser.add_argument("--shape", default="base", choices=SHAPES, help="of the random weights (base)")
    parser.add_argument("--systems", nargs="+", choices=GENERATION_SYSTEMS, default=list(GENERATION_SYSTEMS))
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 16, 64], help="sentences in a batch (1 16 64)")
    parser.add_argument("--beams", type=int, default=4, help="(4)")
    parser.add_argument("--tokens", type=int, default=TOKENS, help=f"to generate, at most ({TOKENS})")
    parser.add_argument("--sentences", type=int, default=512, help="that batches are drawn from (512)")
    parser.add_argument("--threads", type=int, default=1, help="of each system (1)")
    parser.add_argument("--rounds", type=int, default=5, help="in which each system has its turn (5)")
    parser.add_argument("--profile", action="store_true", help="show where the time of the first system goes")
    parser.add_argument("--output", type=Path, help="file for the table")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker or options.profile:
        torch.set_num_threads(options.threads)
        work(options)
        return 0
    what = options.model or f"{options.shape}, random weights"
    head = f"Translating: {what}, {options.beams} beams, {options.tokens} tokens; {describe(options.threads)}"
    show_table(f"{head}; median of {options.rounds} rounds", measure(options), options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
