"""Batches of about as many tokens each, of sentences of similar length (§5.1)."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from training.arguments import RecipeError, TrainingArguments


class TokenBudgetBatchSampler(Sampler[list[int]]):
    """
    Cut sentences, sorted by length, into optimizer steps that fill a budget of tokens; then shuffle the steps.

    The budget counts padded positions: sentences x the longest of them stays within it on the source side and on the
    target side alike. Sentences of equal lengths change places from epoch to epoch, and the steps their order, as a
    function of (seed, epoch) alone; the number of steps is the same in every epoch.

    A step is dealt out to processes and accumulation as `batches_per_step` batches of equally many sentences, to
    within one. What is in a step does not depend on that number, so that the same recipe takes the same steps on any
    number of devices. (One step in an epoch may: a remainder too small to be shared is filled up from its neighbour.)

    Accelerate hands out whole batches only while a batch sampler has no attribute `batch_size`: this one has none.

    Args:
        source_lengths, target_lengths (arrays of shape (N,)): tokens of each pair.
        tokens_per_step (`int`): the budget of either side.
        seed (`int`), shuffle (`bool`): without `shuffle` the longest come first, which finds a lack of memory early.
        batches_per_step (`int`): processes x accumulation.

    Raises:
        RecipeError: if a sentence is longer than the budget of a batch, or there are fewer sentences than batches.
    """

    def __init__(
        self,
        source_lengths: np.ndarray,
        target_lengths: np.ndarray,
        tokens_per_step: int,
        seed: int = 0,
        shuffle: bool = True,
        batches_per_step: int = 1,
    ):
        self.source_lengths, self.target_lengths = np.asarray(source_lengths), np.asarray(target_lengths)
        self.seed, self.shuffle, self.batches_per_step = seed, shuffle, batches_per_step
        self.epoch = 0
        longest = int(max(self.source_lengths.max(), self.target_lengths.max()))
        if longest > tokens_per_step // batches_per_step:
            raise RecipeError(
                f"`tokens_per_step` is {tokens_per_step} for {batches_per_step} batches and the longest sentence has "
                f"{longest} tokens. Raise it or leave such sentences out."
            )
        # Which sentence stands where depends on the epoch, which lengths stand where does not: cut once.
        order = np.lexsort((self.source_lengths, self.target_lengths))
        self.sizes = self._cut(self.source_lengths[order], self.target_lengths[order], tokens_per_step)

    def _cut(self, source_lengths: np.ndarray, target_lengths: np.ndarray, budget: int) -> list[int]:
        """How many of the sorted sentences each step takes."""
        sizes: list[int] = []
        start, longest = 0, 0
        for i, length in enumerate(np.maximum(source_lengths, target_lengths).tolist()):
            longest = max(longest, length)
            if (i + 1 - start) * longest > budget:
                sizes.append(i - start)
                start, longest = i, length
        sizes.append(len(source_lengths) - start)
        lacking = self.batches_per_step - sizes[-1]
        if lacking > 0:
            if len(sizes) == 1 or sizes[-2] - lacking < self.batches_per_step:
                raise RecipeError(
                    f"{len(source_lengths)} pairs do not make {self.batches_per_step} batches for each step. "
                    "Give more pairs, or a smaller `tokens_per_step`."
                )
            sizes[-2:] = [sizes[-2] - lacking, self.batches_per_step]
        return sizes

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch; the same epoch gives the same batches."""
        self.epoch = epoch

    @property
    def steps(self) -> int:
        """Optimizer steps in an epoch."""
        return len(self.sizes)

    def __len__(self) -> int:
        return self.steps * self.batches_per_step

    def __iter__(self) -> Iterator[list[int]]:
        generator = np.random.default_rng((self.seed, self.epoch))
        count = len(self.source_lengths)
        shuffled = generator.permutation(count) if self.shuffle else np.arange(count)
        order = shuffled[np.lexsort((self.source_lengths[shuffled], self.target_lengths[shuffled]))]
        steps = np.split(order, np.cumsum(self.sizes)[:-1])
        turn = generator.permutation(len(steps)) if self.shuffle else range(len(steps) - 1, -1, -1)
        for i in turn:
            for batch in np.array_split(steps[i], self.batches_per_step):
                yield batch.tolist()


def derive_accumulation(args: TrainingArguments) -> str:
    """
    Set `gradient_accumulation_steps` so that all processes together take `tokens_per_step` in a step.

    Returns:
        a line that shows the arithmetic, such as `25,000 = 2 processes x 3,125 x 4`.

    Raises:
        RecipeError: if the processes alone are more than a step holds.
    """
    world = args.world_size
    if args.tokens_per_step < world:
        raise RecipeError(f"`tokens_per_step` is {args.tokens_per_step} for {world} processes. Raise it.")
    share = args.tokens_per_step / world
    args.gradient_accumulation_steps = 1
    if args.tokens_per_device is not None:
        args.gradient_accumulation_steps = max(1, int(np.ceil(share / args.tokens_per_device)))
    accumulation = args.gradient_accumulation_steps
    processes = f"{world} process{'es' if world > 1 else ''}"
    return f"{args.tokens_per_step:,} = {processes} x {batch_budget(args):,} x {accumulation}"


def batch_budget(args: TrainingArguments) -> int:
    """Tokens of either side in one batch of one process, to within one sentence."""
    return args.tokens_per_step // (args.world_size * args.gradient_accumulation_steps)
