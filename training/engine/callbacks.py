"""The work between the steps of a training: epochs, patience, signals, the progress bar."""

import dataclasses
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import cast

import torch
from accelerate import Accelerator
from tqdm.auto import tqdm
from transformers import ProgressCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from training.data.batching import TokenBudgetBatchSampler
from training.engine.checkpoints import patience_is_over
from vanilla_transformer.scores import SplitScores


class TokenClock:
    """Measures the speed of training: tokens per second since it was restarted."""

    def __init__(self, device: torch.device):
        self._tokens = torch.zeros((), dtype=torch.long, device=device)
        self._since = time.perf_counter()

    def count(self, tokens: torch.Tensor) -> None:
        """Add the tokens of a batch of this process."""
        self._tokens += tokens.to(self._tokens.device)

    def measure(self, accelerator: Accelerator) -> float:
        """Return the tokens per second of all processes, and begin anew."""
        tokens = accelerator.reduce(self._tokens, reduction="sum").item()
        speed = tokens / (time.perf_counter() - self._since)
        self.restart()
        return float(speed)

    def restart(self) -> None:
        """Begin anew, so that the speed is that of training only."""
        self._tokens.zero_()
        self._since = time.perf_counter()


def saved_attributes(callback: ExportableState, state: TrainerState) -> dict[str, float] | None:
    """Return what a checkpoint that training goes on from holds of a callback, if anything."""
    # A dictionary when it is read. Trainer writes the next checkpoint only if every callback has an entry.
    saved = cast(dict[str, dict[str, dict[str, float]]], state.stateful_callbacks or {})
    name = type(callback).__name__
    if name not in saved:
        saved[name] = callback.state()
        return None
    return saved[name]["attributes"] if state.global_step else None


class EpochCallback(TrainerCallback):
    """Tells the sampler the epoch. Trainer does not reach it through Accelerate's wrappers after a resume."""

    def __init__(self, sampler: TokenBudgetBatchSampler | None, clock: TokenClock):
        self.sampler, self.clock = sampler, clock

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, *_: object, **kwargs: object) -> None:
        if self.sampler is not None:
            self.sampler.set_epoch(int((state.epoch or 0) + 1e-6))
        self.clock.restart()


@dataclass(frozen=True)
class LossWindow:
    """
    The losses since the last log line.

    Attributes:
        total: their sum, mean of all processes.
        last_logged: the step of that line.
    """

    total: float = 0.0
    last_logged: int = 0


class LossWindowCallback(TrainerCallback, ExportableState):
    """
    Carries the losses since the last log line over a resume.

    Trainer would begin at the checkpoint, and the next line would be the mean of fewer steps than it says.
    """

    def __init__(self) -> None:
        self._window = LossWindow()
        self._saved: LossWindow | None = None

    def state(self) -> dict[str, dict[str, float]]:
        return {"args": {}, "attributes": dataclasses.asdict(self._window)}

    def keep(self, total: float, last_logged: int) -> None:
        """Take over the sums that Trainer keeps; every process does so before a checkpoint is written."""
        self._window = LossWindow(total, last_logged)

    def take_saved(self) -> LossWindow | None:
        """Return the window of the checkpoint that training goes on from, once."""
        saved, self._saved = self._saved, None
        return saved

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, *_: object, **kwargs: object) -> None:
        saved = saved_attributes(self, state)
        if saved is not None:
            self._saved = LossWindow(saved["total"], int(saved["last_logged"]))


class StopwatchCallback(TrainerCallback, ExportableState):
    """
    Counts the seconds of a training over all its sittings, evaluations included.

    Attributes:
        seconds: so far; those of steps that were taken again count once.
    """

    def __init__(self) -> None:
        self._before = 0.0
        self._started: float | None = None

    @property
    def seconds(self) -> float:
        return self._before + (0.0 if self._started is None else time.perf_counter() - self._started)

    def state(self) -> dict[str, dict[str, float]]:
        return {"args": {}, "attributes": {"seconds": self.seconds}}

    def resume(self, state: TrainerState) -> None:
        """Go on from what a checkpoint says."""
        saved = saved_attributes(self, state)
        if saved is not None:
            self._before = saved["seconds"]

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, *_: object, **kwargs: object) -> None:
        self.resume(state)
        self._started = time.perf_counter()

    def on_train_end(self, *_: object, **kwargs: object) -> None:
        self._before, self._started = self.seconds, None


class PatienceCallback(TrainerCallback):
    """
    Ends the training when validation NLL has not improved for so many evaluations; never if `None`.

    It counts in the history, which a checkpoint holds, and so needs no state of its own.
    """

    def __init__(self, patience: int | None):
        self.patience = patience

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **kwargs: object,
    ) -> None:
        if self.patience is None or "eval_loss" not in (metrics or {}):  # the score of something else
            return
        if patience_is_over(state.log_history, self.patience):
            control.should_training_stop = True
            if state.is_world_process_zero:
                tqdm.write(f"step {state.global_step:,}: no better NLL in {self.patience} evaluations; stopping")


class TerminationCallback(TrainerCallback):
    """
    On SIGTERM (a scheduler's, or `kill`) writes a checkpoint after the step at hand and ends the training.

    Attributes:
        requested: whether the signal came to this process.
        obeyed: whether the training ended for it, in every process at the same step.
        writes_extra: whether the checkpoint is written only for it, at a step where the recipe asks for none.
    """

    def __init__(self, accelerator: Accelerator):
        self.accelerator = accelerator
        self.requested = self.obeyed = self.writes_extra = False
        self._before: Callable[[int, FrameType | None], object] | int | None = None

    def _request(self, *_: object) -> None:
        self.requested = True

    def on_train_begin(self, *_: object, **kwargs: object) -> None:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._request)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        requested = self.requested
        if args.world_size > 1:  # the signal reaches the processes at different moments
            if requested:
                self.accelerator.set_trigger()
            requested = self.accelerator.check_trigger()
        if requested:
            self.writes_extra = not control.should_save
            self.obeyed = control.should_save = control.should_training_stop = True

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        if self.obeyed and state.epoch % 1 > 1e-6:  # Trainer calls this where an epoch breaks off, too
            control.should_evaluate = control.should_save = False

    def on_train_end(self, *_: object, **kwargs: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)


class TrainingProgressCallback(ProgressCallback):
    """One bar with loss, learning rate and speed, and a line for each evaluation; only lines where no one watches."""

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, *_: object, **kwargs: object) -> None:
        if state.is_world_process_zero:
            self.training_bar = tqdm(
                total=state.max_steps, initial=state.global_step, dynamic_ncols=True, disable=not sys.stderr.isatty()
            )
        self.current_step = state.global_step

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: object,
    ) -> None:
        if not state.is_world_process_zero or self.training_bar is None or logs is None:
            return
        if "loss" in logs:
            speed = f"{logs['tokens_per_second']:,.0f} tokens/s"
            shown = f"loss {logs['loss']:.3f}, lr {logs['learning_rate']:.2e}, {speed}"
            self.training_bar.set_postfix_str(shown)
            if self.training_bar.disable:
                tqdm.write(f"step {state.global_step:,}: {shown}")
        elif "eval_loss" in logs:
            tqdm.write(f"step {state.global_step:,}: validation {SplitScores.from_metrics(logs, 'eval').describe()}")
