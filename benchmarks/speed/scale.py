"""
How the preparation of a text grows with its size: pairs a second of each stage, memory, first step and second start.

    python -m benchmarks.speed.scale --pairs 100000 1000000 --folder runs/scale --output benchmarks/results/scale.md

Synthetic pairs are written to `--folder`, in which the cache is too: about 1.2 GB a million pairs, which are deleted
afterwards. The figures stay there, and are not measured again: after an interruption repeat the command, after a
change of the code take another folder. Each start is a process of its own: the training program with a recipe that
takes a few steps with a tiny model. Encoding takes all cores, and the vocabulary is learned from two million pairs at
most (`input_sentence_size`). Memory is the highest of the first process and of those that encode, without mapped files
and with them.
"""

import argparse
import contextlib
import functools
import importlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
import yaml

from benchmarks.machine import describe, show_table
from vanilla_transformer.configuration_vanilla_transformer import Named
from vanilla_transformer.text import write_whole

P, T = ParamSpec("P"), TypeVar("T")

# Functions that are a stage, by the modules that call them.
STAGES = {
    "read": ("training.data.corpus", "load_split"),
    "check": ("training.data.corpus", "check_alignment"),
    "clean": ("training.data.corpus", "clean"),
    "learn the vocabulary": ("training.engine.start", "learn_tokenizer"),
    "find languages": ("training.tasks.translation", "compare_languages"),
    "hold out": ("training.tasks.translation", "hold_out_once"),
    "encode": ("training.tasks.translation", "encode"),
}
STEPS = 3
WORDS = 50_000
BLOCK = 100_000
SAMPLE_SECONDS = 0.2


def make_words(chance: np.random.Generator) -> np.ndarray:
    """Words of one to five syllables."""
    syllables = np.array([consonant + vowel for consonant in "bcdfghjklmnprstvz" for vowel in "aeiou"])
    lengths = chance.integers(1, 6, WORDS)
    return np.array(["".join(chance.choice(syllables, length)) for length in lengths], dtype=object)


def write_pairs(folder: Path, pairs: int) -> None:
    """Write `train.en` and `train.de`: words as frequent as Zipf's law says, 4 to 23 a line, and some lines twice."""
    chance = np.random.default_rng(0)
    frequencies = np.cumsum(1 / np.arange(1, WORDS + 1))
    vocabularies = [make_words(chance), make_words(chance)]
    with open(folder / "train.en", "w") as source, open(folder / "train.de", "w") as target:
        for start in range(0, pairs, BLOCK):
            count = min(BLOCK, pairs - start)
            numbers = chance.integers(4, 24, count)
            repeated = chance.random(count) < 0.02
            for file, vocabulary in zip((source, target), vocabularies, strict=True):
                drawn = np.searchsorted(frequencies, chance.random(numbers.sum()) * frequencies[-1])
                words, ends = vocabulary[drawn], np.cumsum(numbers).tolist()
                lines = [" ".join(words[end - size : end]) for end, size in zip(ends, numbers.tolist(), strict=True)]
                lines = [lines[0] if again else line for line, again in zip(lines, repeated, strict=True)]
                file.write("\n".join(lines) + "\n")


