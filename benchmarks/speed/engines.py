"""
How fast one model translates in each engine: the same sentences, one process each, in turn.

    python -m benchmarks.speed.engines --model checkpoints/tiny-en-es --source test.en --reference test.es

Without --source the sentences are those of the phrasebook's test set.

CPU seconds are counted, since other programs disturb them less than the time of day. Start-up and memory are those of
the whole process: this package with torch is in each of them.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers.utils import logging

from benchmarks.machine import Row, describe, resident_bytes, show_table
from benchmarks.speed.generation_systems import by_generate
from benchmarks.speed.workers import Worker, rotated, serve
from benchmarks.text import pad
from training.data.phrasebook import phrasebook
from vanilla_transformer.conversion.marian import export_marian
from vanilla_transformer.conversion.to_ctranslate2 import export_ctranslate2
from vanilla_transformer.conversion.to_onnx import export_onnx
from vanilla_transformer.loading import load_model, load_translator
from vanilla_transformer.text import read_lines

MODULE = "benchmarks.speed.engines"
# Of each system: its folder, its engine and the precision of its weights.
SYSTEMS = {
    "torch": ("original", "torch", None),
    "torch, int8": ("original", "torch", "int8"),
    "ctranslate2": ("ctranslate2", "ctranslate2", None),
    "ctranslate2, int8": ("ctranslate2-int8", "ctranslate2", None),
    "onnxruntime": ("onnx", "onnxruntime", None),
    "onnxruntime, int8": ("onnx-int8", "onnxruntime", None),
    "MarianMTModel": ("marian", "marian", None),
}
TEXT_FILES = (".md", ".png", ".json")


def write_exports(model: Path, exports: Path) -> None:
    """Write the folders that are not there yet."""
    writers: dict[str, Callable[[Path], object]] = {
        "original": lambda output: output.symlink_to(model.resolve()),
        "ctranslate2": lambda output: export_ctranslate2(model, output),
        "ctranslate2-int8": lambda output: export_ctranslate2(model, output, "int8"),
        "onnx": lambda output: export_onnx(model, output),
        "onnx-int8": lambda output: export_onnx(model, output, "int8"),
        "marian": lambda output: export_marian(model, output),
    }
    for name, write in writers.items():
        if not (exports / name).exists():
            write(exports / name)


def write_phrasebook(folder: Path) -> tuple[Path, Path]:
    """Write the test set of the phrasebook and return its two files."""
    source, reference = folder / "test.en", folder / "test.es"
    for file, lines in zip((source, reference), zip(*phrasebook()["test"], strict=True), strict=True):
        file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return source, reference


def weigh(folder: Path) -> int:
    """Return the bytes of a model's files, without texts and pictures."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.suffix not in TEXT_FILES)


def build(folder: Path, engine: str, precision: str | None) -> Callable[[list[str]], list[str]]:
    """Return what translates lines."""
    if engine == "marian":
        model, tokenizer = load_model(folder)
        generate = by_generate(model)

        def translate(lines: list[str]) -> list[str]:
            with torch.no_grad():
                rows = generate(pad(tokenizer(lines, split_special_tokens=True).input_ids), 4, 114)
            return list(tokenizer.batch_decode(rows, skip_special_tokens=True))

        return translate
    translator = load_translator(folder, engine, "cpu")
    settings = {} if precision is None else {"weight_precision": precision}
    return lambda lines: [each[0]["translation_text"] for each in translator.translate(lines, dict(settings))]


def work(options: argparse.Namespace) -> None:
    """The process of one system."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    folder, engine, precision = SYSTEMS[options.systems[0]]
    translate = build(options.exports / folder, engine, precision)
    start = time.process_time()
    lines = read_lines(options.source)[: options.sentences]

    def answer(request: Row) -> Row:
        started = time.process_time()
        output = translate(lines[request["first"] : request["first"] + options.batch])
        seconds = time.process_time() - started
        return {"seconds": seconds, "output": output, "memory": resident_bytes(peak=True), "start": start}

    serve(answer)


def measure(options: argparse.Namespace) -> list[Row]:
    """Rows of the table: a system in each."""
    arguments = [
        *("--model", str(options.model), "--source", str(options.source), "--exports", str(options.exports)),
        *("--sentences", str(options.sentences), "--batch", str(options.batch)),
    ]
    workers = {name: Worker(MODULE, [*arguments, "--systems", name], 1) for name in options.systems}
    answers: dict[str, list[Row]] = {name: [] for name in workers}
    try:
        for worker in workers.values():  # warms up
            worker.ask(first=0)
        for turn, first in enumerate(range(0, options.sentences, options.batch)):
            for name, worker in rotated(workers, turn):
                answers[name].append(worker.ask(first=first))
    finally:
        for worker in workers.values():
            worker.end()
    return [describe_system(name, answers, options) for name in options.systems]


def describe_system(name: str, answers: dict[str, list[Row]], options: argparse.Namespace) -> Row:
    """Return the row of a system."""
    own, first = answers[name], answers[options.systems[0]]
    errors = [each["error"] for each in own if "error" in each]
    if errors:
        return {"system": name, "sentences / CPU s": f"failed: {errors[0]}"}
    lines = [line for each in own for line in each["output"]]
    ours = [line for each in first for line in each["output"]]
    ratios = [a["seconds"] / b["seconds"] for a, b in zip(first, own, strict=True)]
    row = {
        "system": name,
        "sentences / CPU s": f"{len(lines) / sum(each['seconds'] for each in own):.0f}",
        f"times {options.systems[0]}": f"{statistics.median(ratios):.2f}",
        "same lines": f"{sum(a == b for a, b in zip(lines, ours, strict=True)):,} of {len(lines):,}",
        "start, CPU s": f"{own[0]['start']:.1f}",
        "memory, MB": f"{own[-1]['memory'] / 1e6:,.0f}",
        "weights, MB": f"{weigh(options.exports / SYSTEMS[name][0]) / 1e6:.1f}",
    }
    if options.reference is not None:
        import sacrebleu

        references = read_lines(options.reference)[: len(lines)]
        row["BLEU"] = f"{sacrebleu.corpus_bleu(lines, [references]).score:.2f}"
    return row


def main() -> int:
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description="Compare engines of one model.")
    parser.add_argument("--model", type=Path, default=Path("checkpoints/tiny-en-es"), help="folder (the bundled one)")
    parser.add_argument("--source", type=Path, help="file with a sentence a line (the phrasebook's test set)")
    parser.add_argument("--reference", type=Path, help="its translations, for BLEU")
    parser.add_argument("--exports", type=Path, help="folder of the exported models, which are kept; a temporary one")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--sentences", type=int, default=500, help="(500)")
    parser.add_argument("--batch", type=int, default=100, help="sentences in a turn (100)")
    parser.add_argument("--output", type=Path, help="file that the table is added to")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.worker:
        work(options)
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        if options.source is None:
            options.source, options.reference = write_phrasebook(Path(temporary))
        options.sentences = min(options.sentences, len(read_lines(options.source)))
        options.exports = options.exports or Path(temporary) / "exports"
        options.exports.mkdir(exist_ok=True)
        write_exports(options.model, options.exports)
        rows = measure(options)
    what = f"{options.sentences:,} sentences in turns of {options.batch}, the model's own decoding"
    show_table(f"Engines with {options.model}, {what}; {describe(1)}", rows, options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
