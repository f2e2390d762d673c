"""A model in the browser."""

import argparse

from transformers.utils import logging


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    parser.add_argument("--model", required=True, help="a folder, or a repository on the Hub")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address of the page; 0.0.0.0 lets other machines reach it (127.0.0.1)"
    )
    parser.add_argument("--port", type=int, default=7860, help="port of the page (7860)")


def check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuse a port that there is not."""
    if not 0 < options.port < 65536:
        parser.error(f"--port is {options.port}: give 1 to 65535")


def run(options: argparse.Namespace) -> int:
    """Serve the model until Ctrl-C; return the exit status."""
    from ..demo import build_app, import_gradio, launch  # with what only this verb needs
    from ..loading import load_model

    logging.disable_progress_bar()
    import_gradio()  # what is not installed is better known at once
    app = build_app(*load_model(options.model))
    launch(app, options.host, options.port)
    return 0
