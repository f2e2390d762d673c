"""The Slurm script saves a checkpoint before its time is over and queues its job again, and only then."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "training" / "accelerate" / "slurm.sh"
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="it is a script of bash")


@pytest.fixture
def slurm(tmp_path):
    """Start the script among stand-ins of Slurm's programs, which write what they are asked for into `said`."""
    programs = tmp_path / "programs"
    programs.mkdir()
    said = tmp_path / "said"
    for name, code in {
        "scontrol": f'echo scontrol "$@" >> {said}; echo machine-1; echo machine-2',
        "srun": f"""
            trap 'echo stopped >> {said}; exit 0' TERM
            echo srun "$FIRST" "${{@: -2}}" >> {said}
            [ "$STATUS" ] && exit "$STATUS"
            while true; do sleep 0.02; done
        """,
    }.items():
        (programs / name).write_text(f"#!/bin/bash\n{code}\n")
        (programs / name).chmod(0o755)

    def start(**more):
        place = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "machine-[1-2]", "SLURM_CPUS_PER_TASK": "4", **more}
        path = f"{programs}{os.pathsep}{os.environ['PATH']}"
        process = subprocess.Popen(
            ["bash", SCRIPT, "recipe.yaml", "--seed=2"], env={**os.environ, **place, "PATH": path}
        )
        deadline = time.monotonic() + 60
        while not (said.exists() and "srun" in said.read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return process, said

    return start


def test_before_its_time_is_over_it_stops_the_training_and_queues_the_job_again(slurm):
    process, said = slurm()
    process.send_signal(signal.SIGUSR1)
    assert process.wait(60) == 0
    assert said.read_text().splitlines() == [
        "scontrol show hostnames machine-[1-2]",
        "srun machine-1 recipe.yaml --seed=2",
        "stopped",
        "scontrol requeue 7",
    ]


@pytest.mark.parametrize("status", ["0", "2"])
def test_a_training_that_ends_by_itself_is_not_queued_again(slurm, status):
    process, said = slurm(STATUS=status)
    assert process.wait(60) == int(status)
    assert "requeue" not in said.read_text()
