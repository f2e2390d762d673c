"""A watch on losses and gradients: spikes are told; a number that is not finite is an error, or is skipped."""

import math
import statistics
from collections import deque
from typing import cast

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from training.engine.callbacks import saved_attributes
from training.log import logger
from vanilla_transformer.errors import RecipeError

# A spike is so many times the median of the norms of so many steps before, once there are enough of them.
SPIKE, WINDOW, ENOUGH = 10.0, 100, 20
# Losses and norms that may wait to be looked at on a GPU: looking at one means waiting for it.
UNCHECKED = 8
# Steps in a row that may be skipped.
MOST_SKIPPED = 20


class GradientGuard(TrainerCallback, ExportableState):
    """
    Looks at every loss, and at the norm of every step's gradient, of all processes together.

    Args:
        skips: whether a step whose norm is not finite is left out. Without gradients Adam changes neither weights nor
            moments; the step counts, for the schedule too.
        scales: whether the loss is scaled, as in float16: then gradients that are not finite are usual, and the scaler
            leaves such steps out by itself.

    Attributes:
        skipped: steps that were left out, over all sittings.
    """

    def __init__(self, skips: bool = False, scales: bool = False):
        self.skips, self.scales = skips, scales
        self.skipped = self._in_a_row = 0
        self._norms: deque[float] = deque(maxlen=WINDOW)
        self._unchecked: list[tuple[int, torch.Tensor]] = []
        self._losses: list[tuple[int, torch.Tensor, torch.Tensor]] = []  # steps, rows and losses of batches
        self._known: torch.Tensor | float | None = None

    def take_loss(self, step: int, rows: torch.Tensor, loss: torch.Tensor) -> None:
        """
        Take over the loss of a batch.

        Raises:
            RecipeError: as `check_losses`.
        """
        self._losses.append((step, rows, loss))
        if loss.device.type == "cpu" or len(self._losses) >= UNCHECKED:
            self.check_losses()

    def check_losses(self) -> None:
        """
        Check that the losses since the last look are numbers.

        Raises:
            RecipeError: if one is not; the pairs of its batch are named. Where steps are skipped they are only told.
        """
        losses, self._losses = self._losses, []
        for step, rows, loss in losses:
            if math.isfinite(loss.item()):
                continue
            named = ", ".join(map(str, sorted(rows.tolist())))
            said = f"The loss is {loss.item()} in step {step:,}, with rows {named} of the training data in its batch."
            if not self.skips:
                raise RecipeError(
                    f"{said} Look at these; if nothing is wrong with them, lower `noam_scale`, set `max_grad_norm: "
                    "1`, or leave such steps out with `skip_non_finite: true`. The checkpoints before are whole."
                )
            logger.info(said)

    def take(self, norm: torch.Tensor | float | None) -> None:
        """Take over the norm that Trainer has computed of a step."""
        self._known = norm

    def on_pre_optimizer_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: torch.nn.Module | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        **kwargs: object,
    ) -> None:
        norm, self._known = self._known, None
        if norm is None:  # a version of Trainer that computes none
            parameters = () if model is None else model.parameters()
            norm = torch.nn.utils.get_total_norm([each.grad for each in parameters if each.grad is not None])
        norm = torch.as_tensor(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)
        self._unchecked.append((state.global_step + 1, norm.detach()))
        if self.skips or norm.device.type == "cpu" or len(self._unchecked) >= UNCHECKED:
            self.check(optimizer)

    def check(self, optimizer: torch.optim.Optimizer | None = None) -> None:
        """
        Look at the losses and the norms since the last look.

        Args:
            optimizer: has the gradients of the last of these steps, where it may be skipped.

        Raises:
            RecipeError: if one is not finite, and such steps are not skipped or too many of them come in a row.
        """
        self.check_losses()
        unchecked, self._unchecked = self._unchecked, []
        for step, tensor in unchecked:
            norm = tensor.item()
            if math.isfinite(norm):
                self._in_a_row = 0
                self.compare(step, norm)
            elif self.skips and not self.scales and optimizer is not None:
                self.skip(step, norm, optimizer)
            elif not self.scales:
                raise RecipeError(
                    f"The gradient of step {step:,} is not finite: its norm is {norm}. Lower `noam_scale`, set "
                    "`max_grad_norm: 1`, or leave such steps out with `skip_non_finite: true`. The checkpoints before "
                    "are whole."
                )

    def compare(self, step: int, norm: float) -> None:
        """Tell of a norm that is far from those before."""
        if len(self._norms) >= ENOUGH:
            usual = statistics.median(self._norms)
            if norm > SPIKE * usual:
                times = norm / max(usual, 1e-30)
                logger.info(
                    f"step {step:,}: the norm of the gradient is {norm:.3g}, {times:,.0f} times the median of the "
                    f"{len(self._norms)} steps before. If validation gets worse, set `max_grad_norm: 1`."
                )
        self._norms.append(norm)

    def skip(self, step: int, norm: float, optimizer: torch.optim.Optimizer) -> None:
        """Leave a step out, and count it."""
        optimizer.zero_grad(set_to_none=True)
        self.skipped += 1
        self._in_a_row += 1
        logger.info(f"step {step:,} is skipped: the norm of its gradient is {norm}; {self.skipped:,} skipped so far")
        if self._in_a_row > MOST_SKIPPED:
            raise RecipeError(
                f"`skip_non_finite` has skipped {self._in_a_row} steps in a row, up to step {step:,}: the model has "
                "diverged. Go on from an earlier checkpoint with a lower `noam_scale`, or set `max_grad_norm: 1`."
            )

    def state(self) -> dict[str, dict[str, object]]:
        attributes: dict[str, object] = {
            "skipped": self.skipped,
            "in_a_row": self._in_a_row,
            "norms": list(self._norms),
        }
        return {"args": {}, "attributes": attributes}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        saved = saved_attributes(self, state)
        if saved is not None:
            self.skipped, self._in_a_row = int(saved["skipped"]), int(saved["in_a_row"])
            self._norms = deque(cast(list[float], saved["norms"]), maxlen=WINDOW)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        self.check()
        if self.skipped:
            logger.info(f"skipped {self.skipped:,} of {state.global_step:,} steps, whose gradients were not finite")
