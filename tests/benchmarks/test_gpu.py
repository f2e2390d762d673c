"""The measurements of a GPU run on a CPU too, each fails by itself, and what was measured is kept."""

import dataclasses
import os
import sys
import time

import numpy as np
import pytest

from benchmarks import gpu
from benchmarks.gpu import PARTS, SMOKE, Part, draw_batches, find_peak, main, run_part
from benchmarks.speed.systems import SHAPES

forking = pytest.mark.skipif(sys.platform != "linux", reason="the processes of a trial are forked on Linux only")


@pytest.mark.slow
def test_every_part_gives_a_figure(tmp_path, capsys, monkeypatch):
    """Those of the big model would do the same again: a trial has a shape of its own."""
    parts = [part for part in PARTS if part.shape != "big"]
    monkeypatch.setattr(gpu, "PARTS", parts)
    assert main(["--smoke", "--output", str(tmp_path / "gpu.md")]) == 0
    assert "failed" not in capsys.readouterr().out
    table = (tmp_path / "gpu.md").read_text(encoding="utf-8")
    rows = [line for line in table.splitlines() if line.startswith("| ")][2:]
    assert len(rows) == len(parts) + 2  # two sizes of a batch in each of two parts
    assert all("tokens/s" in row or "sentences/s" in row or "TFLOP/s" in row for row in rows)
    assert "nothing but a trial on a CPU" in table


def test_the_parts_of_the_big_model_are_those_of_the_base_model():
    assert {part.shape for part in PARTS} == {"", "base", "big"} and set(SHAPES) > {"base", "big"}
    base, big = (
        [dataclasses.replace(part, shape="") for part in PARTS if part.work == "training" and part.shape == shape]
        for shape in ("base", "big")
    )
    assert base == big and len(set(PARTS)) == len(PARTS)


@forking
def test_a_measurement_is_written_before_the_next_part(tmp_path, monkeypatch):
    seen = []

    def run(part, sizes, seconds):
        seen.append((tmp_path / "gpu.md").is_file() and (tmp_path / "gpu.md").read_text(encoding="utf-8"))
        yield from run_part(part, sizes, seconds)

    monkeypatch.setattr(gpu, "PARTS", (Part("product"), Part("translating", "base", "ours")))
    monkeypatch.setattr(gpu, "run_part", run)
    assert main(["--smoke", "--output", str(tmp_path / "gpu.md")]) == 0
    assert seen[0] is False and "product of 64 x 64" in seen[1]


@forking
@pytest.mark.parametrize(
    ("behave", "said"),
    [
        (lambda: 1 / 0, "failed: ZeroDivisionError: division by zero"),
        (lambda: os._exit(3), "failed: the process ended with status 3"),
        (lambda: time.sleep(60), "not measured: it took more than 1 s"),
    ],
)
def test_a_part_that_fails_keeps_what_it_has_measured(monkeypatch, behave, said):
    def measure(part, sizes):
        yield {"what": "first", "speed": "1"}
        behave()

    monkeypatch.setattr(gpu, "measure", measure)
    monkeypatch.setattr(gpu, "LEAST", 0.0)
    rows = list(run_part(Part("training", "base", "ours"), SMOKE, 1.0))
    assert rows[0] == {"what": "first", "speed": "1"}
    assert rows[1:] == [{"what": "training, base, ours", "speed": said}]


def test_no_part_begins_when_the_time_is_over():
    assert list(run_part(Part("product"), SMOKE, 5.0)) == [
        {"what": "product", "speed": "not measured: the time was over"}
    ]


def test_lengths_are_those_of_sentences_and_batches_fit():
    batches = draw_batches(1000, 4000, 20)
    assert all(side.numel() <= 4000 for batch in batches for side in (batch.source, batch.target))
    lengths = np.concatenate([(batch.source != 1).sum(dim=1).numpy() for batch in batches])
    assert 24 < lengths.mean() < 32 and lengths.max() > 80
    for batch in batches:
        ends = (batch.source == 2).sum(dim=1)
        assert (ends == 1).all()


def test_makers_figures_go_by_the_whole_name_of_a_gpu():
    assert find_peak("NVIDIA L4") == 121e12 and find_peak("NVIDIA L40S") == 362e12
    assert find_peak("NVIDIA A100-SXM4-80GB") == 312e12
    assert find_peak("NVIDIA H100 PCIe") == 0  # slower than the one that is known


def test_without_a_gpu_the_trial_is_named(capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit):
        main([])
    assert "--smoke runs the same on a CPU" in capsys.readouterr().err
