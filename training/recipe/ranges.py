"""The range of a recipe field, declared on the field: `stride: Annotated[int, at_least(1)]`."""

import dataclasses
import math
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Value = bool | int | float | str | list["Value"] | dict[str, "Value"] | None  # what YAML writes
V = TypeVar("V")


@dataclass(frozen=True)
class Range(Generic[V]):
    """
    Values that a field may have.

    Attributes:
        fits: whether a value is one of them.
        rule: what a value must be: "at least 1".
        remedy: what to do about another.
    """

    fits: Callable[[V], bool]
    rule: str
    remedy: str = "Give such a number"


def at_least(least: int) -> Range[float]:
    return Range(lambda value: value >= least, f"at least {least}", "Give more")


def more_than(limit: int, example: str = "") -> Range[float]:
    return Range(lambda value: limit < value < math.inf, f"more than {limit}", f"Give more{example}")


def zero_or_more(example: str = "") -> Range[float]:
    return Range(lambda value: 0 <= value < math.inf, "at least 0", f"Give more{example}")


def one_of(*values: str) -> Range[str]:
    choices = " or ".join(values) if len(values) == 2 else f"one of {', '.join(values)}"
    return Range(lambda value: value in values, choices, "Choose one")


PROBABILITY: Range[float] = Range(lambda value: 0 <= value < 1, "at least 0 and less than 1")
FINITE = Range(math.isfinite, "finite", "Give a number, such as 0.6")
SEED: Range[int] = Range(lambda value: 0 <= value < 2**32, "from 0 to 4,294,967,295")


def find_faults(fields: "DataclassInstance") -> dict[str, str]:
    """Return the faults of the values of a dataclass, by field; `None` fits where it is the default."""
    faults = {}
    types = typing.get_type_hints(type(fields), include_extras=True)
    for field in dataclasses.fields(fields):
        value, declared = getattr(fields, field.name), getattr(types[field.name], "__metadata__", ())
        allowed = next((each for each in declared if isinstance(each, Range)), None)
        if allowed is None or (value is None and field.default is None) or allowed.fits(value):
            continue
        shown = repr(value) if isinstance(value, str) else value
        null = ", or null to leave it unset" if field.default is None else ""
        is_finite = not isinstance(value, float) or math.isfinite(value)
        remedy = allowed.remedy if is_finite or allowed is FINITE else "Give a finite number"
        faults[field.name] = f"`{field.name}` must be {allowed.rule}, but is {shown}. {remedy}{null}."
    return faults
