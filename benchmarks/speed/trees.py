"""
The cost of a change: CPU seconds of translating and training with the package of two trees, side by side, in turn.

    git worktree add ../before COMMIT
    python -m benchmarks.speed.trees ../before . --output benchmarks/results/trees.md
    python -m benchmarks.speed.trees ../before . --work translate --models base --batch 16 --rounds 9

Each tree has a process of one thread. They take turns on the same input, and a ratio is the median of the ratios of
the turns. `--packages DIR` names a folder of packages (`pip install --target`) that both trees import before the
installed ones, for a tree that works with an older transformers only.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.machine import Row, describe, show_table
from benchmarks.text import pad
from training.data.phrasebook import phrasebook
from vanilla_transformer.loading import load_model

WORKER = Path(__file__).with_name("tree_worker.py")
TOKENS = 24  # of a random source
LAST_TOKENS = {"base": 12}  # generated of random weights
PROGRAM_STEPS = 80


class Tree:
    """A process with the package of a tree."""

    def __init__(self, tree: Path, packages: Path | None, arguments: list[str] | None = None):
        self.tree = tree
        paths = [str(tree.resolve()), *([str(packages)] if packages else [])]
        environment = {"PYTHONPATH": os.pathsep.join(reversed(paths)), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(WORKER), *(arguments or [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )

    def ask(self, **request: object) -> Row:
        """Send a request and wait for its answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def answer(self) -> Row:
        """Wait for a line that is an answer."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("ANSWER "):
                return dict(json.loads(line.removeprefix("ANSWER ")))
        raise SystemExit(f"The process of {self.tree} ended with status {self.process.wait()}.")


def source_ids(model: str) -> list[list[int]]:
    """Ids of the phrasebook's test sentences, or random ones for random weights."""
    if model in ("tiny", "base"):
        torch.manual_seed(1)
        ids = torch.randint(4, 8000, (1024, TOKENS))
        ids[:, -1] = 2
        return [list(map(int, row)) for row in ids]
    tokenizer = load_model(model)[1]
    ids = tokenizer([source for source, _ in phrasebook()["test"]]).input_ids
    return [list(row) for row in ids]


def batches_of(rows: list[list[int]], turn: int, size: int, count: int) -> list[list[list[int]]]:
    """Padded batches of a turn, others in each."""
    first = turn * size * count
    at = [[rows[(first + batch * size + i) % len(rows)] for i in range(size)] for batch in range(count)]
    return [pad(each).tolist() for each in at]


def compare(
    trees: dict[str, Tree], rounds: int, rows: list[list[int]], size: int, count: int, **request: object
) -> Row:
    """A row of the table: milliseconds a batch, the ratio of each turn, and how many outputs are equal."""
    (before, first), (after, second) = trees.items()
    times: dict[str, list[float]] = {before: [], after: []}
    equal = total = 0
    for turn in range(rounds + 1):  # the first warms up
        order = [(before, first), (after, second)]
        batches, answers = batches_of(rows, turn, size, count), {}
        for name, tree in order if turn % 2 else order[::-1]:
            is_marian = name == "marian"
            own = {**request, "settings": of_marian(request["settings"])} if is_marian else request
            answers[name] = tree.ask(batches=batches, is_marian=is_marian, **own)
            if turn:
                times[name].append(answers[name]["seconds"])
        outputs = [answers[name]["output"] for name in (before, after)]
        equal += sum(a == b for a, b in zip(*outputs, strict=True))
        total += len(outputs[0])
    ratios = [b / a for a, b in zip(times[before], times[after], strict=True)]
    return {
        f"{before}, ms": f"{1000 * statistics.median(times[before]) / count:,.1f}",
        f"{after}, ms": f"{1000 * statistics.median(times[after]) / count:,.1f}",
        f"{after} / {before}": f"{statistics.median(ratios):.3f}",
        "turns": f"{min(ratios):.2f} to {max(ratios):.2f}",
        "equal": f"{equal:,} of {total:,}",
    }


def of_marian(settings: Row) -> Row:
    """The settings that MarianMTModel has, too."""
    return {name: value for name, value in settings.items() if name != "length_penalty_type"}


