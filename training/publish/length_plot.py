"""BLEU by the length of the source, as rows and as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from training.metrics.segmentation import separate_characters
from training.metrics.translation import bleu

# Words of the source up to which a bar of the picture reaches; the last has no end.
LENGTHS = (5, 10, 15, 20, 30, 40, 60)
FEW = 30  # sentences, of which BLEU says little

Row = tuple[str, int, float | None]


def by_length(
    sources: Sequence[str], hypotheses: Sequence[str], references: Sequence[str], tokenize: str
) -> list[Row]:
    """
    Ranges of source words (`LENGTHS`), or of characters where a script has no spaces between words, with the number of
    sentences in each and their BLEU; none without any.
    """
    words = [len(separate_characters(source).split()) for source in sources]
    rows: list[Row] = []
    low = 1
    for high in (*LENGTHS, None):
        chosen = [i for i, count in enumerate(words) if count >= low and (high is None or count <= high)]
        label = f"{low}+" if high is None else f"{low}-{high}"
        score = None
        if chosen:
            score = bleu([hypotheses[i] for i in chosen], [references[i] for i in chosen], tokenize).value
        rows.append((label, len(chosen), score))
        low = (high or 0) + 1
    return rows


def plot_by_length(texts: Mapping[str, Sequence[Row]], path: Path) -> None:
    """
    Draw BLEU by the length of the source, with the number of sentences on each bar, as a PNG.

    Bars of few sentences are pale: they say little. Ranges past the longest sentence of all texts are left out.

    Args:
        texts: by their names, what `by_length` makes of them.
    """
    from matplotlib.figure import Figure  # without pyplot no window system is looked for

    last = max((i for rows in texts.values() for i, (_, count, _) in enumerate(rows) if count), default=0)
    figure = Figure(figsize=(8, 3 * len(texts)), layout="constrained")
    panels = figure.subplots(len(texts), 1, squeeze=False, sharex=True, sharey=True)[:, 0]
    for axes, (name, rows) in zip(panels, texts.items(), strict=True):
        rows = rows[: last + 1]
        bars = axes.bar([label for label, _, _ in rows], [score or 0 for _, _, score in rows])
        axes.bar_label(bars, labels=[f"{count:,}" if count else "" for _, count, _ in rows])
        for bar, (_, count, _) in zip(bars, rows, strict=True):
            bar.set_alpha(0.3 if count < FEW else 1)
        axes.set_title(name, parse_math=False)
        axes.set_ylabel("BLEU")
        axes.grid(axis="y", alpha=0.3)
    best = max(score or 0 for rows in texts.values() for _, _, score in rows)
    axes.set_ylim(0, 1.15 * best or 1)  # of all panels
    axes.set_xlabel(f"words in the source; on each bar the number of sentences, pale below {FEW}")
    figure.savefig(path, dpi=120)
