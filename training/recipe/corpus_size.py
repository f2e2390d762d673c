"""The table `by_corpus_size`: fields that depend on how large the training text is."""

import dataclasses
import math
from collections.abc import Mapping

from training.recipe.fields import DataFields
from training.recipe.names import check_names
from training.recipe.ranges import Value
from vanilla_transformer.errors import RecipeError

# Notes of a row besides fields.
ROW_NOTES = ("up_to", "expect")


def choose_row(table: Value, pairs: int | None) -> dict[str, Value]:
    """
    Return the first row that is for a corpus of so many pairs; the last one if their number is unknown.

    Raises:
        RecipeError: if it is not a table of rows in rising order, the last without a limit, or a row has fields that
            do not exist, or that are needed before the size of the corpus is known.
    """
    written = table if isinstance(table, list) else []
    rows = [row for row in written if isinstance(row, dict)]
    limits = [limit for row in rows if isinstance(limit := row.get("up_to", math.inf), int | float)]
    is_table = len(written) == len(limits) > 0
    if not is_table or limits != sorted(limits) or limits[-1] != math.inf:
        raise RecipeError(
            "`by_corpus_size` must be a list of rows of fields. Every row except the last needs `up_to`, the largest "
            "number of pairs that it is for, in increasing order."
        )
    text_fields = {f.name for f in dataclasses.fields(DataFields)}
    for row in rows:
        check_names({name for name in row if name not in ROW_NOTES})
        for name in sorted(text_fields & set(row)):
            raise RecipeError(f"`by_corpus_size` has `{name}`, which describes the corpus. Write it above the table.")
    return rows[-1] if pairs is None else next(row for row, limit in zip(rows, limits, strict=True) if pairs <= limit)


def describe_choice(row: Mapping[str, Value]) -> str:
    """Say what the table of sizes chose, and what to expect of a corpus of that size."""
    limit = f"up to {row['up_to']:,}" if "up_to" in row else "more"
    values = {name: value for name, value in row.items() if name not in ROW_NOTES}
    shown = (f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items())
    line = f"chosen for this size ({limit} pairs): {', '.join(shown)}"
    return f"{line}\nwhat to expect: {row['expect']}" if "expect" in row else line
