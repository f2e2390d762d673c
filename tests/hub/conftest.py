"""A model that a training pushed to the test Hub, and processes that know nothing but that Hub."""

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.hub.server import HubServer
from tests.training.small import write_recipe
from tests.warm import WarmPrograms
from training.train import main

# The imports of programs, but for the libraries that read the address of the Hub when they are imported.
LIBRARIES = (
    "torch",
    "pandas",
    "pyarrow",
    "sklearn.metrics",
    "scipy.stats",
    "sacrebleu",
    "nltk.translate.meteor_score",
    "matplotlib.figure",
    "jinja2",
    "yaml",
    "httpx2",
    "pydantic",
    "tokenizers",
    "safetensors.torch",
)
# A process that cannot import the package, as on a machine that has only transformers.
NOT_INSTALLED = "import sys; sys.modules['vanilla_transformer'] = None\n"


@dataclass
class Pushed:
    """
    A Hub with a model, and how to use it.

    Attributes:
        repo, native: the model's repositories.
        folder: what training wrote.
        output: what the push printed.
    """

    hub: HubServer
    repo: str
    native: str
    folder: Path
    output: str


@pytest.fixture(scope="session")
def run_module(
    tmp_path_factory: pytest.TempPathFactory, warm: Callable[..., WarmPrograms]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a module of the repository in a process that has one Hub."""

    def run(
        hub: HubServer, module: str, *arguments: str, token: str | None = "hf_alice", **settings: str
    ) -> subprocess.CompletedProcess[str]:
        folder = tmp_path_factory.mktemp("program")
        words = ["-m", module, *map(str, arguments)]
        return (
            warm(*LIBRARIES)
            .start(words, folder, env=hub.environment(folder / "hf_home", token, **settings))
            .complete()
        )

    return run


@pytest.fixture(scope="session")
def fresh_process(tmp_path_factory: pytest.TempPathFactory, warm: Callable[..., WarmPrograms]) -> Callable[..., str]:
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
        program = warm(*LIBRARIES).start(
            ["-c", code if installed else NOT_INSTALLED + code],
            folder,
            env=hub.environment(hf_home or folder / "hf_home", token, **settings),
            **({} if installed else {"cwd": folder}),
        )
        result = program.complete()
        assert result.returncode == 0, result.stderr
        return result.stdout

    return run


@pytest.fixture(scope="session")
def run_together(fresh_process: Callable[..., str]) -> Callable[..., list[subprocess.CompletedProcess[str]]]:
    """Run a program with several command lines, each with its token, one after the other in one process."""

    def run(
        hub: HubServer, module: str, commands: list[list[str]], tokens: list[str | None] | None = None
    ) -> list[subprocess.CompletedProcess[str]]:
        cases = [
            ([str(word) for word in words], token)
            for words, token in zip(commands, tokens or ["hf_alice"] * len(commands), strict=True)
        ]
        code = f"""
import json, os
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from {module} import main
results = []
for words, token in {cases!r}:
    os.environ.pop("HF_TOKEN", None)
    if token is not None:
        os.environ["HF_TOKEN"] = token
    with redirect_stderr(StringIO()) as errors, redirect_stdout(StringIO()) as output:
        results.append([main(words), output.getvalue(), errors.getvalue()])
print("RESULTS", json.dumps(results))
"""
        printed = fresh_process(hub, code, installed=True).rpartition("RESULTS ")[2]
        return [subprocess.CompletedProcess([], *result) for result in json.loads(printed)]

    return run


@pytest.fixture(scope="session")
def pushed(
    made_once: Callable[..., Path], run_module: Callable[..., subprocess.CompletedProcess[str]]
) -> Iterator[Pushed]:
    """The Hub after a push of what a training gave, both forms."""

    def train(folder: Path) -> None:
        # Long enough to translate different sentences differently. At the paper's rates, which are higher for so small
        # a model, it gave one translation for all of them on a CPU without AVX-512.
        length = ["--max_steps", "200", "--save_steps", "200", "--eval_steps", "200", "--average_checkpoints", "1"]
        assert main([str(write_recipe(folder)), *length, "--noam", "false", "--learning_rate", "0.01"]) == 0

    folder = made_once("pushed", train) / "run"
    with HubServer() as hub:
        names = ["--repo", "en-es", "--native", "alice/en-es-marian"]
        result = run_module(hub, "training.push", "--model", folder, *names)
        assert result.returncode == 0, result.stderr
        yield Pushed(hub, "alice/en-es", "alice/en-es-marian", folder, result.stdout)
