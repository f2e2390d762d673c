"""A page that shows every step from a sentence to its translation."""

import argparse
from pathlib import Path

from transformers.utils import logging

from ..errors import TextError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    parser.add_argument("text", help="a sentence")
    parser.add_argument("--model", required=True, help="a folder, or a repository on the Hub")
    parser.add_argument("--output", type=Path, default=Path("explain.html"), help="the page (explain.html)")
    parser.add_argument("--translation", help="a translation to follow instead of the model's own")
    parser.add_argument("--num_beams", type=int, help="beams of the search (default: the model's own number)")


def check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuse options that do not fit each other."""
    if options.translation is not None and options.num_beams is not None:
        parser.error("--translation needs no search: leave out --num_beams")


def run(options: argparse.Namespace) -> int:
    """Write the page; return the exit status."""
    from ..explain import explain  # with what only this verb needs
    from ..loading import load_model

    logging.disable_progress_bar()
    model, tokenizer = load_model(options.model)
    explanation = explain(model, tokenizer, options.text, options.translation, options.num_beams)
    try:
        explanation.save(options.output)
    except OSError as error:
        raise TextError(f"--output {options.output} cannot be written: {error.strerror}.") from error
    print(f"{explanation.text} → {explanation.translation}")
    print(f"{options.output}: open it in a browser")
    return 0
