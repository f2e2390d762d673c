"""Memory of a training on a CPU: what is freed is kept for the next step, and what lies in pieces is given back."""

import ctypes
import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from transformers import TrainerCallback, TrainingArguments

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # M_TRIM_THRESHOLD, M_MMAP_MAX of malloc.h
STATM = Path("/proc/self/statm")
GROWTH = 1.5  # times what the process holds after a step from a clean heap, beyond which freed memory goes back


def keep_freed_memory() -> None:
    """
    Let glibc keep the memory that is freed, for this process.

    Otherwise it gives large blocks back to Linux, and the next step of a training, which asks for the same sizes,
    waits while every page is cleared again: a tenth of the time of a step on a CPU (docs/performance.md).
    `FreedMemoryCallback` bounds what is kept. Where the C library is another one this does nothing.
    """
    with suppress(OSError, AttributeError, TypeError):  # no C library by this name, or none with these settings
        library = ctypes.CDLL("libc.so.6")
        library.mallopt(MMAP_MAX, 0)
        library.mallopt(TRIM_THRESHOLD, -1)


class FreedMemoryCallback(TrainerCallback):
    """
    On a CPU: gives freed memory back to Linux when the process holds half as much again as a step needs.

    Batches have many shapes, so that blocks which one step frees do not always fit the next one, and the heap grows.
    """

    def __init__(self) -> None:
        self._needed, self._is_clean = 0, True
        self._give_back: Callable[[], object] | None = None
        with suppress(OSError, AttributeError):  # no C library by this name, or one without this function
            library = ctypes.CDLL("libc.so.6")
            library.malloc_trim.argtypes = [ctypes.c_size_t]
            if STATM.is_file():
                self._give_back = partial(library.malloc_trim, 0)

    def on_step_end(self, args: TrainingArguments, state: object, control: object, **kwargs: object) -> None:
        """Give memory back if the process holds too much. After the step that follows it holds what a step needs."""
        if self._give_back is None or not args.use_cpu:
            return
        held = resident_memory()
        if self._is_clean:
            self._needed, self._is_clean = max(self._needed, held), False
        elif held > GROWTH * self._needed:
            self._give_back()
            self._is_clean = True


def resident_memory() -> int:
    """Return the bytes of memory that this process holds, on Linux."""
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
