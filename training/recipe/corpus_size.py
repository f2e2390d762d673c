"""The table `by_corpus_size`: fields that depend on how large the training text is."""

import dataclasses
import math
from collections.abc import Mapping

from training.recipe.fields import DataFields
from training.recipe.names import find_faults_of_names
from training.recipe.ranges import Value
from training.recipe.refusal import refuse

# Notes of a row besides fields.
ROW_NOTES = ("up_to", "expect")


def find_faults_of_table(table: Value) -> list[str]:
    """
    Find what is wrong with a table: not rows in rising order, the last without a limit; fields that do not exist, or
    that are needed before the size of the corpus is known.
    """
    written = table if isinstance(table, list) else []
    rows = [row for row in written if isinstance(row, dict)]
    limits = [read_limit(row) for row in rows]
    is_table = len(written) == len(rows) > 0 and not any(map(math.isnan, limits))
    if not is_table or limits != sorted(limits) or limits[-1] != math.inf:
        return [
            "`by_corpus_size` must be a list of rows of fields. Every row except the last needs `up_to`, the largest "
            "number of pairs that it is for, in increasing order."
        ]
    names = {name for row in rows for name in row if name not in ROW_NOTES}
    text_fields = {f.name for f in dataclasses.fields(DataFields)}
    return [
        *find_faults_of_names(names),
        *(
            f"`by_corpus_size` must not have fields that describe the corpus, but has `{name}`. Write it above the "
            "table."
            for name in sorted(text_fields & names)
        ),
    ]


def read_limit(row: Mapping[str, Value]) -> float:
    """Return the largest corpus that a row is for; `math.nan` for what is not a number of pairs."""
    limit = row.get("up_to", math.inf)
    is_number = isinstance(limit, int | float) and not isinstance(limit, bool) and limit > 0
    return limit if is_number else math.nan  # type: ignore[return-value]


def choose_row(table: Value, pairs: int | None) -> dict[str, Value]:
    """
    Return the first row that is for a corpus of so many pairs; the last one if their number is unknown.

    Raises:
        RecipeError: naming all faults of the table.
    """
    refuse(find_faults_of_table(table))
    rows = [row for row in table if isinstance(row, dict)] if isinstance(table, list) else []
    return rows[-1] if pairs is None else next(row for row in rows if pairs <= read_limit(row))


def describe_choice(row: Mapping[str, Value]) -> str:
    """Say what the table of sizes chose, and what to expect of a corpus of that size."""
    limit = f"up to {row['up_to']:,}" if "up_to" in row else "more"
    values = {name: value for name, value in row.items() if name not in ROW_NOTES}
    shown = (f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items())
    line = f"chosen for this size ({limit} pairs): {', '.join(shown)}"
    return f"{line}\nwhat to expect: {row['expect']}" if "expect" in row else line
