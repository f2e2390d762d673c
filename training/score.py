"""
Score translations: BLEU, chrF2, TER and METEOR with their signatures, and a model's NLL and perplexity.

    python -m training.score --model runs/own_files --source test.en --reference test.es
    python -m training.score --model runs/own_files --source news.en talks.en --reference news.es talks.es
    python -m training.score --hypothesis system.de --reference newstest2014.de --target_lang de --compounds

Several texts give one table with a row for each. `--robustness` scores each text also as people type it: in capitals,
in small letters, without full stops, with spaces around, and with things that a translation copies. `--output` keeps
the scores (scores.json), the translations, and a picture of BLEU by the length of the source.
"""

import argparse
import dataclasses
import json
import math
import shutil
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from tabulate import tabulate
from transformers import PreTrainedModel
from transformers.utils import logging

from training.data.encoding import encode, lengths
from training.data.texts import ParallelText, read_two_files
from training.engine.arguments import make_arguments
from training.engine.trainer import VanillaTransformerTrainer
from training.metrics.segmentation import separate_characters, two_letters
from training.metrics.translation import (
    TOKENIZERS,
    bleu,
    bleu_metric,
    check_compounds,
    check_samples,
    default_tokenizer,
    score_translations,
)
from training.recipe.fields import DataFields, TrainingFields
from training.tasks import robustness
from training.tasks.translation import Translation
from vanilla_transformer import (
    VanillaTransformerForConditionalGeneration,
    VanillaTransformerTokenizer,
    VanillaTransformerTranslationPipeline,
)
from vanilla_transformer.errors import RecipeError, run_command
from vanilla_transformer.generation_vanilla_transformer import (
    LENGTH_PENALTY_TYPES,
    VanillaTransformerGenerationMixin,
)
from vanilla_transformer.loading import load_model
from vanilla_transformer.model_card import ModelCardFacts, check_language
from vanilla_transformer.pipeline_vanilla_transformer import position_limit
from vanilla_transformer.scores import Robustness, Score, write_score
from vanilla_transformer.text import read_plain_text

BY_LENGTH = "bleu_by_length.png"
# Words of the source up to which a bar of that picture reaches; the last has no end.
LENGTHS = (5, 10, 15, 20, 30, 40, 60)
FEW = 30  # sentences, of which BLEU says little


@dataclass
class Domain:
    """
    A text to score.

    Attributes:
        name: of its row in the table.
        text: sources and references; without a source file the sources are empty.
        hypotheses: the translations.
        loss, perplexity: of a model, per target token with `</s>`; none without a model.
        scores: by their keys.
        robustness: of the source as people type it.
    """

    name: str
    text: ParallelText
    hypotheses: list[str] | None = None
    loss: float | None = None
    perplexity: float | None = None
    scores: dict[str, Score] = dataclasses.field(default_factory=dict)
    robustness: list[Robustness] = dataclasses.field(default_factory=list)


def names_of_texts(options: argparse.Namespace) -> list[str]:
    """The texts' names: as given, or the references'."""
    return options.name or [Path(reference).stem for reference in options.reference]


def check_texts(options: argparse.Namespace) -> None:
    """
    Raises:
        RecipeError: if the command does not name the files that it needs, or names texts alike.
    """
    count = len(options.reference)
    for name in ("source", "hypothesis", "name"):
        given = getattr(options, name)
        if given is not None and len(given) != count:
            raise RecipeError(
                f"--{name} names {len(given)} and --reference {count} files. Name as many, in one order."
            )
    if options.hypothesis is None and (options.model is None or options.source is None):
        raise RecipeError("Give --model and --source to translate and score, or --hypothesis to score translations.")
    if options.model is not None and options.source is None:
        raise RecipeError("--model without --source: its NLL and its translations need the source. Name the files.")
    names = names_of_texts(options)
    for name in names:
        if not name or Path(name).name != name:
            raise RecipeError(f"--name has {name!r}, which becomes the name of a file. Leave out folders.")
    if repeated := {name for name in names if names.count(name) > 1}:
        raise RecipeError(f"Two texts are named {sorted(repeated)[0]!r}. Tell them apart with --name.")


