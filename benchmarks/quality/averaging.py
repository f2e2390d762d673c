"""
The worth of averaging checkpoints and of length penalties: NLL and BLEU of a validation text for several of both.

    python -m benchmarks.quality.averaging runs/multi30k_en_de --source val.en --reference val.de --tokenize none \
        --windows 1 5 10 20 --length_penalties 0 0.6 1
"""

import argparse
import sys
from pathlib import Path

from tabulate import tabulate
from transformers.utils import logging

from training.data.texts import read_two_files
from training.engine.averaging import average_weights
from training.engine.checkpoints import regular_checkpoints
from training.metrics.translation import bleu
from training.publish.score_table import Domain
from training.score import add_model_options, apply_model, check_model_options, language_of
from vanilla_transformer.errors import RecipeError, run_command
from vanilla_transformer.loading import load_model
from vanilla_transformer.scores import write_score


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality.averaging", description="Compare means of checkpoints."
    )
    parser.add_argument("model", metavar="run", type=Path, help="the folder of a training, with its checkpoints")
    parser.add_argument("--source", required=True, help="file with the source, a sentence a line, UTF-8; .gz is read")
    parser.add_argument("--reference", required=True, help="its translation by people")
    parser.add_argument("--windows", nargs="+", type=int, default=[1, 5], help="how many last checkpoints (1 5)")
    parser.add_argument("--length_penalties", nargs="+", type=float, default=[0.6], help="α (0.6)")
    parser.set_defaults(hypothesis=None, length_penalty=None)
    add_model_options(parser)
    return parser


def compare(options: argparse.Namespace) -> None:
    """
    Print the table, a row more after each mean.

    Raises:
        RecipeError: if there are not as many checkpoints, and for options and files as `training.score`.
    """
    check_model_options(options, *options.length_penalties)
    options.target_lang = language_of(options.target_lang, options.model)
    checkpoints = regular_checkpoints(options.model)
    for window in options.windows:
        if not 1 <= window <= len(checkpoints):
            raise RecipeError(
                f"--windows has {window}, and {options.model} holds {len(checkpoints)} checkpoints. Give numbers from "
                "1 to that, or train with a larger `save_total_limit`."
            )
    domain = Domain("validation", read_two_files(options.source, options.reference))
    model, tokenizer = load_model(checkpoints[-1])
    rows = []
    for window in options.windows:
        model.load_state_dict(average_weights(checkpoints[-window:]), strict=False)
        row = {"checkpoints": f"last {window}" if window > 1 else checkpoints[-1].name}
        for alpha in options.length_penalties:
            options.length_penalty, domain.hypotheses = alpha, None
            apply_model(model, tokenizer, [domain], options)
            row["NLL"] = f"{domain.loss:.4f}"
            score = bleu(domain.hypotheses or [], list(domain.text.targets), options.tokenize, 0, options.target_lang)
            row[f"BLEU, α {alpha:g}"] = write_score("bleu", score)
        rows.append(row)
        print(tabulate(rows, headers="keys", disable_numparse=True, tablefmt="github"), flush=True)


def main(arguments: list[str] | None = None) -> int:
    options = build_parser().parse_args(arguments)
    logging.disable_progress_bar()
    logging.set_verbosity_error()

    def run() -> int:
        compare(options)
        return 0

    return run_command(run)


if __name__ == "__main__":
    sys.exit(main())
