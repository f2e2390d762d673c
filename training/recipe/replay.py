"""The field `replay`: old text that is mixed into a fine-tuning, so that what the model knew is not forgotten."""

from training.recipe.augmentation import read_mapping
from training.recipe.fields import Replay
from training.recipe.ranges import Value
from vanilla_transformer.errors import RecipeError

EXAMPLE = "{source: old.en, target: old.es, share: 0.5}"
NAMES = ("source", "target", "file", "share", "hold_out")


def read_replay(value: Value) -> dict[str, Value]:
    """
    Return the settings of `replay`, checked; empty where there are none.

    Raises:
        RecipeError: for another name, and for what does not fit.
    """
    settings = read_mapping(value, "replay", EXAMPLE)
    if not settings:
        return {}
    for name in settings:
        if name not in NAMES:
            raise RecipeError(f"`replay` must have only {', '.join(NAMES)}, but has `{name}`. Give some of these.")
    named = {name for name in ("source", "target", "file") if settings.get(name)}
    if named not in ({"file"}, {"source"}, {"source", "target"}):
        raise RecipeError(
            "`replay` must name a `file`, a `source` with its `target`, or a `source` for the model to translate, but "
            f"names {', '.join(sorted(named)) or 'none'}. Write, for example, '{EXAMPLE}'."
        )
    share, hold_out = settings.get("share", Replay.share), settings.get("hold_out", Replay.hold_out)
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share < 1:
        raise RecipeError(
            f"`share` in `replay` must be above 0 and below 1, but is {share!r}. Give a number such as 0.5."
        )
    if isinstance(hold_out, bool) or not isinstance(hold_out, int) or hold_out < 1:
        raise RecipeError(
            f"`hold_out` in `replay` must be at least 1, but is {hold_out!r}. Give a number of pairs, such as 500."
        )
    return {**settings, "share": float(share), "hold_out": hold_out}
