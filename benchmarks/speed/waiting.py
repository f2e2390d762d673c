"""
How fast our programs are on quiet and on busy cores, by how the threads of GNU OpenMP wait for each other.

    python -m benchmarks.speed.waiting

Each program runs in a new process with each setting in turn, first with nothing beside it, then beside as many endless
loops as there are cores. Speed and processor time are those of the work, without start and loading; steps are counted
from the second on.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.machine import describe, show_table
from benchmarks.speed.workers import rotated
from training.data.encoding import available_cores
from training.data.phrasebook import phrasebook
from vanilla_transformer import VanillaTransformerTranslationPipeline
from vanilla_transformer.loading import load_model

MODULE = "benchmarks.speed.waiting"
ROOT = Path(__file__).resolve().parents[2]
SENTENCES, STEPS = 300, 20
SETTINGS = {
    "300,000 turns, GNU OpenMP's own": {"GOMP_SPINCOUNT": "300000"},
    "GOMP_SPINCOUNT=1000": {"GOMP_SPINCOUNT": "1000"},
    "GOMP_SPINCOUNT=10000": {"GOMP_SPINCOUNT": "10000"},
    "OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
}
# It ends when this program does, however that ends.
BUSY_LOOP = "import os; parent = os.getppid()\nwhile os.getppid() == parent: pass"
PROGRAMS = {"translate": f"{SENTENCES} sentences", "train": f"{STEPS} steps of own_files.yaml"}


def translate() -> tuple[float, float]:
    """Seconds, and seconds of processor time, that the bundled model takes to translate."""
    model, tokenizer = load_model(ROOT / "checkpoints" / "tiny-en-es", "cpu")
    translator = VanillaTransformerTranslationPipeline(model=model, tokenizer=tokenizer, device="cpu")
    sentences = [source for source, _ in phrasebook()["test"]][:SENTENCES]
    list(translator(sentences[:16]))
    started, busy = time.perf_counter(), time.process_time()
    list(translator(sentences))
    return time.perf_counter() - started, time.process_time() - busy


def train() -> tuple[float, float]:
    """Seconds, and seconds of processor time, of steps of the recipe for files of one's own."""
    from training.engine.trainer import VanillaTransformerTrainer
    from training.train import main as train_by_recipe

    times: list[tuple[float, float]] = []
    step = VanillaTransformerTrainer.training_step

    def timed_step(*arguments: object) -> torch.Tensor:
        times.append((time.perf_counter(), time.process_time()))
        return step(*arguments)  # type: ignore[arg-type]

    VanillaTransformerTrainer.training_step = timed_step  # type: ignore[method-assign, assignment]
    with tempfile.TemporaryDirectory() as path:
        for side, ending in enumerate(("en", "es")):
            lines = [pair[side] for pair in phrasebook()["train"][:3000]]
            (Path(path) / f"train.{ending}").write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
        settings = {"source": f"{path}/train.en", "target": f"{path}/train.es", "output_dir": f"{path}/run"}
        settings |= {"max_steps": STEPS, "eval_strategy": "no", "load_best_model_at_end": False, "patience": "null"}
        settings |= {"hold_out": 0, "save_steps": STEPS, "average_checkpoints": 1, "run_on": "cpu"}
        recipe = str(ROOT / "training" / "recipes" / "own_files.yaml")
        if train_by_recipe([recipe, *(f"--{name}={value}" for name, value in settings.items())]):
            raise RuntimeError("The training has failed.")
    return times[-1][0] - times[1][0], times[-1][1] - times[1][1]


def measure(program: str, setting: dict[str, str]) -> tuple[float, float]:
    """The same in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GOMP_", "OMP_"))}
    command = [sys.executable, "-m", MODULE, "--worker", program]
    done = subprocess.run(command, capture_output=True, text=True, env={**environment, **setting})
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with status {done.returncode}:\n{done.stderr[-2000:]}")
    seconds, busy = json.loads(done.stdout.splitlines()[-1])
    return seconds, busy


@contextlib.contextmanager
def neighbours(count: int) -> Iterator[None]:
    """So many processes that keep a core busy each."""
    loops = [subprocess.Popen([sys.executable, "-c", BUSY_LOOP]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def main() -> int:
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description="Compare how threads wait.")
    parser.add_argument("--programs", nargs="+", choices=PROGRAMS, default=list(PROGRAMS))
    parser.add_argument("--rounds", type=int, default=7, help="in which each setting has its turn (7)")
    parser.add_argument(
        "--neighbours", type=int, nargs="+", default=[0, available_cores()], help="busy loops beside (0 and all cores)"
    )
    parser.add_argument("--output", type=Path, help="the tables are written to files whose names begin like this one")
    parser.add_argument("--worker", choices=PROGRAMS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker is not None:
        print(json.dumps(translate() if options.worker == "translate" else train()))
        return 0
    for program in options.programs:
        for count in options.neighbours:
            found: dict[str, list[tuple[float, float]]] = {name: [] for name in SETTINGS}
            with neighbours(count):
                for turn in range(options.rounds):
                    for name, measured in rotated(found, turn):
                        measured.append(measure(program, SETTINGS[name]))
            first, rows = next(iter(found.values())), []
            for name, measured in found.items():
                seconds = [taken for taken, _ in measured]
                ratios = [usual / taken for (usual, _), taken in zip(first, seconds, strict=True)]
                rows.append(
                    {
                        "threads spin": name,
                        "seconds": f"{statistics.median(seconds):.2f}",
                        "lowest to highest": f"{min(seconds):.2f} to {max(seconds):.2f}",
                        "processor seconds": f"{statistics.median(busy for _, busy in measured):.2f}",
                        "times as fast as GNU OpenMP's own": f"{statistics.median(ratios):.2f}",
                    }
                )
            name = f"_{program}_busy" if count else f"_{program}"
            output = options.output and options.output.with_stem(options.output.stem + name)
            head = f"How threads wait: {PROGRAMS[program]}, {count} busy loops beside"
            show_table(f"{head}; {describe(torch.get_num_threads())}; median of {options.rounds} rounds", rows, output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
