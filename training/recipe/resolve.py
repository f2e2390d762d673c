"""The recipe of a run, from file, command line, size of the corpus and the model that it starts from."""

import dataclasses
import functools
from pathlib import Path

from huggingface_hub import hf_hub_download

from training.recipe.names import TASK_FIELDS
from training.recipe.parse import Recipe, parse_recipe
from vanilla_transformer.conversion.importing import find_source
from vanilla_transformer.errors import ModelCardError
from vanilla_transformer.model_card import FACTS, ModelCardFacts


def resolve_recipe(arguments: list[str], pairs: int | None = None) -> Recipe:
    """
    Read a recipe, and fill in the languages that it does not name as the card of the model of `init_from` has them.

    Args:
        arguments, pairs: as for `parse_recipe`.

    Raises:
        RecipeError: as `parse_recipe`.
    """
    recipe = parse_recipe(arguments, pairs)
    if recipe.model.init_from is None:
        return recipe
    base, data = base_facts(recipe.model.init_from), recipe.data
    target_lang = data.target_lang
    if "target_lang" in TASK_FIELDS[recipe.model.task]:
        target_lang = target_lang or base.target_lang
    data = dataclasses.replace(data, source_lang=data.source_lang or base.source_lang, target_lang=target_lang)
    return dataclasses.replace(recipe, data=data)


@functools.lru_cache(maxsize=1)
def base_facts(init_from: str) -> ModelCardFacts:
    """Return the model card facts of the initial model, or empty facts."""
    try:
        foreign = find_source(init_from)
        if foreign is not None:
            return foreign.describe()
        if Path(init_from).is_dir():
            return ModelCardFacts.load(init_from)
        return ModelCardFacts.load(Path(hf_hub_download(init_from, FACTS)).parent)
    except (ModelCardError, OSError, ValueError):
        return ModelCardFacts()
