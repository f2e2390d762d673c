"""Runs that end before they should: killed, told to stop, out of memory, out of space, out of numbers."""

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.warm import Program
from training.engine.checkpoints import find_checkpoints, find_damage, step_of
from training.train import main
from vanilla_transformer import VanillaTransformerForConditionalGeneration

# How often the run of the first test is killed.
KILLS = int(os.environ.get("KILLS", "3"))
SETTINGS = ["--max_steps", "20", "--save_steps", "5", "--logging_steps", "3", "--eval_steps", "10"]
SETTINGS += ["--augmentation", "{upper: 0.1, lower: 0.2, no_stop: 0.3, copies: 0.3}"]


def history(run: Path) -> list[dict[str, float]]:
    """The log without what depends on the clock."""
    entries = json.loads((find_checkpoints(run)[-1] / "trainer_state.json").read_text())["log_history"]
    timed = ("tokens_per_second", "eval_runtime", "eval_samples_per_second", "eval_steps_per_second")
    return [{name: value for name, value in entry.items() if name not in timed} for entry in entries]


def wait_for_moment(number: int, run: Path, process: Program, chance: random.Random) -> None:
    """Wait for a moment to kill a run: before its first step, in a save, or in training and evaluation."""
    found = find_checkpoints(run)
    if number % 3 == 2:
        time.sleep(chance.uniform(0, 2))
        return
    wait_for_step(run, min(15, step_of(found[-1]) + 5 if found else 5), process)
    if number % 3 == 1:  # while the next one is written
        deadline = time.monotonic() + 60
        while not (run / "unfinished").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.02))
    else:
        time.sleep(chance.uniform(0, 0.5))


def wait_for_step(run: Path, step: int, process: Program | subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 600
    while not (run / f"checkpoint-{step}").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_kills_at_random_moments_leave_no_trace_in_the_curve(recipe, start, launch, tmp_path, processes):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    program = {"processes": processes, "module": "tests.training.train_untyped"}
    result = launch(str(recipe), *SETTINGS, "--output_dir", str(whole), **program)
    assert result.returncode == 0, result.stderr
    settings = [str(recipe), *SETTINGS, "--output_dir", str(killed)]
    chance = random.Random(processes)
    for number in range(KILLS):
        ranks = start(*settings, "--resume_from_checkpoint", "auto", **program)
        wait_for_moment(number, killed, ranks[0], chance)
        for rank in ranks:
            rank.kill()
        assert all(find_damage(folder) is None for folder in find_checkpoints(killed)), f"kill {number}"
    result = launch(*settings, "--resume_from_checkpoint", "auto", **program)
    assert result.returncode == 0, result.stderr
    expected, got = history(whole), history(killed)
    assert len(got) == len(expected)
    weights, expected_weights = (load_file(run / "model.safetensors") for run in (killed, whole))
    if processes == 1:
        assert got == expected
        assert all(torch.equal(tensor, expected_weights[name]) for name, tensor in weights.items())
    else:
        for entry, wanted in zip(got, expected, strict=True):
            assert entry == pytest.approx(wanted, abs=1e-6)


@pytest.mark.slow
def test_sigterm_saves_and_ends_with_0(recipe, start, tmp_path):
    run = tmp_path / "run"
    (process,) = start(str(recipe), "--max_steps", "100000", "--save_steps", "7", "--eval_strategy", "no")
    wait_for_step(run, 7, process)
    process.send_signal(signal.SIGTERM)
    result = process.complete()
    shown = result.stdout
    assert result.returncode == 0, shown + result.stderr
    last = step_of(find_checkpoints(run)[-1])
    assert f"stopped by SIGTERM after step {last:,}, which is saved" in shown
    assert not (run / "model.safetensors").exists()
    # It serves to go on from and takes no part in anything else.
    assert (run / f"checkpoint-{last}" / "extra").exists() == bool(last % 7)
    more = ["--max_steps", str(last + 2), "--resume_from_checkpoint", "auto"]
    assert main([str(recipe), "--eval_strategy", "no", *more]) == 0
    assert not list(run.glob("checkpoint-*/extra"))


def test_sigterm_before_the_first_step_ends_with_0_as_well(recipe, monkeypatch, capsys):
    monkeypatch.setattr(
        "training.tasks.translation.Translation.load_texts", lambda *_: signal.raise_signal(signal.SIGTERM)
    )
    assert main([str(recipe)]) == 0
    assert "stopped by SIGTERM outside training: there was nothing to save" in capsys.readouterr().out


@pytest.mark.slow
def test_sigterm_reaches_both_processes(recipe, torchrun, tmp_path):
    run = tmp_path / "run"
    process = torchrun(str(recipe), "--max_steps", "100000", "--save_steps", "7", "--eval_strategy", "no")
    wait_for_step(run, 7, process)
    process.send_signal(signal.SIGTERM)
    shown, _ = process.communicate(timeout=600)
    last = step_of(find_checkpoints(run)[-1])
    assert f"stopped by SIGTERM after step {last:,}, which is saved" in shown
    assert find_damage(run / f"checkpoint-{last}") is None


@pytest.mark.slow
def test_a_damaged_checkpoint_is_told_and_passed_over(recipe, run_until, capsys):
    run = run_until(8)
    cut = run / "checkpoint-8" / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    optimizer = run / "checkpoint-6" / "optimizer.pt"
    content = bytearray(optimizer.read_bytes())
    content[len(content) // 2] ^= 0xFF
    optimizer.write_bytes(content)
    assert main([str(recipe), "--resume_from_checkpoint", str(run / "checkpoint-8")]) == 2
    assert (
        f"must be a complete checkpoint, but {cut.parent} is not: model.safetensors cannot be read"
        in capsys.readouterr().err
    )
    assert main([str(recipe), "--resume_from_checkpoint", "true"]) == 0
    shown = capsys.readouterr().out
    assert "checkpoint-8 is damaged and is skipped: model.safetensors cannot be read" in shown
    assert "checkpoint-6 is damaged and is skipped: optimizer.pt has wrong checksums" in shown
    assert json.loads((run / "all_results.json").read_text())["steps"] == 12
    assert (run / "damaged-checkpoint-8").is_dir()
    for folder in find_checkpoints(run):
        (folder / "trainer_state.json").unlink()
    assert main([str(recipe), "--resume_from_checkpoint", "true"]) == 2
    assert "has no complete checkpoint" in capsys.readouterr().err
    auto = ["--resume_from_checkpoint", "auto"]
    assert main([str(recipe), *auto]) == 2
    assert f"must not hold a model, which would be written over, but {run} does" in capsys.readouterr().err
    assert main([str(recipe), *auto, "--overwrite_output_dir", "true"]) == 0


@pytest.mark.parametrize(
    ("name", "content", "damage"),
    [
        ("tokenizer.json", '{"version": "1', "tokenizer.json cannot be read"),
        ("tokenizer.json", None, "tokenizer.json is missing"),
        ("config.json", '{"model_type', "config.json cannot be read"),
        ("config.json", None, "config.json is missing"),
        ("trainer_state.json", "{}", "trainer_state.json has no global_step"),
        ("trainer_state.json", "3", "trainer_state.json cannot be read"),
        ("optimizer.pt", "", "optimizer.pt cannot be read"),
    ],
)
def test_every_file_of_a_checkpoint_is_looked_at(finished, tmp_path, name, content, damage):
    copy = shutil.copytree(finished / "run" / "checkpoint-2", tmp_path / "checkpoint-2")
    assert find_damage(copy) is None
    (copy / name).unlink()
    if content is not None:
        (copy / name).write_text(content)
    assert (find_damage(copy) or "").startswith(damage)


@pytest.mark.slow
def test_a_damaged_checkpoint_takes_no_part_in_the_mean(recipe, run_until, capsys):
    run = run_until(6)
    cut = run / "checkpoint-4" / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:1000])
    assert main([str(recipe), "--max_steps", "8", "--resume_from_checkpoint", "true"]) == 0
    shown = capsys.readouterr().out
    assert "checkpoint-4 is damaged and is left out of the result: model.safetensors cannot be read" in shown
    assert "averaged 3 checkpoints: checkpoint-2, checkpoint-6, checkpoint-8" in shown


