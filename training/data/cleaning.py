"""Filter parallel text, count the pairs that are left out by reason, and hold out a part for validation."""

import hashlib
import heapq
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import numpy as np
import pyarrow as pa

from training.data.duplicates import hash_all, mark_first, mark_unique
from training.data.parallel import ParallelText
from training.recipe.fields import DataFields
from vanilla_transformer.errors import RecipeError

HELD_OUT_SHARE = 50  # a held-out part is at most one pair in so many
COUNTED_PAIRS = 200_000  # enough to know the words of a language
# Added to both lengths before they are divided: "Go." and "Váyanse de aquí." are a fair pair.
RATIO_SLACK = 10


def clean(text: ParallelText, arguments: DataFields, split: str) -> ParallelText:
    """
    Leave out pairs with an empty side, and of training text also what the recipe asks for: pairs whose lengths are too
    different, and pairs that are there already.

    Raises:
        RecipeError: if nothing is left.
    """
    limit = arguments.max_length_ratio if split == "train" else None
    drops_duplicates = arguments.drop_duplicates and split == "train"
    kept = np.zeros(len(text), dtype=bool)
    ratios = np.empty(len(text) if limit is not None else 0)
    hashes = np.empty(len(text) if drops_duplicates else 0, dtype=np.int64)
    end = 0
    for sources, targets in text.batches():
        start, end = end, end + len(sources)
        pairs = zip(sources, targets, strict=True)
        kept[start:end] = [bool(source.strip() and target.strip()) for source, target in pairs]
        if limit is not None:
            ratios[start:end] = compare_lengths(sources, targets)
        if drops_duplicates:
            hashes[start:end] = hash_all(zip(sources, targets, strict=True), len(sources))
    dropped = Counter(text.dropped) + Counter({"with an empty side": len(text) - int(kept.sum())})

    def keep(fits: np.ndarray, reason: str) -> None:
        lost = int((kept & ~fits).sum())
        dropped.update({reason: lost} if lost else {})
        np.logical_and(kept, fits, out=kept)

    if limit is not None and kept.any():
        ratios /= np.median(ratios[kept], overwrite_input=True)  # the usual one, which depends on the two languages
        fits = (1 / limit <= ratios) & (ratios <= limit)
        keep(fits, f"with lengths more than {limit:g} times off the usual ratio")
    del ratios
    if drops_duplicates and kept.any():
        # Of equal pairs either all are kept so far or none is, since what is above looks at a pair by itself.
        keep(mark_first(hashes, text.take), "that repeat another")
    if not kept.any():
        raise RecipeError(f"The {split} text has no pair with words on both sides ({len(text):,} read).")
    cleaned = text.select(kept)
    cleaned.dropped = dict(dropped)
    return cleaned


def compare_lengths(sources: Sequence[str], targets: Sequence[str]) -> np.ndarray:
    """Characters of each target by those of its source, both a little longer than they are, an array of shape (N,)."""
    source_lengths, target_lengths = (np.fromiter(map(len, side), np.int64, len(side)) for side in (sources, targets))
    return (target_lengths + RATIO_SLACK) / (source_lengths + RATIO_SLACK)


def length_ratios(text: ParallelText) -> np.ndarray:
    """The same of a text, an array of shape (len(text),)."""
    return np.concatenate([np.empty(0), *(compare_lengths(*sides) for sides in text.batches())])


def hold_out(text: ParallelText, at_most: int, held: np.ndarray | None = None) -> tuple[ParallelText, ParallelText]:
    """
    Part a text into training and validation.

    Only pairs of which neither side is elsewhere in the text are held out, so that no side is in both parts and
    training loses no sentence that is common. The hash of the source chooses among them: neither the order of the text
    nor what else is in it matters.

    Args:
        at_most: pairs to hold out, and at most 2% of the text; at least one.
        held: their positions, if they are known.

    Raises:
        RecipeError: if there is no such pair, or it is all there is.
    """
    held = choose_held(text, count_held(text, at_most)) if held is None else held
    if not len(held) or len(text) == 1:
        raise RecipeError(
            f"The training text has {len(text):,} pair{'s' if len(text) > 1 else ''} and none that could be held out "
            "for validation. Give more, or name validation text and set `hold_out: 0`."
        )
    validation = text.select(held)
    validation.dropped = {}
    is_left = np.ones(len(text), dtype=bool)
    is_left[held] = False
    return text.select(is_left), validation


