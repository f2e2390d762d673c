"""How faults of a recipe are reported: all at once."""

import re
from collections.abc import Iterable

from vanilla_transformer.errors import RecipeError


def refuse(faults: list[str]) -> None:
    """
    Report all faults at once.

    Raises:
        RecipeError: if there is one.
    """
    if len(faults) == 1:
        raise RecipeError(faults[0])
    if faults:
        raise RecipeError(f"the recipe has {len(faults)} faults:\n" + "\n".join(f"  {fault}" for fault in faults))


def leave_out_followers(faults: Iterable[str], first: Iterable[str]) -> list[str]:
    """Leave out faults that name fields of the `first` ones, which they may follow from."""
    named = set(re.findall(r"`(\w+)`", " ".join(first)))
    return [fault for fault in faults if not named & set(re.findall(r"`(\w+)`", fault))]
