"""The output of `training.score`: a table, and a folder with scores, translations and a picture."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

from training.data.parallel import ParallelText
from training.metrics.significance import Difference
from training.publish.length_plot import by_length, plot_by_length
from vanilla_transformer.forced import ForcedScore, write_forced
from vanilla_transformer.scores import Robustness, Score, write_score

BY_LENGTH = "bleu_by_length.png"


@dataclass
class Domain:
    """
    A text to score, or a system to score on the one text.

    Attributes:
        name: of its row in the table.
        text: sources and references; without a source file the sources are empty.
        model: the folder of the model that it is scored with, if any.
        hypotheses: the translations.
        settings: of the model.
        loss, perplexity: of a model, per target token with `</s>`; none without a model.
        scores: by their keys.
        robustness: of the source as people type it.
        token_scores: of the model, for the hypotheses or else the references.
    """

    name: str
    text: ParallelText
    model: Path | None = None
    hypotheses: list[str] | None = None
    settings: dict[str, object] = dataclasses.field(default_factory=dict)
    loss: float | None = None
    perplexity: float | None = None
    scores: dict[str, Score] = dataclasses.field(default_factory=dict)
    robustness: list[Robustness] = dataclasses.field(default_factory=list)
    token_scores: list[ForcedScore] | None = None


def table(domains: list[Domain], differences: dict[str, Difference], several: bool) -> str:
    """
    A row for each text or system, with the signatures of its scores and the settings of the models below.

    Args:
        differences: of systems from the first.
        several: whether the rows are systems.
    """
    rows = []
    for domain in domains:
        row: dict[str, object] = {"system" if several else "text": domain.name, "sentences": f"{len(domain.text):,}"}
        row |= {str(score.name): write_score(key, score) for key, score in domain.scores.items()}
        if domain.loss is not None:
            row |= {"NLL": f"{domain.loss:.4f}", "perplexity": f"{domain.perplexity:.2f}"}
        if domain.name in differences:
            found = differences[domain.name]
            row |= {"ΔBLEU": f"{found.bleu:+.2f}", "p (bootstrap)": f"{found.bootstrap:.4f}"}
            row |= {"p (randomization)": f"{found.randomization:.4f}"}
        rows.append(row)
    signatures = [str(score.signature) for score in domains[0].scores.values()]
    lines = [tabulate(rows, headers="keys", disable_numparse=True), "", *signatures]
    if differences:
        tests = " and ".join(next(iter(differences.values())).signatures)
        lines.append(f"ΔBLEU and p against {domains[0].name}: {tests}")
    for settings in {str(domain.settings): domain.settings for domain in domains if domain.settings}.values():
        how = ""
        if "num_beams" in settings:
            how = "beam {num_beams}, α {length_penalty:g} ({length_penalty_type}), early stopping {stop}, "
        stop = str(settings.get("early_stopping")).lower()
        lines.append(f"{{model}}: {how}{{precision}}".format(**settings, stop=stop))
    return "\n".join(lines)


def write_results(
    domains: list[Domain], differences: dict[str, Difference], several: bool, folder: Path, tokenize: str
) -> None:
    """Write scores.json, the translations and the picture; `table` says what the arguments are."""
    rows: dict[str, dict[str, object]] = {}
    by_lengths = {
        domain.name: by_length(list(domain.text.sources), domain.hypotheses or [], list(domain.text.targets), tokenize)
        for domain in domains
        if any(domain.text.sources)
    }
    for domain in domains:
        scores = {key: dataclasses.asdict(score) for key, score in domain.scores.items()}
        row: dict[str, object] = {"sentences": len(domain.text), "scores": scores}
        if several and domain.settings:
            row["settings"] = domain.settings
        if domain.loss is not None:
            row |= {"loss": domain.loss, "perplexity": domain.perplexity}
        if domain.name in differences:
            row["difference"] = dataclasses.asdict(differences[domain.name])
        if domain.robustness:
            row["robustness"] = [dataclasses.asdict(each) for each in domain.robustness]
        if domain.name in by_lengths:
            row["bleu_by_length"] = [
                {"words": words, "sentences": count, "bleu": value} for words, count, value in by_lengths[domain.name]
            ]
        rows[domain.name] = row
        if domain.token_scores is not None:
            write_forced(domain.token_scores, folder / f"{domain.name}.token_scores.jsonl")
        lines = [line.replace("\n", " ") + "\n" for line in domain.hypotheses or []]
        (folder / f"{domain.name}.hypothesis.txt").write_text("".join(lines), encoding="utf-8")
    everything = {"systems": rows} if several else {"settings": domains[0].settings, "texts": rows}
    (folder / "scores.json").write_text(json.dumps(everything, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if by_lengths:
        plot_by_length(by_lengths, folder / BY_LENGTH)