def read_domains(options: argparse.Namespace) -> list[Domain]:
    """
    The texts that the command names.

    Raises:
        RecipeError, TextError: if files are unreadable, or not aligned.
    """
    names = names_of_texts(options)
    domains = []
    for index, (name, reference) in enumerate(zip(names, options.reference, strict=True)):
        if options.source is not None:
            text = read_two_files(options.source[index], reference)
        else:
            text = ParallelText.from_pairs([("", line) for line in read_plain_text(reference)])
        domain = Domain(name, text)
        if options.hypothesis is not None:
            domain.hypotheses = read_hypotheses(options.hypothesis[index], reference, len(text))
        domains.append(domain)
    return domains


def read_hypotheses(path: str, reference: str, count: int) -> list[str]:
    """
    The translations in a file. A model that gives nothing is scored too: all may be blank.

    Raises:
        RecipeError, TextError: if the file is unreadable, or has not as many lines as the references.
    """
    hypotheses = read_plain_text(path, allow_blank=True)
    if len(hypotheses) != count:
        raise RecipeError(
            f"{path} has {len(hypotheses):,} lines and {reference} has {count:,}. Line n of one must be a translation "
            "like line n of the other: find where they part, for instance with `paste`."
        )
    return hypotheses


def apply_model(
    model: VanillaTransformerForConditionalGeneration,
    tokenizer: VanillaTransformerTokenizer,
    domains: list[Domain],
    options: argparse.Namespace,
) -> dict[str, Any]:
    """
    Measure a model's NLL on every text, and translate those that have no hypotheses.

    Returns:
        "model" and "precision", and of translations "num_beams", "length_penalty" and "length_penalty_type".
    """
    if options.num_threads is not None:
        torch.set_num_threads(options.num_threads)
    model.float()  # for scores in float32 of weights in any precision
    settings = model.generation_config
    if options.length_penalty_type == "gnmt" and not isinstance(model, VanillaTransformerGenerationMixin):
        raise RecipeError(f"--length_penalty_type is gnmt, which {type(model).__name__} does not know. Leave it out.")
    for name in ("num_beams", "length_penalty", "length_penalty_type"):
        if getattr(options, name) is not None:
            setattr(settings, name, getattr(options, name))
    temporary = tempfile.mkdtemp()
    try:
        arguments = make_arguments(
            TrainingFields(
                output_dir=temporary,
                run_on=options.run_on or "auto",
                report_to="none",
                bleu_tokenize=options.tokenize,
                tokens_per_device=options.tokens_per_device or 2048,
                bf16=bool(options.bf16),
                disable_tqdm=not sys.stderr.isatty(),
            )
        )
        task = Translation(DataFields(target_lang=options.target_lang), arguments.recipe)
        objective = task.make_objective(tokenizer, model.config)
        trainer = VanillaTransformerTrainer(model, arguments, objective, processing_class=tokenizer)
        encoded = []
        for domain in domains:
            encoded.append(encode(domain.text, tokenizer, f"Encoding {domain.name}"))
            check_positions(model, encoded[-1], domain.name)
        for domain, dataset in zip(domains, encoded, strict=True):
            generation: dict[str, Any] | None = {} if domain.hypotheses is None else None
            evaluation = trainer.evaluator.evaluate(dataset, generation, in_full_precision=not options.bf16)
            domain.loss, domain.perplexity = evaluation.metrics["loss"], evaluation.metrics["perplexity"]
            if domain.hypotheses is None:
                pairs = zip(evaluation.predictions, domain.text.sources, strict=True)
                domain.hypotheses = [text if source.strip() else "" for text, source in pairs]
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    described = {"model": str(options.model), "precision": "bfloat16 mixed" if options.bf16 else "float32"}
    if options.hypothesis is not None:
        return described
    return {
        **described,
        "num_beams": settings.num_beams or 1,
        "length_penalty": 1.0 if settings.length_penalty is None else settings.length_penalty,
        "length_penalty_type": getattr(settings, "length_penalty_type", None) or "power",
    }


def check_positions(model: PreTrainedModel, dataset: datasets.Dataset, name: str) -> None:
    """
    Raises:
        RecipeError: for a text with a sentence past the last position that a model has; sinusoids have no last one.
    """
    limit = position_limit(model.config)
    if limit is None:
        return
    longest = np.maximum(*lengths(dataset))
    if longest.max(initial=0) > limit:
        line = int(longest.argmax())
        raise RecipeError(
            f"Line {line + 1:,} of {name} has {longest[line]:,} tokens on a side, and the model has {limit:,} "
            "positions. Leave such lines out, or split them."
        )


