"""
Programs in processes of their own that have imported what they need before they begin.

A process spends more on the imports of torch, transformers and the rest than most tests spend on anything else. Here
one process imports them, and forks for each program. Where there is no safe `fork`, each program is a new interpreter.

    programs = WarmPrograms(["torch", "transformers"])
    program = programs.start(["-m", "training.train", "recipe.yaml"], folder)
    assert program.wait() == 0
"""

import atexit
import contextlib
import importlib
import itertools
import json
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
# Elsewhere libraries of the system must not be forked with.
CAN_FORK = sys.platform == "linux"
TIMEOUT = 600


class Program:
    """
    A program that runs in a process of its own.

    Attributes:
        pid: of its process.
    """

    def __init__(self, programs: "WarmPrograms", pid: int, output: Path, errors: Path):
        self.programs, self.pid, self.output, self.errors = programs, pid, output, errors
        self.status: int | None = None

    def poll(self) -> int | None:
        """Return the exit status, or None while the program runs."""
        return self.wait(0)

    def wait(self, seconds: float = TIMEOUT) -> int | None:
        """Return the exit status, or None if the program still runs after these seconds."""
        if self.status is None:
            self.status = self.programs.ask(wait=self.pid, seconds=seconds)
        return self.status

    def send_signal(self, number: int) -> None:
        """Send a signal to the program."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill the program as `kill -9` does, and wait for its end."""
        self.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))  # Windows has only the other
        self.wait()

    def complete(self, seconds: float = TIMEOUT) -> subprocess.CompletedProcess[str]:
        """Wait for the end, and return the status with what was printed; a program that takes longer is killed."""
        if (status := self.wait(seconds)) is None:
            self.kill()
        texts = [path.read_text(encoding="utf-8") for path in (self.output, self.errors)]
        if status is None:
            raise TimeoutError(f"The program did not end in {seconds} seconds. It printed:\n{''.join(texts)}")
        return subprocess.CompletedProcess([], status, *texts)


class WarmPrograms:
    """
    Starts programs that have the modules of a list imported.

    Args:
        modules: what is imported before.
        env: the environment that these modules see when they are imported; that of the program comes later.
    """

    def __init__(self, modules: Sequence[str], env: dict[str, str] | None = None):
        self.modules, self.env = list(modules), dict(env or os.environ)
        self.server: subprocess.Popen[str] | None = None
        self.numbers = itertools.count()
        self.started: dict[int, subprocess.Popen[bytes]] = {}

    def start(
        self, words: Sequence[str], folder: Path, cwd: Path = REPOSITORY, env: dict[str, str] | None = None
    ) -> Program:
        """
        Start a program.

        Args:
            words: what follows `python` on a command line: `-m MODULE ...` or `-c CODE`.
            folder: for what the program prints.
        """
        number = next(self.numbers)
        output, errors = (folder / f"{name}-{os.getpid()}-{number}.txt" for name in ("output", "errors"))
        for path in (output, errors):
            path.touch()
        request = {"words": list(words), "cwd": str(cwd), "env": dict(env or os.environ)}
        if CAN_FORK:
            return Program(self, self.ask(**request, output=str(output), errors=str(errors)), output, errors)
        with open(output, "wb") as out, open(errors, "wb") as err:
            process = subprocess.Popen(
                [sys.executable, *words], cwd=cwd, env={**request["env"], "PYTHONUTF8": "1"}, stdout=out, stderr=err
            )
        self.started[process.pid] = process
        return Program(self, process.pid, output, errors)

    def ask(self, **request: object) -> int | None:
        """Send a request to the process that forks, and return its answer."""
        if not CAN_FORK:
            try:
                return self.started[request["wait"]].wait(request["seconds"])
            except subprocess.TimeoutExpired:
                return None
        if self.server is None:
            self.server = subprocess.Popen(
                [sys.executable, "-m", "tests.warm", *self.modules],
                cwd=REPOSITORY,
                env={**self.env, "PYTHONUTF8": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        self.server.stdin.write(json.dumps(request) + "\n")
        self.server.stdin.flush()
        if not (answer := self.server.stdout.readline()):
            raise RuntimeError(f"The process that imports {', '.join(self.modules)} has ended.")
        return json.loads(answer)

    def end(self) -> None:
        """End the process that forks."""
        if self.server is not None:
            self.server.stdin.close()
            self.server.wait()
            self.server.stdout.close()


def serve(modules: Sequence[str]) -> None:
    """Import the modules, and answer requests."""
    for name in modules:
        with contextlib.suppress(ModuleNotFoundError):  # some version of a library does without it
            importlib.import_module(name)
    requests, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    for line in requests:
        request = json.loads(line)
        if "wait" in request:
            answer = wait_for(request["wait"], request["seconds"])
        else:
            answer = os.fork()
            if answer == 0:
                requests.close()
                answers.close()
                end_process(run_to_the_end(**request))
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    os._exit(0)


def wait_for(pid: int, seconds: float) -> int | None:
    """Return the exit status of a program, or None if it still runs after these seconds."""
    deadline = time.monotonic() + seconds
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= deadline:
            return None
        time.sleep(0.02)


def run_to_the_end(words: list[str], **place: object) -> int:
    """Run a program, and return its exit status as the interpreter does."""
    try:
        run(words, **place)
    except SystemExit as ending:
        if ending.code is None or isinstance(ending.code, int):
            return ending.code or 0
        print(ending.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def run(words: list[str], cwd: str, env: dict[str, str], output: str, errors: str) -> None:
    """Become the program: its environment, its folder, its words and where it prints."""
    os.setsid()
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    for number, path in enumerate((os.devnull, output, errors)):
        opened = os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(opened, number)
        os.close(opened)
    option, what, *rest = words
    if option == "-m":
        sys.argv, sys.path[0] = [what, *rest], cwd
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = ["-c", *rest], ""
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})


def end_process(status: int) -> None:
    """End a program as the interpreter does, but for the taking apart of every module, which takes over a second."""
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    serve(sys.argv[1:])
