"""
How many corrected translations are learned by `corrections.yaml`, and what that costs on other text.

    python -m benchmarks.quality.corrections --init_from checkpoints/tiny-en-es --pairs valid.en valid.es \
        --general train.en --test test.en test.es --output_dir runs/corrections

The corrections are the first pairs that the model translates otherwise than the reference.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch

from benchmarks.machine import describe, show_table
from training.data.texts import read_two_files
from training.train import main as train
from vanilla_transformer.errors import RecipeError, run_command
from vanilla_transformer.loading import load_model
from vanilla_transformer.pipeline_vanilla_transformer import VanillaTransformerTranslationPipeline

RECIPE = Path(__file__).resolve().parents[2] / "training" / "recipes" / "corrections.yaml"


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality.corrections", description="Learn corrections.")
    parser.add_argument("--init_from", required=True, help="the model to correct")
    parser.add_argument("--pairs", nargs=2, required=True, metavar=("SOURCE", "TARGET"), help="the corrections' text")
    parser.add_argument("--general", required=True, help="text in the source language, for the model to translate")
    parser.add_argument("--test", nargs=2, required=True, metavar=("SOURCE", "TARGET"), help="other text to score on")
    parser.add_argument("--count", type=int, default=50, help="corrections (50)")
    parser.add_argument("--share", type=float, default=0.9, help="of the training pairs that are general text (0.9)")
    parser.add_argument("--output_dir", type=Path, required=True, help="for the model")
    parser.add_argument("--output", type=Path, help="a report to write")
    parser.add_argument("words", nargs="*", help="for the training program, after --")
    return parser


def translate(model: str, lines: list[str]) -> list[str]:
    """Translate lines as `vanilla-transformer translate` does."""
    network, tokenizer = load_model(model)
    translator = VanillaTransformerTranslationPipeline(model=network, tokenizer=tokenizer, device="cpu")
    return [result["translation_text"] for result in translator(lines, split_sentences=False)]


def measure(options: argparse.Namespace) -> int:
    """Choose the corrections, learn them, and print the table."""
    text = read_two_files(*options.pairs).select(range(4 * options.count))
    found = translate(options.init_from, list(text.sources))
    pairs = [pair for pair, translation in zip(text, found, strict=True) if translation != pair[1]][: options.count]
    options.output_dir.mkdir(parents=True, exist_ok=True)
    file = options.output_dir / "corrections.tsv"
    file.write_text("".join(f"{source}\t{target}\n" for source, target in pairs), encoding="utf-8")
    folder, started = options.output_dir / "model", time.process_time()
    words = [str(RECIPE), "--init_from", options.init_from, "--corrections", str(file), "--output_dir", str(folder)]
    replay = {"source": options.general, "share": options.share, "hold_out": 200}
    words += ["--replay", json.dumps(replay)]
    words += ["--test_source", options.test[0], "--test_target", options.test[1]]
    if train([*words, *options.words]) != 0:
        raise RecipeError("The training failed.")
    seconds = time.process_time() - started
    after = translate(str(folder), [source for source, _ in pairs])
    learned = sum(translation == target for translation, (_, target) in zip(after, pairs, strict=True))
    scores = json.loads((folder / "all_results.json").read_text(encoding="utf-8"))
    row = {
        "corrections": len(pairs),
        "learned": f"{learned} ({learned / len(pairs):.0%})",
        "BLEU of the corrections": f"{scores['validation_bleu_before']:.2f} -> {scores['validation_bleu']:.2f}",
        "BLEU of other text": f"{scores['test_bleu_before']:.2f} -> {scores['test_bleu']:.2f}",
        "CPU minutes, with all scoring": f"{seconds / 60:.1f}",
    }
    show_table(f"corrections learned; {describe(torch.get_num_threads())}", [row], options.output)
    return 0


def main(arguments: list[str] | None = None) -> int:
    options = build_parser().parse_args(arguments)
    return run_command(lambda: measure(options))


if __name__ == "__main__":
    sys.exit(main())