def translating(options: argparse.Namespace, trees: dict[str, Tree]) -> Iterator[Row]:
    """Whole calls of `generate`, as the paper decodes."""
    for model in options.models:
        rows = source_ids(model)
        tokens = {"max_new_tokens": LAST_TOKENS[model]} if model in LAST_TOKENS else {}
        for precision in options.precisions:
            own = {} if precision == "float32" else {"weight_precision": precision}
            for beams in options.beams:
                for size in options.batch:
                    count = max(1, (8 if model not in LAST_TOKENS else 2) // size)
                    settings = {"num_beams": beams, **tokens, **own}
                    request = {"work": "translate", "model": model, "settings": settings}
                    found = compare(trees, options.rounds, rows, size, count, **request)
                    yield {
                        "translating": Path(model).name,
                        "weights": precision,
                        "beams": beams,
                        "batch": size,
                    } | found


def one_length(options: argparse.Namespace, trees: dict[str, Tree]) -> Iterator[Row]:
    """All sentences of one length, as people benchmark, beside MarianMTModel with the same weights."""
    after = list(trees)[1]
    marian = Tree(options.after, options.packages)
    settings: Row = {"num_beams": 4, "min_new_tokens": 16, "max_new_tokens": 16, "early_stopping": False}
    settings |= {"length_penalty": 1.0, "length_penalty_type": "power"}
    found = compare(
        {after: trees[after], "marian": marian}, options.rounds, source_ids("base"), 16, 1,
        work="translate", model="base", settings=settings,
    )  # fmt: skip
    marian.process.kill()
    yield {"one length": "base", "beams": 4, "batch": 16} | found


def steps_of_training(options: argparse.Namespace, trees: dict[str, Tree]) -> Iterator[Row]:
    """Forward, backward and Adam in float32."""
    for model, size, count in (("tiny", 32, 4), ("base", 16, 1)):
        rows = source_ids(model)
        found = compare(trees, options.rounds, rows, size, count, work="train", model=model)
        yield {"a training step": model, "tokens a side": size * TOKENS} | found


def programs(options: argparse.Namespace, trees: dict[str, Tree]) -> Iterator[Row]:
    """Steps of `make demo`, of two programs that run at the same time."""
    names = list(trees)
    with tempfile.TemporaryDirectory() as folder:
        running = []
        for name, tree in zip(names, (options.before, options.after), strict=True):
            settings = {"max_steps": 2 * PROGRAM_STEPS, "num_threads": 1, "eval_strategy": "no", "save_strategy": "no"}
            settings |= {"output_dir": str(Path(folder) / name), "average_checkpoints": 1}
            words = [str(word) for field, value in settings.items() for word in (f"--{field}", value)]
            recipe = str(tree.resolve() / "training" / "recipes" / "demo.yaml")
            running.append(Tree(tree, options.packages, ["--program", str(PROGRAM_STEPS), recipe, *words]))
        before, after = (each.answer()["times"] for each in running)
    steps = [[b - a for a, b in itertools.pairwise(times[10:])] for times in (before, after)]
    ratios = sorted(b / a for a, b in zip(*steps, strict=True))
    middle = [ratios[len(ratios) // 4], ratios[3 * len(ratios) // 4]]
    yield {
        "a step of": "make demo",
        f"{names[0]}, ms": f"{1000 * statistics.median(steps[0]):.1f}",
        f"{names[1]}, ms": f"{1000 * statistics.median(steps[1]):.1f}",
        f"{names[1]} / {names[0]}": f"{statistics.median(ratios):.3f}",
        "half of the steps": f"{middle[0]:.2f} to {middle[1]:.2f}",
        "sum of all": f"{sum(steps[1]) / sum(steps[0]):.3f}",
        "steps": len(ratios),
    }


WORK = {"translate": translating, "one-length": one_length, "train": steps_of_training, "program": programs}


def commit_of(tree: Path) -> str:
    """The name of a tree: its commit, or that of its folder."""
    done = subprocess.run(["git", "-C", str(tree), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return done.stdout.strip() or tree.resolve().name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--work", nargs="+", choices=WORK, default=list(WORK))
    parser.add_argument("--models", nargs="+", default=["checkpoints/tiny-en-es", "base"], help="folders, or base")
    parser.add_argument("--precisions", nargs="+", default=["float32", "int8"])
    parser.add_argument("--beams", nargs="+", type=int, default=[4, 1])
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 16, 64])
    parser.add_argument("--rounds", type=int, default=5, help="turns of both trees")
    parser.add_argument("--packages", type=Path, help="a folder of packages that take the place of installed ones")
    parser.add_argument("--note", default="", help="what else ran on the machine")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    options.models = [str(Path(each).resolve()) if Path(each).is_dir() else each for each in options.models]
    names = [commit_of(options.before), commit_of(options.after)]
    if names[0] == names[1]:
        names[1] = "after"
    trees = {
        name: Tree(tree, options.packages) for name, tree in zip(names, (options.before, options.after), strict=True)
    }
    for work in options.work:
        rows = []
        for row in WORK[work](options, trees):
            print(row, flush=True)
            rows.append(row)
        versions = ", ".join(f"{name} with {tree.ask(work='version')['transformers']}" for name, tree in trees.items())
        machine = describe(1).rpartition(", transformers")[0]
        head = f"Two trees: {work}; {machine}, transformers: {versions}. {options.note}".strip()
        show_table(head, rows, options.output and options.output.with_stem(f"{options.output.stem}_{work}"))
    for tree in trees.values():
        tree.process.kill()


if __name__ == "__main__":
    main()
