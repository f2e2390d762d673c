"""A model for another implementation."""

import argparse
from pathlib import Path

from transformers.utils import logging


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    parser.add_argument("model", type=Path, help="the folder of the model")
    parser.add_argument("output", type=Path, help="a folder to make")
    parser.add_argument(
        "--to", required=True, choices=["marian"], help="marian: a stock MarianMTModel of transformers"
    )


def check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuse options that do not fit each other."""


def run(options: argparse.Namespace) -> int:
    """Write the model and say what does not travel; return the exit status."""
    from ..conversion.marian import export_marian  # with the libraries of a model card

    logging.disable_progress_bar()
    differences = export_marian(options.model, options.output)
    print(f"{options.output}: a MarianMTModel, which plain transformers loads. What does not travel:")
    for difference in differences:
        print(f"  {difference}")
    return 0
