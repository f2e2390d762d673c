"""Which pairs are in a text already: by hashes of eight bytes a pair, and by the text itself where hashes agree."""

from collections.abc import Callable, Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from training.data.parallel import BATCH

Take = Callable[[np.ndarray], pa.Table]


def hash_all(items: Iterable[object], count: int) -> np.ndarray:
    """Python's hashes of so many items, an array of shape (count,); equal items have equal ones in one process."""
    return np.fromiter(map(hash, items), np.int64, count)


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
    first[order] = np.repeat(order[starts], np.diff([*starts, len(order)]))
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
