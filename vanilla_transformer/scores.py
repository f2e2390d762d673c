"""Scores: of one text, and of a run, as values; their JSON, and the few ways to write them."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# The values that JSON writes.
Json = bool | int | float | str | list["Json"] | dict[str, "Json"] | None
# All that is measured, with the names of what has no signature, in the order in which they are shown.
MEASURES = {
    "perplexity": "perplexity",
    "bleu": "BLEU",
    "chrf": "chrF2",
    "ter": "TER",
    "meteor": "METEOR",
    "compound_bleu": "BLEU (compounds)",
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
    "rougeLsum": "ROUGE-Lsum",
    "accuracy": "accuracy",
    "exact_match": "exact match",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
}
COUNTED = ("unanswered",)  # kept beside them, and not shown
# The parts of a BLEU score beside its value, by the names of its fields: the names in results end with them.
LENGTHS = ("brevity_penalty", "length_ratio")
# Scores of translations. Each has a signature, which begins with its name.
SIGNED = ("bleu", "chrf", "ter", "meteor", "compound_bleu")


@dataclass(frozen=True)
class Score:
    """
    A score of a whole text.

    Attributes:
        value: in percent, or a share from 0 to 1; of TER and perplexity less is better, of all others more.
        signature: its name and how it was computed. Scores with other signatures cannot be compared.
        margin: half the width of its 95% interval by bootstrap resampling (Koehn 2004), if that was asked for.
        brevity_penalty: of BLEU, what its precision is multiplied by: less than 1 where translations are too short.
        length_ratio: of BLEU, tokens of the translations for each of the references.
    """

    value: float
    signature: str | None = None
    margin: float | None = None
    brevity_penalty: float | None = None
    length_ratio: float | None = None

    @property
    def name(self) -> str | None:
        """The name in its signature, such as "chrF2"."""
        return None if self.signature is None else self.signature.partition("|")[0]

    @property
    def lengths(self) -> dict[str, float]:
        """The `LENGTHS` that are known of it."""
        return {name: getattr(self, name) for name in LENGTHS if getattr(self, name) is not None}


@dataclass(frozen=True)
class SplitScores:
    """
    The scores of one text.

    Attributes:
        loss: mean negative log-likelihood (NLL) in nats.
        scores: by the keys of `MEASURES` and `COUNTED`.
        rows: how many were scored.
        parts: scores of parts of it, such as its labels, by their names, each with its "count".
    """

    loss: float
    scores: Mapping[str, Score] = field(default_factory=dict)
    rows: int | None = None
    parts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @classmethod
    def from_metrics(
        cls,
        metrics: Mapping[str, float],
        prefix: str | None = None,
        rows: int | None = None,
        parts: Mapping[str, Mapping[str, float]] | None = None,
    ) -> "SplitScores":
        """
        Pick the scores out of what was measured.

        Args:
            metrics: "loss", scores by the keys of `MEASURES` and `COUNTED`, and others, such as the speed.
            prefix: of all these names, with a `_` behind it, as Trainer logs them.
            rows, parts: what else is known of the text.
        """
        start = "" if prefix is None else f"{prefix}_"
        keys = {f"{start}{key}": key for key in (*MEASURES, *COUNTED)}
        scores = {
            key: Score(metrics[name], None, None, *(metrics.get(f"{name}_{of}") for of in LENGTHS))
            for name, key in keys.items()
            if name in metrics
        }
        return cls(metrics[f"{start}loss"], scores, rows, parts or {})

    def without_details(self) -> "SplitScores":
        """Return the values only, as they are kept of a model before it is trained."""
        plain = {key: Score(score.value) for key, score in self.scores.items()}
        return dataclasses.replace(self, scores=plain, rows=None)

    def describe(self, names: Mapping[str, str] | None = None) -> str:
        """
        Return such as "NLL 1.2345, perplexity 3.44, BLEU 30.12 ± 0.50".

        Args:
            names: by key, of scores without a signature; those of `MEASURES` without it.
        """
        shown = [f"NLL {self.loss:.4f}"]
        for key, name in (names or MEASURES).items():
            if key in self.scores:
                score = self.scores[key]
                shown.append(f"{score.name or name} {write_score(key, score)}")
        return ", ".join(shown)


@dataclass(frozen=True)
class Robustness:
    """
    Scores of one copy of a text as people type it, by the pipeline with the model's settings and by plain `generate`.

    Attributes:
        copy: its name, such as "upper"; of things to copy their kind.
        sentences: in it.
        pipeline, generate: BLEU without case and marks; of things to copy the share in percent that is in the
            translation exactly once.
    """

    copy: str
    sentences: int
    pipeline: float
    generate: float


@dataclass(frozen=True)
class Results:
    """
    The measurements of a run.

    Attributes:
        splits: the scores of each text, by its name: "validation", "test" and others.
        before: the same before the training, of a model that was trained already.
        robustness: of one text as people type it.
        steps, train_seconds: of the training.
    """

    splits: Mapping[str, SplitScores] = field(default_factory=dict)
    before: Mapping[str, SplitScores] = field(default_factory=dict)
    robustness: tuple[Robustness, ...] = ()
    steps: int | None = None
    train_seconds: float | None = None

    @property
    def names(self) -> dict[str, str]:
        """The names by which the scores of all texts are shown, by key."""
        found = {}
        for key, name in MEASURES.items():
            scores = [split.scores[key] for split in self.splits.values() if key in split.scores]
            if scores:
                found[key] = scores[-1].name or name
        return found

    @property
    def signatures(self) -> dict[str, str]:
        """How scores were computed, by key."""
        found = {}
        for key in SIGNED:
            for split in self.splits.values():
                signature = split.scores[key].signature if key in split.scores else None
                if signature is not None:
                    found[key] = signature
        return found

    def describe(self, split: str) -> str:
        """Return the scores of a text, with those before the training in brackets."""
        line = self.splits[split].describe(self.names)
        return f"{line} (before: {self.before[split].describe(self.names)})" if split in self.before else line

    def to_json(self) -> dict[str, Json]:
        """
        Return one flat table, as transformers' own training scripts write `all_results.json`.

        Its names are `{split}_rows`, `{split}_loss`, `{split}_{key}`, `{split}_{key}_margin`, those of BLEU with
        `_brevity_penalty` and `_length_ratio`, and `{split}_parts`, with `_before` of the model before the training;
        `{key}_signature`; `robustness`, `steps` and `train_seconds`.
        """
        table: dict[str, Json] = {}
        for splits, suffix in ((self.before, "_before"), (self.splits, "")):
            for split, scores in splits.items():
                if scores.rows is not None:
                    table[f"{split}_rows{suffix}"] = scores.rows
                table[f"{split}_loss{suffix}"] = scores.loss
                for key, score in scores.scores.items():
                    table[f"{split}_{key}{suffix}"] = score.value
                    if score.signature is not None:
                        table[f"{key}_signature"] = score.signature
                    if score.margin is not None:
                        table[f"{split}_{key}_margin{suffix}"] = score.margin
                    table |= {f"{split}_{key}_{name}{suffix}": value for name, value in score.lengths.items()}
                if scores.parts:
                    table[f"{split}_parts{suffix}"] = {name: dict(part) for name, part in scores.parts.items()}
        if self.robustness:
            table["robustness"] = [dataclasses.asdict(row) for row in self.robustness]
        for name in ("steps", "train_seconds"):
            if getattr(self, name) is not None:
                table[name] = getattr(self, name)
        return table

    @classmethod
    def from_json(cls, table: Mapping[str, Any]) -> "Results":
        """
        Read what `to_json` returns.

        Raises:
            ValueError: for an entry of another type.
        """

        def number(name: str) -> Any:
            value = table.get(name)
            if name in table and (isinstance(value, bool) or not isinstance(value, int | float)):
                raise ValueError(f"`{name}` must be a number, but is {value!r}")
            return value

        def read(suffix: str) -> dict[str, SplitScores]:
            end = f"_loss{suffix}"
            found = {}
            for split in [name.removesuffix(end) for name in table if name.endswith(end)]:
                scores = {
                    key: Score(
                        number(f"{split}_{key}{suffix}"),
                        None if suffix else table.get(f"{key}_signature"),
                        *(number(f"{split}_{key}_{name}{suffix}") for name in ("margin", *LENGTHS)),
                    )
                    for key in (*MEASURES, *COUNTED)
                    if f"{split}_{key}{suffix}" in table
                }
                parts = table.get(f"{split}_parts{suffix}", {})
                found[split] = SplitScores(number(f"{split}{end}"), scores, number(f"{split}_rows{suffix}"), parts)
            return found

        robustness = tuple(Robustness(**row) for row in table.get("robustness", ()))
        return cls(read(""), read("_before"), robustness, number("steps"), number("train_seconds"))


def write_value(key: str, value: float) -> str:
    """Return a value as it is shown: shares from 0 to 1 to four places, all others to two."""
    return f"{value:.4f}" if key not in ("perplexity", *SIGNED) and 0 < value < 1 else f"{value:.2f}"


def write_score(key: str, score: Score) -> str:
    """Return a score as it is shown, with its interval and the lengths behind it if it has them."""
    margin = "" if score.margin is None else f" ± {write_value(key, score.margin)}"
    names = dict(zip(LENGTHS, ("BP", "ratio"), strict=True))  # sacreBLEU's
    lengths = ", ".join(f"{names[name]} {value:.3f}" for name, value in score.lengths.items())
    return write_value(key, score.value) + margin + (f" ({lengths})" if lengths else "")