def write_recipe(folder: Path) -> Path:
    """Write a recipe that cleans the text, learns a vocabulary and takes a few steps."""
    recipe = {
        **{"source": str(folder / "train.en"), "target": str(folder / "train.de"), "output_dir": str(folder / "run")},
        **{"preset": "tiny", "vocab_size": 8000, "tokens_per_step": 2048, "max_steps": STEPS, "num_threads": 1},
        **{
            "input_sentence_size": 2_000_000,
            "drop_duplicates": True,
            "max_length_ratio": 3,
            "hold_out": 500,
            "warmup_steps": 10,
            "save_steps": 100,
        },
        **{"run_on": "cpu", "overwrite_output_dir": True, "average_checkpoints": 1, "bootstrap_samples": 0},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def read_memory(process: int | str) -> tuple[int, int]:
    """Bytes of a process that are its own, and those with mapped files."""
    fields = dict.fromkeys(("RssAnon", "VmRSS"), 0)
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in fields:
                fields[name] = int(value.split()[0]) * 1024
    return fields["RssAnon"], fields["VmRSS"]


def find_children(process: int) -> list[int]:
    """The processes that a process has started."""
    with contextlib.suppress(OSError):
        return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    return []


class Watch:
    """Time of stages, and the highest memory of this process and its children, until a number of steps is done."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.cpu: dict[str, float] = {}
        self.whole = 0
        self.place = "before all stages"
        self.own_by_place: dict[str, int] = {}  # the highest memory of its own in each stage, and between them
        self.started = time.perf_counter()
        threading.Thread(target=self.sample, daemon=True).start()

    def sample(self) -> None:
        while True:
            for process in (os.getpid(), *find_children(os.getpid())):
                own, whole = read_memory(process)
                self.whole, place = max(self.whole, whole), self.place
                self.own_by_place[place] = max(self.own_by_place.get(place, 0), own)
            time.sleep(SAMPLE_SECONDS)

    def time(self, name: str, work: Callable[P, T]) -> Callable[P, T]:
        """A function whose time counts as a stage."""

        @functools.wraps(work)
        def timed(*args: P.args, **kwargs: P.kwargs) -> T:
            with self.stage(name):
                return work(*args, **kwargs)

        return timed

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started, used = time.perf_counter(), cpu_seconds()
        self.place = name
        try:
            yield
        finally:
            self.place = f"after {name}"
            self.seconds[name] = self.seconds.get(name, 0) + time.perf_counter() - started
            self.cpu[name] = self.cpu.get(name, 0) + cpu_seconds() - used


def cpu_seconds() -> float:
    """CPU time of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def train_watched(recipe: Path, output: Path) -> None:
    """Train in this process to the last step, and write what was measured; the scores afterwards are left out."""
    watch = Watch()
    train = importlib.import_module("training.train")
    for name, (module, function) in STAGES.items():
        place = importlib.import_module(module)
        setattr(place, function, watch.time(name, getattr(place, function)))
    trainer = importlib.import_module("training.engine.trainer").VanillaTransformerTrainer
    step = trainer.training_step

    def training_step(self: Any, *args: Any, **kwargs: Any) -> Any:
        loss = step(self, *args, **kwargs)
        if "first step" not in watch.seconds:
            watch.seconds["first step"] = time.perf_counter() - watch.started
            watch.cpu["first step"] = cpu_seconds()
        return loss

    def finish(*_: object) -> None:
        time.sleep(2 * SAMPLE_SECONDS)
        found = {"seconds": watch.seconds, "cpu": watch.cpu, "own": watch.own_by_place, "whole": watch.whole}
        output.write_text(json.dumps(found))
        os._exit(0)

    trainer.training_step = training_step
    train.fit = lambda trainer, start: finish(trainer.train())
    sys.exit(train.main([str(recipe)]))


def start(folder: Path) -> Named:
    """Train in a process of its own, and return what was measured."""
    recipe, output = folder / "recipe.yaml", folder / "measured.json"
    output.unlink(missing_ok=True)
    env = {**os.environ, "HF_DATASETS_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
    words = ["-m", "benchmarks.speed.scale", "--recipe", str(recipe), "--measured", str(output)]
    subprocess.run([sys.executable, *words], env=env, check=True)
    measured: Named = json.loads(output.read_text())
    return measured


def measure_starts(pairs: int, folder: Path) -> list[Named]:
    """Measure a first and a second start on a text of so many pairs; what is measured already is read."""
    texts, outputs = folder / f"{pairs}.texts", [folder / f"{pairs}.{name}.json" for name in ("first", "second")]
    if not all(file.is_file() for file in outputs):
        if not (texts / "recipe.yaml").is_file():  # which is written last
            shutil.rmtree(texts, ignore_errors=True)
            outputs[0].unlink(missing_ok=True)
            texts.mkdir(parents=True)
            write_pairs(texts, pairs)
            write_recipe(texts)
        if not outputs[0].is_file():
            shutil.rmtree(texts / "cache", ignore_errors=True)
            first = start(texts)
            first["files"] = sum(file.stat().st_size for file in (texts / "cache").rglob("*.arrow"))
            write_whole(outputs[0], json.dumps(first))
        write_whole(outputs[1], json.dumps(start(texts)))
    shutil.rmtree(texts, ignore_errors=True)
    return [json.loads(file.read_text()) for file in outputs]


def measure(pairs: int, folder: Path) -> Named:
    """A row of the table."""
    first, second = measure_starts(pairs, folder)
    row: Named = {"pairs": f"{pairs:,}"}
    for name in STAGES:
        by_clock, by_cpu = (pairs / first[kind][name] for kind in ("seconds", "cpu"))
        row[f"{name}, pairs/s"] = f"{by_clock:,.0f} ({by_cpu:,.0f} a CPU second)"
    for name, measured in (("first step", first), ("second start", second)):
        row[name] = f"{measured['seconds']['first step']:,.0f} s ({measured['cpu']['first step']:,.0f} CPU s)"
    for name, measured in (("first", first), ("second", second)):
        own, place = max((own, place) for place, own in measured["own"].items())
        row[f"memory, MB, {name} start"] = f"{own / 1e6:,.0f} ({place})"
    row["with mapped files"] = f"{max(first['whole'], second['whole']) / 1e6:,.0f}"
    row["cache, MB"] = f"{first['files'] / 1e6:,.0f}"
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description="Preparation of a text by its size.")
    parser.add_argument("--pairs", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--folder", type=Path, help="for texts, the cache and figures; a temporary one if absent")
    parser.add_argument("--output", type=Path, help="file for the report")
    parser.add_argument("--recipe", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--measured", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.recipe is not None:
        train_watched(options.recipe, options.measured)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) if options.folder is None else options.folder.resolve()
        for pairs in options.pairs:
            rows.append(measure(pairs, folder))
            show_table(f"preparing a text by its number of pairs; {describe(1)}", rows, options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
