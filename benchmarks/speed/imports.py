"""
How long `import vanilla_transformer` takes, beside what it needs of transformers, in fresh processes in turn.

    python -m benchmarks.speed.imports
"""

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.machine import describe, show_table

IMPORTS = {
    "only transformers": (
        "from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, GenerationMixin, PreTrainedModel, "
        "TokenizersBackend"
    ),
    "ours": "import vanilla_transformer",
}


def seconds(statement: str) -> float:
    """How long a statement takes in a new process, its start not counted."""
    timed = f"import time; start = time.perf_counter(); {statement}; print(time.perf_counter() - start)"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", timed], capture_output=True, text=True, check=True, env=environment)
    return float(done.stdout.split()[-1])


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.imports", description="Compare times of importing."
    )
    parser.add_argument("--rounds", type=int, default=9, help="in which each has its turn (9)")
    parser.add_argument("--output", type=Path, help="file for the table")
    options = parser.parse_args()
    found: dict[str, list[float]] = {name: [] for name in IMPORTS}
    for turn in range(options.rounds + 1):  # the first warms up
        for name, statement in IMPORTS.items():
            taken = seconds(statement)
            if turn:
                found[name].append(taken)
    base = found["only transformers"]
    rows = [
        {
            "import": name,
            "seconds": f"{statistics.median(times):.2f}",
            "times as long": f"{statistics.median(mine / other for mine, other in zip(times, base, strict=True)):.2f}",
        }
        for name, times in found.items()
    ]
    show_table(f"Importing; {describe(1)}; median of {options.rounds} rounds", rows, options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
