"""Memory of a training on a CPU."""

import platform
import subprocess
import sys
import textwrap

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from training.engine import memory
from training.engine.memory import FreedMemoryCallback

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")


@glibc
def test_memory_goes_back_when_a_process_holds_half_as_much_again_as_a_step_needs(monkeypatch):
    held, given_back = iter([100, 120, 149, 151, 60, 149, 151, 160, 239, 241]), []
    callback = FreedMemoryCallback()
    monkeypatch.setattr(memory, "resident_memory", lambda: seen.append(next(held)) or seen[-1])
    monkeypatch.setattr(callback, "_give_back", lambda: given_back.append(seen[-1]))
    seen, args = [], TrainingArguments(use_cpu=True)
    for _ in range(10):
        callback.on_step_end(args, TrainerState(), TrainerControl())
    assert given_back == [151, 151, 241]


@glibc
@pytest.mark.slow
def test_holes_of_the_heap_are_given_back():
    """Half of the blocks of 1 MB stay, so that no freed one lies at the end of the heap."""
    program = textwrap.dedent(
        """
        import torch
        from training.engine.memory import FreedMemoryCallback, keep_freed_memory, resident_memory

        keep_freed_memory()
        callback = FreedMemoryCallback()
        blocks = [torch.ones(250_000) for _ in range(400)]
        full = resident_memory()
        blocks = blocks[::2]
        kept = resident_memory()
        callback._give_back()
        print(full, kept, resident_memory())
        """
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    full, kept, left = map(int, done.stdout.split())
    assert kept > full - 20e6 and left < full - 150e6


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_freed_memory_is_not_cleared_again():
    program = textwrap.dedent(
        """
        import resource, torch
        from training.engine.memory import keep_freed_memory

        def faults():
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            for _ in range(5):
                torch.ones(25_000_000)
            return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

        usual = faults()
        keep_freed_memory()
        # a small block may lie in the way of a large one once or twice, and the heap grows by another
        print(usual, min(faults() for _ in range(5)))
        """
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    usual, kept = map(int, done.stdout.split())
    assert usual > 100 and kept < usual / 10
