"""Pushes while a model is trained: each checkpoint as a finished snapshot, one after the other, in the background."""

import os
import shlex
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback
from transformers.trainer_utils import HubStrategy

from training.arguments import TrainingArguments
from training.checkpoints import PUSHING
from training.push import HubError, prepare_repositories, push_folder, push_model
from vanilla_transformer.conversion import ConversionError
from vanilla_transformer.model_card import ModelCardError, ModelCardFacts, ModelPlace

if TYPE_CHECKING:
    from training.trainer import VanillaTransformerTrainer

# In a checkpoint, and never pushed: it holds every setting of the machine.
PRIVATE = "training_args.bin"


def prepare_push(args: TrainingArguments) -> tuple[str, str | None]:
    """
    See, before anything is trained, that its result can be pushed.

    Returns:
        the whole names of `hub_model_id`, by default the name of `output_dir`, and of `hub_native_model_id`.

    Raises:
        HubError: for whatever would make the push fail.
    """
    name = args.hub_model_id or Path(args.output_dir).resolve().name
    return prepare_repositories(name, args.hub_native_model_id, bool(args.hub_private_repo))


def publish(args: TrainingArguments, repo: str, native: str | None) -> list[str]:
    """
    Push the result; a line on each repository.

    Raises:
        HubError: with the command that pushes it again.
    """
    try:
        return push_model(Path(args.output_dir), repo, native)
    except (HubError, ConversionError, ModelCardError) as error:
        command = ["python", "-m", "training.push", "--model", str(args.output_dir), "--repo", repo]
        command += ["--native", native] if native is not None else []
        raise HubError(f"{error} The training is done. Push its result with: {shlex.join(command)}") from error


class PushCallback(TrainerCallback):
    """
    Pushes every checkpoint that the recipe asks for; `hub_strategy` says which of its files.

    A checkpoint may be deleted before its push begins, and the next one is written meanwhile. So a push reads a
    snapshot: links to the files of a finished checkpoint, which no one writes to again.

    Args:
        repo: as `prepare_repositories` returns it.
        facts: what the card says at this step.
        say: where a push that failed is told of; training goes on.
    """

    def __init__(
        self,
        trainer: "VanillaTransformerTrainer",
        repo: str,
        facts: Callable[[], ModelCardFacts],
        say: Callable[..., None],
    ):
        self.trainer, self.repo, self.facts, self.say = trainer, repo, facts, say
        self.executor = ThreadPoolExecutor(max_workers=1)  # one after the other, in the order of the steps
        self.pushes: list[Future[None]] = []

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.trainer.termination.writes_extra:  # for going on, with little time left
            return
        checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        snapshot = Path(args.output_dir) / PUSHING / checkpoint.name
        try:
            link_files(checkpoint, snapshot)
            self.facts().save(snapshot)
        except OSError as error:
            self.say(f"{checkpoint.name} is not pushed: {snapshot} cannot be written: {error}")
            return
        under = {
            HubStrategy.CHECKPOINT: "last-checkpoint",
            HubStrategy.ALL_CHECKPOINTS: checkpoint.name,
        }.get(args.hub_strategy)
        self.pushes.append(self.executor.submit(self.push, snapshot, under))

    def push(self, snapshot: Path, under: str | None) -> None:
        """Push a snapshot and delete it."""
        try:
            beside = {f"{under}/{file.name}": file for file in snapshot.iterdir()} if under is not None else {}
            message = f"Training in progress, {snapshot.name.replace('checkpoint-', 'step ')}"
            push_folder(snapshot, ModelPlace(self.repo), message, tagged=False, beside=beside)
        except Exception as error:  # whatever it is, the training goes on
            self.say(f"{snapshot.name} is not pushed: {error}")
        shutil.rmtree(snapshot, ignore_errors=True)

    def finish(self, all_of_them: bool) -> None:
        """Wait for the pushes that are left, or for the one that is running alone."""
        if not all_of_them:
            given_up = sum(push.cancel() for push in self.pushes)
            running = sum(not push.done() for push in self.pushes)
            if given_up or running:
                self.say(f"waiting for {running} push; {given_up} later checkpoints are not pushed")
        self.executor.shutdown()
        shutil.rmtree(Path(self.trainer.args.output_dir) / PUSHING, ignore_errors=True)


def link_files(folder: Path, snapshot: Path) -> None:
    """A folder of links to the files of another, or of copies where the file system has no links."""
    shutil.rmtree(snapshot, ignore_errors=True)
    snapshot.mkdir(parents=True)
    for file in folder.iterdir():
        if file.is_file() and file.name != PRIVATE:
            try:
                os.link(file, snapshot / file.name)
            except OSError:
                shutil.copyfile(file, snapshot / file.name)
