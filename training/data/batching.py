"""Batches of about as many tokens each, of sentences of similar length (§5.1)."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from torch.utils.data import Sampler

from training.recipe.fields import TrainingFields
from vanilla_transformer.errors import RecipeError

# Steps over which a remainder is spread: each of them then has nearly the tokens of all others.
SPREAD_STEPS = 16
MOST_CUTS = 2_048  # places, at most, at which these sentences may be cut
BLOCK = 500_000  # sentences that are looked at together

MeasureEpoch = Callable[[int], tuple[np.ndarray, np.ndarray]]


class LengthSort:
    """
    Sorts sentences by their target's length, then by their source's, as `np.lexsort` does, but in blocks: besides its
    result it needs memory for one block and for the different pairs of lengths.

    Args:
        source_lengths, target_lengths (arrays of shape (N,)): tokens of each pair.

    Attributes:
        longest: tokens of the longest sentence of either side.
    """

    def __init__(self, source_lengths: np.ndarray, target_lengths: np.ndarray):
        self.longest = int(max(source_lengths.max(), target_lengths.max()))
        small = np.min_scalar_type(self.longest)  # one or two bytes: they are kept as long as the training lasts
        self.source_lengths, self.target_lengths = source_lengths.astype(small), target_lengths.astype(small)
        keys, counts = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        for start in range(0, len(source_lengths), BLOCK):
            some, each = np.unique(self._key(slice(start, start + BLOCK)), return_counts=True)
            keys, places = np.unique(np.concatenate([keys, some]), return_inverse=True)
            counts = np.bincount(places, weights=np.concatenate([counts, each])).astype(np.int64)
        self.keys, self.counts = keys, counts

    def __len__(self) -> int:
        return len(self.source_lengths)

    def _key(self, chosen: slice | np.ndarray) -> np.ndarray:
        """A number for each of some sentences, by which they are sorted."""
        return self.target_lengths[chosen].astype(np.int64) * (self.longest + 1) + self.source_lengths[chosen]

    def longer_sides(self) -> np.ndarray:
        """The length of the longer side of each sentence, in order, an array of shape (N,)."""
        return np.repeat(np.maximum(*np.divmod(self.keys, self.longest + 1)).astype(np.int32), self.counts)

    def __call__(self, sentences: np.ndarray) -> np.ndarray:
        """
        Return all sentences in order, an array of shape (N,); those of equal lengths stay as they are given.

        Args:
            sentences (array of shape (N,)): each number from 0 to N - 1 once.
        """
        order = np.empty_like(sentences)
        starts = np.cumsum(self.counts) - self.counts  # of the next sentence of each key
        for start in range(0, len(sentences), BLOCK):
            some = sentences[start : start + BLOCK]
            places = np.searchsorted(self.keys, self._key(some))
            turn = np.argsort(places, kind="stable")
            counts = np.bincount(places, minlength=len(starts))
            firsts = np.cumsum(counts) - counts
            order[np.repeat(starts - firsts, counts) + np.arange(len(some))] = some[turn]
            starts += counts
        return order


def fill_steps(lengths: np.ndarray, budget: int) -> list[int]:
    """
    Cut sentences into steps that each take as many as fit; the last, or one before a leap in length, may be small.

    Args:
        lengths (array of shape (N,)): tokens of each sentence, in order.
        budget: padded positions of a step, at most: its sentences x the longest of them.

    Returns:
        how many sentences each step takes.
    """
    sizes: list[int] = []
    start, longest = 0, 0
    in_turn = (length for first in range(0, len(lengths), BLOCK) for length in lengths[first : first + BLOCK].tolist())
    for i, length in enumerate(in_turn):
        longest = max(longest, length)
        if (i + 1 - start) * longest > budget:
            sizes.append(i - start)
            start, longest = i, length
    sizes.append(len(lengths) - start)
    return sizes


def level_steps(lengths: np.ndarray, budget: int) -> list[int]:
    """
    Cut sentences into steps of about the same size.

    They have the least sum of squared gaps, the shares of the budget that they leave free; what goes beyond a half of
    it counts a hundred times more.

    Args:
        lengths, budget: as for `fill_steps`.

    Returns:
        how many sentences each step takes.
    """
    grain = max(1, len(lengths) // MOST_CUTS)
    while True:  # sentences come in blocks of so many, where there are very many
        starts = np.arange(0, len(lengths), grain)
        longest, sizes = np.maximum.reduceat(lengths, starts), np.diff([*starts, len(lengths)])
        if grain == 1 or (longest * sizes).max() <= budget / 2:
            break
        grain //= 2
    count = len(starts)
    cost = np.zeros(count + 1)  # by block: of the steps before it,
    last = np.zeros(count + 1, dtype=int)  # and how many blocks the last of these takes
    most = int(budget // (lengths.min() * grain)) + 1
    for end in range(1, count + 1):
        first = max(0, end - most)
        padded = np.maximum.accumulate(longest[first:end][::-1]) * np.cumsum(sizes[first:end][::-1])
        gap = 1 - padded[padded <= budget] / budget
        costs = cost[end - len(gap) : end][::-1] + gap**2 + 100 * np.maximum(0, gap - 0.5)
        last[end] = 1 + costs.argmin()
        cost[end] = costs.min()
    steps: list[int] = []
    while count > 0:
        steps.insert(0, int(sizes[count - last[count] : count].sum()))
        count -= last[count]
    return steps


def spread_remainders(sizes: list[int], lengths: np.ndarray, budget: int) -> list[int]:
    """
    Cut each step of less than half the budget anew, together with the steps before it.

    Every step is taken at the full learning rate, so that one of a single sentence would move the weights by noise.

    Args:
        sizes: as `fill_steps` returns them.
        lengths, budget: as for `fill_steps`.

    Returns:
        how many sentences each step takes: half the budget or more, but where sentences are too few before a leap in
        length, or so long that two of them are a step.
    """
    sizes = list(sizes)
    starts = np.cumsum([0, *sizes])
    padded = np.maximum.reduceat(lengths, starts[:-1]) * sizes
    first = len(sizes)
    for step in np.flatnonzero(padded < budget / 2)[::-1]:
        if step < first:  # else it was cut anew with a later one
            first = max(0, step + 1 - SPREAD_STEPS)
            sizes[first : step + 1] = level_steps(lengths[starts[first] : starts[step + 1]], budget)
    return sizes


def cut_steps(lengths: np.ndarray, budget: int, count: int | None = None, spread: bool = True) -> list[int]:
    """
    Cut sentences into steps of about as many tokens each.

    Args:
        lengths, budget: as for `fill_steps`.
        count: how many steps there must be. If the sentences make more, each takes a little beyond the budget; if they
            make fewer, the largest of several sentences are halved.
        spread: whether a remainder is spread over the steps before it, as `spread_remainders` does.

    Returns:
        how many sentences each step takes.
    """
    while True:
        sizes = fill_steps(lengths, budget)
        if spread:
            sizes = spread_remainders(sizes, lengths, budget)
        if count is None or len(sizes) <= count:
            break
        budget += max(1, budget // 500)
    while count is not None and len(sizes) < count:
        longest = np.maximum.reduceat(lengths, np.cumsum([0, *sizes[:-1]]))
        most = int(np.argmax(longest * sizes * (np.array(sizes) > 1)))
        sizes[most : most + 1] = [sizes[most] // 2, sizes[most] - sizes[most] // 2]
    return sizes


class Draw:
    """
    Which pairs an epoch shows, where pairs have weights.

    An epoch has a place for each time that a pair is shown. Of a weight with a fraction, pairs of nearly equal lengths
    share places and take turns, so that the lengths of an epoch, and with them its steps, are the same in every epoch.

    Args:
        weights: how often each pair is shown, an array of shape (N,).
        source_lengths, target_lengths (arrays of shape (N,)): tokens of each pair.
        seed: of the turns.

    Attributes:
        source_lengths, target_lengths (arrays of shape (M,)): of each place, the most that its pairs have.
    """

    def __init__(self, weights: np.ndarray, source_lengths: np.ndarray, target_lengths: np.ndarray, seed: int):
        members, sizes = [np.arange(0)], [np.arange(0)]
        for weight in np.unique(weights):
            pairs = np.flatnonzero(weights == weight)
            pairs = pairs[np.lexsort((source_lengths[pairs], target_lengths[pairs]))]
            whole = int(weight)
            members.append(np.repeat(pairs, whole))
            sizes.append(np.ones(whole * len(pairs), dtype=np.int64))
            places = round((float(weight) - whole) * len(pairs)) or int(not whole)
            if places:
                members.append(pairs)
                sizes.append(np.diff(np.arange(places + 1) * len(pairs) // places))
        self.members, self.sizes = np.concatenate(members), np.concatenate(sizes)
        self.starts = np.cumsum(self.sizes) - self.sizes
        self.seed = seed
        self.first = np.random.default_rng(seed).integers(0, self.sizes)
        self.source_lengths, self.target_lengths = (
            np.maximum.reduceat(lengths[self.members], self.starts) for lengths in (source_lengths, target_lengths)
        )

    def __call__(self, epoch: int) -> np.ndarray:
        """The pair at each place, an array of shape (M,)."""
        found: np.ndarray = self.members[self.starts + (self.first + epoch) % self.sizes]
        return found

    def make_sampler(
        self, tokens_per_step: int, batches_per_step: int = 1, measure: MeasureEpoch | None = None
    ) -> "TokenBudgetBatchSampler":
        """Return the steps of an epoch; see `TokenBudgetBatchSampler`, which `measure` tells the lengths of pairs."""
        sampler = TokenBudgetBatchSampler(
            self.source_lengths,
            self.target_lengths,
            tokens_per_step,
            self.seed,
            batches_per_step=batches_per_step,
            measure=measure and partial(self.pick_lengths, measure),
        )
        sampler.draw = self
        return sampler

    def pick_lengths(self, measure: MeasureEpoch, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The lengths of both sides at each place of an epoch, by those of all pairs as the epoch shows them."""
        sources, targets = measure(epoch)
        drawn = self(epoch)
        return sources[drawn], targets[drawn]


