"""Which checkpoints there are, which is the best of them, and whether one has a step left to do."""

import json

import pytest

from training.engine.checkpoints import find_best, is_finished, patience_is_over
from training.recipe.fields import TrainingFields


def log(*losses):
    """A log with evaluations at steps 2, 4 and so on, and losses of training between them."""
    return [
        entry
        for number, loss in enumerate(losses, 1)
        for entry in ({"step": 2 * number - 1, "loss": 1.0}, {"step": 2 * number, "eval_loss": loss})
    ]


@pytest.mark.parametrize(
    ("losses", "is_over"),
    [
        ((), False),
        ((3.0,), False),
        ((3.0, 4.0), False),
        ((3.0, 4.0, 5.0), True),
        ((3.0, 4.0, 3.0), True),  # as good is not better
        ((3.0, 4.0, 2.0), False),
        ((3.0, 2.0, 4.0, 5.0), True),
    ],
)
def test_patience_ends_after_so_many_evaluations_without_a_better_one(losses, is_over):
    assert patience_is_over(log(*losses), 2) is is_over


def test_the_best_is_one_of_those_that_were_evaluated_and_are_there(tmp_path):
    folders = [tmp_path / f"checkpoint-{step}" for step in (2, 3, 6, 8)]
    assert find_best(folders, log(4.0, 1.0, 3.0, 5.0)) == folders[2]
    assert find_best(folders[1:2], log(4.0)) is None


@pytest.mark.parametrize(
    ("fields", "finished"),
    [
        ({"max_steps": 6}, True),
        ({"max_steps": 7}, False),
        ({"max_steps": 9, "patience": 2}, True),
        ({"max_steps": 9, "patience": 3}, False),
        ({"num_train_epochs": 2.0}, True),
        ({"num_train_epochs": 3.0}, False),
    ],
)
def test_a_run_is_finished_by_its_steps_its_epochs_or_its_patience(tmp_path, fields, finished):
    checkpoint = tmp_path / "checkpoint-6"
    checkpoint.mkdir()
    state = {"log_history": log(1.0, 2.0, 3.0), "max_steps": 6, "num_train_epochs": 2}
    (checkpoint / "trainer_state.json").write_text(json.dumps(state))
    assert is_finished(checkpoint, TrainingFields(**fields)) is finished