def language_of(options: argparse.Namespace) -> str | None:
    """
    The target language: as given, or as the model's card says.

    Raises:
        ModelCardError: for what is no code of a language, with a script or a region or without.
    """
    if options.target_lang is not None:
        check_language(two_letters(options.target_lang) or "", "target_lang")
        return str(options.target_lang)
    return None if options.model is None else ModelCardFacts.load(options.model).target_lang


def table(domains: list[Domain], settings: dict[str, Any]) -> str:
    """A row for each text, with the signatures of its scores and the settings of the model below."""
    rows = []
    for domain in domains:
        row: dict[str, Any] = {"text": domain.name, "sentences": f"{len(domain.text):,}"}
        row |= {str(score.name): write_score(key, score) for key, score in domain.scores.items()}
        if domain.loss is not None:
            row |= {"NLL": f"{domain.loss:.4f}", "perplexity": f"{domain.perplexity:.2f}"}
        rows.append(row)
    signatures = [str(score.signature) for score in domains[0].scores.values()]
    lines = [tabulate(rows, headers="keys", disable_numparse=True), "", *signatures]
    if settings:
        how = "beam {num_beams}, α {length_penalty:g} ({length_penalty_type}), " if "num_beams" in settings else ""
        lines.append(f"{{model}}: {how}{{precision}}".format_map(settings))
    return "\n".join(lines)


