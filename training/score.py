"""
Score translations: BLEU, chrF2, TER and METEOR with their signatures, and a model's NLL and perplexity.

    python -m training.score --model runs/own_files --source test.en --reference test.es
    python -m training.score --model runs/own_files --source news.en talks.en --reference news.es talks.es
    python -m training.score --hypothesis system.de --reference newstest2014.de --target_lang de --compounds
    python -m training.score --hypothesis first.de second.de --reference newstest2014.de --target_lang de
    python -m training.score --model runs/first runs/second --source test.en --reference test.de

Several texts give one table with a row for each. Of several systems on one text each has a row, and sacreBLEU's paired
tests tell by p-values whether its BLEU differs from that of the first. `--robustness` scores each text also as people
type it: in capitals, in small letters, without full stops, with spaces around, and with things that a translation
copies. `--output` keeps the scores (scores.json), the translations, and a picture of BLEU by the length of the source.
"""

import argparse
import math
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

import datasets
import numpy as np
import torch
from transformers import PreTrainedModel
from transformers.utils import logging

from training.data.encoding import encode, lengths
from training.data.parallel import ParallelText
from training.data.texts import read_two_files
from training.engine.arguments import make_arguments
from training.engine.objective import Generation
from training.engine.trainer import VanillaTransformerTrainer
from training.metrics.segmentation import two_letters
from training.metrics.significance import compare_systems
from training.metrics.translation import (
    TOKENIZERS,
    bleu_metric,
    check_compounds,
    check_samples,
    default_tokenizer,
    score_translations,
)
from training.publish.score_table import Domain, table, write_results
from training.recipe.fields import EARLY_STOPPING, DataFields, TrainingFields
from training.tasks import robustness
from training.tasks.translation import Translation
from vanilla_transformer import (
    VanillaTransformerForConditionalGeneration,
    VanillaTransformerTokenizer,
    VanillaTransformerTranslationPipeline,
)
from vanilla_transformer.errors import RecipeError, run_command
from vanilla_transformer.forced import force_decode
from vanilla_transformer.generation_vanilla_transformer import (
    LENGTH_PENALTY_TYPES,
    VanillaTransformerGenerationMixin,
)
from vanilla_transformer.loading import load_model
from vanilla_transformer.model_card import ModelCardFacts, check_language
from vanilla_transformer.pipeline_vanilla_transformer import position_limit
from vanilla_transformer.text import read_plain_text

# Settings of the search, which options change, and what transformers takes for those that a folder does not say.
SEARCH = {"num_beams": 1, "length_penalty": 1.0, "length_penalty_type": "power", "early_stopping": False}


def compares_systems(options: argparse.Namespace) -> bool:
    """Whether the command names several systems for one text."""
    return len(options.reference) == 1 and max(len(options.hypothesis or []), len(options.model or [])) > 1


def names_of_rows(options: argparse.Namespace) -> list[str]:
    """The names of the systems or of the texts: as given, or their files' and folders'."""
    if options.name:
        return list(options.name)
    if compares_systems(options):
        return [Path(path).stem for path in options.hypothesis or []] or [path.name for path in options.model]
    return [Path(reference).stem for reference in options.reference]


def check_texts(options: argparse.Namespace) -> None:
    """
    Raises:
        RecipeError: if the command does not name the files that it needs, or names rows alike.
    """
    texts, models, systems = len(options.reference), len(options.model or []), len(options.hypothesis or [])
    if models > 1 and (texts > 1 or systems):
        beside = "--hypothesis" if systems else f"{texts} texts"
        raise RecipeError(f"--model names {models} models beside {beside}. Compare models on one --reference.")
    if systems > 1 and models and texts == 1:
        raise RecipeError("--model cannot be given beside several systems in --hypothesis. Leave it out.")
    rows = max(systems, models) if compares_systems(options) else texts
    counts = {"source": texts, "hypothesis": rows, "name": rows}
    for name, count in counts.items():
        given = getattr(options, name)
        if given is not None and len(given) != count:
            needed = f"--reference names {texts}" if count == texts else f"there are {count} systems"
            raise RecipeError(f"--{name} names {len(given)}, but {needed}. Name as many, in the same order.")
    if options.hypothesis is None and (options.model is None or options.source is None):
        raise RecipeError("Give --model and --source to translate and score, or --hypothesis to score translations.")
    if options.model is not None and options.source is None:
        raise RecipeError("--model needs --source, for translations and NLL. Name the files.")
    names = names_of_rows(options)
    for name in names:
        if not name or Path(name).name != name:
            raise RecipeError(
                f"--name must be the name of a file without a folder, but is {name!r}. Give another one."
            )
    if repeated := {name for name in names if names.count(name) > 1}:
        kind = "systems" if compares_systems(options) else "texts"
        raise RecipeError(f"Two {kind} are named {sorted(repeated)[0]!r}. Tell them apart with --name.")


