"""
Text in, translations out, a sentence a line.

Translations are written in order while the work goes on. Without text, `--input` or a pipe, a sentence at a time is
asked for.
"""

import argparse
import contextlib
import io
import json
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TextIO

import torch
from tqdm.auto import tqdm
from transformers.utils import logging

from ..configuration_vanilla_transformer import Named
from ..engines import ENGINES
from ..errors import TextError, settings_of_the_user
from ..kernels_vanilla_transformer import WEIGHT_PRECISIONS
from ..loading import load_translator
from ..pipeline_vanilla_transformer import chunks, into_sentences
from ..text import check_plain_text, read_plain_text, split_lines

# Arguments of `generate` that are options of `translate` under the same name: their type, the least and the largest
# value, and their help. A value of `None` means no limit.
GENERATE_OPTIONS: dict[str, tuple[type, float | None, float | None, str]] = {
    "num_beams": (int, 1, None, "beams (default: the model's own number, the paper's 4)"),
    "length_penalty": (
        float,
        None,
        None,
        "exponent of the length penalty (default: the model's own, the paper's 0.6)",
    ),
    "max_length": (int, 2, None, "most tokens of a translation, start token included, instead of |X| + 50"),
    "max_new_tokens": (int, 1, None, "most tokens of a translation, instead of |X| + 50"),
    "num_return_sequences": (int, 1, None, "translations of each text, best first (1)"),
    "temperature": (float, 0, None, "temperature of sampling (1)"),
    "top_k": (int, 0, None, "sample from this many of the likeliest tokens (50); 0 for all"),
    "top_p": (float, 0, 1, "sample from the likeliest tokens that together have this probability (1)"),
}
# Switches of the pipeline, whose defaults come with the model.
PIPELINE_SWITCHES = {
    "split_sentences": "translate each line sentence by sentence",
    "protect_copies": "keep addresses, placeholders, emoji, numbers and unknown names as they are",
    "restore_case": "translate lines in capitals as small letters, and restore the capitals",
}
OF_SAMPLING = ("temperature", "top_k", "top_p", "seed")
MOST_BYTES = 1 << 16  # of standard input that are read, and sorted by length, at once


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    parser.add_argument("text", nargs="*", help="sentences; without any, --input or standard input is read")
    parser.add_argument("--model", required=True, help="a folder; for torch also a repository on the Hub")
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        default="torch",
        help="library that runs the model; all but torch need a folder that `export` wrote for them (torch)",
    )
    parser.add_argument("--input", type=Path, help="file with a sentence a line, UTF-8")
    parser.add_argument("--output", type=Path, help="file for the translations (default: standard output)")
    parser.add_argument(
        "--resume", action="store_true", help="continue the file that an interrupted run left beside --output"
    )
    parser.add_argument(
        "--output_format",
        choices=["text", "jsonl"],
        default="text",
        help="text: one translation a line; --return_scores puts its score and a tab before it; jsonl: one object "
        'for each input line, {"source": ..., "translations": [{"translation_text": ..., "score": ...}, ...]} (text)',
    )
    parser.add_argument("--prefix", help="text that every translation begins with")
    parser.add_argument(
        "--alignments", action="store_true", help='add a tab and the word alignment, "0-0 1-2", to each translation'
    )
    parser.add_argument(
        "--return_scores", action="store_true", help="add to each translation the score that beam search ranks by"
    )
    for name, (kind, _, _, text) in GENERATE_OPTIONS.items():
        parser.add_argument(f"--{name}", type=kind, help=text)
    parser.add_argument(
        "--do_sample", action="store_true", help="sample, within the beams; --num_beams 1 for plain sampling"
    )
    parser.add_argument("--seed", type=int, help="seed of sampling: the same one draws the same translations")
    parser.add_argument("--tokens_per_batch", type=int, default=2048, help="source tokens in a batch (2048)")
    parser.add_argument(
        "--weight_precision",
        choices=[name for name in WEIGHT_PRECISIONS if name],
        help="precision of the decoder's weights, faster on a CPU (default: their own)",
    )
    for name, text in PIPELINE_SWITCHES.items():
        parser.add_argument(
            f"--{name}",
            action=argparse.BooleanOptionalAction,
            help=f"{text} (default: the model's own setting)",
        )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (auto)")
    parser.add_argument("--num_threads", type=int, help="threads on a CPU (default: torch's own number)")


