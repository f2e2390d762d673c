"""Pushes while a model is trained: each checkpoint as a finished snapshot, one after the other, in the background."""

import os
import shlex
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from transformers import TrainerCallback, TrainerControl, TrainerState
from transformers import TrainingArguments as AnyArguments
from transformers.trainer_utils import HubStrategy

from training.engine.arguments import TrainingArguments
from training.engine.callbacks import TerminationCallback
from training.engine.checkpoints import PUSHING
from training.engine.processes import first_process
from training.engine.trainer import VanillaTransformerTrainer
from training.log import logger
from training.publish.hub import prepare_repositories, push_folder, push_model
from vanilla_transformer.errors import ConversionError, HubError, ModelCardError
from vanilla_transformer.model_card import ModelCardFacts, ModelPlace

# In a checkpoint, and never pushed: it holds every setting of the machine.
PRIVATE = "training_args.bin"


def prepare_push(args: TrainingArguments) -> tuple[str, str | None] | None:
    """
    Check, before anything is trained, that its result can be pushed.

    Returns:
        the whole names of `hub_model_id`, by default the name of `output_dir`, and of `hub_native_model_id`; `None`
        without `push_to_hub`.

    Raises:
        HubError: for whatever would make the push fail.
    """
    if not args.push_to_hub:
        return None
    name = args.hub_model_id or Path(args.output_dir).resolve().name
    native, private = args.recipe.hub_native_model_id, bool(args.hub_private_repo)
    return first_process(args, lambda: prepare_repositories(name, native, private))


def publish(args: TrainingArguments, repositories: tuple[str, str | None]) -> None:
    """
    Push the result, and say where it is.

    Raises:
        HubError: with the command that pushes it again.
    """
    for line in first_process(args, lambda: push_result(args, *repositories)):
        logger.info(line)


def push_result(args: TrainingArguments, repo: str, native: str | None) -> list[str]:
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

    A push that fails is reported, and the training goes on. A checkpoint may be deleted before its push begins, and
    the next one is written meanwhile. So a push reads a snapshot: links to the files of a finished checkpoint, which
    no one writes to again.

    Args:
        folder: of the run.
        termination: says which checkpoints are written for it, and not pushed.
        repo: as `prepare_repositories` returns it.
        facts: what the card says at a step.
    """

    def __init__(
        self,
        folder: Path,
        termination: TerminationCallback,
        repo: str,
        facts: Callable[[TrainerState], ModelCardFacts],
    ):
        self.folder, self.termination, self.repo, self.facts = folder, termination, repo, facts
        self.executor = ThreadPoolExecutor(max_workers=1)  # one after the other, in the order of the steps
        self.pushes: list[Future[None]] = []

    def on_save(self, args: AnyArguments, state: TrainerState, control: TrainerControl, **kwargs: object) -> None:
        if self.termination.writes_extra:  # for going on, with little time left
            return
        checkpoint = self.folder / f"checkpoint-{state.global_step}"
        snapshot = self.folder / PUSHING / checkpoint.name
        try:
            link_files(checkpoint, snapshot)
            self.facts(state).save(snapshot)
        except OSError as error:
            logger.info(f"{checkpoint.name} is not pushed: {snapshot} cannot be written: {error}")
            return
        under = {
            HubStrategy.CHECKPOINT: "last-checkpoint",
            HubStrategy.ALL_CHECKPOINTS: checkpoint.name,
        }.get(HubStrategy(args.hub_strategy))
        self.pushes.append(self.executor.submit(self.push, snapshot, under))

    def push(self, snapshot: Path, under: str | None) -> None:
        """Push a snapshot and delete it."""
        try:
            beside = {f"{under}/{file.name}": file for file in snapshot.iterdir()} if under is not None else {}
            message = f"Training in progress, {snapshot.name.replace('checkpoint-', 'step ')}"
            push_folder(snapshot, ModelPlace(self.repo), message, tagged=False, beside=beside)
        except Exception as error:  # whatever it is, the training goes on
            logger.info(f"{snapshot.name} is not pushed: {error}")
        shutil.rmtree(snapshot, ignore_errors=True)

    def finish(self, all_of_them: bool) -> None:
        """Wait for the pushes that are left, or only for the one that is running."""
        if not all_of_them:
            given_up = sum(push.cancel() for push in self.pushes)
            running = sum(not push.done() for push in self.pushes)
            if given_up or running:
                logger.info(f"waiting for {running} push; {given_up} later checkpoints are not pushed")
        self.executor.shutdown()
        shutil.rmtree(self.folder / PUSHING, ignore_errors=True)


@contextmanager
def push_checkpoints(
    trainer: VanillaTransformerTrainer,
    repositories: tuple[str, str | None] | None,
    facts: Callable[[TrainerState], ModelCardFacts],
) -> Iterator[None]:
    """
    Push the checkpoints of a training that runs in the block, where its recipe asks for that.

    Args:
        repositories: as `prepare_push` returns them.
        facts: what the card says at the step of a checkpoint.
    """
    args, finished = trainer.args, False
    if repositories is None or args.hub_strategy == HubStrategy.END or args.process_index != 0:
        yield
        return
    callback = PushCallback(Path(args.output_dir), trainer.termination, repositories[0], facts)
    trainer.add_callback(callback)
    try:
        yield
        finished = not trainer.termination.obeyed
    finally:
        callback.finish(all_of_them=finished)


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
