"""How faults of a recipe are gathered and reported: all at once."""

from collections.abc import Iterable

from vanilla_transformer.errors import RecipeError


class Faults:
    """
    The faults of a recipe.

    A fault that was found by the values of fields is not told while one of them has a wrong value: with a right one it
    may not be there.

    Attributes:
        texts: the faults, a sentence or two each.
        wrong: the fields whose values are wrong by themselves, whatever others are.
    """

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.wrong: set[str] = set()

    def add(self, text: str, *fields: str) -> None:
        """Add a fault that was found by the values of these fields, or by the recipe's form where there are none."""
        if not self.wrong & {*fields}:
            self.texts.append(text)

    def add_wrong(self, field: str, text: str) -> None:
        """Add the fault of a value by itself."""
        self.wrong.add(field)
        self.texts.append(text)

    def refuse(self) -> None:
        """
        Report all faults at once.

        Raises:
            RecipeError: if there is one.
        """
        refuse(self.texts)


def refuse(faults: Iterable[str]) -> None:
    """
    Report all of some faults at once, each once.

    Raises:
        RecipeError: if there is one.
    """
    texts = list(dict.fromkeys(faults))
    if len(texts) == 1:
        raise RecipeError(texts[0])
    if texts:
        raise RecipeError(f"the recipe has {len(texts)} faults:\n" + "\n".join(f"  {text}" for text in texts))