def check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuse options that do not fit each other."""
    again = options.command_line
    options.resume_command = shlex.join(again if options.resume else [*again, "--resume"])
    if options.text and options.input:
        parser.error("give sentences or --input, not both")
    if options.input and options.output and options.input.resolve() == options.output.resolve():
        parser.error(f"--output is the file that --input reads, {options.input}: name another")
    if options.resume and not options.output:
        parser.error("--resume continues the file of --output: give --output too")
    if options.max_length is not None and options.max_new_tokens is not None:
        parser.error("--max_length and --max_new_tokens set the same limit: give one of them")
    if options.split_sentences and (options.return_scores or (options.num_return_sequences or 1) > 1):
        parser.error(
            "--split_sentences joins the translations of a line: leave out --return_scores and --num_return_sequences"
        )
    if options.split_sentences and options.prefix is not None:
        parser.error("--split_sentences would begin every sentence of a line with --prefix: leave one of them out")
    ranges = {name: (least, most) for name, (_, least, most, _) in GENERATE_OPTIONS.items()}
    for name, (least, most) in {**ranges, "tokens_per_batch": (1, None), "num_threads": (1, None)}.items():
        value = getattr(options, name)
        if value is None:
            continue
        if least is not None and not value >= least:
            parser.error(f"--{name} is {value}: give at least {least}")
        if most is not None and value > most:
            parser.error(f"--{name} is {value}: give at most {most}")
    for name in OF_SAMPLING:
        if getattr(options, name) is not None and not options.do_sample:
            parser.error(f"--{name} is for sampling only: give --do_sample too")


def run(options: argparse.Namespace) -> int:
    """Translate what the options name and return the exit status."""
    texts = read_texts(options)
    if options.num_threads is not None:
        torch.set_num_threads(options.num_threads)
    logging.disable_progress_bar()
    translator = load_translator(options.model, options.engine, options.device)

    settings = {
        name: getattr(options, name)
        for name in (*GENERATE_OPTIONS, "weight_precision")
        if getattr(options, name) is not None
    }
    if options.do_sample:
        settings["do_sample"] = True
    switches = {name: getattr(options, name) for name in PIPELINE_SWITCHES}
    with settings_of_the_user(ValueError):
        options.split_sentences = translator.splits(settings, options.return_scores, options.split_sentences)
    if options.seed is not None:
        torch.manual_seed(options.seed)
    returned = settings.get("num_return_sequences") or translator.model.generation_config.num_return_sequences or 1
    lines_per_text = 1 if options.output_format == "jsonl" else returned
    with (
        open_output(options, lines_per_text) as (
            output,
            done,
        ),  # before the work: a wrong path is better known at once
        progress_bar(options, texts, done) as bar,
    ):
        for part in remaining_parts(texts, done):
            with settings_of_the_user(ValueError):  # many fit or do not, as the model is
                results = translator.translate(
                    part,
                    settings,
                    options.return_scores,
                    **switches,
                    prefix=options.prefix,
                    return_alignments=options.alignments,
                    tokens_per_batch=options.tokens_per_batch,
                    progress=bar,
                )
            output.write("".join(format_result(options, *each) for each in zip(part, results, strict=True)))
            output.flush()
    return 0


def format_result(options: argparse.Namespace, text: str, translations: list[Named]) -> str:
    """The lines that say how a text is translated."""
    if options.output_format == "jsonl":
        return json.dumps({"source": text, "translations": translations}, ensure_ascii=False) + "\n"
    lines = []
    for translation in translations:
        score = f"{translation['score']:.4f}\t" if options.return_scores else ""
        alignment = f"\t{translation['alignment']}" if options.alignments else ""
        lines.append(score + translation["translation_text"].replace("\n", " ") + alignment + "\n")
    return "".join(lines)


# ----- input -----


def read_texts(options: argparse.Namespace) -> list[str] | None:
    """The texts of arguments or of a file; none where standard input has them."""
    for number, text in enumerate(options.text, start=1):
        if not text.isprintable() and any("\ud800" <= character <= "\udfff" for character in text):
            raise TextError(f"Sentence {number} is not UTF-8: {text!r}. Set the terminal to UTF-8.")
    if options.text:
        return list(options.text)
    return read_plain_text(options.input, allow_blank=True) if options.input else None


def remaining_parts(texts: list[str] | None, done: int) -> Iterator[list[str]]:
    """
    The texts, or else those of standard input, in parts whose results are written one after the other.

    Args:
        done: how many of the first to leave out.

    Raises:
        TextError: if there are fewer.
    """
    if texts is not None:
        parts = chunks(texts)
    elif sys.stdin.isatty():
        parts = typed_lines()
    else:
        parts = arriving_lines(sys.stdin.buffer)  # type: ignore[arg-type]
    for part in parts:
        if len(part) > done:
            yield part[done:]
        done = max(0, done - len(part))
    if done:
        raise TextError(
            f"--resume finds {done:,} more finished texts than the input has. Give the input and the options of the "
            "run that was interrupted, or delete the unfinished file."
        )


def typed_lines() -> Iterator[list[str]]:
    """The lines of a terminal, each after a prompt, until Ctrl-D."""
    print("Type a sentence a line; Ctrl-D ends.", file=sys.stderr)
    while True:
        print("> ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.buffer.readline()
        if not line:
            print(file=sys.stderr)
            return
        yield split_lines(line, "The line", allow_blank=True)


def arriving_lines(stream: io.BufferedReader) -> Iterator[list[str]]:
    """
    The lines of a stream as they arrive: a program on its other end may wait for an answer before it goes on. No more
    than `MOST_BYTES` at once, and less at first, so that the first results come early.
    """
    count, rest, size = 0, b"", MOST_BYTES >> 5
    while (content := stream.read1(size)) or rest:
        whole, end, rest = (rest + content).rpartition(b"\n") if content else (rest, b"", b"")
        if whole or end:
            name = f"standard input after line {count:,}" if count else "standard input"
            lines = split_lines(whole + end, name, allow_blank=True)
            if not count:
                check_plain_text(lines, name)
            count += len(lines)
            yield lines
        size = min(2 * size, MOST_BYTES)
    if not count:
        raise TextError("standard input is empty. Give one sentence a line.")


def progress_bar(
    options: argparse.Namespace, texts: list[str] | None, done: int
) -> contextlib.AbstractContextManager[tqdm]:
    """A bar that counts the sentences of a file."""
    rest = texts[done:] if texts is not None and options.input else []
    total = sum(len(into_sentences(text)) for text in rest) if options.split_sentences else len(rest)
    return tqdm(total=total, disable=not options.input, unit="sentence")


# ----- output -----


@contextlib.contextmanager
def open_output(options: argparse.Namespace, lines_per_text: int) -> Iterator[tuple[TextIO, int]]:
    """
    Standard output or a file, in UTF-8 whatever the terminal says, and the number of texts that are done already.

    A file that grows under another name, with ".unfinished", replaces an older one when it is whole. After an error or
    an interruption it stays, and `--resume` goes on with it. A device or a pipe is written to as it is, and a link is
    followed.

    Raises:
        TextError: if it cannot be written, or what an interrupted run has left is there and `--resume` is not given,
            or the other way round.
    """
    path: Path | None = options.output
    if path is None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8")
        yield sys.stdout, 0
        sys.stdout.flush()
        return
    replaces = path.is_file() or not path.exists()
    whole = path.resolve()
    unfinished = whole.with_name(f"{whole.name}.unfinished") if replaces else path
    done = 0
    try:
        if path.is_dir():
            raise IsADirectoryError(0, "it is a folder")
        if options.resume and not unfinished.is_file():
            raise TextError(
                f"--resume needs {unfinished}, which an interrupted run leaves, but there is none. Leave it out."
            )
        if options.resume:
            done = keep_whole_texts(unfinished, lines_per_text)
        mode: Literal["a", "x", "w"] = "a" if options.resume else "x" if replaces else "w"
        file = open(unfinished, mode, encoding="utf-8", newline="\n")  # noqa: SIM115
    except FileExistsError as error:
        raise TextError(
            f"{unfinished} belongs to a run that was interrupted, or that is still writing it. Continue it: "
            f"`{options.resume_command}`; or delete it."
        ) from error
    except OSError as error:
        raise TextError(f"--output {path} cannot be written: {error.strerror}.") from error
    try:
        with file:
            yield file, done
    except BaseException:
        if replaces and not unfinished.stat().st_size:
            unfinished.unlink()
        elif replaces:
            print(f"{unfinished} keeps the finished part. Go on with: {options.resume_command}", file=sys.stderr)
        raise
    if replaces:
        unfinished.replace(whole)


def keep_whole_texts(path: Path, lines_per_text: int) -> int:
    """Cut a file after the last text whose lines are all there, whole ones; return the number of texts."""
    content = path.read_bytes()
    lines = content.split(b"\n")[:-1]
    texts = len(lines) // lines_per_text
    kept = sum(len(line) + 1 for line in lines[: texts * lines_per_text])
    if kept < len(content):
        os.truncate(path, kept)
    return texts
