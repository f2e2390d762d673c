"""Checkpoints on the Hub, from which a run goes on after its disk is gone."""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from transformers.trainer import TRAINER_STATE_NAME

from training.engine.checkpoints import UNFINISHED, find_damage, find_damage_of_weights
from training.log import logger
from training.recipe.fields import TrainingFields
from vanilla_transformer.errors import HubError
from vanilla_transformer.text import read_json

# Where `hub_strategy: checkpoint` puts the newest one, and what it calls the commit.
LAST = "last-checkpoint"
TITLE = re.compile(r"Training in progress, step (\d+)")
NAME = re.compile(r"hub:(?P<repo>[\w.-]+/[\w.-]+)(@(?P<step>\d+))?")


@dataclass(frozen=True)
class Remote:
    """
    A checkpoint on the Hub.

    Attributes:
        step: that it was written at.
        folder: in the repository.
        revision: the commit that has it.
    """

    step: int
    folder: str
    revision: str


def find_remotes(repo: str) -> list[Remote]:
    """Return the whole checkpoints that a repository has or had, oldest first, each once."""
    api = HfApi()
    head = str(api.model_info(repo).sha)
    files = api.list_repo_files(repo, revision=head)
    steps = {
        int(found[1]) for name in files if (found := re.fullmatch(rf"checkpoint-(\d+)/{TRAINER_STATE_NAME}", name))
    }
    remotes = {step: Remote(step, f"checkpoint-{step}", head) for step in steps}
    if f"{LAST}/{TRAINER_STATE_NAME}" in files:  # what it was before is in the history
        for commit in api.list_repo_commits(repo):
            if (found := TITLE.fullmatch(commit.title)) is not None:
                step = int(found[1])
                remotes.setdefault(step, Remote(step, LAST, commit.commit_id))
    return [remotes[step] for step in sorted(remotes)]


def choose_remotes(remotes: list[Remote], place: str, args: TrainingFields) -> list[Remote]:
    """
    Return the checkpoint to go on from, last, and those before it that the run would still have on its disk.

    Args:
        place: the value of `resume_from_checkpoint`.

    Raises:
        HubError: if there is none of that step.
    """
    found = NAME.fullmatch(place)
    if found is None:
        raise HubError(f"`resume_from_checkpoint` must be hub:USER/NAME or hub:USER/NAME@STEP, but is {place}.")
    if not remotes:
        raise HubError(
            f"`resume_from_checkpoint` must name a repository with whole checkpoints, but {found['repo']} has none. "
            "They are pushed with `hub_strategy: checkpoint` or `all_checkpoints`."
        )
    step = remotes[-1].step if found["step"] is None else int(found["step"])
    upto = [remote for remote in remotes if remote.step <= step]
    if not upto or upto[-1].step != step:
        there = ", ".join(f"{remote.step:,}" for remote in remotes)
        raise HubError(
            f"`resume_from_checkpoint` must name a step that {found['repo']} has, but is {place}. Choose one of: "
            f"{there}."
        )
    if args.load_best_model_at_end:
        kept = args.save_total_limit or len(upto)
    else:
        kept = args.average_checkpoints or 1
    return upto[-kept:]


def fetch_checkpoint(args: TrainingFields) -> Path:
    """
    Bring the checkpoint that `resume_from_checkpoint` names, with those before it that the result may be a mean of.

    A checkpoint that is whole in the output folder already is not fetched again.

    Returns:
        the checkpoint in the output folder.

    Raises:
        HubError: if it is not there, cannot be fetched or is not whole.
    """
    place, output_dir = str(args.resume_from_checkpoint), Path(args.output_dir)
    found = NAME.fullmatch(place)
    try:
        remotes = choose_remotes(find_remotes(found["repo"]) if found else [], place, args)
        for remote in remotes:
            checkpoint = output_dir / f"checkpoint-{remote.step}"
            if not checkpoint.exists() or find_damage_of_weights(checkpoint) is not None:
                fetch(str(found and found["repo"]), remote, checkpoint)
    except HubError:
        raise
    except Exception as error:  # of the Hub, the network or the disk
        said = " ".join(str(error).split()).removesuffix(".")
        raise HubError(
            f"`resume_from_checkpoint` {place} cannot be fetched: {type(error).__name__}: {said}."
        ) from error
    damage = find_damage(checkpoint)
    if damage is not None:
        raise HubError(
            f"`resume_from_checkpoint` must be a complete checkpoint, but {place} is not: {damage}. Name another step."
        )
    return checkpoint


def fetch(repo: str, remote: Remote, checkpoint: Path) -> None:
    """Download a checkpoint aside, and give it its name when it is whole."""
    unfinished = checkpoint.parent / UNFINISHED
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.rmtree(checkpoint, ignore_errors=True)
    snapshot_download(repo, revision=remote.revision, allow_patterns=[f"{remote.folder}/*"], local_dir=unfinished)
    step = read_json(unfinished / remote.folder / TRAINER_STATE_NAME)["global_step"]
    if step != remote.step:
        raise HubError(f"{remote.folder} in {repo} is of step {step:,}, not of {remote.step:,}.")
    (unfinished / remote.folder).rename(checkpoint)
    shutil.rmtree(unfinished)
    logger.info(f"fetched step {remote.step:,} from {repo}")
