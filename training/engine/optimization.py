"""The paper's learning rate (§5.3)."""

import torch
from torch.optim.lr_scheduler import LambdaLR


def noam_learning_rate(step: int, hidden_size: int, warmup_steps: float, scale: float = 1.0) -> float:
    """
    lrate = scale · d_model^-0.5 · min(step^-0.5, step · warmup_steps^-1.5), with the first step counted as 1 (§5.3).
    """
    return scale * hidden_size**-0.5 * min(step**-0.5, step * warmup_steps**-1.5)


def noam_schedule(
    optimizer: torch.optim.Optimizer, hidden_size: int, warmup_steps: float, scale: float = 1.0
) -> LambdaLR:
    """
    A scheduler that sets the learning rate of every step to the paper's, for an optimizer that is built with rate 1.

    transformers' `inverse_sqrt` is this schedule one step late: its first step has the rate 0.
    """
    # The scheduler counts the steps that are done, the paper the one to do.
    return LambdaLR(optimizer, lambda done: noam_learning_rate(done + 1, hidden_size, warmup_steps, scale))
