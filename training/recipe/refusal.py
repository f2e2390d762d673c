"""How faults of a recipe are reported: all at once."""

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