def write_results(domains: list[Domain], settings: dict[str, Any], folder: Path, tokenize: str) -> None:
    """Write scores.json, the translations and the picture."""
    texts: dict[str, dict[str, Any]] = {}
    by_lengths = {domain.name: by_length(domain, tokenize) for domain in domains if any(domain.text.sources)}
    for domain in domains:
        scores = {key: dataclasses.asdict(score) for key, score in domain.scores.items()}
        texts[domain.name] = {"sentences": len(domain.text), "scores": scores}
        if domain.loss is not None:
            texts[domain.name] |= {"loss": domain.loss, "perplexity": domain.perplexity}
        if domain.robustness:
            texts[domain.name]["robustness"] = [dataclasses.asdict(row) for row in domain.robustness]
        if domain.name in by_lengths:
            texts[domain.name]["bleu_by_length"] = [
                {"words": words, "sentences": count, "bleu": value} for words, count, value in by_lengths[domain.name]
            ]
        lines = [line.replace("\n", " ") + "\n" for line in domain.hypotheses or []]
        (folder / f"{domain.name}.hypothesis.txt").write_text("".join(lines), encoding="utf-8")
    everything = {"settings": settings, "texts": texts}
    (folder / "scores.json").write_text(json.dumps(everything, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if by_lengths:
        plot_by_length(by_lengths, folder / BY_LENGTH)


def by_length(domain: Domain, tokenize: str) -> list[tuple[str, int, float | None]]:
    """
    Ranges of source words (`LENGTHS`), or of characters where a script has no spaces between words, with the number of
    sentences in each and their BLEU; none without any.
    """
    words = [len(separate_characters(source).split()) for source in domain.text.sources]
    rows: list[tuple[str, int, float | None]] = []
    low = 1
    for high in (*LENGTHS, None):
        chosen = [i for i, count in enumerate(words) if count >= low and (high is None or count <= high)]
        label = f"{low}+" if high is None else f"{low}-{high}"
        score = None
        if chosen and domain.hypotheses is not None:
            hypotheses, references = domain.hypotheses, domain.text.targets
            score = bleu([hypotheses[i] for i in chosen], [references[i] for i in chosen], tokenize).value
        rows.append((label, len(chosen), score))
        low = (high or 0) + 1
    return rows


def plot_by_length(texts: dict[str, list[tuple[str, int, float | None]]], path: Path) -> None:
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


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """How a model translates and is scored."""
    parser.add_argument("--tokenize", choices=TOKENIZERS, help="sacreBLEU's tokenizer; without it the language's")
    parser.add_argument(
        "--target_lang",
        help="language code, such as de or zh, for the tokenizer, METEOR and --compounds; the model's without it",
    )
    parser.add_argument("--num_beams", type=int, help="beams; the model's own number (the paper's 4) without it")
    parser.add_argument(
        "--length_penalty_type", choices=LENGTH_PENALTY_TYPES, help="gnmt (the paper's), or power: log P(Y) / |Y|^α"
    )
    parser.add_argument("--bf16", action="store_true", help="compute in bfloat16 mixed precision; float32 without it")
    parser.add_argument(
        "--tokens_per_device", type=int, help="source or target tokens in a batch, at most 4096 (2048)"
    )
    parser.add_argument("--run_on", help="auto, cpu, cuda or mps (auto)")
    parser.add_argument("--num_threads", type=int, help="threads on a CPU; torch's own number without it")


def check_model_options(options: argparse.Namespace, *length_penalties: float) -> None:
    """
    Refuse what cannot be before the work, not after it.

    Raises:
        RecipeError, MetricError: naming the option.
    """
    if options.tokenize is not None:
        bleu_metric(options.tokenize, "--tokenize")
    for name in ("num_beams", "tokens_per_device", "num_threads"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise RecipeError(f"--{name} is {value}. Give at least 1.")
    for alpha in length_penalties:
        if not math.isfinite(alpha):
            raise RecipeError(f"A length penalty is {alpha}. Give a number, such as 0.6.")


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.score", description="Score translations.")
    parser.add_argument("--model", type=Path, help="folder of a model: measures its NLL, and translates")
    parser.add_argument("--source", nargs="+", help="files with the source, a sentence a line, UTF-8; .gz is read")
    parser.add_argument(
        "--reference", nargs="+", required=True, help="their translations by people, in the same order"
    )
    parser.add_argument("--hypothesis", nargs="+", help="translations to score, in place of the model's own")
    parser.add_argument("--name", nargs="+", help="names of the texts; the references' file names without it")
    parser.add_argument("--compounds", action="store_true", help="also the paper's BLEU, compounds taken apart")
    parser.add_argument("--samples", type=int, default=1000, help="for 95%% confidence intervals (1000); 0 for none")
    parser.add_argument("--length_penalty", type=float, help="α (§6.1); the model's own (the paper's 0.6) without it")
    add_model_options(parser)
    parser.add_argument("--robustness", action="store_true", help="also the source as people type it, with --model")
    parser.add_argument("--output", type=Path, help="folder for scores.json, the translations and a picture")
    return parser


def check_options(options: argparse.Namespace) -> None:
    """
    As `check_model_options`, for all options, and those that would have no effect.

    Raises:
        RecipeError, MetricError: naming the option.
    """
    check_texts(options)
    check_model_options(options, *([] if options.length_penalty is None else [options.length_penalty]))
    check_samples(options.samples, "--samples")
    search, of_models = (
        ("num_beams", "length_penalty", "length_penalty_type"),
        ("bf16", "tokens_per_device", "run_on", "num_threads", "robustness"),
    )
    without_effect = (*(search if options.hypothesis else ()), *(of_models if options.model is None else ()))
    for name in without_effect:
        given = getattr(options, name)
        if given is not None and given is not False:
            raise RecipeError(f"--{name} has no effect on the translations of --hypothesis. Leave it out.")
    if options.output is not None and options.output.exists() and not options.output.is_dir():
        raise RecipeError(f"--output is {options.output}, which is a file. Name a folder.")


def main(arguments: list[str] | None = None) -> int:
    """Score what the command names; returns the exit status."""
    options = build_parser().parse_args(arguments)
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)
        return run_command(lambda: score(options))


def score(options: argparse.Namespace) -> int:
    """Score what parsed options name; returns 0."""
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    check_options(options)
    domains = read_domains(options)
    options.target_lang = language = language_of(options)
    options.tokenize = options.tokenize or default_tokenizer(language)
    if options.compounds:
        check_compounds(language)
    if options.output is not None:
        options.output.mkdir(parents=True, exist_ok=True)
    settings: dict[str, Any] = {}
    if options.model is not None:
        model, tokenizer = load_model(options.model)
        settings = apply_model(model, tokenizer, domains, options)
        if options.robustness:
            translator = VanillaTransformerTranslationPipeline(
                model=model.eval(), tokenizer=tokenizer, device=model.device
            )
            for domain in domains:
                domain.robustness = robustness.measure(translator, domain.text, language)
    for domain in domains:
        domain.scores = score_translations(
            domain.hypotheses or [],
            domain.text.targets,
            language,
            options.tokenize,
            options.compounds,
            options.samples,
        )
    print(table(domains, settings))
    for domain in domains:
        if domain.robustness:
            print(f"\n{domain.name}\n{robustness.table(domain.robustness)}")
    if options.output is not None:
        write_results(domains, settings, options.output, options.tokenize)
    return 0


if __name__ == "__main__":
    sys.exit(main())