def count_held(text: ParallelText, at_most: int) -> int:
    """How many pairs of a text are held out, if it has so many that may be."""
    return max(1, min(at_most, len(text) // HELD_OUT_SHARE))


def take_side(text: ParallelText, side: str, rows: np.ndarray) -> pa.Table:
    """One side of the pairs at some positions."""
    return text.take(rows).select([side])


def choose_held(text: ParallelText, count: int) -> np.ndarray:
    """The positions of so many pairs to hold out, or of fewer if there are no more, in rising order."""
    is_unique = np.ones(len(text), dtype=bool)
    for name, lines in (("source", text.sources), ("target", text.targets)):
        is_unique &= mark_unique(hash_all(lines, len(text)), partial(take_side, text, name))
    candidates = (
        (hashlib.blake2b(source.encode()).digest(), position)
        for position, source in enumerate(text.sources)
        if is_unique[position]
    )
    return np.array(sorted(position for _, position in heapq.nsmallest(count, candidates)), dtype=np.int64)


class LanguageEvidence:
    """Which side of a text a sentence reads like, by how often its words are on either side."""

    def __init__(self, text: ParallelText):
        self.sources = Counter(word for line in text.sources[:COUNTED_PAIRS] for word in line.lower().split())
        self.targets = Counter(word for line in text.targets[:COUNTED_PAIRS] for word in line.lower().split())

    def of(self, line: str) -> float:
        """Mean log-odds of its words: above 0 like the sources, below 0 like the targets, near 0 like neither."""
        odds = [math.log((self.sources[word] + 1) / (self.targets[word] + 1)) for word in line.lower().split()]
        return sum(odds) / max(1, len(odds))

    def swapped(self, text: ParallelText) -> list[int]:
        """Positions of pairs of which each side reads like the other."""
        return [i for i, (source, target) in enumerate(text) if self.of(source) < -1 and self.of(target) > 1]


def check_direction(evidence: LanguageEvidence, other: ParallelText, split: str) -> None:
    """
    Refuse a text whose sides are the other way round than in the training text that gives the evidence.

    Raises:
        RecipeError: if most of its pairs read so.
    """
    swapped = len(evidence.swapped(other))
    if swapped > len(other) / 2:
        raise RecipeError(
            f"{swapped:,} of the {len(other):,} {split} pairs read like the other language on both sides: source and "
            "target of that text, or of the training text, are swapped."
        )


def list_reasons(dropped: Mapping[str, int]) -> str:
    """How many were left out for each reason; "" if none were."""
    return ", ".join(f"{count:,} {reason}" for reason, count in dropped.items())


def describe(kept: int, dropped: Mapping[str, int], split: str, unit: str) -> str:
    """A line on how much of a text was kept, in a unit such as "pairs", and what was left out and why."""
    line = f"{split}: {kept:,} {unit if kept > 1 else unit.removesuffix('s')}"
    if dropped:
        left_out = sum(dropped.values())
        line += f", {left_out:,} left out: {list_reasons(dropped)}"
    return line


def report_lengths(text: ParallelText) -> str:
    """How long the sides of a training text are, and the pairs whose sides fit each other least."""
    ratios = length_ratios(text)
    usual = float(np.median(ratios))
    odd = heapq.nsmallest(5, range(len(text)), key=lambda i: -abs(math.log(ratios[i] / usual)))
    lines = [
        f"characters a sentence: source {mean_length(text.sources):.1f}, target {mean_length(text.targets):.1f}",
        f"usual ratio of target to source: {usual:.2f}. The pairs furthest from it:",
    ]
    return "\n".join(lines + show_pairs(text, odd))


def report_swapped(text: ParallelText) -> str:
    """The pairs of a training text whose sides look swapped."""
    swapped = LanguageEvidence(text).swapped(text)
    line = (
        f"{len(swapped):,} pairs look swapped: each side has words of the other language (this finds a few among "
        "many, but not a quarter of the text or more)"
    )
    return "\n".join([line, *show_pairs(text, swapped[:5])])


def show_pairs(text: ParallelText, positions: list[int]) -> list[str]:
    """A line on each of some pairs."""
    rows, sources, targets = text.rows, text.sources, text.targets
    return [f"  row {rows[i]:,}: {sources[i][:50]!r} | {targets[i][:50]!r}" for i in positions]


def mean_length(lines: Iterable[str]) -> float:
    return statistics.fmean(map(len, lines))
