"""The field `sources`: several texts to train on, and how often an epoch shows each."""

import math

import yaml

from training.recipe.fields import TextSource
from training.recipe.ranges import Value
from training.recipe.reading import read_yaml
from vanilla_transformer.errors import RecipeError

EXAMPLE = "[{source: a.en, target: a.de, weight: 2}, {file: b.parquet}]"
NAMES = tuple(TextSource.__dataclass_fields__)


def read_sources(value: Value) -> list[dict[str, Value]]:
    """
    Return the texts of `sources`, checked; none where there are none.

    Raises:
        RecipeError: for anything but a list of texts, and for a text that does not fit.
    """
    sources: Value = value or []
    if isinstance(sources, str):
        try:
            sources = read_yaml(sources)
        except yaml.YAMLError:
            sources = None
    texts = [each for each in sources if isinstance(each, dict)] if isinstance(sources, list) else []
    if not isinstance(sources, list) or len(texts) < len(sources):
        raise RecipeError(f"`sources` must be a list of texts, but is {value!r}. Write, for example, '{EXAMPLE}'.")
    for number, source in enumerate(texts, start=1):
        check_source(source, f"`sources`, text {number}")
    return texts


def check_source(source: dict[str, Value], place: str) -> None:
    """
    Refuse a text of `sources` that does not fit.

    Raises:
        RecipeError: naming what is wrong.
    """
    for name in source:
        if name not in NAMES:
            raise RecipeError(f"{place} must have only {', '.join(NAMES)}, but has `{name}`. Give some of these.")
    named = {name for name in ("source", "target", "file", "dataset_name") if source.get(name)}
    if named not in ({"source", "target"}, {"file"}, {"dataset_name"}):
        raise RecipeError(
            f"{place} must name a `source` with its `target`, a `file` with both sides, or a `dataset_name`, but "
            f"names {', '.join(sorted(named)) or 'none'}. Write, for example, '{EXAMPLE}'."
        )
    for name, given in source.items():
        if name != "weight" and not isinstance(given, str):
            raise RecipeError(f"{place} must have text under `{name}`, but has {given!r}. Write its name.")
    weight = source.get("weight", 1)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
        raise RecipeError(
            f"{place} must have a `weight` above 0, but has {weight!r}. Give how often an epoch shows its pairs, such "
            "as 2 or 0.5, or leave the text out."
        )
