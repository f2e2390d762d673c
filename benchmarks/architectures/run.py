"""
Recurrent, convolutional and Transformer encoder-decoders of equal size, side by side.

    python -m benchmarks.architectures.run --task translate --data DIR \
        --output benchmarks/results/architectures_translate.md
    python -m benchmarks.architectures.run --task distance --output benchmarks/results/architectures_distance.md
    python -m benchmarks.architectures.run --task cost --output benchmarks/results/architectures_cost.md

`translate`: Multi30k English-German (DIR has train, val and test_2016_flickr, tokenized): scores after equal updates
and after equal CPU time, and the time of decoding. `distance`: copying a token over 10 to 500 others. `cost`: time and
memory by length. All have the training program, tokenizer, batches, loss, search and scorer of this project. Finished
trainings and measurements are in `--work` and are not made again: repeat a command that was interrupted.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging

from benchmarks.architectures import cost, distance, translate
from benchmarks.machine import describe, show_table

TASKS: dict[str, Any] = {"translate": translate, "distance": distance, "cost": cost}
# Of the Transformer, whose size the others get: the preset tiny for text, less for copying.
DEFAULTS: dict[str, dict[str, Any]] = {
    "translate": {"hidden_size": 128, "intermediate_size": 256, "layers": 4, "vocab_size": 6000, "steps": 6000}
    | {
        "attention_init_gain": 0.7071
    },  # with 1, as by default, it stays on a plateau (results/architectures_translate.md)
    "distance": {"hidden_size": 64, "intermediate_size": 128, "layers": 2, "steps": 3000, "warmup_steps": 300},
    "cost": {"hidden_size": 128, "intermediate_size": 256, "layers": 4, "vocab_size": 6000},
}


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command, with the defaults of its task."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.architectures.run")
    parser.add_argument("--task", choices=TASKS, required=True)
    parser.add_argument("--work", type=Path, help="the folder of trainings and measurements (runs/architectures/TASK)")
    parser.add_argument("--data", type=Path, help="of translate: the folder of the texts")
    parser.add_argument("--output", type=Path, help="the report; with a picture of the same name beside it")
    for name in ("hidden_size", "intermediate_size", "encoder_layers", "decoder_layers", "vocab_size", "steps"):
        parser.add_argument(f"--{name}", type=int)
    for name, value in {"num_attention_heads": 4, "seeds": 3, "tokens_per_step": 2048, "repeats": 5}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--warmup_steps", type=int, default=1000)
    parser.add_argument("--dropout", type=float)
    parser.add_argument("--attention_init_gain", type=float, default=1.0, help="of the Transformer only")
    parser.add_argument("--rates", type=float, nargs="+", help="the best on validation text is chosen for each")
    parser.add_argument("--tune_steps", type=int, default=1000, help="of trainings that choose a rate")
    parser.add_argument("--decoded", type=int, default=64, help="of translate: sentences that decoding is timed on")
    parser.add_argument("--trained", type=int, nargs=2, default=(10, 500), help="of distance: from and to")
    parser.add_argument("--distances", type=int, nargs="+", default=(10, 20, 50, 100, 200, 500))
    parser.add_argument("--lengths", type=int, nargs="+", default=(16, 32, 64, 128, 256, 512, 1024))
    parser.add_argument("--longest_without_cache", type=int, default=256)
    task = parser.parse_args(arguments).task
    defaults = dict(DEFAULTS[task])
    layers = defaults.pop("layers")
    parser.set_defaults(
        encoder_layers=layers, decoder_layers=layers, work=Path("runs/architectures") / task, **defaults
    )
    options = parser.parse_args(arguments)
    options.dropout = options.dropout if options.dropout is not None else 0.3 if task == "translate" else 0.0
    options.rates = options.rates or [1e-3, 2e-3, 4e-3]
    if task == "translate" and options.data is None:
        parser.error("--task translate needs --data: the folder of the texts")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Measure what is not known yet, print a table, and write it."""
    options = parse(arguments)
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    title = f"Architectures of equal size: {options.task}"
    if options.task != "cost":
        title += f", {options.steps} steps, {options.seeds} seed{'s' if options.seeds > 1 else ''}"
    rows = TASKS[options.task].compare(options)
    show_table(f"{title}; {describe(1)}", rows, options.output)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
