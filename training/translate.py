"""
Translate a file of any size by many processes, a sentence a line, in order.

    python -m training.translate --model runs/own_files --input news.en --output news.es
    python -m training.translate --model runs/own_files --input news.en.gz --output news.es --num_processes 8

Every process translates parts of the file, one after the other; none of them holds the whole file. There is one for
each GPU, or for each core of the CPU. A run that was interrupted, by `kill -9` too, goes on by the same command, and
the lines are the same as without the interruption, in any number of processes.
"""

import argparse
import gzip
import hashlib
import itertools
import json
import multiprocessing
import shutil
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch
from tqdm.auto import tqdm
from transformers.utils import logging

from training.data.encoding import available_cores
from vanilla_transformer import VanillaTransformerTranslationPipeline
from vanilla_transformer.errors import SettingsError, TextError, run_command, settings_of_the_user
from vanilla_transformer.kernels_vanilla_transformer import WEIGHT_PRECISIONS
from vanilla_transformer.loading import load_model
from vanilla_transformer.text import check_plain_text, split_lines, write_whole

PART_SIZE = 1_000  # lines that one process translates, and a run that goes on need not do again
PLAN = "plan.json"
START = "spawn"  # how processes begin: a GPU does not survive a fork
MODEL_FILES = ("*.safetensors", "tokenizer.json", "config.json", "generation_config.json")


@dataclass(frozen=True)
class Job:
    """
    A file that one model translates.

    Attributes:
        name: of the files of its parts.
        model: its folder.
        text: the file, a sentence a line.
    """

    name: str
    model: str
    text: str


@dataclass(frozen=True)
class Work:
    """
    The texts to translate, and how.

    Attributes:
        jobs: one after the other.
        folder: of the parts that are done.
        settings: of `generate`, such as `num_beams`.
        switches: of the pipeline, such as `split_sentences`; what is not named is as the model says.
        part_size: lines of a part.
    """

    jobs: tuple[Job, ...]
    folder: Path
    settings: Mapping[str, Any] = field(default_factory=dict)
    switches: Mapping[str, bool] = field(default_factory=dict)
    part_size: int = PART_SIZE

    def path_of_part(self, job: Job, number: int) -> Path:
        return self.folder / f"{job.name.replace(' ', '_')}-{number:07d}.json"


# ----- text in parts -----


def open_text(path: str) -> BinaryIO:
    """A file to read, unpacked if its name ends in .gz."""
    return gzip.open(path) if path.lower().endswith(".gz") else open(path, "rb")  # type: ignore[return-value]


def read_parts(path: str, size: int, wanted: Iterable[int] | None = None) -> Iterator[list[str]]:
    """
    The lines of a file, so many at a time.

    Args:
        wanted: numbers of parts, ascending; the others are passed over. All of them if `None`.

    Raises:
        TextError: if it cannot be read, or is not UTF-8 text.
    """
    numbers = itertools.count() if wanted is None else iter(wanted)
    number = next(numbers, None)
    try:
        with open_text(path) as file:
            for part in itertools.count():
                if number is None:
                    return
                lines = list(itertools.islice(file, size))
                if not lines and part:
                    return
                if part != number:
                    continue
                name = f"{path} after line {part * size:,}" if part else path
                yield split_lines(b"".join(lines), name, allow_blank=True)
                number = next(numbers, None)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise TextError(f"{path} cannot be unpacked: {error}. Check that it is complete, and made by gzip.") from error
    except OSError as error:
        raise TextError(f"{path} cannot be read: {error.strerror}. Check its path and permissions.") from error


def measure_text(path: str) -> tuple[int, str]:
    """
    How many lines a file has, and a name for its content.

    Raises:
        TextError: if it cannot be read or has no lines.
    """
    summary, lines, last = hashlib.blake2b(digest_size=16), 0, b"\n"
    try:
        with open_text(path) as file:
            while block := file.read(1 << 16):
                summary.update(block)
                lines += block.count(b"\n")
                last = block[-1:]
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise TextError(f"{path} cannot be unpacked: {error}. Check that it is complete, and made by gzip.") from error
    except OSError as error:
        raise TextError(f"{path} cannot be read: {error}. Check its path and permissions.") from error
    lines += last != b"\n"
    if not lines:
        raise TextError(f"{path} is empty. Give one sentence a line.")
    return lines, summary.hexdigest()


