"""The paper's learning rate (§5.3), and an end for it."""

import torch
from torch.optim.lr_scheduler import LambdaLR


def noam_learning_rate(step: int, hidden_size: int, warmup_steps: float, scale: float = 1.0) -> float:
    """
    lrate = scale · d_model^-0.5 · min(step^-0.5, step · warmup_steps^-1.5), with the first step counted as 1 (§5.3).
    """
    return scale * hidden_size**-0.5 * min(step**-0.5, step * warmup_steps**-1.5)


def count_decay_steps(decay_steps: float, total: int) -> int:
    """How many of all steps `decay_steps` is: a number of them, or below 1 a share."""
    return min(total, round(decay_steps * total if decay_steps < 1 else decay_steps))


def noam_schedule(
    optimizer: torch.optim.Optimizer,
    hidden_size: int,
    warmup_steps: float,
    scale: float = 1.0,
    total: int = 0,
    decay_steps: int = 0,
) -> LambdaLR:
    """
    A scheduler that sets the learning rate of every step to the paper's, for an optimizer that is built with rate 1.

    The last `decay_steps` of all `total` steps, if any, have a falling part of it, which would be 0 one step after the
    last one: of 3 steps 3/4, 2/4 and 1/4. transformers' `inverse_sqrt` is the paper's schedule one step late: its
    first step has the rate 0.
    """

    def rate(done: int) -> float:  # the scheduler counts the steps that are done, the paper the one to do
        part = min(1.0, max(0, total - done) / (decay_steps + 1)) if decay_steps else 1.0
        return part * noam_learning_rate(done + 1, hidden_size, warmup_steps, scale)

    return LambdaLR(optimizer, rate)
