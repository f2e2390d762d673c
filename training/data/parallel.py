"""Sentence pairs as text, in Arrow: in memory where they are few, else in a file that is mapped."""

import functools
import itertools
import pickle
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar, overload

import datasets
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from datasets.fingerprint import generate_random_fingerprint
from datasets.table import InMemoryTable

T = TypeVar("T")
Row = tuple[int, str, str]  # where a pair is in what was read, its source, its target

BATCH = 10_000  # pairs that are made Python's own at once
# Pairs after which a file is mapped anew: what was read of it counts as this process's memory as long as it is mapped.
PART = 500_000


def parts(dataset: datasets.Dataset) -> Iterator[datasets.Dataset]:
    """A data set in parts, each of which maps its file by itself and only as long as it is used."""
    if not dataset.cache_files:
        yield dataset
        return
    for start in range(0, len(dataset), PART):
        part = dataset.select(range(start, min(start + PART, len(dataset))))
        yield pickle.loads(pickle.dumps(part))


def keep_rows(dataset: datasets.Dataset, is_kept: np.ndarray) -> datasets.Dataset:
    """
    The rows of a data set for which an array of booleans, of shape (len(dataset),), is true.

    `Dataset.select` makes the position of each row an object of Python: half a gigabyte for ten million.
    """
    if len(is_kept) != len(dataset):
        raise ValueError(f"`is_kept` must be of {len(dataset)} rows, but is of {len(is_kept)}.")
    if not dataset.cache_files:
        return datasets.Dataset(dataset.with_format("arrow")[:].filter(pa.array(is_kept)))
    parts_of = ((start, is_kept[start : start + PART]) for start in range(0, len(is_kept), PART))
    rows = [pa.array((start + np.flatnonzero(some)).astype(np.uint64)) for start, some in parts_of]
    indices = pa.chunked_array(rows, pa.uint64())
    if dataset._indices is not None:
        indices = dataset._indices.column(0).take(indices)
    return datasets.Dataset(
        dataset.data,
        info=dataset.info,
        split=dataset.split,
        indices_table=InMemoryTable(pa.table({"indices": indices})),
        fingerprint=generate_random_fingerprint(),
    )


def read_numbers(dataset: datasets.Dataset, name: str) -> np.ndarray:
    """A column of numbers, an array of shape (len(dataset),) of the column's type."""
    # The format "numpy" looks at every number by itself, which takes 20 s of ten million pairs.
    column = dataset.select_columns([name]).with_format("arrow")
    numbers = np.empty(len(column), column.features.arrow_schema.field(name).type.to_pandas_dtype())
    for start in range(0, len(column), PART):
        numbers[start : start + PART] = column[start : start + PART][name].to_numpy()
    return numbers


class Column(Sequence[T]):
    """A column of a data set, read where it lies: item by item, by slices, or from the first to the last."""

    def __init__(self, dataset: datasets.Dataset, name: str):
        self.dataset, self.name = dataset.select_columns([name]), name

    def __len__(self) -> int:
        return len(self.dataset)

    @overload
    def __getitem__(self, key: int) -> T: ...
    @overload
    def __getitem__(self, key: slice) -> list[T]: ...
    def __getitem__(self, key: int | slice) -> T | list[T]:
        if isinstance(key, slice):
            positions = range(len(self))[key]
            return list(self.dataset[positions][self.name]) if len(positions) else []
        item: T = self.dataset[int(key)][self.name]
        return item

    def __iter__(self) -> Iterator[T]:
        for part in parts(self.dataset):
            for batch in part.iter(BATCH):
                yield from batch[self.name]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr([*self[:3], ...] if len(self) > 3 else [*self])


