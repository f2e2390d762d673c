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
import hashlib
import json
import multiprocessing
import statistics
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm.auto import tqdm
from transformers.utils import logging

from training.data.cleaning import length_ratios
from training.data.encoding import available_cores
from training.data.texts import ParallelText, read_two_files
from training.tasks.robustness import OFF
from vanilla_transformer import VanillaTransformerTranslationPipeline
from vanilla_transformer.errors import RecipeError, run_command
from vanilla_transformer.loading import load_model
from vanilla_transformer.text import read_plain_text

PART_SIZE = 1_000  # sentences that one process translates, and a run that goes on need not do again
UNFINISHED, PLAN = "unfinished", "plan.json"
# Files of a model that decide what it translates a sentence into.
MODEL_FILES = ("*.safetensors", "config.json", "generation_config.json", "tokenizer.json")
SOURCE, TARGET, COUNTS = "source.txt", "target.txt", "augment.json"


@dataclass(frozen=True)
class Job:
    """
    Sentences that one model translates.

    Attributes:
        origin: of the pairs that come out, such as "forward".
        model: its folder.
        sentences: each once.
        is_target: whether they are of the target language, and their translations sources.
        part_size: sentences of a part.
    """

    origin: str
    model: str
    sentences: tuple[str, ...]
    is_target: bool
    part_size: int

    @property
    def parts(self) -> int:
        return -(-len(self.sentences) // self.part_size)

    def part(self, number: int) -> tuple[str, ...]:
        return self.sentences[number * self.part_size : (number + 1) * self.part_size]


def make_jobs(options: argparse.Namespace, real: ParallelText) -> list[Job]:
    """What there is to translate, by which model."""
    texts = [
        ("forward", options.forward, real.sources, False),
        ("backward", options.backward, real.targets, True),
        ("source text", options.forward, read_all(options.source_text), False),
        ("target text", options.backward, read_all(options.target_text), True),
    ]
    return [
        Job(origin, str(model), tuple(dict.fromkeys(line for line in lines if line.strip())), is_target, PART_SIZE)
        for origin, model, lines, is_target in texts
        if model is not None and lines
    ]


def read_all(paths: Iterable[str]) -> list[str]:
    return [line for path in paths for line in read_plain_text(path, allow_blank=True)]


def prepare(folder: Path, jobs: list[Job], num_beams: int) -> Path:
    """
    The folder of the parts that are done.

    Raises:
        RecipeError: if those there are of another text, another model or another search.
    """
    plan = {
        "num_beams": num_beams,
        "jobs": {
            job.origin: {
                "model": job.model,
                "files": {
                    file.name: digest(file.read_bytes())
                    for pattern in MODEL_FILES
                    for file in sorted(Path(job.model).glob(pattern))
                },
                "text": digest("\n".join(job.sentences).encode()),
            }
            for job in jobs
        },
    }
    unfinished = folder / UNFINISHED
    unfinished.mkdir(parents=True, exist_ok=True)
    path = unfinished / PLAN
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")) != plan:
        raise RecipeError(
            f"`--output` must be the folder of the same run or a new one, but {unfinished} has translations of "
            "another text, model or search. Name another folder, or delete it."
        )
    path.with_suffix(".part").write_text(json.dumps(plan, indent=2) + "\n", encoding="utf-8")
    path.with_suffix(".part").replace(path)  # whole, whenever the run is killed
    return unfinished


def digest(content: bytes) -> str:
    """A short name of some bytes."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def path_of_part(unfinished: Path, job: Job, number: int) -> Path:
    return unfinished / f"{job.origin.replace(' ', '_')}-{number:05d}.json"


def translate_parts(
    jobs: list[Job],
    todo: list[tuple[int, int]],
    unfinished: Path,
    num_beams: int,
    share: int,
    shares: int,
    counter: "multiprocessing.Queue[int]",
) -> None:
    """One process's share of the parts, model by model; each part is written when it is whole."""
    torch.set_num_threads(1 if shares > 1 else torch.get_num_threads())
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    translator, loaded = None, None
    for index, number in todo[share::shares]:
        job = jobs[index]
        if translator is None or loaded != job.model:
            model, tokenizer = load_model(job.model, "cpu")
            translator = VanillaTransformerTranslationPipeline(model=model, tokenizer=tokenizer, device="cpu", **OFF)
            loaded = job.model
        sentences = list(job.part(number))
        results = translator.translate(sentences, {"num_beams": num_beams}, **OFF)
        texts = [" ".join(result[0][translator.text_key].split()) for result in results]
        path = path_of_part(unfinished, job, number)
        path.with_suffix(".part").write_text(json.dumps(texts, ensure_ascii=False), encoding="utf-8")
        path.with_suffix(".part").replace(path)
        counter.put(len(sentences))


def translate_all(jobs: list[Job], unfinished: Path, num_beams: int, processes: int) -> None:
    """
    Translate what is not done yet.

    Raises:
        RecipeError: if a process fails; its error is on the screen.
    """
    every = [(index, number) for index, job in enumerate(jobs) for number in range(job.parts)]
    todo = [(index, number) for index, number in every if not path_of_part(unfinished, jobs[index], number).is_file()]
    total = sum(len(job.sentences) for job in jobs)
    done = total - sum(len(jobs[index].part(number)) for index, number in todo)
    context = multiprocessing.get_context("spawn")
    counter: multiprocessing.Queue[int] = context.Queue()
    processes = max(1, min(processes, len(todo)))
    workers = [
        context.Process(
            target=translate_parts, args=(jobs, todo, unfinished, num_beams, share, processes, counter), daemon=True
        )
        for share in range(processes)
    ]
    for worker in workers:
        worker.start()
    with tqdm(total=total, initial=done, unit="sentence", disable=not sys.stderr.isatty()) as bar:
        while any(worker.is_alive() for worker in workers):
            workers[0].join(0.2)
            while not counter.empty():
                bar.update(counter.get())
            if any(worker.exitcode for worker in workers):
                break
    for worker in workers:
        if any(each.exitcode for each in workers):
            worker.terminate()
        worker.join()
    if any(worker.exitcode for worker in workers):
        raise RecipeError("A process that translates has failed. What is done is kept: repeat the command to go on.")


def translations(job: Job, unfinished: Path) -> Iterator[tuple[str, str]]:
    """Pairs of a job: source and target, one of them made by the model."""
    for number in range(job.parts):
        texts = json.loads(path_of_part(unfinished, job, number).read_text(encoding="utf-8"))
        for sentence, text in zip(job.part(number), texts, strict=True):
            yield (text, sentence) if job.is_target else (sentence, text)


def key(text: str) -> str:
    """What two texts have in common that differ in case and white space only."""
    return " ".join(text.lower().split())


def choose(
    pairs: Iterable[tuple[str, str]],
    known: set[tuple[str, str]],
    excluded: set[str],
    usual: float,
    max_length_ratio: float,
    dropped: dict[str, int],
) -> Iterator[tuple[str, str]]:
    """
    The pairs that are worth learning; the others are counted by their reasons.

    Args:
        known: pairs that are there already, to which those chosen are added.
        excluded: keys of validation and test sentences.
        usual: ratio of the lengths of real pairs.
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
        else:
            (ratio,) = length_ratios(ParallelText([source], [target], [1]))
            if not 1 / max_length_ratio <= ratio / usual <= max_length_ratio:
                reason = "odd lengths"
        if reason is None:
            known.add(pair)
            yield pair
        else:
            dropped[reason] = dropped.get(reason, 0) + 1


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.augment", description="More pairs out of the same text, by models of both directions."
    )
    parser.add_argument(
        "--source", required=True, help="source side of the real pairs, a sentence a line; .gz is read"
    )
    parser.add_argument("--target", required=True, help="their target side")
    parser.add_argument(
        "--forward", type=Path, help="folder of a model from the source language to the target language"
    )
    parser.add_argument("--backward", type=Path, help="folder of a model the other way round")
    parser.add_argument("--source_text", nargs="+", default=[], help="text of the source language alone")
    parser.add_argument("--target_text", nargs="+", default=[], help="text of the target language alone")
    parser.add_argument(
        "--exclude",
        nargs="+",
        default=[],
        help="validation and test text of both sides: no pair may have a line of it",
    )
    parser.add_argument("--repeat", type=int, default=1, help="how often each real pair is written (1)")
    parser.add_argument("--num_beams", type=int, default=4, help="beams of the translations (4)")
    parser.add_argument(
        "--max_length_ratio", type=float, default=3.0, help="leave out pairs so many times off the usual ratio (3)"
    )
    parser.add_argument("--num_processes", type=int, help="processes of one thread that translate; one for each core")
    parser.add_argument("--output", type=Path, required=True, help=f"folder for {SOURCE}, {TARGET} and {COUNTS}")
    return parser


def check_options(options: argparse.Namespace) -> None:
    """
    Raises:
        RecipeError: naming the option.
    """
    if options.forward is None and options.backward is None:
        raise RecipeError("`--forward` and `--backward` must not both be missing. Name the folder of a model.")
    for text, model in (("source_text", "forward"), ("target_text", "backward")):
        if getattr(options, text) and getattr(options, model) is None:
            raise RecipeError(f"`--{text}` must have a model that translates it. Name one with `--{model}`.")
    for name, least in (("repeat", 0), ("num_beams", 1), ("num_processes", 1)):
        value = getattr(options, name)
        if value is not None and value < least:
            raise RecipeError(f"`--{name}` must be at least {least}, but is {value}.")
    if not options.max_length_ratio > 1:
        raise RecipeError(f"`--max_length_ratio` must be more than 1, but is {options.max_length_ratio:g}.")


def run(options: argparse.Namespace) -> dict[str, dict[str, int]]:
    """Translate, choose and write; returns the counts."""
    check_options(options)
    read = read_two_files(options.source, options.target)
    excluded = {key(line) for line in read_all(options.exclude)} - {""}
    counts: dict[str, dict[str, int]] = {"real": {"read": len(read)}}
    real = read.select((i for i in range(len(read)) if read.sources[i].strip() and read.targets[i].strip()), "empty")
    real = real.select(
        (i for i in range(len(real)) if excluded.isdisjoint((key(real.sources[i]), key(real.targets[i])))),
        "in excluded text",
    )
    if not len(real):
        raise RecipeError(
            f"`--source` and `--target` must have pairs that may be used, but {options.source} has none."
        )
    jobs = make_jobs(options, real)
    unfinished = prepare(options.output, jobs, options.num_beams)
    translate_all(jobs, unfinished, options.num_beams, options.num_processes or available_cores())
    usual = statistics.median(length_ratios(real))
    pairs = list(zip(real.sources, real.targets, strict=True))
    counts["real"] |= {**real.dropped, "written": options.repeat * len(pairs)}
    known, written = set(pairs), pairs * options.repeat
    for job in jobs:
        dropped: dict[str, int] = {}
        chosen = list(choose(translations(job, unfinished), known, excluded, usual, options.max_length_ratio, dropped))
        counts[job.origin] = {"read": len(job.sentences), **dropped, "written": len(chosen)}
        written += chosen
    for name, side in ((SOURCE, 0), (TARGET, 1)):
        lines = "".join(f"{' '.join(pair[side].split())}\n" for pair in written)
        (options.output / f"{name}.part").write_text(lines, encoding="utf-8", newline="\n")
    for name in (SOURCE, TARGET):
        (options.output / f"{name}.part").replace(options.output / name)
    (options.output / COUNTS).write_text(json.dumps(counts, indent=2) + "\n", encoding="utf-8")
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

    return run_command(augment, "interrupted. What is done is kept: repeat the command to go on.")


if __name__ == "__main__":
    sys.exit(main())
