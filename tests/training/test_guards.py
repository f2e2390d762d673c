"""Gradients are watched: spikes are told, and what is not finite ends the run or is skipped and counted."""

import json
import math
from types import SimpleNamespace

import pytest
import torch
from transformers import TrainerControl, TrainerState

from training.engine.checkpoints import find_checkpoints
from training.engine.guards import MOST_SKIPPED, GradientGuard
from training.train import main
from vanilla_transformer import VanillaTransformerForConditionalGeneration
from vanilla_transformer.errors import RecipeError


def look(guard, step, norm, model=None, optimizer=None):
    """Let a guard see the norm of a step."""
    guard.take(torch.tensor(norm))
    state = SimpleNamespace(global_step=step - 1)
    guard.on_pre_optimizer_step(None, state, None, model=model, optimizer=optimizer)


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr("training.engine.guards.logger.info", lines.append)
    return lines


def test_a_spike_is_told_once_there_is_something_to_compare_with(said):
    guard = GradientGuard()
    look(guard, 1, 500.0)
    for step in range(2, 40):
        look(guard, step, 1.0 + step % 3)
    assert said == []
    look(guard, 40, 50.0)
    assert len(said) == 1 and "step 40: the norm of the gradient is 50, 25 times the median of the 39 steps" in said[0]
    look(guard, 41, 19.0)
    assert len(said) == 1


def test_a_checkpoint_from_before_there_was_a_guard_can_be_gone_on_from():
    """Trainer writes the next checkpoint only if the state has an entry for every callback."""
    guard, state = GradientGuard(), TrainerState(global_step=5, stateful_callbacks=[TrainerControl()])
    guard.on_train_begin(None, state, TrainerControl())
    assert state.stateful_callbacks["GradientGuard"] == guard.state()
    assert (guard.skipped, list(guard._norms)) == (0, [])


def test_a_gradient_that_is_not_finite_ends_the_run(said):
    with pytest.raises(RecipeError, match=r"The gradient of step 7 is not finite: its norm is inf"):
        look(GradientGuard(), 7, math.inf)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_skipped_step_changes_neither_weights_nor_moments(value, said):
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    guard = GradientGuard(skips=True)

    def step(number, factor):
        (model(torch.ones(1, 3)).sum() * factor).backward()
        norm = torch.nn.utils.get_total_norm([each.grad for each in model.parameters()])
        look(guard, number, norm.item(), model, optimizer)
        optimizer.step()
        optimizer.zero_grad()
        moments = [tensor.clone() for state in optimizer.state.values() for tensor in state.values()]
        return [parameter.detach().clone() for parameter in model.parameters()] + moments

    first, second, third = step(1, 1.0), step(2, value), step(3, 1.0)
    assert all(map(torch.equal, first, second)) and not any(map(torch.equal, second, third))
    assert guard.skipped == 1 and "step 2 is skipped" in said[0]


def test_too_many_skipped_steps_in_a_row_end_the_run(said):
    optimizer = torch.optim.Adam(torch.nn.Linear(1, 1).parameters())
    guard = GradientGuard(skips=True)
    for step in range(MOST_SKIPPED):
        look(guard, step + 1, math.nan, optimizer=optimizer)
    look(guard, 100, 1.0, optimizer=optimizer)
    with pytest.raises(RecipeError, match="has skipped 21 steps in a row"):
        for step in range(MOST_SKIPPED + 1):
            look(guard, step + 101, math.nan, optimizer=optimizer)


def test_float16_is_left_to_its_scaler(said):
    guard = GradientGuard(scales=True)
    look(guard, 1, math.inf)
    assert guard.skipped == 0 and said == []


def test_counts_go_with_a_checkpoint(said):
    guard = GradientGuard(skips=True)
    for step in range(30):
        look(guard, step + 1, 1.0)
    look(guard, 31, math.nan, optimizer=torch.optim.Adam(torch.nn.Linear(1, 1).parameters()))
    saved = json.loads(json.dumps({"GradientGuard": guard.state()}))
    other = GradientGuard(skips=True)
    other.on_train_begin(None, SimpleNamespace(global_step=31, stateful_callbacks=saved), None)
    assert other.skipped == 1 and other.state() == guard.state()


def test_a_run_skips_a_step_and_goes_on(recipe, tmp_path, capsys, monkeypatch):
    forward = VanillaTransformerForConditionalGeneration.forward
    calls = []

    def poisoned(self, *args, **kwargs):
        outputs = forward(self, *args, **kwargs)
        calls.append(None)
        if len(calls) == 5:
            outputs["loss"] = outputs.loss * float("nan")
        return outputs

    monkeypatch.setattr(VanillaTransformerForConditionalGeneration, "forward", poisoned)
    settings = ["--eval_strategy", "no", "--logging_steps", "1", "--max_steps", "8", "--skip_non_finite", "true"]
    assert main([str(recipe), *settings]) == 0
    shown = capsys.readouterr().out
    assert "The loss is nan in step 5, with rows " in shown
    assert "step 5 is skipped: the norm of its gradient is nan; 1 skipped so far" in shown
    assert "skipped 1 of 8 steps" in shown
    state = json.loads((find_checkpoints(tmp_path / "run")[-1] / "trainer_state.json").read_text())
    assert state["stateful_callbacks"]["GradientGuard"]["attributes"]["skipped"] == 1
    losses = [entry["loss"] for entry in state["log_history"] if "loss" in entry]
    assert len(losses) == 8 and all(map(math.isfinite, losses))


@pytest.mark.slow
@pytest.mark.parametrize("size", [100, 3_000, 40_000, 110_000])
def test_a_disk_that_is_full_at_any_size_loses_nothing(recipe, run_until, full_disk, capsys, size):
    """Which file does not fit depends on the size; what was whole before stays so, and the run can go on."""
    run = run_until(4)
    settings = [str(recipe), "--max_steps", "6", "--report_to", "none", "--resume_from_checkpoint", "auto"]
    settings += ["--num_beams", "1", "--predict_with_generate", "false"]
    before = {path: path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}
    with full_disk(size):
        assert main([*settings, "--overwrite_output_dir", "true"]) == 2
    # Of a file of the result, or of the folder before anything is there.
    said = capsys.readouterr().err
    assert "cannot be written" in said or "`output_dir` must be a folder that can be written" in said
    assert {path: path.read_bytes() for path in before} == before
    assert main([*settings, "--overwrite_output_dir", "true"]) == 0
    assert json.loads((run / "all_results.json").read_text())["steps"] == 6
