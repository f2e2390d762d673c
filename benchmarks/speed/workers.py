"""
Systems that are measured in turn, each in a process of its own that waits while another works.

A worker is a module that answers lines of its standard input: `serve` in it, `Worker` here.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any, TypeVar

Message = dict[str, Any]  # what JSON holds
T = TypeVar("T")


class Worker:
    """
    A process with one system.

    Args:
        module: which is run with `--worker` and `arguments`.
        threads: that torch may use in it.
    """

    def __init__(self, module: str, arguments: list[str], threads: int):
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, "--worker", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"},
        )

    def ask(self, **request: object) -> Message:
        """Send a request and wait for the answer, which has "error" in it if the system failed."""
        assert self.process.stdin is not None and self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended: there is nothing to read either
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("ANSWER "):
                return dict(json.loads(line.removeprefix("ANSWER ")))
        return {"error": f"the process ended with status {self.process.wait()}"}

    def end(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()


def rotated(systems: dict[str, T], turn: int) -> list[tuple[str, T]]:
    """The systems in the order of a turn: another comes first each time, and in every second turn all go backwards."""
    first = turn // 2 % len(systems)
    ordered = [*list(systems.items())[first:], *list(systems.items())[:first]]
    return ordered[::-1] if turn % 2 else ordered


def serve(answer: Callable[[Message], Message]) -> None:
    """Answer requests until there are no more."""
    for line in sys.stdin:
        try:
            found = answer(json.loads(line))
        except Exception as error:  # one system that fails must not end the others
            found = {"error": f"{type(error).__name__}: {error}"}
        print("ANSWER " + json.dumps(found), flush=True)
