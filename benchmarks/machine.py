"""The machine that a measurement is made on: its name, its memory, and how fast it can multiply."""

import contextlib
import datetime
import gc
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from tabulate import tabulate

from training.data.encoding import available_cores
from vanilla_transformer.kernels_vanilla_transformer import matmul

Row = dict[str, Any]  # of a table, or a message from and to a process that measures: what JSON holds


def describe(threads: int) -> str:
    """Processor, cores, threads and versions, for the head of a table."""
    name = platform.processor()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    if torch.cuda.is_available():
        name = torch.cuda.get_device_name()
    count = f"{available_cores()} cores, {threads} thread{'s' if threads > 1 else ''} a process"
    return f"{name}, {count}, torch {torch.__version__}, transformers {transformers.__version__}"


def show_table(head: str, rows: list[Row], output: Path | None) -> None:
    """
    Print a table below a line on how it was made, and write both as a report.

    Args:
        head: the title, a semicolon, and the machine.
        rows: of the table.
        output: the file of the report, which holds this table only.
    """
    print(f"{head}\n\n{tabulate(rows, headers='keys', disable_numparse=True, tablefmt='github')}\n")
    if output is not None:
        title, _, machine = head.partition("; ")
        output.write_text(format_report(title, machine, rows), encoding="utf-8")


def format_report(title: str, machine: str, rows: list[Row]) -> str:
    """Return a report in the form of every file in benchmarks/results/: date, commit, machine, command, one table."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*"]
    commit = subprocess.run(git, capture_output=True, text=True).stdout.strip()
    module = getattr(sys.modules["__main__"].__spec__, "name", Path(sys.argv[0]).name)
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, ["---"] * len(names), *([row.get(name, "") for name in names] for row in rows)]
    table = "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
    return (
        f"# {title[0].upper()}{title[1:]}\n\n- Date: {datetime.date.today()}\n- Commit: {commit or 'unknown'}\n"
        f"- Machine: {machine}\n- Command: `python -m {module} {shlex.join(sys.argv[1:])}`\n\n{table}\n"
    )


def matmul_ceiling(dtype: torch.dtype, threads: int, rows: int = 2048, inner: int = 512, columns: int = 2048) -> float:
    """FLOP a second of the best matrix product, by any library, of the size of a base model's layer."""
    left, right = torch.randn(rows, inner).to(dtype), torch.randn(columns, inner).to(dtype).T
    best, usual = float("inf"), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for multiply in 20 * (torch.matmul, matmul):
            started = time.perf_counter()
            multiply(left, right)
            best = min(best, time.perf_counter() - started)
    finally:
        torch.set_num_threads(usual)
    return 2 * rows * inner * columns / best


@contextlib.contextmanager
def show_profile() -> Iterator[None]:
    """Print where the time within goes, by operation."""
    with torch.profiler.profile() as recorded:
        yield
    on_gpu = torch.cuda.is_available()
    by = "self_cuda_time_total" if on_gpu else "self_cpu_time_total"
    print(recorded.key_averages().table(sort_by=by, row_limit=20, max_name_column_width=50))


def reset_peak() -> None:
    """Give back what is free, and let the highest memory count from here."""
    gc.collect()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def resident_bytes(peak: bool = False) -> int:
    """Memory of this process, now or at its highest; 0 where the system does not tell."""
    field = "VmHWM" if peak else "VmRSS"
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith(f"{field}:"))) * 1024
    return 0
