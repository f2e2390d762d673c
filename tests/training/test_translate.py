"""A file is translated in parts by many processes: the same lines in order, after a kill too, in flat memory."""

import gzip
import os
import queue
import time
import tracemalloc

import pytest
import torch

from training import translate
from training.translate import Job, Work, choose_devices, main, measure_text, read_parts, translate_parts
from vanilla_transformer.errors import SettingsError, TextError
from vanilla_transformer.loading import load_translator
from vanilla_transformer.text import write_whole

WORDS = ["the", "house", "is", "red", "and", "car", "new"]
LINES = [" ".join(WORDS[i % 5 : i % 5 + 1 + i % 3]) for i in range(37)]
LINES[5] = ""
LINES[6] = "the\u2028house\x85is"  # characters at which `splitlines` would split


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.en"
    path.write_text("".join(f"{line}\n" for line in LINES), encoding="utf-8")
    return path


def words(model, text, output, *more):
    return [
        *("--model", str(model), "--input", str(text), "--output", str(output)),
        *("--part_size", "5", "--num_beams", "1", "--device", "cpu", *map(str, more)),
    ]


# ----- parts -----


def test_parts_are_the_lines_of_the_file(text):
    assert [line for part in read_parts(str(text), 5) for line in part] == LINES
    assert list(read_parts(str(text), 5, (1, 6, 7))) == [LINES[5:10], LINES[30:35], LINES[35:]]


def test_a_packed_file_is_read(text):
    packed = text.with_suffix(".en.gz")
    packed.write_bytes(gzip.compress(text.read_bytes()))
    assert list(read_parts(str(packed), 5, (7,))) == [LINES[35:]]
    assert measure_text(str(packed)) == measure_text(str(text)) == (37, measure_text(str(text))[1])
    packed.write_bytes(packed.read_bytes()[:60])
    with pytest.raises(TextError, match="cannot be unpacked"):
        list(read_parts(str(packed), 5))


@pytest.mark.parametrize("content", ["a\nb", "a\nb\n"])
def test_the_last_line_counts_with_and_without_its_end(tmp_path, content):
    (tmp_path / "text").write_text(content)
    assert measure_text(str(tmp_path / "text"))[0] == 2
    assert list(read_parts(str(tmp_path / "text"), 2)) == [["a", "b"]]


def test_bytes_that_are_not_text_are_named_with_their_line(tmp_path):
    (tmp_path / "text").write_bytes(b"a\nb\nc\n\xff\n")
    with pytest.raises(TextError, match=r"text after line 2, line 2 is not UTF-8"):
        list(read_parts(str(tmp_path / "text"), 2))
    (tmp_path / "empty").touch()
    with pytest.raises(TextError, match="is empty"):
        measure_text(str(tmp_path / "empty"))


def test_memory_does_not_grow_with_the_file(tmp_path):
    peaks = []
    for count in (5_000, 50_000):
        path = tmp_path / "text"
        path.write_text("some words of a sentence\n" * count)
        tracemalloc.start()
        measure_text(str(path))
        for _ in read_parts(str(path), 1000):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]


# ----- processes -----


def test_a_part_is_what_the_pipeline_gives(text, model_folder, tmp_path):
    work = Work((Job("part", str(model_folder), str(text)),), tmp_path, {"num_beams": 1}, part_size=40)
    counter = queue.Queue()
    translate_parts(work, {0: (0,)}, "cpu", counter)
    translated = load_translator(model_folder)(LINES, num_beams=1)
    assert [text for _, text in translate.read_translations(work, work.jobs[0], 37)] == [
        each["translation_text"] for each in translated
    ]
    assert counter.get() == 37


