"""Systems in processes of their own answer, fail by themselves, and come first in turn."""

import os
import sys
import textwrap

import pytest

from benchmarks.speed.workers import Worker, rotated


@pytest.fixture
def worker(tmp_path, monkeypatch):
    (tmp_path / "some_system.py").write_text(
        textwrap.dedent(
            """
            import os, sys
            from benchmarks.speed.workers import serve

            def answer(request):
                if request["number"] == 0:
                    os._exit(3)
                print("something that is no answer")
                return {"result": 12 / (request["number"] - 1), "threads": os.environ["OMP_NUM_THREADS"]}

            serve(answer)
            """
        )
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    worker = Worker("some_system", [], threads=2)
    yield worker
    worker.end()


def test_a_system_that_fails_goes_on(worker):
    assert worker.ask(number=4) == {"result": 4.0, "threads": "2"}
    assert worker.ask(number=1) == {"error": "ZeroDivisionError: division by zero"}
    assert worker.ask(number=3) == {"result": 6.0, "threads": "2"}


def test_a_system_that_ends_is_an_error(worker):
    assert worker.ask(number=0) == {"error": "the process ended with status 3"}
    assert worker.ask(number=4) == {"error": "the process ended with status 3"}


def test_no_system_keeps_its_place():
    systems = {"a": 1, "b": 2, "c": 3}
    assert [[name for name, _ in rotated(systems, turn)] for turn in range(4)] == [
        ["a", "b", "c"],
        ["c", "b", "a"],
        ["b", "c", "a"],
        ["a", "c", "b"],
    ]
