"""What of a parallel text is kept, why the rest is not, and which part is held out for validation."""

import hashlib
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping

from training.data.texts import ParallelText
from training.recipe.fields import DataFields
from vanilla_transformer.errors import RecipeError

HELD_OUT_SHARE = 50  # a held-out part is at most one pair in so many
COUNTED_PAIRS = 200_000  # enough to know the words of a language
# Added to both lengths before they are divided: "Go." and "Váyanse de aquí." are a fair pair.
RATIO_SLACK = 10


def clean(text: ParallelText, arguments: DataFields, split: str) -> ParallelText:
    """
    Leave out pairs with an empty side, and of training text also what the recipe asks for: pairs whose lengths are too
    different, and pairs that stand there already.

    Raises:
        RecipeError: if nothing is left.
    """
    read = len(text)
    text = text.select(
        (i for i in range(len(text)) if text.sources[i].strip() and text.targets[i].strip()), "with an empty side"
    )
    if split == "train" and len(text):
        if arguments.max_length_ratio is not None:
            ratios, limit = length_ratios(text), arguments.max_length_ratio
            usual = statistics.median(ratios)  # which depends on the two languages
            kept = [i for i, ratio in enumerate(ratios) if 1 / limit <= ratio / usual <= limit]
            text = text.select(kept, f"with lengths more than {limit:g} times off the usual ratio")
        if arguments.drop_duplicates:
            first = {pair: i for i, pair in reversed(list(enumerate(zip(text.sources, text.targets, strict=True))))}
            text = text.select(sorted(first.values()), "that stand there already")
    if not len(text):
        raise RecipeError(f"The {split} text has no pair with words on both sides ({read:,} read).")
    return text


def length_ratios(text: ParallelText) -> list[float]:
    """Characters of each target by those of its source, both a little longer than they are."""
    pairs = zip(text.sources, text.targets, strict=True)
    return [(len(target) + RATIO_SLACK) / (len(source) + RATIO_SLACK) for source, target in pairs]


def hold_out(text: ParallelText, at_most: int) -> tuple[ParallelText, ParallelText]:
    """
    Part a text into training and validation.

    Only pairs of which neither side stands elsewhere in the text are held out, so that no side is in both parts and
    training loses no sentence that is common. The hash of the source chooses among them: neither the order of the text
    nor what else stands in it matters.

    Args:
        at_most: pairs to hold out, and at most 2% of the text; at least one.

    Raises:
        RecipeError: if there is no such pair, or it is all there is.
    """
    sources, targets = Counter(text.sources), Counter(text.targets)
    unique = [i for i in range(len(text)) if sources[text.sources[i]] == 1 and targets[text.targets[i]] == 1]
    if not unique or len(text) == 1:
        raise RecipeError(
            f"The training text has {len(text):,} pair{'s' if len(text) > 1 else ''} and none that could be held out "
            "for validation. Give more, or name validation text and set `hold_out: 0`."
        )
    unique.sort(key=lambda i: hashlib.blake2b(text.sources[i].encode()).digest())
    held = set(unique[: max(1, min(at_most, len(text) // HELD_OUT_SHARE))])
    validation = text.select(sorted(held))
    validation.dropped = {}
    return text.select(i for i in range(len(text)) if i not in held), validation


class LanguageEvidence:
    """Which side of a text a sentence reads like, by how often its words stand on either side."""

    def __init__(self, text: ParallelText):
        self.sources = Counter(word for line in text.sources[:COUNTED_PAIRS] for word in line.lower().split())
        self.targets = Counter(word for line in text.targets[:COUNTED_PAIRS] for word in line.lower().split())

    def of(self, line: str) -> float:
        """Mean log-odds of its words: above 0 like the sources, below 0 like the targets, near 0 like neither."""
        odds = [math.log((self.sources[word] + 1) / (self.targets[word] + 1)) for word in line.lower().split()]
        return sum(odds) / max(1, len(odds))

    def swapped(self, text: ParallelText) -> list[int]:
        """Positions of pairs of which each side reads like the other."""
        pairs = zip(text.sources, text.targets, strict=True)
        return [i for i, (source, target) in enumerate(pairs) if self.of(source) < -1 and self.of(target) > 1]


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
    usual = statistics.median(ratios)
    odd = sorted(range(len(text)), key=lambda i: -abs(math.log(ratios[i] / usual)))[:5]
    lines = [
        f"characters a sentence: source {mean_length(text.sources):.1f}, target {mean_length(text.targets):.1f}",
        f"usual ratio of target to source: {usual:.2f}. The pairs furthest from it:",
    ]
    return "\n".join(lines + show_pairs(text, odd))


def report_swapped(text: ParallelText) -> str:
    """The pairs of a training text whose sides look swapped."""
    swapped = LanguageEvidence(text).swapped(text)
    line = (
        f"{len(swapped):,} pairs look swapped: each side has the words of the other (a few among many are found; "
        "where a quarter or all of them are, the words tell nothing)"
    )
    return "\n".join([line, *show_pairs(text, swapped[:5])])


def show_pairs(text: ParallelText, positions: list[int]) -> list[str]:
    """A line on each of some pairs."""
    return [f"  row {text.rows[i]:,}: {text.sources[i][:50]!r} | {text.targets[i][:50]!r}" for i in positions]


def mean_length(lines: Iterable[str]) -> float:
    return statistics.fmean(map(len, lines))