class TokenBudgetBatchSampler(Sampler[list[int]]):
    """
    Cut sentences, sorted by length, into optimizer steps that fill a budget of tokens; then shuffle the steps.

    The budget counts padded positions: sentences x the longest of them stays within it on the source side and on the
    target side alike. Sentences of equal lengths change places from epoch to epoch, and the steps their order, as a
    function of (seed, epoch) only; the number of steps is the same in every epoch.

    A step is dealt out to processes and accumulation as `batches_per_step` batches of equally many sentences, to
    within one. The sentences of a step do not depend on that number, so that the same recipe takes the same steps on
    any number of devices: where a step has fewer sentences than batches, some batches are empty.

    Accelerate hands out whole batches only while a batch sampler has no attribute `batch_size`: this one has none.

    Args:
        source_lengths, target_lengths (arrays of shape (N,)): tokens of each pair.
        tokens_per_step (`int`): the budget of either side.
        seed (`int`), shuffle (`bool`): without `shuffle` the longest come first, which finds a lack of memory early.
        batches_per_step (`int`): processes x accumulation.
        spread (`bool`): whether a remainder is spread over the steps before it, as `spread_remainders` does.
        measure: of an epoch that shows other text, the lengths of both sides. Steps are then cut in every epoch, as
            many as in the first.

    Attributes:
        length_sort: the lengths, and the order by them.
        draw: where the sentences are places, which pair is at each in an epoch.

    Raises:
        RecipeError: if a sentence is longer than the budget, or there are fewer sentences than batches of a step.
    """

    draw: Draw | None = None

    def __init__(
        self,
        source_lengths: np.ndarray,
        target_lengths: np.ndarray,
        tokens_per_step: int,
        seed: int = 0,
        shuffle: bool = True,
        batches_per_step: int = 1,
        spread: bool = True,
        measure: MeasureEpoch | None = None,
    ):
        if measure is not None:
            source_lengths, target_lengths = measure(0)
        self.tokens_per_step, self.spread, self.measure = tokens_per_step, spread, measure
        self.seed, self.shuffle, self.batches_per_step = seed, shuffle, batches_per_step
        self.epoch = self._measured = 0
        lengths = self.length_sort = LengthSort(np.asarray(source_lengths), np.asarray(target_lengths))
        if lengths.longest > tokens_per_step:
            raise RecipeError(
                f"`tokens_per_step` must be at least {lengths.longest}, the tokens of the longest sentence, but is "
                f"{tokens_per_step}. Raise it, or leave such sentences out."
            )
        if len(lengths) < batches_per_step:
            raise RecipeError(
                f"{len(lengths)} pairs are too few for {batches_per_step} batches in each step. "
                "Give more pairs, or a smaller `tokens_per_step`."
            )
        # Which sentence has which place depends on the epoch; the lengths of the places do not, unless it is measured.
        self.sizes = self._cut(None)

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch; the same epoch gives the same batches."""
        self.epoch = epoch

    def _cut(self, count: int | None) -> list[int]:
        return cut_steps(self.length_sort.longer_sides(), self.tokens_per_step, count, self.spread)

    @property
    def steps(self) -> int:
        """Optimizer steps in an epoch."""
        return len(self.sizes)

    def __len__(self) -> int:
        return self.steps * self.batches_per_step

    def __iter__(self) -> Iterator[list[int]]:
        if self.measure is not None and self._measured != self.epoch:
            self.length_sort = LengthSort(*self.measure(self.epoch))
            self.sizes, self._measured = self._cut(self.steps), self.epoch
        generator = np.random.default_rng((self.seed, self.epoch))
        sentences = np.arange(len(self.length_sort), dtype=np.int32)
        if self.shuffle:
            generator.shuffle(sentences)
        order = self.length_sort(sentences)
        del sentences
        if self.draw is not None:
            order = self.draw(self.epoch)[order]
        ends = np.cumsum(self.sizes)
        starts = ends - self.sizes
        turn = generator.permutation(self.steps) if self.shuffle else range(self.steps - 1, -1, -1)
        for i in turn:
            for batch in np.array_split(order[starts[i] : ends[i]], self.batches_per_step):
                yield batch.tolist()


@dataclass(frozen=True)
class StepPlan:
    """
    How the tokens of an optimizer step are dealt out.

    Attributes:
        tokens: of either side in a step, over all processes and accumulation.
        processes: that share them.
        accumulation: batches that each process takes one after the other.
    """

    tokens: int
    processes: int
    accumulation: int

    @classmethod
    def make(cls, tokens: int, per_device: int | None, processes: int) -> "StepPlan":
        """
        Choose the accumulation by what fits on a device at once.

        Args:
            per_device: tokens that fit; all of them if `None`.

        Raises:
            RecipeError: if there are more processes than tokens in a step.
        """
        if tokens < processes:
            raise RecipeError(
                f"`tokens_per_step` must be at least 1 for each of {processes} processes, but is {tokens}. Raise it."
            )
        accumulation = 1 if per_device is None else max(1, math.ceil(tokens / processes / per_device))
        return cls(tokens, processes, accumulation)

    @property
    def batches(self) -> int:
        """The batches of a step."""
        return self.processes * self.accumulation

    @property
    def batch_tokens(self) -> int:
        """Tokens of either side in one batch of one process, to within one sentence."""
        return self.tokens // self.batches

    def __str__(self) -> str:
        """The arithmetic, such as `25,000 = 2 processes x 3,125 x 4`."""
        processes = f"{self.processes} process{'es' if self.processes > 1 else ''}"
        return f"{self.tokens:,} = {processes} x {self.batch_tokens:,} x {self.accumulation}"


def longest_sentence(training: TrainingFields) -> int:
    """Tokens that either side of a training sentence may have: on any number of processes the same."""
    return min(training.tokens_per_step, training.tokens_per_device or training.tokens_per_step)
