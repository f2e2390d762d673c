"""
The command line: one module a verb, and one table of them.

    vanilla-transformer translate --model runs/demo "How are you?" "The house is red."
    vanilla-transformer translate --model runs/demo --input source.txt --output translation.txt
    vanilla-transformer translate --model runs/demo --input source.txt --output translation.txt --resume
    cat source.txt | vanilla-transformer translate --model runs/demo
    vanilla-transformer translate --model runs/demo --num_return_sequences 4 --return_scores "How are you?"
    vanilla-transformer translate --model runs/demo
    vanilla-transformer explain --model runs/demo "How are you?" --output page.html
    vanilla-transformer demo --model runs/demo
    vanilla-transformer export runs/demo runs/demo-marian --to marian
    vanilla-transformer import opus-mt-en-fi models/en-fi
"""

import argparse
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from ..errors import run_command
from . import demo, explain, export, importing, translate

# Each verb's module has `add_arguments`, `check` for options that do not fit each other, and `run`.
VERBS: dict[str, tuple[ModuleType, str]] = {
    "translate": (translate, "translate text, one sentence a line"),
    "explain": (explain, "write a page that shows every step of a translation"),
    "demo": (demo, "serve a model as a page in the browser"),
    "export": (export, "write a model for another implementation"),
    "import": (importing, "read a model of another implementation"),
}
WRITE_ASIDE = ("export", "import")  # verbs that give their folder its name when it is whole


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all verbs."""
    parser = argparse.ArgumentParser(prog="vanilla-transformer", description="The original Transformer.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name, (module, help_text) in VERBS.items():
        module.add_arguments(verbs.add_parser(name, help=help_text))
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb and return the exit status."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    options.command_line = [parser.prog, *(sys.argv[1:] if arguments is None else arguments)]
    verb, _ = VERBS[options.verb]
    verb.check(parser, options)

    def run() -> int:
        try:
            return int(verb.run(options))
        except BrokenPipeError:  # whoever reads the output has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0

    return run_command(run, "interrupted: nothing was written" if options.verb in WRITE_ASIDE else "interrupted")
