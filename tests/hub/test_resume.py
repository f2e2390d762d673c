"""A run goes on from checkpoints that it has pushed, after its disk is gone, as if nothing had happened."""

import json

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
def test_a_run_whose_disk_is_gone_goes_on_from_the_hub(hub, run_together, tmp_path, strategy):
    settings = [write_recipe(tmp_path), "--hub_model_id", "alice/kept", "--hub_strategy", strategy]
    settings += ["--save_steps", "2", "--average_checkpoints", "3", "--push_to_hub", "true", "--report_to", "none"]
    resume = [*settings, "--output_dir", tmp_path / "resumed", "--resume_from_checkpoint"]
    commands = [settings, [*resume, "hub:alice/kept@8"], [*resume, "hub:alice/none"]]
    whole, resumed, unknown = run_together(hub, "training.train", commands)
    assert whole.returncode == 0, whole.stderr
    assert resumed.returncode == 0, resumed.stderr
    assert "fetched step 8 from alice/kept" in resumed.stdout
    first, second = (tmp_path / name for name in ("run", "resumed"))
    assert (second / "model.safetensors").read_bytes() == (first / "model.safetensors").read_bytes()
    assert history(second) == history(first)
    assert unknown.returncode == 2 and "hub:alice/none cannot be fetched: RepositoryNotFoundError" in unknown.stderr


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
        ("hub:a/b@5", REMOTES, "must name a step that a/b has, but is hub:a/b@5. Choose one of: 2, 4, 6, 8"),
        ("hub:a/b", [], "must name a repository with whole checkpoints, but a/b has none"),
    ],
)
def test_a_checkpoint_that_is_not_there_is_an_error(place, remotes, said):
    with pytest.raises(HubError, match=said):
        choose_remotes(remotes, place, TrainingFields())


def test_a_name_on_the_hub_has_parts():
    assert NAME.fullmatch("hub:user/my.model-1@1500").groupdict() == {"repo": "user/my.model-1", "step": "1500"}
