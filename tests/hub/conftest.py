"""A model that a training pushed to the test Hub, and processes that know nothing but that Hub."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.hub.server import HubServer
from tests.training.small import write_recipe

REPOSITORY = Path(__file__).resolve().parents[2]
# A process that cannot import the package, as on a machine that has transformers alone.
NOT_INSTALLED = "import sys; sys.modules['vanilla_transformer'] = None\n"


@dataclass
class Pushed:
    """
    A Hub with a model, and how to use it.

    Attributes:
        repo, native: the model's repositories.
        folder: what training wrote.
        output: what training printed.
    """

    hub: HubServer
    repo: str
    native: str
    folder: Path
    output: str


@pytest.fixture(scope="session")
def run_module(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a module of the repository in a process that has one Hub."""

    def run(
        hub: HubServer, module: str, *arguments: str, token: str | None = "hf_alice", **settings: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", module, *map(str, arguments)],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=200,
            env=hub.environment(tmp_path_factory.mktemp("hf_home"), token, **settings),
        )

    return run


@pytest.fixture(scope="session")
def fresh_process(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Run code in a process that has one Hub and by default not the package; return what it prints."""

    def run(
        hub: HubServer,
        code: str,
        token: str | None = None,
        hf_home: Path | None = None,
        installed: bool = False,
        **settings: str,
    ) -> str:
        folder = tmp_path_factory.mktemp("process")
        result = subprocess.run(
            [sys.executable, "-c", code if installed else NOT_INSTALLED + code],
            cwd=REPOSITORY if installed else folder,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=200,
            env=hub.environment(hf_home or folder / "hf_home", token, **settings),
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    return run


@pytest.fixture(scope="session")
def pushed(
    tmp_path_factory: pytest.TempPathFactory, run_module: Callable[..., subprocess.CompletedProcess[str]]
) -> Iterator[Pushed]:
    """The Hub after a training that pushed its result, both forms."""
    folder = tmp_path_factory.mktemp("training")
    names = ["--hub_model_id", "en-es", "--hub_native_model_id", "alice/en-es-marian"]
    # Long enough to translate different sentences differently.
    length = ["--max_steps", "200", "--save_steps", "100", "--eval_steps", "200", "--average_checkpoints", "1"]
    with HubServer() as hub:
        result = run_module(hub, "training.train", write_recipe(folder), "--push_to_hub", "true", *names, *length)
        assert result.returncode == 0, result.stderr
        yield Pushed(hub, "alice/en-es", "alice/en-es-marian", folder / "run", result.stdout)
