"""
What averaging checkpoints is worth, and which length penalty: NLL and BLEU of a validation text for several of both.

    python -m benchmarks.averaging runs/multi30k_en_de --source val.en --reference val.de --tokenize none \
        --windows 1 5 10 20 --length_penalties 0 0.6 1
"""

import argparse
import sys
from pathlib import Path

from tabulate import tabulate
from transformers.utils import logging

from training.averaging import average_weights
from training.checkpoints import find_checkpoints
from training.metrics.translation import bleu
from training.score import apply_model, build_parser, read_domains
from vanilla_transformer.loading import load_model


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.averaging", description="Compare means of checkpoints."
    )
    parser.add_argument("run", type=Path, help="the folder of a training, with its checkpoints")
    parser.add_argument(
        "--windows", nargs="+", type=int, default=[1, 5, 10], help="how many last checkpoints (1 5 10)"
    )
    parser.add_argument("--length_penalties", nargs="+", type=float, default=[0.6], help="α (0.6)")
    own, words = parser.parse_known_args(arguments)
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    options = build_parser().parse_args(["--model", str(own.run), *words])
    if options.hypothesis is not None or len(options.reference) > 1:
        parser.error("give one --source and one --reference, and no --hypothesis: the means translate them")
    checkpoints = find_checkpoints(own.run)
    for window in own.windows:
        if not 1 <= window <= len(checkpoints):
            parser.error(f"--windows has {window} and {own.run} {len(checkpoints)} checkpoints")
    try:
        compare(own, options, checkpoints)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def compare(own: argparse.Namespace, options: argparse.Namespace, checkpoints: list[Path]) -> None:
    """Print the table, a row more after each mean."""
    model, tokenizer = load_model(checkpoints[-1])
    rows = []
    for window in own.windows:
        model.load_state_dict(average_weights(checkpoints[-window:]), strict=False)
        row = {"checkpoints": f"last {window}" if window > 1 else checkpoints[-1].name}
        for alpha in own.length_penalties:
            options.length_penalty = alpha
            (domain,) = read_domains(options)
            apply_model(model, tokenizer, [domain], options)
            row["NLL"] = f"{domain.loss:.4f}"
            row[f"BLEU, α {alpha:g}"] = (
                f"{bleu(domain.hypotheses or [], domain.text.targets, options.tokenize).value:.2f}"
            )
        rows.append(row)
        print(tabulate(rows, headers="keys", disable_numparse=True, tablefmt="github"), flush=True)


if __name__ == "__main__":
    sys.exit(main())
