"""
More pairs out of the same text: data diversification, forward translation and back-translation.

    python -m training.augment --source train.en --target train.es --forward runs/en_es --backward runs/es_en \
        --exclude valid.en valid.es test.en test.es --output runs/more

A forward model translates the sources, and a backward model the targets; the pairs that come out are added to the real
ones (Nguyen et al. 2020). Text of one language goes by `--source_text` to the forward model (self-training) and by
`--target_text` to the backward one (Sennrich et al. 2016). Each line is translated as it is: text that is tokenized
already stays so, and no line is parted into sentences. `source.txt`, `target.txt` and `augment.json`, with counts by
origin, are written. An interrupted run goes on by the same command.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from transformers.utils import logging

from training.data.cleaning import compare_lengths, length_ratios
from training.data.parallel import ParallelText
from training.data.texts import read_two_files
from training.tasks.robustness import OFF
from training.translate import (
    PART_SIZE,
    Job,
    Work,
    choose_devices,
    prepare,
    read_translations,
    translate_all,
)
from vanilla_transformer.errors import RecipeError, run_command
from vanilla_transformer.text import read_plain_text, write_whole

SHORTEST = 0.25  # of the usual length of a source: models often fail at text that is shorter
UNFINISHED = "unfinished"
SOURCE, TARGET, COUNTS = "source.txt", "target.txt", "augment.json"


@dataclass(frozen=True)
class Origin:
    """
    Sentences that one model translates.

    Attributes:
        name: of the pairs that come out, such as "forward".
        model: its folder.
        sentences: each once.
        is_target: whether they are of the target language, and their translations sources.
    """

    name: str
    model: str
    sentences: tuple[str, ...]
    is_target: bool

    def write(self, folder: Path) -> Job:
        """Write the sentences into a folder, to be translated."""
        path = folder / f"{self.name.replace(' ', '_')}.txt"
        write_whole(path, "".join(f"{sentence}\n" for sentence in self.sentences))
        return Job(self.name, self.model, str(path))


def find_origins(options: argparse.Namespace, real: ParallelText) -> list[Origin]:
    """Text to translate, and its model."""
    texts = [
        ("forward", options.forward, real.sources, False),
        ("backward", options.backward, real.targets, True),
        ("source text", options.forward, read_all(options.source_text), False),
        ("target text", options.backward, read_all(options.target_text), True),
    ]
    return [
        Origin(name, str(model), tuple(dict.fromkeys(line for line in lines if line.strip())), is_target)
        for name, model, lines, is_target in texts
        if model is not None and lines
    ]


def read_all(paths: Iterable[str]) -> list[str]:
    return [line for path in paths for line in read_plain_text(path, allow_blank=True)]


def translate_origins(origins: list[Origin], options: argparse.Namespace) -> Iterator[Iterator[tuple[str, str]]]:
    """
    The pairs of each origin, source and target, one of them made by its model.

    Raises:
        SettingsError: if what an earlier run has left is of another text, model or search, or if a process fails.
    """
    folder = options.output / UNFINISHED
    folder.mkdir(parents=True, exist_ok=True)
    jobs = tuple(origin.write(folder) for origin in origins)
    work = Work(jobs, folder, {"num_beams": options.num_beams}, OFF, PART_SIZE)
    lines = prepare(work)
    translate_all(work, lines, choose_devices("auto", options.num_processes))
    for origin, job, count in zip(origins, jobs, lines, strict=True):
        yield pairs_of(read_translations(work, job, count), origin.is_target)


def pairs_of(translations: Iterable[tuple[str, str]], is_target: bool) -> Iterator[tuple[str, str]]:
    """Sources and targets, out of sentences and their translations."""
    for sentence, translation in translations:
        text = " ".join(translation.split())
        yield (text, sentence) if is_target else (sentence, text)


def key(text: str) -> str:
    """Return a key that two texts share which differ in case and white space only."""
    return " ".join(text.lower().split())


def choose(
    pairs: Iterable[tuple[str, str]],
    known: set[tuple[str, str]],
    excluded: set[str],
    usual: float,
    shortest: float,
    max_length_ratio: float,
    dropped: dict[str, int],
) -> Iterator[tuple[str, str]]:
    """
    The pairs that are worth learning; the others are counted by their reasons.

    Args:
        known: pairs that are there already, to which those chosen are added.
        excluded: keys of validation and test sentences.
        usual: ratio of the lengths of real pairs.
        shortest: characters that each side must have at least.
        dropped: counts, which grow.
    """
    for pair in pairs:
        source, target = pair
        reason = None
        if not source.strip() or not target.strip():
            reason = "empty"
        elif key(source) == key(target):
            reason = "equal sides"
        elif key(source) in excluded or key(target) in excluded:
            reason = "in excluded text"
        elif pair in known:
            reason = "there already"
        elif min(len(source), len(target)) < shortest:
            reason = "too short"
        else:
            (ratio,) = compare_lengths([source], [target])
            if not 1 / max_length_ratio <= ratio / usual <= max_length_ratio:
                reason = "odd lengths"
        if reason is None:
            known.add(pair)
            yield pair
        else:
            dropped[reason] = dropped.get(reason, 0) + 1


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.augment",
        description="Make more pairs out of the same text, by models of both directions.",
    )
    parser.add_argument(
        "--source", required=True, help="source side of the real pairs, a sentence a line; .gz is read"
    )
    parser.add_argument("--target", required=True, help="their target side")
    parser.add_argument(
        "--forward", type=Path, help="folder of a model from the source language to the target language"
    )
    parser.add_argument("--backward", type=Path, help="folder of a model the other way round")
    parser.add_argument("--source_text", nargs="+", default=[], help="text of the source language only")
    parser.add_argument("--target_text", nargs="+", default=[], help="text of the target language only")
    parser.add_argument(
        "--exclude",
        nargs="+",
        default=[],
        help="validation and test text of both sides: pairs with a line of it are left out",
    )
    parser.add_argument("--repeat", type=int, default=1, help="how often each real pair is written (1)")
    parser.add_argument("--num_beams", type=int, default=4, help="beams of the translations (4)")
    parser.add_argument(
        "--max_length_ratio",
        type=float,
        default=3.0,
        help="leave out pairs whose ratio of lengths is more than this many times off the usual one (3)",
    )
    parser.add_argument(
        "--num_processes", type=int, help="processes that translate (default: one for each GPU or core)"
    )
    parser.add_argument("--output", type=Path, required=True, help=f"folder for {SOURCE}, {TARGET} and {COUNTS}")
    return parser


def check_options(options: argparse.Namespace) -> None:
    """
    Raises:
        RecipeError: naming the option.
    """
    if options.forward is None and options.backward is None:
        raise RecipeError(
            "`--forward` or `--backward` must name the folder of a model, but both are missing. Name one, or both."
        )
    for text, model in (("source_text", "forward"), ("target_text", "backward")):
        if getattr(options, text) and getattr(options, model) is None:
            raise RecipeError(
                f"`--{text}` must have a model that translates it, but has none. Name one with `--{model}`."
            )
    for name, least in (("repeat", 0), ("num_beams", 1), ("num_processes", 1)):
        value = getattr(options, name)
        if value is not None and value < least:
            raise RecipeError(f"`--{name}` must be at least {least}, but is {value}. Give more.")
    if not options.max_length_ratio > 1:
        raise RecipeError(f"`--max_length_ratio` must be more than 1, but is {options.max_length_ratio:g}. Give more.")


def run(options: argparse.Namespace) -> dict[str, dict[str, int]]:
    """Translate, choose and write; returns the counts."""
    check_options(options)
    read = read_two_files(options.source, options.target)
    excluded = {key(line) for line in read_all(options.exclude)} - {""}
    counts: dict[str, dict[str, int]] = {"real": {"read": len(read)}}
    real = read.select((i for i, pair in enumerate(read) if all(side.strip() for side in pair)), "empty")
    real = real.select(
        (i for i, pair in enumerate(real) if excluded.isdisjoint(map(key, pair))),
        "in excluded text",
    )
    if not len(real):
        raise RecipeError(
            f"{options.source} and {options.target} must have usable pairs, but have none. Name other text."
        )
    origins = find_origins(options, real)
    usual = float(np.median(length_ratios(real)))
    pairs = list(real)
    shortest = SHORTEST * float(np.median([len(source) for source, _ in pairs]))
    counts["real"] |= {**real.dropped, "written": options.repeat * len(pairs)}
    known, written = set(pairs), pairs * options.repeat
    for origin, translated in zip(origins, translate_origins(origins, options), strict=True):
        dropped: dict[str, int] = {}
        chosen = list(choose(translated, known, excluded, usual, shortest, options.max_length_ratio, dropped))
        counts[origin.name] = {"read": len(origin.sentences), **dropped, "written": len(chosen)}
        written += chosen
    for name, side in ((SOURCE, 0), (TARGET, 1)):
        lines = "".join(f"{' '.join(pair[side].split())}\n" for pair in written)
        write_whole(options.output / f"{name}.part", lines)
    for name in (SOURCE, TARGET):
        (options.output / f"{name}.part").replace(options.output / name)
    write_whole(options.output / COUNTS, json.dumps(counts, indent=2) + "\n")
    return counts


def main(arguments: list[str] | None = None) -> int:
    """Make more pairs; returns the exit status."""
    options = build_parser().parse_args(arguments)
    logging.disable_progress_bar()

    def augment() -> int:
        for origin, numbers in run(options).items():
            print(f"{origin}: " + ", ".join(f"{count:,} {what}" for what, count in numbers.items()))
        print(f"pairs: {options.output / SOURCE}, {options.output / TARGET}")
        return 0

    return run_command(augment, "interrupted. The finished part is kept: repeat the command to go on.")


if __name__ == "__main__":
    sys.exit(main())
