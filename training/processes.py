"""The processes that train a model: how they were started, what the first does for all, and how each keeps memory."""

import ctypes
import os
import shlex
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from accelerate.utils import broadcast_object_list

from training.arguments import RecipeError, TrainingArguments

T = TypeVar("T")


def check_processes(args: TrainingArguments, arguments: list[str]) -> None:
    """
    Refuse launches that would silently not do what they seem to.

    Raises:
        RecipeError: with the line that works.
    """
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if args.world_size != started:
        raise RecipeError(
            f"{started} processes were started and each sees {args.world_size}. Launch with "
            f"`torchrun --nproc_per_node {started} -m training.train {shlex.join(arguments)}`."
        )
    if args.n_gpu > 1:
        raise RecipeError(
            f"Plain python would drive {args.n_gpu} GPUs by nn.DataParallel, which is slow. Launch with "
            f"`accelerate launch -m training.train {shlex.join(arguments)}`."
        )


def first_process(args: TrainingArguments, work: Callable[[], T]) -> T:
    """
    What `work` returns in the first process, in all of them; the others do not run it.

    Raises:
        RecipeError: in all of them, if it does in the first.
    """
    found: list[T | None] = [None]
    error: list[str | None] = [None]
    if args.process_index == 0:
        try:
            found = [work()]
        except RecipeError as raised:
            error = [str(raised)]
    if args.world_size > 1:
        broadcast_object_list(error)
        if error[0] is None:
            broadcast_object_list(found)
    if error[0] is not None:
        raise RecipeError(error[0])
    return found[0]  # type: ignore[return-value]


def keep_freed_memory() -> None:
    """
    Let glibc keep the memory that is freed, for this process.

    Otherwise it gives large blocks back to Linux, and the next step of a training, which asks for the same sizes,
    waits while every page is cleared again: a tenth of the time of a step on a CPU (benchmarks/results/speed.md).
    What the largest step needs is then held until the process ends. Where the C library is another one this does
    nothing.
    """
    trim_threshold, mmap_max = -1, -4  # M_TRIM_THRESHOLD, M_MMAP_MAX of malloc.h
    with suppress(OSError, AttributeError, TypeError):  # no C library by this name, or none with these settings
        library = ctypes.CDLL("libc.so.6")
        library.mallopt(mmap_max, 0)
        library.mallopt(trim_threshold, -1)
