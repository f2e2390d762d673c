"""
Put a trained model on the Hub: weights, code, tokenizer, results and card in one commit, which gets a tag.

    python -m training.push --model runs/own_files --repo NAME
    python -m training.push --model runs/own_files --repo NAME --native NAME-marian --private

`--native` also writes the model as a stock `MarianMTModel`, which loads without remote code, into a repository of its
own. The token is that of `hf auth login`, or HF_TOKEN.
"""

import argparse
import sys
from pathlib import Path

from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]
from transformers.utils import logging

from training.publish.hub import check_folder, prepare_repositories, push_model
from vanilla_transformer.conversion.marian import marian_config
from vanilla_transformer.errors import run_command
from vanilla_transformer.model_card import ModelPlace, folder_card


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.push", description="Put a trained model on the Hub.")
    parser.add_argument("--model", required=True, type=Path, help="the folder that training wrote")
    parser.add_argument("--repo", required=True, help="name of the repository, or user-or-organisation/name")
    parser.add_argument("--native", help="repository for the same model as a stock MarianMTModel")
    parser.add_argument("--private", action="store_true", help="make new repositories private")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Push a folder; returns the exit status."""
    options = build_parser().parse_args(arguments)
    logging.disable_progress_bar()
    if not sys.stderr.isatty():
        disable_progress_bars()
    return run_command(lambda: push(options), "interrupted. A commit arrives whole or not at all: push again.")


def push(options: argparse.Namespace) -> int:
    """Push what parsed options name; returns 0."""
    config = check_folder(options.model)
    if options.native is not None:
        marian_config(config)
    folder_card(options.model, ModelPlace(options.repo))  # what is wrong with it is better known before
    repo, native = prepare_repositories(options.repo, options.native, options.private)
    for line in push_model(options.model, repo, native):
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