def read_domains(options: argparse.Namespace) -> list[Domain]:
    """
    The texts that the command names, or its one text for each system.

    Raises:
        RecipeError, TextError: if files are unreadable, or not aligned.
    """
    texts = []
    for index, reference in enumerate(options.reference):
        if options.source is not None:
            texts.append(read_two_files(options.source[index], reference))
        else:
            texts.append(ParallelText.from_pairs([("", line) for line in read_plain_text(reference)]))
    names = names_of_rows(options)
    several = compares_systems(options)
    domains = []
    for index, name in enumerate(names):
        place = 0 if several else index
        text, reference = texts[place], options.reference[place]
        model = None if not options.model else options.model[index if several else 0]
        domain = Domain(name, text, model)
        if options.hypothesis is not None:
            domain.hypotheses = read_hypotheses(options.hypothesis[index], reference, len(text))
        domains.append(domain)
    return domains


def read_hypotheses(path: str, reference: str, count: int) -> list[str]:
    """
    The translations in a file. A model that gives nothing is scored too: all may be blank.

    Raises:
        RecipeError, TextError: if the file is unreadable, or has another number of lines than the references.
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
) -> None:
    """
    Measure a model's NLL on every text, and translate those that have no hypotheses.

    The settings of each are "model" and "precision", and of translations those of the search (`SEARCH`).
    """
    if options.num_threads is not None:
        torch.set_num_threads(options.num_threads)
    model.float()  # for scores in float32 of weights in any precision
    settings = model.generation_config
    if options.length_penalty_type == "gnmt" and not isinstance(model, VanillaTransformerGenerationMixin):
        raise RecipeError(
            f"`--length_penalty_type` must be power for a {type(model).__name__}, which knows no other, but is gnmt. "
            "Leave it out."
        )
    for name in SEARCH:
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
            generation: Generation | None = {} if domain.hypotheses is None else None
            evaluation = trainer.evaluator.evaluate(dataset, generation, in_full_precision=not options.bf16)
            domain.loss, domain.perplexity = evaluation.metrics["loss"], evaluation.metrics["perplexity"]
            if domain.hypotheses is None:
                pairs = zip(evaluation.predictions, domain.text.sources, strict=True)
                domain.hypotheses = [text if source.strip() else "" for text, source in pairs]
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    search = {name: getattr(settings, name, None) for name in SEARCH if options.hypothesis is None}
    search = {name: SEARCH[name] if value is None else value for name, value in search.items()}
    for domain in domains:
        precision = "bfloat16 mixed" if options.bf16 else "float32"
        domain.settings = {"model": str(domain.model), "precision": precision, **search}


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


def language_of(given: str | None, model: Path | None) -> str | None:
    """
    The target language: as given, or as the card of the model says.

    Raises:
        ModelCardError: for anything but the code of a language, with a script or a region or without.
    """
    if given is not None:
        check_language(two_letters(given) or "", "target_lang")
        return given
    return None if model is None else ModelCardFacts.load(model).target_lang


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """How a model translates and is scored."""
    parser.add_argument("--tokenize", choices=TOKENIZERS, help="sacreBLEU's tokenizer (default: that of the language)")
    parser.add_argument(
        "--target_lang",
        help="language code, such as de or zh, for the tokenizer, METEOR and --compounds (default: the model's)",
    )
    parser.add_argument("--num_beams", type=int, help="beams (default: the model's own number, the paper's 4)")
    parser.add_argument(
        "--length_penalty_type", choices=LENGTH_PENALTY_TYPES, help="gnmt (the paper's), or power: log P(Y) / |Y|^α"
    )
    parser.add_argument(
        "--early_stopping",
        type=lambda word: EARLY_STOPPING.get(word, word),
        choices=[*EARLY_STOPPING.values()],
        metavar="{true,false,never}",
        help="when the search of a sentence ends: true, with as many ended hypotheses as beams; never (the paper's), "
        "when none can be better any more",
    )
    parser.add_argument("--bf16", action="store_true", help="compute in bfloat16 mixed precision (default: float32)")
    parser.add_argument(
        "--tokens_per_device", type=int, help="source or target tokens in a batch, at most 4096 (2048)"
    )
    parser.add_argument("--run_on", help="auto, cpu, cuda or mps (auto)")
    parser.add_argument("--num_threads", type=int, help="threads on a CPU (default: torch's own number)")


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
            raise RecipeError(f"`--{name}` must be at least 1, but is {value}. Give more.")
    for alpha in length_penalties:
        if not math.isfinite(alpha):
            raise RecipeError(f"A length penalty must be finite, but is {alpha}. Give a number, such as 0.6.")


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.score", description="Score translations.")
    parser.add_argument(
        "--model",
        type=Path,
        nargs="+",
        help="folder of a model, which translates and whose NLL is measured; several to compare",
    )
    parser.add_argument("--source", nargs="+", help="files with the source, a sentence a line, UTF-8; .gz is read")
    parser.add_argument(
        "--reference", nargs="+", required=True, help="their translations by people, in the same order"
    )
    parser.add_argument(
        "--hypothesis",
        nargs="+",
        help="translations to score, one file for each reference; or several systems of one reference, to compare",
    )
    parser.add_argument("--name", nargs="+", help="names of the texts or systems (default: those of the files)")
    parser.add_argument(
        "--compounds", action="store_true", help="also compute the paper's BLEU, which takes compounds apart"
    )
    parser.add_argument(
        "--samples", type=int, default=1000, help="resamplings for 95%% intervals and paired tests (1000); 0 for none"
    )
    parser.add_argument("--length_penalty", type=float, help="α (§6.1; default: the model's own, the paper's 0.6)")
    add_model_options(parser)
    parser.add_argument(
        "--robustness", action="store_true", help="with --model: also score the source as people type it"
    )
    parser.add_argument(
        "--token_scores", action="store_true", help="with --model: also write log P of each token into --output"
    )
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
    of_models = ("bf16", "tokens_per_device", "run_on", "num_threads", "robustness", "token_scores")
    without_effect = (*(SEARCH if options.hypothesis else ()), *(of_models if options.model is None else ()))
    for name in without_effect:
        given = getattr(options, name)
        if given is not None and (given is not False or name in SEARCH):  # a switch that is not given is false
            raise RecipeError(f"--{name} has no effect on the translations of --hypothesis. Leave it out.")
    if options.token_scores and options.output is None:
        raise RecipeError("--token_scores writes a file for each text into --output. Name the folder.")
    if options.output is not None and options.output.exists() and not options.output.is_dir():
        raise RecipeError(f"`--output` must be a folder, but is {options.output}, a file. Name another.")


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
    options.target_lang = language = language_of(options.target_lang, domains[0].model)
    options.tokenize = options.tokenize or default_tokenizer(language)
    if options.compounds:
        check_compounds(language)
    if options.output is not None:
        options.output.mkdir(parents=True, exist_ok=True)
    several = compares_systems(options)
    for index, folder in enumerate(options.model or []):
        own = domains[index : index + 1] if several else domains
        model, tokenizer = load_model(folder)
        apply_model(model, tokenizer, own, options)  # type: ignore[arg-type]
        for domain in own if options.token_scores else ():
            given = domain.hypotheses if options.hypothesis else list(domain.text.targets)
            domain.token_scores = force_decode(model, tokenizer, list(domain.text.sources), given or [])
        if options.robustness:
            model.eval()
            translator = VanillaTransformerTranslationPipeline(model=model, tokenizer=tokenizer, device=model.device)
            for domain in own:
                domain.robustness = robustness.measure(translator, domain.text, language)
    of_scores = (language, options.tokenize, options.compounds, options.samples)
    for domain in domains:
        domain.scores = score_translations(domain.hypotheses or [], list(domain.text.targets), *of_scores)
    differences = {}
    if several and options.samples:
        systems = {domain.name: domain.hypotheses or [] for domain in domains}
        differences = compare_systems(systems, list(domains[0].text.targets), options.tokenize, options.samples)
    print(table(domains, differences, several))
    for domain in domains:
        if domain.robustness:
            print(f"\n{domain.name}\n{robustness.table(domain.robustness)}")
    if options.output is not None:
        write_results(domains, differences, several, options.output, options.tokenize)
    return 0


if __name__ == "__main__":
    sys.exit(main())
