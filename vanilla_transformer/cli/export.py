"""A model for another implementation."""

import argparse
import sys
from pathlib import Path

from transformers.utils import logging

FORMATS = {
    "marian": "a stock MarianMTModel, which plain transformers loads",
    "ctranslate2": "a model for CTranslate2",
    "onnx": "graphs for onnxruntime, in the folder that transformers.js loads",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    parser.add_argument("model", type=Path, help="the folder of the model")
    parser.add_argument("output", type=Path, help="a folder to make")
    parser.add_argument(
        "--to", required=True, choices=FORMATS, help="; ".join(f"{name}: {text}" for name, text in FORMATS.items())
    )
    parser.add_argument("--precision", choices=["float32", "int8"], help="precision of the weights (float32)")
    parser.add_argument(
        "--max_positions",
        type=int,
        help="for ctranslate2 and a model with sinusoids: most tokens of a sentence (4096)",
    )


def check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuse options that do not fit each other."""
    if options.max_positions is not None and options.to != "ctranslate2":
        parser.error(f"--max_positions is for --to ctranslate2, not for --to {options.to}: leave it out")
    if options.max_positions is not None and options.max_positions < 2:
        parser.error(f"--max_positions is {options.max_positions}: give at least 2")
    if options.precision == "int8" and options.to == "marian":
        parser.error("--precision int8 is not for --to marian: leave it out")


def run(options: argparse.Namespace) -> int:
    """Write the model and its differences from the original; return the exit status."""
    logging.disable_progress_bar()
    precision = options.precision or "float32"
    if options.to == "marian":
        from ..conversion.marian import export_marian  # with the libraries of a model card

        differences = export_marian(options.model, options.output)
    elif options.to == "onnx":
        from ..conversion.to_onnx import export_onnx

        def report(text: str) -> None:
            print(text, file=sys.stderr, flush=True)

        differences = export_onnx(options.model, options.output, precision, report)
    else:
        from ..conversion.to_ctranslate2 import export_ctranslate2

        differences = export_ctranslate2(options.model, options.output, precision, options.max_positions)
    print(f"{options.output}: {FORMATS[options.to]}. Differences from the original:")
    for difference in differences:
        print(f"  {difference}")
    return 0
