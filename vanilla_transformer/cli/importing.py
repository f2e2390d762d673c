"""A model of another implementation, as one of ours."""

import argparse
from pathlib import Path

from transformers.utils import logging


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    parser.add_argument(
        "source", help="folder or repository of a MarianMTModel or an FSMT, or a checkpoint of fairseq (.pt)"
    )
    parser.add_argument("output", type=Path, help="a folder to make")


def check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuse options that do not fit each other."""


def run(options: argparse.Namespace) -> int:
    """Write the model and say what it is; return the exit status."""
    from ..conversion.importing import import_folder  # with the libraries of a model card

    logging.disable_progress_bar()
    facts = import_folder(options.source, options.output)
    languages = [code for code in (facts.source_lang, facts.target_lang) if code]
    direction = f", {' to '.join(languages)}" if len(languages) == 2 else ""
    licence = f", licence {facts.license}" if facts.license else ""
    print(f"{options.output}: {facts.base_model}{direction}{licence}, with its own tokenizer and settings.")
    print(f"  translate: vanilla-transformer translate --model {options.output} TEXT")
    print(f"  adapt: python -m training.train training/recipes/finetune.yaml --init_from {options.output} ...")
    return 0