def test_a_loss_that_is_not_a_number_stops_with_the_rows(recipe, tmp_path, capsys, monkeypatch):
    forward = VanillaTransformerForConditionalGeneration.forward
    sizes = []

    def poisoned(self, *args, **kwargs):
        outputs = forward(self, *args, **kwargs)
        sizes.append(len(kwargs["labels"]))
        if len(sizes) == 5:
            outputs["loss"] = outputs.loss * float("nan")
        return outputs

    monkeypatch.setattr(VanillaTransformerForConditionalGeneration, "forward", poisoned)
    assert main([str(recipe), "--eval_strategy", "no"]) == 2
    error = capsys.readouterr().err
    assert "The loss is nan in step 5, with rows " in error
    rows = [int(word) for word in error.partition("with rows ")[2].partition(" of")[0].split(", ")]
    assert len(rows) == sizes[-1] and all(1 <= row <= 200 for row in rows)
    assert [folder.name for folder in find_checkpoints(tmp_path / "run")] == ["checkpoint-2", "checkpoint-4"]


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("DefaultCPUAllocator: can't allocate memory")],
)
def test_out_of_memory_names_the_batch_and_the_remedy(recipe, capsys, monkeypatch, error):
    def forward(self, *args, **kwargs):
        raise error

    monkeypatch.setattr(VanillaTransformerForConditionalGeneration, "forward", forward)
    assert main([str(recipe)]) == 2
    shown = capsys.readouterr().err
    assert "Out of memory with a batch of source " in shown and "Set `tokens_per_device: 200`" in shown


@pytest.mark.slow
def test_a_full_disk_is_told_and_harms_nothing(recipe, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - 1000, 1000))
    assert main([str(recipe)]) == 2
    assert "has 0 MB left. Free some space" in capsys.readouterr().err
    monkeypatch.undo()

    save = torch.save

    def full(*args, **kwargs):
        if "checkpoint-6" in str(args[1]):
            raise OSError(errno.ENOSPC, "No space left on device")
        save(*args, **kwargs)

    monkeypatch.setattr(torch, "save", full)
    assert main([str(recipe)]) == 2
    assert "checkpoint-6 cannot be written: [Errno 28] No space left" in capsys.readouterr().err
    monkeypatch.undo()
    assert [folder.name for folder in find_checkpoints(tmp_path / "run")] == ["checkpoint-2", "checkpoint-4"]
    assert main([str(recipe), "--resume_from_checkpoint", "true"]) == 0
    assert not (tmp_path / "run" / "unfinished").exists()


@pytest.mark.slow
def test_a_full_disk_at_the_end_leaves_the_older_result_whole(recipe, run_until, full_disk, capsys):
    run = run_until(12)
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    again = [str(recipe), "--resume_from_checkpoint", "true", "--report_to", "none"]  # no step is left to do
    with full_disk():
        assert main(again) == 2
    assert f"The result cannot be written to {run}" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before
    assert main(again) == 0
    assert (run / "model.safetensors").read_bytes() == before["model.safetensors"]
