"""
Put a trained model on the Hub: weights, code, tokenizer, results and card in one commit, which gets a tag.

    python -m training.push --model runs/own_files --repo NAME
    python -m training.push --model runs/own_files --repo NAME --native NAME-marian --private
    python -m training.push --model runs/own_files --space USER/NAME

`--native` also writes the model as a stock `MarianMTModel`, which loads without remote code, into a repository of its
own. `--space` writes the demo of the model as a Gradio Space. The token is that of `hf auth login`, or HF_TOKEN.
"""

import argparse
import sys
from pathlib import Path

from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]
from transformers.utils import logging

from training.publish.hub import check_folder, prepare_repositories, push_model
from training.publish.space import push_space
from vanilla_transformer import VanillaTransformerConfig
from vanilla_transformer.conversion.marian import marian_config
from vanilla_transformer.errors import HubError, run_command
from vanilla_transformer.model_card import ModelPlace, folder_card


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.push", description="Put a trained model on the Hub.")
    parser.add_argument("--model", required=True, type=Path, help="the folder that training wrote")
    parser.add_argument("--repo", help="name of the repository, or user-or-organisation/name")
    parser.add_argument("--space", help="user-or-organisation/name of a Space that gets the demo of the model")
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
    if options.repo is None and options.space is None:
        raise HubError("The push has no destination. Give --repo, --space or both.")
    if options.repo is None and options.native is not None:
        raise HubError("--native needs --repo, which names the repository of the model itself. Give both.")
    config = check_folder(options.model)
    if options.repo is not None:
        push_repository(options, config)
    if options.space is not None:
        for line in push_space(options.model, options.space, options.private):
            print(line)
    return 0


def push_repository(options: argparse.Namespace, config: VanillaTransformerConfig) -> None:
    """Push the model, and with --native also as a `MarianMTModel`."""
    if options.native is not None:
        marian_config(config)
    folder_card(options.model, ModelPlace(options.repo))  # what is wrong with it is better known before
    repo, native = prepare_repositories(options.repo, options.native, options.private)
    for line in push_model(options.model, repo, native):
        print(line)


if __name__ == "__main__":
    sys.exit(main())