# ----- the plan -----


def prepare(work: Work) -> list[int]:
    """
    Make the folder of the parts, and write down what they are of.

    Returns:
        lines of each job.

    Raises:
        SettingsError: if those there are of another text, another model or another search.
        TextError: if a text cannot be read.
    """
    measured = [measure_text(job.text) for job in work.jobs]
    plan = {
        "settings": dict(work.settings),
        "switches": dict(work.switches),
        "part_size": work.part_size,
        "jobs": {
            job.name: {
                "model": job.model,
                "files": {
                    file.name: digest(file.read_bytes())
                    for pattern in MODEL_FILES
                    for file in sorted(Path(job.model).glob(pattern))
                },
                "text": text,
            }
            for job, (_, text) in zip(work.jobs, measured, strict=True)
        },
    }
    work.folder.mkdir(parents=True, exist_ok=True)
    path = work.folder / PLAN
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")) != plan:
        raise SettingsError(
            f"`--output` must be that of the same run or a new one, but {work.folder} has translations of another "
            "text, model or search. Give the options of the run that was interrupted, or delete that folder."
        )
    write_whole(path, json.dumps(plan, indent=2) + "\n")
    return [lines for lines, _ in measured]


def digest(content: bytes) -> str:
    """A short name of some bytes."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


# ----- the processes -----


def translate_parts(
    work: Work, todo: Mapping[int, tuple[int, ...]], device: str, counter: "multiprocessing.Queue[int]"
) -> None:
    """
    One process's share of the parts, job by job; each part is written when it is whole.

    Args:
        todo: number of the job -> numbers of its parts, ascending.
        counter: gets the number of lines of each part.
    """
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    starter = multiprocessing.parent_process()
    translator, loaded = None, None
    for index, numbers in todo.items():
        job = work.jobs[index]
        if translator is None or loaded != job.model:
            model, tokenizer = load_model(job.model, device)
            translator = VanillaTransformerTranslationPipeline(model=model, tokenizer=tokenizer, device=device)
            loaded = job.model
        for number, lines in zip(numbers, read_parts(job.text, work.part_size, numbers), strict=True):
            with settings_of_the_user(ValueError):
                results = translator.translate(lines, dict(work.settings), **work.switches)
            if starter is not None and not starter.is_alive():  # killed: the next run may be at work already
                return
            texts = [result[0][translator.text_key] for result in results]
            write_whole(work.path_of_part(job, number), json.dumps(texts, ensure_ascii=False))
            counter.put(len(lines))


def run_share(
    work: Work, todo: Mapping[int, tuple[int, ...]], device: str, counter: "multiprocessing.Queue[int]"
) -> None:
    """A process: its share, and the exit status."""
    if device == "cpu" and multiprocessing.parent_process() is not None:
        torch.set_num_threads(1)

    def translate() -> int:
        translate_parts(work, todo, device, counter)
        return 0

    sys.exit(run_command(translate))


def choose_devices(device: str, processes: int | None) -> list[str]:
    """
    A device for each process: one for each GPU, or for each core.

    Args:
        device: "auto", "cpu" or "cuda".
        processes: as many as is said; more than there are GPUs share them.

    Raises:
        SettingsError: for a device that is not there.
    """
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device not in ("auto", "cpu", "cuda") or (device == "cuda" and not found):
        raise SettingsError(
            f"`--device` must be auto, cpu or a cuda that torch finds here, but is {device}. Use auto."
        )
    if device == "cpu" or not found:
        return ["cpu"] * (processes or available_cores())
    return [f"cuda:{number % found}" for number in range(processes or found)]


def translate_all(work: Work, lines: list[int], devices: list[str]) -> None:
    """
    Translate what is not done yet.

    Args:
        lines: of each job.
        devices: one for each process.

    Raises:
        SettingsError: if a process fails; its error is on the screen.
    """
    parts = [(index, number) for index, count in enumerate(lines) for number in range(-(-count // work.part_size))]
    todo = [(index, number) for index, number in parts if not work.path_of_part(work.jobs[index], number).is_file()]
    left = sum(min(work.part_size, lines[index] - number * work.part_size) for index, number in todo)
    context: Any = multiprocessing.get_context(START)
    counter: multiprocessing.Queue[int] = context.Queue()
    devices = devices[: max(1, min(len(devices), len(todo)))]
    workers = []
    for share, device in enumerate(devices):
        mine: dict[int, tuple[int, ...]] = {}
        for index, number in todo[share :: len(devices)]:
            mine[index] = (*mine.get(index, ()), number)
        if mine:
            workers.append(context.Process(target=run_share, args=(work, mine, device, counter), daemon=True))
    for worker in workers:
        worker.start()
    with tqdm(total=sum(lines), initial=sum(lines) - left, unit="line", disable=not sys.stderr.isatty()) as bar:
        while any(worker.is_alive() for worker in workers):
            workers[0].join(0.2)
            while not counter.empty():
                bar.update(counter.get())
            if any(worker.exitcode for worker in workers):
                break
    failed = any(worker.exitcode for worker in workers)
    for worker in workers:
        if failed:
            worker.terminate()
        worker.join()
    if failed or any(worker.exitcode for worker in workers):
        raise SettingsError(
            "A process that translates has failed. The finished part is kept: repeat the command to go on."
        )


def read_translations(work: Work, job: Job, lines: int) -> Iterator[tuple[str, str]]:
    """Each line of a job with its translation, in order."""
    count = -(-lines // work.part_size)
    for number, texts in zip(range(count), read_parts(job.text, work.part_size), strict=True):
        translated = json.loads(work.path_of_part(job, number).read_text(encoding="utf-8"))
        yield from zip(texts, translated, strict=True)


# ----- the command -----


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.translate", description="Translate a file of any size by many processes, in order."
    )
    parser.add_argument("--model", required=True, help="folder of a model, as training writes it")
    parser.add_argument("--input", required=True, help="file with a sentence a line, UTF-8; .gz is read")
    parser.add_argument("--output", type=Path, required=True, help="file for the translations, line by line")
    parser.add_argument(
        "--num_processes", type=int, help="processes that translate (default: one for each GPU or core)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (auto)")
    parser.add_argument("--num_beams", type=int, help="beams (default: the model's own number, the paper's 4)")
    parser.add_argument(
        "--weight_precision",
        choices=[name for name in WEIGHT_PRECISIONS if name],
        help="precision of the decoder's weights, faster on a CPU (default: their own)",
    )
    parser.add_argument(
        "--part_size", type=int, default=PART_SIZE, help=f"lines that a process translates at a time ({PART_SIZE:,})"
    )
    return parser


def check_options(options: argparse.Namespace) -> None:
    """
    Raises:
        SettingsError: naming the option.
    """
    for name in ("num_processes", "num_beams", "part_size"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise SettingsError(f"`--{name}` must be at least 1, but is {value}. Give more.")
    if options.output.is_dir() or options.output.resolve() == Path(options.input).resolve():
        raise SettingsError(f"`--output` must be a file of its own, but is {options.output}. Name another.")
    if not Path(options.model).is_dir():
        raise SettingsError(f"`--model` must be a folder, but is {options.model}. Download a repository first.")


def run(options: argparse.Namespace) -> int:
    """Translate the file; returns its lines."""
    check_options(options)
    settings = {name: getattr(options, name) for name in ("num_beams", "weight_precision")}
    settings = {name: value for name, value in settings.items() if value is not None}
    folder = options.output.with_name(f"{options.output.name}.parts")
    job = Job("part", options.model, options.input)
    check_plain_text(next(read_parts(job.text, PART_SIZE)), job.text)
    work = Work((job,), folder, settings, part_size=options.part_size)
    lines = prepare(work)
    translate_all(work, lines, choose_devices(options.device, options.num_processes))
    whole = folder / "whole.part"
    with open(whole, "w", encoding="utf-8", newline="\n") as file:
        for _, text in read_translations(work, job, lines[0]):
            file.write(text.replace("\n", " ") + "\n")
    whole.replace(options.output)
    shutil.rmtree(folder)
    return lines[0]


def main(arguments: list[str] | None = None) -> int:
    """Translate a file; returns the exit status."""
    options = build_parser().parse_args(arguments)
    logging.disable_progress_bar()

    def translate() -> int:
        print(f"{run(options):,} lines: {options.output}")
        return 0

    return run_command(translate, "interrupted. The finished part is kept: repeat the command to go on.")


if __name__ == "__main__":
    sys.exit(main())
