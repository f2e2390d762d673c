"""GNU OpenMP is told before torch is loaded how its threads wait, by the programs and by nothing else."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
OPENMP = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
LAUNCHER = ["-c", "from vanilla_transformer_launcher import main; main()"]


@pytest.fixture
def settings_when_torch_is_loaded(tmp_path):
    """The environment of a program when it first imports torch; a module in its place prints it."""
    (tmp_path / "torch.py").write_text(
        f"import os\nprint(*(os.environ.get(name) for name in {OPENMP}), flush=True)\nos._exit(0)\n"
    )

    def run(*words, **given):
        environment = {name: value for name, value in os.environ.items() if name not in OPENMP}
        environment |= {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(REPOSITORY)]), **given}
        done = subprocess.run(
            [sys.executable, *words], cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout.split()

    return run


@pytest.mark.parametrize(
    "words",
    [
        LAUNCHER,
        ["-m", "training.train"],
        ["-m", "training.score"],
        ["-m", "training.demo"],
        ["-m", "training.push"],
    ],
    ids=" ".join,
)
def test_programs_limit_spinning_before_torch_is_loaded(settings_when_torch_is_loaded, words):
    assert settings_when_torch_is_loaded(*words) == ["10000", "None"]


@pytest.mark.parametrize(
    "words",
    [["-c", "import vanilla_transformer"], ["-c", "import training.train"], ["-m", "benchmarks.speed.imports"]],
    ids=" ".join,
)
def test_importing_leaves_the_environment_as_it_is(settings_when_torch_is_loaded, words):
    assert settings_when_torch_is_loaded(*words) == ["None", "None"]


@pytest.mark.parametrize("words", [LAUNCHER, ["-m", "training.demo"]], ids=" ".join)
def test_the_environment_of_the_user_wins(settings_when_torch_is_loaded, words):
    assert settings_when_torch_is_loaded(*words, GOMP_SPINCOUNT="7") == ["7", "None"]
    assert settings_when_torch_is_loaded(*words, OMP_WAIT_POLICY="ACTIVE") == ["None", "ACTIVE"]


def test_the_launcher_ends_with_the_status_of_the_command_line(monkeypatch):
    from vanilla_transformer_launcher import main

    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    monkeypatch.setattr(sys, "argv", ["vanilla-transformer", "translate", "--model", "/absent", "x"])
    assert main() == 2
