"""
The command line.

    vanilla-transformer translate --model runs/demo "How are you?" "The house is red."
    vanilla-transformer translate --model runs/demo --input source.txt --output translation.txt
    cat source.txt | vanilla-transformer translate --model runs/demo
    vanilla-transformer export runs/demo runs/demo-marian --to marian
"""

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

import torch
from transformers.utils import logging

from .loading import load_model
from .pipeline_vanilla_transformer import VanillaTransformerTranslationPipeline
from .search_vanilla_transformer import WEIGHT_PRECISIONS
from .text import TextError, check_plain_text, read_plain_text, split_lines


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vanilla-transformer", description="The original Transformer.")
    commands = parser.add_subparsers(dest="command", required=True)
    translate = commands.add_parser("translate", help="translate text, a sentence a line")
    translate.add_argument("text", nargs="*", help="sentences; without any, --input or standard input is read")
    translate.add_argument("--model", required=True, help="a folder, or a repository on the Hub")
    translate.add_argument("--input", type=Path, help="file with a sentence a line, UTF-8")
    translate.add_argument("--output", type=Path, help="file for the translations; standard output without it")
    translate.add_argument("--num_beams", type=int, help="beams; the model's own number (the paper's 4) without it")
    translate.add_argument("--tokens_per_batch", type=int, default=2048, help="source tokens in a batch (2048)")
    translate.add_argument(
        "--weight_precision",
        choices=[name for name in WEIGHT_PRECISIONS if name],
        help="of the decoder's weights, faster on a CPU; their own without it",
    )
    translate.add_argument("--split_sentences", action="store_true", help="translate each line sentence by sentence")
    translate.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (auto)")
    export = commands.add_parser("export", help="write a model for another implementation")
    export.add_argument("model", type=Path, help="the folder of the model")
    export.add_argument("output", type=Path, help="a folder to make")
    export.add_argument(
        "--to", required=True, choices=["marian"], help="marian: a stock MarianMTModel of transformers"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.command == "translate":
        check_translate(parser, options)
    try:
        return run_translate(options) if options.command == "translate" else run_export(options)
    except BrokenPipeError:  # whoever reads the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: nothing was written", file=sys.stderr)
        return 130


def check_translate(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuse what the options say together."""
    if options.text and options.input:
        parser.error("give sentences or --input, not both")
    if options.input and options.output and options.input.resolve() == options.output.resolve():
        parser.error(f"--output is the file that --input reads, {options.input}: name another")
    for name in ("num_beams", "tokens_per_batch"):
        value = getattr(options, name)
        if value is not None and value < 1:
            parser.error(f"--{name} is {value}: give at least 1")


def run_export(options: argparse.Namespace) -> int:
    from .conversion import export_marian  # with the libraries of a model card

    logging.disable_progress_bar()
    differences = export_marian(options.model, options.output)
    print(f"{options.output}: a MarianMTModel, which plain transformers loads. What does not travel:")
    for difference in differences:
        print(f"  {difference}")
    return 0


def run_translate(options: argparse.Namespace) -> int:
    if options.text:
        texts = list(options.text)
        for number, text in enumerate(texts, start=1):
            if not text.isprintable() and any("\ud800" <= character <= "\udfff" for character in text):
                raise TextError(f"Sentence {number} is not UTF-8: {text!r}. Set the terminal to UTF-8.")
    elif options.input:
        texts = read_plain_text(options.input)
    else:
        texts = check_plain_text(split_lines(sys.stdin.buffer.read(), "standard input"), "standard input")

    device = options.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    elif device not in ("cpu", "cuda", "mps") or (device != "cpu" and not getattr(torch, device).is_available()):
        raise ValueError(f"--device is {device} and torch finds no such device here. Use auto or cpu.")
    logging.disable_progress_bar()
    model, tokenizer = load_model(options.model, device)

    given = {name: getattr(options, name) for name in ("num_beams", "weight_precision")}
    settings = {name: value for name, value in given.items() if value is not None}
    with open_output(options.output) as output:  # before the work: a wrong path is better known at once
        translator = VanillaTransformerTranslationPipeline(model=model, tokenizer=tokenizer, device=device)
        translations = translator(
            texts,
            tokens_per_batch=options.tokens_per_batch,
            split_sentences=options.split_sentences,
            progress=options.input is not None,
            **settings,
        )
        for translation in translations:
            output.write(translation["translation_text"].replace("\n", " ") + "\n")
    return 0


@contextlib.contextmanager
def open_output(path: Path | None) -> Iterator[TextIO]:
    """
    A file that replaces an older one when it is whole, or standard output; in UTF-8 whatever the terminal says. A
    device or a pipe is written to as it is, and a link is followed.
    """
    if path is None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8")
        yield sys.stdout
        sys.stdout.flush()
        return
    replaces = path.is_file() or not path.exists()
    try:
        if path.is_dir():
            raise IsADirectoryError(0, "it is a folder")
        whole = path.resolve()
        aside = whole.with_name(f"{whole.name}.{os.getpid()}.unfinished") if replaces else path
        file = open(aside, "x" if replaces else "w", encoding="utf-8", newline="\n")  # noqa: SIM115
    except OSError as error:
        raise TextError(f"--output {path} cannot be written: {error.strerror}.") from error
    try:
        with file:
            yield file
        if replaces:
            aside.replace(whole)
    finally:
        if replaces:
            aside.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
