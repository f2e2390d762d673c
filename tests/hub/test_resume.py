"""A run goes on from checkpoints that it has pushed, after its disk is gone, as if nothing had happened."""

import json
import shutil

import pytest

from tests.hub.server import HubServer
from tests.training.small import write_recipe
from training.engine.remote import NAME, Remote, choose_remotes
from training.recipe.fields import TrainingFields
from vanilla_transformer.errors import HubError


@pytest.fixture
def hub():
    with HubServer(users={"hf_alice": "alice"}) as hub:
        yield hub


def history(run):
    """The log without what depends on the clock."""
    entries = json.loads((run / "checkpoint-12" / "trainer_state.json").read_text())["log_history"]
    timed = ("tokens_per_second", "eval_runtime", "eval_samples_per_second", "eval_steps_per_second")
    return [{name: value for name, value in entry.items() if name not in timed} for entry in entries]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["checkpoint", "all_checkpoints"])
def test_a_run_whose_disk_is_gone_goes_on_from_the_hub(hub, run_module, tmp_path, strategy):
    recipe, run = write_recipe(tmp_path), tmp_path / "run"
    settings = ["--hub_model_id", "alice/kept", "--hub_strategy", strategy, "--report_to", "none"]
    settings += ["--save_steps", "2", "--average_checkpoints", "3", "--push_to_hub", "true"]
    result = run_module(hub, "training.train", recipe, *settings)
    assert result.returncode == 0, result.stderr
    expected, log = (run / "model.safetensors").read_bytes(), history(run)
    shutil.rmtree(run)
    result = run_module(hub, "training.train", recipe, *settings, "--resume_from_checkpoint", "hub:alice/kept@8")
    assert result.returncode == 0, result.stderr
    assert "fetched step 8 from alice/kept" in result.stdout
    assert (run / "model.safetensors").read_bytes() == expected
    assert history(run) == log
    shutil.rmtree(run)
    result = run_module(hub, "training.train", recipe, *settings, "--resume_from_checkpoint", "hub:alice/kept@7")
    assert result.returncode == 2 and "has checkpoints of steps 2, 4, 6, 8, 10, 12 only" in result.stderr
    result = run_module(hub, "training.train", recipe, *settings, "--resume_from_checkpoint", "hub:alice/none")
    assert result.returncode == 2 and "hub:alice/none cannot be fetched: RepositoryNotFoundError" in result.stderr


REMOTES = [Remote(step, f"checkpoint-{step}", "main") for step in (2, 4, 6, 8)]


@pytest.mark.parametrize(
    ("place", "settings", "steps"),
    [
        ("hub:a/b", {}, [8]),
        ("hub:a/b@6", {"average_checkpoints": 3}, [2, 4, 6]),
        ("hub:a/b@6", {"average_checkpoints": 3, "load_best_model_at_end": True}, [2, 4, 6]),
        ("hub:a/b", {"average_checkpoints": 1, "load_best_model_at_end": True, "save_total_limit": 2}, [6, 8]),
    ],
)
def test_the_checkpoints_that_the_result_may_be_a_mean_of_come_along(place, settings, steps):
    chosen = choose_remotes(REMOTES, place, TrainingFields(**settings))
    assert [remote.step for remote in chosen] == steps


@pytest.mark.parametrize(
    ("place", "remotes", "said"),
    [
        ("hub:name", REMOTES, "must be hub:USER/NAME or hub:USER/NAME@STEP"),
        ("hub:a/b@x", REMOTES, "must be hub:USER/NAME or hub:USER/NAME@STEP"),
        ("hub:a/b@5", REMOTES, "has checkpoints of steps 2, 4, 6, 8 only"),
        ("hub:a/b", [], "a/b has no whole checkpoints"),
    ],
)
def test_a_checkpoint_that_is_not_there_is_an_error(place, remotes, said):
    with pytest.raises(HubError, match=said):
        choose_remotes(remotes, place, TrainingFields())


def test_a_name_on_the_hub_has_parts():
    assert NAME.fullmatch("hub:user/my.model-1@1500").groupdict() == {"repo": "user/my.model-1", "step": "1500"}
