"""Batches of about as many tokens each, of sentences of similar length (§5.1)."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from training.arguments import RecipeError


class TokenBudgetBatchSampler(Sampler[list[int]]):
    """
    Cut sentences, sorted by length, into batches that fill a budget of tokens; then shuffle the batches.

    The budget counts padded positions: sentences x the longest of them stays within it on the source side and on the
    target side alike. Sentences of equal lengths change places from epoch to epoch, and the batches their order, as a
    function of (seed, epoch) alone; the number of batches is the same in every epoch.

    Batches come in groups of `group_size`, neighbours in length, which are the batches of one optimizer step: no
    process waits long for another, and processes and accumulation can share a step in any way. The largest are halved
    until no group is incomplete.

    Accelerate hands out whole batches only while a batch sampler has no attribute `batch_size`: this one has none.

    Args:
        source_lengths, target_lengths (arrays of shape (N,)): tokens of each pair.
        tokens_per_batch (`int`): the budget of either side.
        seed (`int`), shuffle (`bool`): without `shuffle` the longest come first, which finds a lack of memory early.
        group_size (`int`): processes x accumulation.

    Raises:
        RecipeError: if a sentence is longer than the budget, or there are fewer sentences than batches in a step.
    """

    def __init__(
        self,
        source_lengths: np.ndarray,
        target_lengths: np.ndarray,
        tokens_per_batch: int,
        seed: int = 0,
        shuffle: bool = True,
        group_size: int = 1,
    ):
        self.source_lengths, self.target_lengths = np.asarray(source_lengths), np.asarray(target_lengths)
        self.seed, self.shuffle, self.group_size = seed, shuffle, group_size
        self.epoch = 0
        longest = int(max(self.source_lengths.max(), self.target_lengths.max()))
        if longest > tokens_per_batch:
            raise RecipeError(
                f"`tokens_per_batch` is {tokens_per_batch} and the longest sentence has {longest} tokens. "
                "Raise the budget or leave such sentences out."
            )
        # Which sentence stands where depends on the epoch, which lengths stand where does not: cut once.
        order = np.lexsort((self.source_lengths, self.target_lengths))
        self.sizes = self._cut(self.source_lengths[order], self.target_lengths[order], tokens_per_batch)

    def _cut(self, source_lengths: np.ndarray, target_lengths: np.ndarray, budget: int) -> list[int]:
        """Sizes of the batches, in the order of the sorted sentences."""
        sizes: list[int] = []
        start, longest = 0, 0
        for i in range(len(source_lengths)):
            longest = max(longest, int(source_lengths[i]), int(target_lengths[i]))
            if (i + 1 - start) * longest > budget:
                sizes.append(i - start)
                start, longest = i, int(max(source_lengths[i], target_lengths[i]))
        sizes.append(len(source_lengths) - start)
        while len(sizes) % self.group_size and max(sizes) > 1:
            largest = sizes.index(max(sizes))
            half = sizes[largest] // 2
            sizes[largest : largest + 1] = [half, sizes[largest] - half]
        if len(sizes) % self.group_size:
            raise RecipeError(
                f"{len(source_lengths)} pairs do not make {self.group_size} batches for each step. "
                "Give more pairs, or a smaller `tokens_per_step`."
            )
        return sizes

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch; the same epoch gives the same batches."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.sizes)

    def __iter__(self) -> Iterator[list[int]]:
        generator = np.random.default_rng((self.seed, self.epoch))
        count = len(self.source_lengths)
        shuffled = generator.permutation(count) if self.shuffle else np.arange(count)
        order = shuffled[np.lexsort((self.source_lengths[shuffled], self.target_lengths[shuffled]))]
        batches = [batch.tolist() for batch in np.split(order, np.cumsum(self.sizes)[:-1])]
        groups = [batches[i : i + self.group_size] for i in range(0, len(batches), self.group_size)]
        turn = generator.permutation(len(groups)) if self.shuffle else range(len(groups) - 1, -1, -1)
        for i in turn:
            yield from groups[i]