class ParallelText:
    """
    Sentence pairs as text.

    Args:
        dataset: columns `source`, `target` and `row`: where each pair is in what was read, counted from 1 (lines
            of text files, rows of a data set), in rising order; and `weight`, where pairs have different ones.
        dropped: reasons and how many pairs were left out for each.
        key: a name for the content, by which it is found in the cache; without it the content itself is looked at.
    """

    def __init__(self, dataset: datasets.Dataset, dropped: dict[str, int] | None = None, key: str | None = None):
        self.dataset, self.key = dataset, key
        self.dropped: dict[str, int] = {} if dropped is None else dropped

    @classmethod
    def from_rows(cls, rows: Iterable[Row], dropped: dict[str, int] | None = None) -> "ParallelText":
        """Pairs that are few enough for the memory; `dropped` may grow while they are read."""
        batches = [make_batch(some) for some in batched(rows)] or [make_batch([])]
        return cls(datasets.Dataset(pa.Table.from_batches(batches)), dropped)

    @classmethod
    def from_lists(cls, sources: Iterable[str], targets: Iterable[str], rows: Iterable[int]) -> "ParallelText":
        """As many sentences on each side, with their rows."""
        return cls.from_rows(zip(rows, sources, targets, strict=True))

    @classmethod
    def from_pairs(cls, pairs: Iterable[tuple[str, str]]) -> "ParallelText":
        """Pairs that are numbered from 1."""
        return cls.from_rows((row, *pair) for row, pair in enumerate(pairs, start=1))

    def __len__(self) -> int:
        return len(self.dataset)

    @functools.cached_property
    def sources(self) -> Column[str]:
        return Column(self.dataset, "source")

    @functools.cached_property
    def targets(self) -> Column[str]:
        return Column(self.dataset, "target")

    @functools.cached_property
    def rows(self) -> Column[int]:
        return Column(self.dataset, "row")

    def batches(self) -> Iterator[tuple[list[str], list[str]]]:
        """Sources and targets of some pairs after the other."""
        for part in parts(self.dataset.select_columns(["source", "target"])):
            for batch in part.iter(BATCH):
                yield batch["source"], batch["target"]

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Pairs of source and target."""
        for batch in self.batches():
            yield from zip(*batch, strict=True)

    def take(self, positions: npt.ArrayLike) -> pa.Table:
        """The sides of the pairs at some positions, in that order."""
        return self.dataset.select_columns(["source", "target"]).with_format("arrow")[np.asarray(positions).tolist()]

    def select(self, kept: Iterable[int] | np.ndarray, reason: str | None = None) -> "ParallelText":
        """
        The pairs at some positions, or those that an array of booleans marks; with a reason, those left out are
        counted under it.
        """
        chosen = kept if isinstance(kept, np.ndarray) else np.array(list(kept))
        is_mask = chosen.dtype == bool
        chosen = chosen if is_mask else chosen.astype(np.int64)
        count = int(chosen.sum()) if is_mask else len(chosen)
        dropped = dict(self.dropped)
        if reason is not None and count < len(self):
            dropped[reason] = dropped.get(reason, 0) + len(self) - count
        if count == len(self) and (is_mask or (chosen == np.arange(len(self))).all()):
            return ParallelText(self.dataset, dropped, self.key)
        if is_mask:
            return ParallelText(keep_rows(self.dataset, chosen), dropped)
        if self.dataset.cache_files:
            return ParallelText(self.dataset.select(chosen), dropped)
        table = self.dataset.with_format("arrow")[:]
        return ParallelText(datasets.Dataset(table.take(pa.array(chosen))), dropped)

    def __add__(self, other: "ParallelText") -> "ParallelText":
        """Both texts; the rows of the other are counted on after the last row of this one."""
        dropped = dict(Counter(self.dropped) + Counter(other.dropped))
        if not len(self):
            return ParallelText(other.dataset, dropped)
        last = int(read_numbers(self.dataset, "row").max())
        moved = replace_column(other.dataset, "row", read_numbers(other.dataset, "row").astype(np.int64) + last)
        both = [self.dataset, moved]
        if any("weight" in each.column_names for each in both):
            both = [each if "weight" in each.column_names else set_weight(each, 1.0) for each in both]
        return ParallelText(datasets.concatenate_datasets(both), dropped)

    def with_weight(self, weight: float) -> "ParallelText":
        """The same pairs, each to be shown so many times in an epoch."""
        return ParallelText(set_weight(self.dataset, weight), self.dropped)

    def write(self, path: Path) -> None:
        """Write the pairs into an Arrow file, from which `read` maps them."""
        schema = self.dataset.features.arrow_schema
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
            for part in parts(self.dataset):
                for table in part.with_format("arrow").iter(BATCH):
                    writer.write_table(table.select(schema.names).combine_chunks().cast(schema))

    @classmethod
    def read(cls, path: Path, dropped: dict[str, int] | None = None, key: str | None = None) -> "ParallelText":
        """Map a file that `write` or `write_rows` wrote."""
        return cls(datasets.Dataset.from_file(str(path)), dropped, key)


def batched(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Rows, some at once."""
    rows = iter(rows)
    while some := list(itertools.islice(rows, BATCH)):
        yield some


def make_batch(rows: Sequence[Row]) -> pa.RecordBatch:
    """Rows as Arrow has them."""
    numbers, sources, targets = zip(*rows, strict=True) if rows else ((), (), ())
    columns = {
        "source": pa.array(sources, pa.string()),
        "target": pa.array(targets, pa.string()),
        "row": pa.array(numbers, pa.int64()),
    }
    return pa.RecordBatch.from_pydict(columns)


def write_rows(rows: Iterable[Row], path: Path) -> None:
    """Write pairs of any number into an Arrow file as they are read."""
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, make_batch([]).schema) as writer:
        for some in batched(rows):
            writer.write_batch(make_batch(some))


def replace_column(dataset: datasets.Dataset, name: str, values: np.ndarray) -> datasets.Dataset:
    """A data set with a column of numbers in the place of one, or beside the others, which stay where they are."""
    others = [each for each in dataset.column_names if each != name]
    column = datasets.Dataset(pa.table({name: values}))
    names = list(dict.fromkeys([*dataset.column_names, name]))
    return datasets.concatenate_datasets([dataset.select_columns(others), column], axis=1).select_columns(names)


def set_weight(dataset: datasets.Dataset, weight: float) -> datasets.Dataset:
    """A data set all rows of which have a weight."""
    return replace_column(dataset, "weight", np.full(len(dataset), weight, np.float32))
