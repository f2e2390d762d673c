"""Which pairs are in a text already: by hashes of eight bytes a pair, and by the text itself where hashes agree."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from training.data.parallel import BATCH

Take = Callable[[np.ndarray], pa.Table]

# About how many rows are compared at once. Rows with one hash are always among the same.
COMPARED = 500_000


def hash_all(items: Iterable[object], count: int) -> np.ndarray:
    """Python's hashes of so many items, an array of shape (count,); equal items have equal ones in one process."""
    return np.fromiter(map(hash, items), np.int64, count)


def mark_first(hashes: np.ndarray, take: Take) -> np.ndarray:
    """
    Return whether each row is the first of those that are equal to it, an array of shape (N,).

    Args:
        hashes, take: as for `find_first`.
    """
    marked = np.zeros(len(hashes), dtype=bool)
    for rows, first in find_groups(hashes, take):
        marked[rows] = first == np.arange(len(rows))
    return marked


def mark_unique(hashes: np.ndarray, take: Take) -> np.ndarray:
    """
    Return whether no other row is equal to each row, an array of shape (N,).

    Args:
        hashes, take: as for `find_first`.
    """
    marked = np.zeros(len(hashes), dtype=bool)
    for rows, first in find_groups(hashes, take):
        marked[rows] = (np.bincount(first, minlength=len(rows)) == 1)[first]
    return marked


def find_groups(hashes: np.ndarray, take: Take) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """
    Split rows by their hashes into groups, so that equal rows are in one of them.

    Args:
        hashes, take: as for `find_first`.

    Yields:
        the rows of a group, in rising order, and what `find_first` says of them, by their places in the group.
    """
    count = -(-len(hashes) // COMPARED)
    group_of = np.empty(len(hashes), dtype=np.min_scalar_type(count))
    for start in range(0, len(hashes), COMPARED):
        group_of[start : start + COMPARED] = hashes[start : start + COMPARED] % count
    for group in range(count):
        rows = np.flatnonzero(group_of == group)
        yield rows, find_first(hashes[rows], partial(take_among, take, rows))


def take_among(take: Take, rows: np.ndarray, places: np.ndarray) -> pa.Table:
    """Return the text of the rows at some places of a group."""
    return take(rows[places])


def find_first(hashes: np.ndarray, take: Take) -> np.ndarray:
    """
    Find for each row the first that is equal to it, which may be itself.

    Rows are equal if their text is: different rows with the same hash are told apart, so that which hashes they have
    does not matter.

    Args:
        hashes: of the rows, an array of shape (N,).
        take: the text of the rows at some positions, as a table.

    Returns:
        positions, an array of shape (N,).
    """
    order = np.argsort(hashes, kind="stable")  # rows with one hash stay in their order
    is_new = np.ones(len(order), dtype=bool)
    is_new[1:] = hashes[order[1:]] != hashes[order[:-1]]
    starts = np.flatnonzero(is_new)
    first = np.empty(len(order), dtype=np.int64)
    first[order] = np.repeat(order[starts], np.diff(np.append(starts, len(order))))
    different: set[int] = set()  # first rows whose hash another text has too
    repeated = np.flatnonzero(first != np.arange(len(first)))
    for start in range(0, len(repeated), BATCH):
        some = repeated[start : start + BATCH]
        is_same = equal_rows(take(some), take(first[some]))
        different.update(first[some[~is_same]].tolist())
    for position in different:
        known: dict[tuple[object, ...], int] = {}
        group = np.flatnonzero(first == position)
        columns = take(group).to_pydict().values()
        for row, text in zip(group.tolist(), zip(*columns, strict=True), strict=True):
            first[row] = known.setdefault(text, row)
    return first


def equal_rows(some: pa.Table, others: pa.Table) -> np.ndarray:
    """Whether each row of a table is equal to that of another, an array of shape (N,)."""
    same = np.ones(len(some), dtype=bool)
    for name in some.column_names:
        same &= pc.equal(some[name], others[name]).combine_chunks().to_numpy(zero_copy_only=False)
    return same
