"""Files that are damaged at random are read, or give one clear error of ours; `make fuzz` reads thousands of them."""

import os
import random
import sys

import pytest

from tests import fuzz
from tests.fuzz import KINDS, Kind, damage, find_faults, prepare, run_case


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    prepare(folder)
    return folder


@pytest.mark.parametrize("name", KINDS)
def test_good_files_are_read(place, name):
    KINDS[name].read(place)


@pytest.mark.parametrize("name", KINDS)
def test_damaged_files_are_read_or_give_one_clear_error(place, name):
    faults = {number: run_case(place, name, 10_000 + number) for number in range(8)}
    assert not any(faults.values()), faults


def test_a_number_makes_the_same_damage():
    content = b'{"a": [1, 2, {"b": "text"}], "c": 3}'
    made = [damage(content, random.Random(f"config {number}")) for number in range(50)]
    assert made == [damage(content, random.Random(f"config {number}")) for number in range(50)]
    assert len(set(made)) > 40


@pytest.mark.skipif(sys.platform != "linux", reason="the cases run in a process that is forked")
@pytest.mark.parametrize(
    ("behave", "said"),
    [
        (lambda folder: 1 / 0, "ZeroDivisionError"),
        (lambda folder: os._exit(5), "the process ended with 5"),
        (lambda folder: [None for _ in iter(int, 1)], "it took more than 1 seconds of a core"),
    ],
)
def test_an_error_that_is_not_clear_is_a_fault(monkeypatch, behave, said):
    monkeypatch.setattr(fuzz, "SECONDS", 1)
    monkeypatch.setattr(fuzz, "prepare", lambda folder: (folder / "file").write_bytes(b"a"))
    monkeypatch.setitem(fuzz.KINDS, "bad", Kind("file", behave))
    (fault,) = find_faults(["bad"], 7, 1)
    assert fault.startswith("bad 7: ") and said in fault
