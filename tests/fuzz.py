"""
Files that are damaged at random, and what reads them: each is read, or gives one clear error of ours.

    python -m tests.fuzz --count 2000
    python -m tests.fuzz --kinds config --first 123 --count 1

The same number makes the same file. A case that hangs, ends the process or raises anything but a `UserError` is a
fault, and is shown with its number. A changed weight cannot be found: nothing in safetensors says what it was.
"""

import argparse
import contextlib
import io
import json
import multiprocessing
import random
import re
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers.utils import logging

from tests.training.small import write_recipe
from training.data.texts import read_one_file, read_two_files
from training.recipe.fields import DataFields
from training.recipe.parse import parse_recipe
from vanilla_transformer import (
    VanillaTransformerConfig,
    VanillaTransformerForConditionalGeneration,
    VanillaTransformerTokenizer,
)
from vanilla_transformer.errors import UserError
from vanilla_transformer.exported import FACTS_OF_EXPORT, Exported, read_exported
from vanilla_transformer.loading import load_translator

SECONDS = 30  # of a core, for a case
WAIT = 600  # seconds for a sign of life
MEMORY = 6 << 30  # bytes of address space beyond what the process has
LINES = [("the house is red", "la casa es roja"), ("a new car", "un coche nuevo"), ("¿who?", "¿quién?")] * 4
TMX = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE tmx SYSTEM "tmx14.dtd">
<tmx version="1.4"><header srclang="en"/><body>
{}</body></tmx>
"""
UNIT = '<tu><tuv xml:lang="en"><seg>{}</seg></tuv><tuv xml:lang="es"><seg><ph x="1">b</ph>{}</seg></tuv></tu>\n'
# Texts that tend to break programs.
TOKENS = (
    *(b"\0", b"\r", b"\n\n", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xe2\x80\xa8", b"\x1f\x8b\x08"),
    *(b'"', b"'", b"\t", b",", b"{", b"}", b"[" * 2000, b"<", b"&a;", b"]]>", b"*a", b"!!x", b": ", b"- ", b"%"),
    *(b"<!ENTITY a 'b'>", b"null", b"true", b"NaN", b"1e999", b"-1", b"9" * 5000, b"\\ud800", b"x" * 70_000),
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 2**31, 2**63, 10**30, 1.5, float("inf"), float("nan"), "", "x", "\0", "\ud800"),
    *([], {}, [[]], [None], {"": None}, "x" * 10_000, [1, 2, 3], ["a", "b"], "true", "1", {"a": {"b": {}}}),
)


# ----- damage -----


def damage(content: bytes, chance: random.Random) -> bytes:
    """Some bytes, changed in one to four places."""
    for _ in range(chance.choice((1, 1, 2, 4))):
        content = chance.choice(CHANGES)(content, chance)
    return content


def cut(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content) + 1)]


def flip(content: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(min(len(changed), chance.choice((1, 3, 10)))):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def insert(content: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(content) + 1)
    return content[:place] + chance.choice(TOKENS) + content[place:]


def move(content: bytes, chance: random.Random) -> bytes:
    """Take a block out, or put it somewhere else, or do so and leave it."""
    first, last, place = sorted(chance.randrange(len(content) + 1) for _ in range(3))
    first, last, place = chance.choice(((first, last, place), (last, place, first)))
    block, without = content[first:last], content[:first] + content[last:]
    return chance.choice(
        (without, without[:place] + block + without[place:], content[:place] + block + content[place:])
    )


def renumber(content: bytes, chance: random.Random) -> bytes:
    """Another number in the place of one."""
    found = list(re.finditer(rb"\d+", content))
    if not found:
        return flip(content, chance)
    number = chance.choice(found)
    other = chance.choice((b"0", b"-1", b"7", b"1e9", b"4294967296", b"9" * 30, b"0.5"))
    return content[: number.start()] + other + content[number.end() :]


def change_value(content: bytes, chance: random.Random) -> bytes:
    """Another value, or none, in one place of JSON or YAML."""
    try:
        tree = yaml.safe_load(content) if content.lstrip()[:1] != b"{" else json.loads(content)
    except (ValueError, RecursionError, yaml.YAMLError):
        return flip(content, chance)
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, value in list(children)[:200]:
            places.append((node, key))
            walk(value)

    walk(tree)
    if not places:
        return flip(content, chance)
    node, key = chance.choice(places)
    if chance.random() < 0.2:
        del node[key]
    else:
        node[key] = chance.choice(VALUES)
    return json.dumps(tree).encode()


CHANGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (cut, flip, flip, insert, insert, move, renumber)
CHANGES = (*CHANGES, change_value, change_value, change_value)


# ----- what is read -----


@dataclass(frozen=True)
class Kind:
    """
    A kind of file.

    Attributes:
        file: its name in the folder of cases, which is damaged.
        read: reads it.
    """

    file: str
    read: Callable[[Path], Any]


def translate(folder: Path) -> None:
    """Load the model in a folder, and translate a sentence by it."""
    translator = load_translator(folder / "model", device="cpu")
    (result,) = translator(["the house is red"], num_beams=2, max_new_tokens=4)
    assert isinstance(result["translation_text"], str)


def read_pairs(folder: Path, name: str) -> None:
    """Read a file with both sides; sides and rows must be equally many, and text."""
    text = read_one_file(str(folder / name), DataFields(source_lang="en", target_lang="es"))
    assert len(text.sources) == len(text.targets) == len(text.rows)
    for line in (*text.sources, *text.targets):
        line.encode()


def read_lines(folder: Path) -> None:
    """Read two text files."""
    text = read_two_files(str(folder / "text.en"), str(folder / "text.es"))
    assert len(text.sources) == len(text.targets) == len(LINES)


KINDS = {
    "recipe": Kind("recipe.yaml", lambda folder: parse_recipe([str(folder / "recipe.yaml")])),
    "text": Kind("text.en", read_lines),
    "jsonl": Kind("table.jsonl", lambda folder: read_pairs(folder, "table.jsonl")),
    "csv": Kind("table.csv", lambda folder: read_pairs(folder, "table.csv")),
    "tsv": Kind("table.tsv", lambda folder: read_pairs(folder, "table.tsv")),
    "tmx": Kind("memory.tmx", lambda folder: read_pairs(folder, "memory.tmx")),
    "config": Kind("model/config.json", translate),
    "tokenizer": Kind("model/tokenizer.json", translate),
    "safetensors": Kind("model/model.safetensors", translate),
    "exported": Kind(f"exported/{FACTS_OF_EXPORT}", lambda folder: read_exported(folder / "exported")),
}


def prepare(folder: Path) -> None:
    """Write one good file of each kind, and a small model."""
    write_recipe(folder)
    for side, language in enumerate(("en", "es")):
        (folder / f"text.{language}").write_text("".join(f"{pair[side]}\n" for pair in LINES), encoding="utf-8")
    rows = [{"source": source, "target": target} for source, target in LINES]
    (folder / "table.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    for end, separator in (("csv", ","), ("tsv", "\t")):
        lines = ["source" + separator + "target", *(separator.join(pair) for pair in LINES)]
        (folder / f"table.{end}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "memory.tmx").write_text(TMX.format("".join(UNIT.format(*pair) for pair in LINES)), encoding="utf-8")
    tokenizer = VanillaTransformerTokenizer.train([line for pair in LINES for line in pair], vocab_size=280)
    sizes = {"hidden_size": 16, "encoder_layers": 1, "decoder_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    config = VanillaTransformerConfig(vocab_size=len(tokenizer), intermediate_size=16, **sizes)
    model = VanillaTransformerForConditionalGeneration(config)
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    (folder / "exported").mkdir()
    settings = model.generation_config.to_dict()
    Exported("onnx", "float32", 100, config.to_dict(), settings).save(folder / "exported")


def run_case(folder: Path, name: str, number: int) -> str | None:
    """
    Damage a file and read it.

    Returns:
        what is wrong with how it was read; `None` for nothing.
    """
    kind, good = KINDS[name], (folder / KINDS[name].file).read_bytes()
    (folder / kind.file).write_bytes(damage(good, random.Random(f"{name} {number}")))
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            kind.read(folder)
    except UserError as error:
        said = str(error)
        return None if said and "Traceback" not in said and len(said) < 3_000 else f"unclear: {said[:300]}"
    except SystemExit as error:  # of argparse, with a line that names the field
        return None if error.code == 2 else f"exit status {error.code}"
    except BaseException as error:
        return "".join(traceback.format_exception(error)[-6:])
    finally:
        (folder / kind.file).write_bytes(good)
    return None


# ----- the command -----


def limit_memory() -> None:
    """Let what asks for far too much memory fail, and not the machine."""
    with contextlib.suppress(ImportError):
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def work(folder: Path, names: list[str], numbers: list[int], connection: Connection) -> None:
    """A process: tells of each case before it and after it."""
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    limit_memory()

    def stop(*_: Any) -> None:
        raise TimeoutError(f"it took more than {SECONDS} seconds of a core")

    signal.signal(signal.SIGPROF, stop)
    for number in numbers:
        for name in names:
            connection.send(("begin", name, number))
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            fault = run_case(folder, name, number)
            signal.setitimer(signal.ITIMER_PROF, 0)
            connection.send(("end", name, number, fault))
    connection.send(None)


def find_faults(names: list[str], first: int, count: int) -> list[str]:
    """Run cases of each kind, so many in all; after one that ends the process the next ones go on in another."""
    numbers = list(range(first, first + -(-count // len(names))))
    faults: list[str] = []
    context = multiprocessing.get_context("fork")
    place = tempfile.TemporaryDirectory()
    prepare(Path(place.name))
    files = [Path(place.name) / KINDS[name].file for name in names]
    good = [file.read_bytes() for file in files]
    while numbers:
        for file, content in zip(files, good, strict=True):  # a process that ended may have left a damaged one
            file.write_bytes(content)
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=work, args=(Path(place.name), names, numbers, sender))
        process.start()
        sender.close()
        case: tuple[Any, ...] | None = ("begin", names[0], numbers[0])
        try:
            while receiver.poll(WAIT) and (case := receiver.recv()) is not None:
                if case[0] == "end" and case[3] is not None:
                    faults.append(f"{case[1]} {case[2]}: {case[3]}")
        except EOFError:
            process.join()
            faults.append(f"{case[1]} {case[2]}: the process ended with {process.exitcode}")  # type: ignore[index]
        else:
            if case is not None:
                faults.append(f"{case[1]} {case[2]}: it hung")
        process.kill()
        process.join()
        numbers = [] if case is None else [number for number in numbers if number > case[2]]
    place.cleanup()
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Read files that are damaged at random.")
    parser.add_argument("--count", type=int, default=2000, help="files, of all kinds together (2000)")
    parser.add_argument("--first", type=int, default=0, help="number of the first of each kind (0)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    options = parser.parse_args()
    faults = find_faults(options.kinds, options.first, options.count)
    print("\n\n".join(faults))
    print(f"{options.count:,} files: {len(faults)} faults")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
