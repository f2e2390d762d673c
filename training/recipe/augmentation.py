"""The field `augmentation`: shares of the training pairs that are shown as people type them."""

import yaml

from training.recipe.ranges import Value
from training.recipe.reading import read_yaml
from vanilla_transformer.errors import RecipeError

# Shares of the pairs that an epoch changes.
DEFAULT_SHARES = {"upper": 0.06, "title": 0.05, "lower": 0.1, "no_stop": 0.1, "copies": 0.15}
LETTER_CASES = ("upper", "title", "lower")  # of which a pair has one


def read_mapping(value: Value, name: str, example: str) -> dict[str, Value]:
    """
    Return a field of names and values, which the command line gives as YAML.

    Raises:
        RecipeError: for anything else.
    """
    mapping: Value = value or {}
    if isinstance(mapping, str):
        try:
            mapping = read_yaml(mapping)
        except yaml.YAMLError:
            mapping = None
    if not isinstance(mapping, dict):
        raise RecipeError(f"`{name}` must be names and values, but is {value!r}. Write, for example, '{example}'.")
    return mapping


def read_shares(value: Value) -> dict[str, float]:
    """
    Return the shares of `augmentation`, complete; empty where it is off.

    Raises:
        RecipeError: for another name, and for what is not a share.
    """
    if str(value).lower() in ("none", "false"):
        return {}
    if str(value).lower() == "true":
        return dict(DEFAULT_SHARES)
    example = f"{{{', '.join(f'{name}: {share}' for name, share in DEFAULT_SHARES.items())}}}"
    shares = read_mapping(value, "augmentation", example)
    complete = dict.fromkeys(DEFAULT_SHARES, 0.0)
    for name, share in shares.items():
        if name not in DEFAULT_SHARES:
            raise RecipeError(
                f"`augmentation` must have shares of {', '.join(DEFAULT_SHARES)}, but has `{name}`. Give some of "
                "these."
            )
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share <= 1:
            raise RecipeError(
                f"`{name}` in `augmentation` must be a number from 0 to 1, but is {share!r}. Give a share of the "
                "pairs."
            )
        complete[name] = float(share)
    of_case = sum(complete[name] for name in LETTER_CASES)
    if of_case > 1:
        raise RecipeError(
            f"`augmentation` must have at most 1 for {', '.join(LETTER_CASES)} together, but has {of_case:g}. Give "
            "less."
        )
    return complete if any(complete.values()) else {}
