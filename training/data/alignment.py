"""Whether line n of one side of a parallel text belongs to line n of the other."""

import re
from collections import Counter
from dataclasses import dataclass

import numpy as np

from training.data.cleaning import RATIO_SLACK
from training.data.parallel import ParallelText
from vanilla_transformer.errors import RecipeError

OFFSETS = (-2, -1, 1, 2)
CHECKED_PAIRS = 20_000  # all of a text that is no longer; of a longer one, windows
WINDOW = 1_000
# Standard errors above 0 of a sum of votes. Texts in step have at most 2.5, shuffled ones 5, 200 pairs out of step 6.
CERTAIN = 5.5
REFUSED_SHARE = 0.1  # of the pairs; fewer that are out of step are told of
RARE_WORDS = 4  # of a sentence, which tell it from its neighbours
WORD = re.compile(r"\w+")
FULL_STOPS = str.maketrans("。？！؟۔।", ".?!?..")


@dataclass(frozen=True)
class Shift:
    """
    A part of a parallel text in which each source fits another target than its own.

    Attributes:
        offset: the target of source n is n + offset.
        first, last: positions of the part, the last one exclusive.
    """

    offset: int
    first: int
    last: int


def check_alignment(text: ParallelText, split: str) -> list[str]:
    """
    Refuse a text with the same on both sides, or with one side some lines behind the other.

    Returns:
        notes on a smaller part of it that is so.

    Raises:
        RecipeError: with the first row that is out of step.
    """
    filled, same = 0, 0
    for source, target in text:
        left, right = source.strip(), target.strip()
        if left or right:
            filled += 1
            same += left[:1] == right[:1] and left.split() == right.split()
    if filled and same == filled:
        raise RecipeError(
            f"Source and target of the {split} text must differ, but are the same in all {same:,} pairs. Name two "
            "files, or two columns; `check_alignment: false` lets the text pass."
        )
    notes = []
    if same > filled / 2:
        notes.append(f"{split}: source and target are the same in {same:,} of {filled:,} pairs")
    shift, share = find_shift(text)
    if shift is not None:
        longer, shorter = ("target", "source") if shift.offset > 0 else ("source", "target")
        count = abs(shift.offset)
        lines = "a line" if count == 1 else f"{count} lines"
        finding = (
            f"from about row {text.rows[shift.first]:,} on, sources fit the target {count} "
            f"row{'s' * (count > 1)} {'after' if shift.offset > 0 else 'before'} their own. There the {longer} has "
            f"{lines} that the {shorter} lacks"
        )
        if share >= REFUSED_SHARE:
            raise RecipeError(
                f"Row n of the source must belong to row n of the target, but in the {split} text, {finding}. Look "
                "for it with `paste`, and delete it or add its translation; `check_alignment: false` lets it pass."
            )
        notes.append(f"{split}: {finding}")
    return notes


def find_shift(text: ParallelText) -> tuple[Shift | None, float]:
    """Return the first part of a text that is out of step, and the share of the text that is."""

    def within(first: int, last: int) -> Shift | None:
        shift = find_shift_within(text.sources[first:last], text.targets[first:last])
        return shift and Shift(shift.offset, first + shift.first, first + shift.last)

    if len(text) <= CHECKED_PAIRS:
        shift = within(0, len(text))
        return shift, 0.0 if shift is None else (shift.last - shift.first) / len(text)
    starts = np.linspace(0, len(text) - WINDOW, CHECKED_PAIRS // WINDOW).astype(int).tolist()
    found = {start: shift for start in starts if (shift := within(start, start + WINDOW)) is not None}
    if not found:
        return None, 0.0
    share = sum(shift.last - shift.first for shift in found.values()) / CHECKED_PAIRS
    high = min(found)
    low = max((start for start in starts if start < high), default=0)
    while high + WINDOW - low > CHECKED_PAIRS:  # between the last window in step and the first that is not
        middle = (low + high) // 2
        low, high = (low, middle) if within(middle, middle + WINDOW) else (middle, high)
    return within(low, high + WINDOW) or found[min(found)], share


def find_shift_within(sources: list[str], targets: list[str]) -> Shift | None:
    """Return the part of a text that fits best at another offset than 0, if that is certain."""
    best, most = None, 0.0
    for offset, votes in count_votes(sources, targets).items():
        sums = np.concatenate([[0], np.cumsum(votes)])  # (N + 1,)
        gains = sums - np.minimum.accumulate(sums)
        last = int(gains.argmax())
        first = last - int(sums[last::-1].argmin())
        error = float(np.sqrt(np.square(votes[first:last]).sum()))
        if gains[last] > max(most, CERTAIN * error):
            best, most = Shift(offset, first, last), float(gains[last])
    return best


def count_votes(sources: list[str], targets: list[str]) -> dict[int, np.ndarray]:
    """
    Return how many signs say that each source belongs to the target at an offset, less those for its own.

    The signs are lengths, last characters, and rare words that are the same or come together in another pair too.

    Returns:
        offset -> array of shape (N,), from -3 to 3.
    """
    size = len(sources)
    source_lengths, target_lengths = (
        np.log([len(line) + RATIO_SLACK for line in side]) for side in (sources, targets)
    )
    usual = np.median(target_lengths - source_lengths) if size else 0.0
    source_words, target_words = rare_words(sources), rare_words(targets)
    source_ends, target_ends = last_marks(sources), last_marks(targets)

    def compare(offset: int) -> tuple[np.ndarray, np.ndarray, list[list[tuple[str, str]]]]:
        """How far lengths are off (N,), whether last marks agree (N,), and pairs of rare words; no target, nothing."""
        distances, same_end = np.full(size, np.inf), np.zeros(size)
        words: list[list[tuple[str, str]]] = [[] for _ in sources]
        for i in range(max(0, -offset), min(size, size - offset)):
            j = i + offset
            distances[i] = abs(target_lengths[j] - source_lengths[i] - usual)
            same_end[i] = source_ends[i] != "" and source_ends[i] == target_ends[j]
            words[i] = [(source, target) for source in source_words[i] for target in target_words[j]]
        return distances, same_end, words

    own_distances, own_ends, own_words = compare(0)
    own_counts = Counter(pair for pairs in own_words for pair in pairs)
    votes = {}
    for offset in OFFSETS:
        distances, same_end, words = compare(offset)
        counts = own_counts + Counter(pair for pairs in words for pair in pairs)

        def known(pairs: list[tuple[str, str]], counts: Counter[tuple[str, str]] = counts) -> int:
            return sum(pair[0] == pair[1] or counts[pair] > 1 for pair in pairs)

        hits = np.array([known(pairs) - known(own) for pairs, own in zip(words, own_words, strict=True)])
        nearer = np.round(own_distances - distances, 6)
        votes[offset] = np.where(np.isinf(distances), 0, np.sign(nearer) + same_end - own_ends + np.sign(hits))
    return votes


def rare_words(lines: list[str]) -> list[list[str]]:
    """Return the rarest words of each line, of those that are in another line too."""
    words = [set(WORD.findall(line.lower())) for line in lines]
    counts = Counter(word for each in words for word in each)
    return [
        sorted((word for word in each if counts[word] > 1), key=lambda word: (counts[word], word))[:RARE_WORDS]
        for each in words
    ]


def last_marks(lines: list[str]) -> list[str]:
    """Return the mark at the end of each line, quotes aside; "" where that is a letter or digit."""
    ends = (line.rstrip(" \"'”’»)")[-1:].translate(FULL_STOPS) for line in lines)
    return ["" if end.isalnum() else end for end in ends]
