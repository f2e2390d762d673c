"""How a model translates text as people type it: a test text and its changed copies, scored in one table."""

import random
import re
import unicodedata
from collections.abc import Callable, Sequence

from tabulate import tabulate

from training.data.everyday import KINDS, Everyday, Pair, lower, no_stop, title, upper
from training.data.parallel import ParallelText
from training.log import quiet_transformers
from training.metrics.translation import bleu
from training.recipe.augmentation import DEFAULT_SHARES
from vanilla_transformer import VanillaTransformerTranslationPipeline
from vanilla_transformer.scores import Robustness

SPACES = "  {}\t "
# The source of each copy; references stay as they are, since neither case nor marks count.
COPIES: dict[str, Callable[[str], str]] = {
    "plain": lambda source: source,
    "upper": lambda source: upper(Pair(source, "")).source,
    "title": lambda source: title(Pair(source, "")).source,
    "lower": lambda source: lower(Pair(source, "")).source,
    "no stop": lambda source: no_stop(Pair(source, source)).source,
    "spaces": SPACES.format,
}
ITEMS_OF_A_KIND = 40
SEED = 20171206  # of what is put into sources to be copied: the same in every evaluation
OFF = {"split_sentences": False, "protect_copies": False, "restore_case": False}


def measure(
    translator: VanillaTransformerTranslationPipeline, text: ParallelText, target_lang: str | None = None
) -> list[Robustness]:
    """Translate a text and its copies, each with and without what the pipeline does for everyday input."""
    with quiet_transformers():  # no word of each text that a copied thing makes long
        return [*scores_of_copies(translator, text, target_lang), *shares_of_items(translator, text)]


def scores_of_copies(
    translator: VanillaTransformerTranslationPipeline, text: ParallelText, target_lang: str | None
) -> list[Robustness]:
    """BLEU of a text and of its copies."""
    rows = []
    for copy, change in COPIES.items():
        sources = [change(source) for source in text.sources]
        values = [
            score_without_case_and_marks(translations, list(text.targets), target_lang)
            for translations in translate_both(translator, sources)
        ]
        rows.append(Robustness(copy, len(sources), *values))
    return rows


def shares_of_items(translator: VanillaTransformerTranslationPipeline, text: ParallelText) -> list[Robustness]:
    """How many things of each kind are copied exactly once out of sentences of a text."""
    rows = []
    shares = {**dict.fromkeys(DEFAULT_SHARES, 0.0), "copies": 1.0}
    everyday = Everyday(list(text), shares, SEED)
    for kind in (kind for kind in KINDS if kind != "mask"):
        draw = random.Random(f"{SEED} {kind}")
        chosen = draw.sample(range(len(text)), min(ITEMS_OF_A_KIND, len(text)))
        made = [everyday.with_copy(Pair(text.sources[i], text.targets[i]), draw, kind) for i in chosen]
        sources = [pair.source for pair, _ in made]
        copied = [
            share_copied(sources, [item for _, item in made], each) for each in translate_both(translator, sources)
        ]
        rows.append(Robustness(kind.replace("_", " "), len(made), *copied))
    return rows


def share_copied(sources: list[str], items: list[str], translations: list[str]) -> float:
    """How many of the items are in a translation as often as in its source, in percent."""
    kept = (
        text.count(item) == source.count(item) for source, item, text in zip(sources, items, translations, strict=True)
    )
    return 100 * sum(kept) / len(items)


def translate_both(translator: VanillaTransformerTranslationPipeline, sources: Sequence[str]) -> list[list[str]]:
    """
    Translations by the pipeline, and by it with all that can be switched off of what it does for everyday input: what
    plain `generate` makes of the text without the white space around it.
    """
    results = [translator(list(sources)), translator(list(sources), **OFF)]
    return [[each[translator.text_key] for each in result] for result in results]


def score_without_case_and_marks(translations: list[str], references: list[str], target_lang: str | None) -> float:
    """BLEU of texts in small letters without punctuation."""
    return bleu(
        [bare(text) for text in translations], [bare(text) for text in references], target_lang=target_lang
    ).value


def bare(text: str) -> str:
    """A text in small letters, with a space in the place of punctuation and of white space."""
    kept = (" " if unicodedata.category(character)[0] == "P" else character for character in text.lower())
    return re.sub(r"\s+", " ", "".join(kept)).strip()


def table(rows: Sequence[Robustness]) -> str:
    """A row for each copy, BLEU above and shares of copied things below."""
    scores = [row for row in rows if row.copy in COPIES]
    copied = [row for row in rows if row.copy not in COPIES]
    shown = [
        tabulate(
            [
                [row.copy, f"{row.sentences:,}", f"{row.pipeline:.{places}f}", f"{row.generate:.{places}f}"]
                for row in part
            ],
            headers=[head, "sentences", "pipeline", "generate"],
            disable_numparse=True,
        )
        for part, head, places in ((scores, "BLEU without case and marks", 1), (copied, "copied once, %", 0))
        if part
    ]
    return "\n\n".join(shown)
