"""Old text for a fine-tuning: which pairs are mixed in, and which are held out."""

import random
from functools import partial

from training.data.cleaning import clean, take_side
from training.data.duplicates import hash_all, mark_first
from training.data.files import read_plain_text
from training.data.parallel import ParallelText
from training.data.texts import read_one_file, read_two_files
from training.recipe.fields import DataFields, Replay
from vanilla_transformer.errors import RecipeError


def read_old_sources(replay: Replay) -> list[str]:
    """The different lines with words in a text that the model translates by itself."""
    return list(dict.fromkeys(line.strip() for line in read_plain_text(str(replay.source)) if line.strip()))


def read_old_pairs(replay: Replay, data: DataFields) -> ParallelText:
    """Old pairs with words on both sides, each source once."""
    if replay.file is not None:
        text = read_one_file(replay.file, data)
    else:
        text = read_two_files(str(replay.source), str(replay.target))
    text = clean(text, data, "replay")
    return text.select(mark_first(hash_all(text.sources, len(text)), partial(take_side, text, "source")))


def draw(available: int, wanted: int, hold_out: int, seed: int) -> tuple[list[int], list[int]]:
    """
    Positions of old pairs: those to mix in, as many as wanted if there are so many, and those to hold out.

    Raises:
        RecipeError: if there are too few.
    """
    held = min(hold_out, available // 5)
    if not held:
        raise RecipeError(
            f"`replay` must have at least 5 pairs, to mix in and to hold out, but has {available}. Give more."
        )
    order = list(range(available))
    random.Random(seed).shuffle(order)
    return sorted(order[held : held + wanted]), sorted(order[:held])
