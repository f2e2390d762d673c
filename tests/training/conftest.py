"""A recipe on a corpus of a few sentences, and the program in processes of its own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.training.small import write_recipe

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def recipe(tmp_path):
    return write_recipe(tmp_path)


@pytest.fixture
def launch() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a module in processes of its own, under torchrun with one thread each if there are several."""

    def run(*arguments: str, processes: int = 1, module: str = "training.train") -> subprocess.CompletedProcess[str]:
        launcher = ["-m", "torch.distributed.run", "--nproc_per_node", str(processes)] if processes > 1 else []
        return subprocess.run(
            [sys.executable, *launcher, "-m", module, *arguments],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=280,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    return run