@pytest.mark.slow
def test_two_processes_give_the_lines_of_one(text, model_folder, tmp_path, capsys, forked, monkeypatch):
    for processes in (2, 1):
        if processes == 1:
            monkeypatch.setattr(translate, "START", "spawn")  # as it is without the fixture
        output = tmp_path / f"{processes}.es"
        assert main(words(model_folder, text, output, "--num_processes", processes)) == 0
        assert f"37 lines: {output}" in capsys.readouterr().out
    alone, together = ((tmp_path / f"{processes}.es").read_text(encoding="utf-8") for processes in (1, 2))
    assert together == alone
    lines = alone.removesuffix("\n").split("\n")
    assert len(lines) == 37 and lines[5] == "" and len(set(lines)) > 5
    assert not list(tmp_path.glob("*.parts"))


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_with_the_same_lines(text, model_folder, tmp_path, warm, forked, capsys):
    text.write_text("".join(f"{line}\n" for line in LINES * 6), encoding="utf-8")
    whole, killed = tmp_path / "whole.es", tmp_path / "killed.es"
    assert main(words(model_folder, text, whole, "--num_processes", 1)) == 0
    command = words(model_folder, text, killed, "--num_processes", 2)
    folder = tmp_path / "killed.es.parts"
    kept = {}
    code = f"import sys; from training import translate; translate.START = {translate.START!r}; "
    for kill in range(2):
        program_words = ["-c", code + "sys.exit(translate.main(sys.argv[1:]))", *command]
        program = warm("training.train").start(program_words, tmp_path)
        wanted, deadline = len(list(folder.glob("part-*.json"))) + 3, time.monotonic() + 300
        while len(list(folder.glob("part-*.json"))) < wanted:
            assert program.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        program.kill()
        assert not killed.exists()
        kept |= {path: path.stat().st_mtime_ns for path in folder.glob("part-*.json") if path not in kept}
        assert 3 * (kill + 1) <= len(kept) < 45
    assert main(command) == 0
    assert killed.read_bytes() == whole.read_bytes()
    assert len(killed.read_text(encoding="utf-8").split("\n")) == 223


@pytest.mark.slow
def test_parts_of_another_run_are_not_taken(text, model_folder, tmp_path, capsys, monkeypatch, forked):
    output = tmp_path / "text.es"

    def stop(*_):
        raise KeyboardInterrupt

    command = words(model_folder, text, output, "--num_processes", 1)
    with monkeypatch.context() as patch:
        patch.setattr(translate, "read_translations", stop)
        assert main(command) == 130
    assert "repeat the command to go on" in capsys.readouterr().err
    for others in (["--num_beams", "2"], ["--part_size", "6"]):
        assert main([*command, *others]) == 2
        assert "has translations of another text, model or search" in capsys.readouterr().err
    assert main(command) == 0


def test_a_process_that_has_lost_its_starter_writes_nothing(text, model_folder, tmp_path, monkeypatch):
    class Starter:
        def is_alive(self):
            return False

    monkeypatch.setattr(translate.multiprocessing, "parent_process", Starter)
    work = Work((Job("part", str(model_folder), str(text)),), tmp_path / "parts", {"num_beams": 1}, part_size=40)
    work.folder.mkdir()
    translate_parts(work, {0: (0,)}, "cpu", queue.Queue())
    assert not list(work.folder.iterdir())


def test_a_full_disk_loses_no_part(tmp_path, full_disk):
    part = tmp_path / "part.json"
    write_whole(part, "before")
    with full_disk(), pytest.raises(OSError, match="File too large"):
        write_whole(part, "x" * 30_000)
    assert part.read_text() == "before" and list(tmp_path.iterdir()) == [part]


# ----- options -----


def test_every_gpu_has_a_process(monkeypatch):
    assert choose_devices("cpu", 3) == ["cpu"] * 3
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_devices("auto", None) == ["cuda:0", "cuda:1"]
    assert choose_devices("cuda", 3) == ["cuda:0", "cuda:1", "cuda:0"]
    assert choose_devices("cpu", 1) == ["cpu"]
    with pytest.raises(SettingsError, match="`--device` must be auto, cpu or a cuda"):
        choose_devices("tpu", None)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--num_processes", "0"], "`--num_processes` must be at least 1, but is 0"),
        (["--part_size", "-1"], "`--part_size` must be at least 1, but is -1"),
        (["--model", "alice/model"], "`--model` must be a folder, but is alice/model"),
        (["--input", "missing.en"], "missing.en cannot be read"),
        (["--output", os.curdir], "`--output` must be a file of its own"),
    ],
)
def test_options_that_cannot_be(more, message, text, model_folder, tmp_path, capsys):
    assert main([*words(model_folder, text, tmp_path / "text.es"), *more]) == 2
    assert message in capsys.readouterr().err
