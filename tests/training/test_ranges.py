"""Values that a field may have: both ends of every range."""

import dataclasses
import math
from typing import Annotated

import pytest

from training.recipe.ranges import FINITE, PROBABILITY, SEED, at_least, find_faults, more_than, one_of, zero_or_more


@pytest.mark.parametrize(
    ("allowed", "fitting", "others"),
    [
        (at_least(2), (2, 3), (1, -2)),
        (more_than(1), (1.01, 2), (1, 0, math.inf, math.nan)),
        (zero_or_more(), (0, 0.5), (-0.1, math.inf, math.nan)),
        (one_of("gnmt", "power"), ("gnmt", "power"), ("Gnmt", "")),
        (PROBABILITY, (0, 0.99), (1, -0.1, math.nan)),
        (FINITE, (0, -1e9), (math.inf, math.nan)),
        (SEED, (0, 2**32 - 1), (-1, 2**32)),
    ],
)
def test_a_range_has_its_ends(allowed, fitting, others):
    @dataclasses.dataclass
    class Fields:
        field: Annotated[object, allowed]

    for value in fitting:
        assert find_faults(Fields(value)) == {}
    for value in others:
        remedy = allowed.remedy if value not in (math.inf, math.nan) or allowed is FINITE else "Give a finite number"
        assert find_faults(Fields(value))["field"].startswith(
            f"`field` must be {allowed.rule}, but is {value!r}. {remedy}"
        )
