"""A recipe on a corpus of a few sentences, and the program in processes of its own."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from torch.distributed import TCPStore

from tests.training.small import write_recipe
from tests.warm import CAN_FORK, Program, WarmPrograms
from training.engine.checkpoints import find_checkpoints, step_of
from training.train import main

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def recipe(tmp_path):
    return write_recipe(tmp_path)


@pytest.fixture
def model_folder(model_folder: Path) -> Path:
    """A saved model whose translations, which end nowhere by random weights, end at |X| + 12 tokens."""
    settings = model_folder / "generation_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "source_length_offset": 12}))
    return model_folder


@pytest.fixture(scope="session")
def finished(made_once: Callable[..., Path]) -> Path:
    """
    The result of the recipe, all 12 steps: `run`, and `output.txt` with what was printed.

    Nobody may write into it.
    """

    def train(folder: Path) -> None:
        with open(folder / "output.txt", "w", encoding="utf-8") as output, contextlib.redirect_stdout(output):
            assert main([str(write_recipe(folder))]) == 0

    return made_once("finished", train)


@pytest.fixture
def run_until(recipe: Path, finished: Path) -> Callable[[int], Path]:
    """Put a copy of the finished run where the recipe writes, with no checkpoint after a step."""

    def copy(step: int) -> Path:
        run = shutil.copytree(finished / "run", recipe.parent / "run")
        for folder in find_checkpoints(run):
            if step_of(folder) > step:
                shutil.rmtree(folder)
        return run

    return copy


@pytest.fixture
def start(tmp_path, warm: Callable[..., WarmPrograms]) -> Callable[..., list[Program]]:
    """Start a module in one or more processes that find each other as those of torchrun do, of one thread each."""
    stores = []

    def run(*arguments: str, processes: int = 1, module: str = "training.train") -> list[Program]:
        words, ranks = ["-m", module, *map(str, arguments)], [{}]
        if processes > 1:
            stores.append(TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False))  # as torchrun's agent has
            world = {"WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes, "MASTER_PORT": stores[-1].port}
            world |= {"MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_USE_AGENT_STORE": "True"}
            ranks = [{**world, "RANK": rank, "LOCAL_RANK": rank} for rank in range(processes)]
        programs = warm("training.train")
        return [
            programs.start(words, tmp_path, env={**os.environ, **{name: str(value) for name, value in rank.items()}})
            for rank in ranks
        ]

    return run


@pytest.fixture
def launch(start) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a module in one or more processes to the end; the status is not 0 if that of one is not."""

    def run(*arguments: str, processes: int = 1, module: str = "training.train") -> subprocess.CompletedProcess[str]:
        ended = [program.complete() for program in start(*arguments, processes=processes, module=module)]
        status = next((each.returncode for each in ended if each.returncode), 0)
        output, errors = ("".join(getattr(each, name) for each in ended) for name in ("stdout", "stderr"))
        return subprocess.CompletedProcess([], status, output, errors)

    return run


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork the processes that translate: one that is spawned spends seconds on imports."""
    if CAN_FORK:
        monkeypatch.setattr("training.translate.START", "fork")


@pytest.fixture
def torchrun() -> Callable[..., subprocess.Popen[str]]:
    """Start the training program in two processes by torchrun itself."""

    def run(*arguments: str) -> subprocess.Popen[str]:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
        return subprocess.Popen(
            [*launcher, "-m", "training.train", *map(str, arguments)],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return run
