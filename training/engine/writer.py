"""How checkpoints get to the disk: whole, and no more than are needed."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from transformers import TrainerState
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import rotate_checkpoints

from training.engine.checkpoints import EXTRA, UNFINISHED, find_best, find_checkpoints
from vanilla_transformer.errors import RecipeError

# In messages of torch.save, which differ by the place of a file at which the disk becomes full.
SIGNS_OF_FULL_DISK = ("PytorchStreamWriter", "inline_container.cc", "iostream error")


class CheckpointWriter:
    """
    Writes checkpoints aside, names them when they are whole, and deletes those that are not needed any more.

    Args:
        folder: of the run.
        limit: checkpoints to keep; all of them if `None`.
    """

    def __init__(self, folder: str | Path, limit: int | None = None):
        self.folder, self.limit = Path(folder), limit
        self._is_writing = False

    def place(self, folder: str) -> str:
        """Return where to write what belongs to a folder."""
        return str(Path(folder) / UNFINISHED) if self._is_writing else folder

    @contextmanager
    def write(self, step: int) -> Iterator[None]:
        """
        Let what is written in the block go aside.

        Raises:
            RecipeError: if it cannot be written.
        """
        self._is_writing = True
        try:
            yield
        except (OSError, RuntimeError, SafetensorError) as error:
            # torch raises RuntimeError when a disk is full, and when a process is gone.
            if isinstance(error, RuntimeError) and not any(sign in str(error) for sign in SIGNS_OF_FULL_DISK):
                raise
            raise RecipeError(
                f"{self.folder / f'checkpoint-{step}'} cannot be written: {error}. The checkpoints before are whole: "
                "free some space and go on with `--resume_from_checkpoint true`."
            ) from error
        finally:
            self._is_writing = False

    def finish(self, state: TrainerState, is_extra: bool) -> None:
        """
        Give the checkpoint of a step its name, and delete those that are not needed any more.

        Args:
            is_extra: whether the recipe asks for none at this step. Such a one serves to go on from, and goes when the
                next one is written.
        """
        final = self.folder / f"checkpoint-{state.global_step}"
        unfinished = self.folder / UNFINISHED / final.name
        if final.exists():
            shutil.rmtree(final)
        best = find_best([*find_checkpoints(self.folder), final], state.log_history)
        state.best_model_checkpoint = None if best is None else str(best)
        state.save_to_json(str(unfinished / TRAINER_STATE_NAME))
        if is_extra:
            (unfinished / EXTRA).touch()
        unfinished.rename(final)
        shutil.rmtree(unfinished.parent)
        for extra in self.folder.glob(f"checkpoint-*/{EXTRA}"):
            if extra.parent != final:
                shutil.rmtree(extra.parent)
        if not is_extra:
            rotate_checkpoints(str(self.folder), self.limit, state.best_model_checkpoint)
