"""The model page: fills the template `model_card.md` with what is known of a model, and checks its metadata."""

import dataclasses
import difflib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from huggingface_hub.dataclasses import strict
from huggingface_hub.errors import StrictDataclassError
from safetensors import safe_open

from .configuration_vanilla_transformer import Named, VanillaTransformerConfig
from .errors import ModelCardError
from .generation_vanilla_transformer import VanillaTransformerGenerationMixin
from .loading import read_generation_config
from .scores import MEASURES, Results, write_score, write_value
from .text import read_json

RESULTS = "all_results.json"  # in a model's folder: its scores
FACTS = "model_card.json"  # in a model's folder: what its card says and its configuration does not
# Pictures that a card shows, if they lie beside it.
PICTURES = {
    "curves.png": "Loss, learning rate and validation score by training step",
    "attention.png": "What each word of the output attends to in the source",
}
# Identifiers that the Hub knows, from its documentation ("Licenses").
LICENSES = frozenset(
    re.findall(
        r"\S+",
        """
    apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m
    afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5
    cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0
    cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0
    cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0
    lgpl
    lgpl-2.1 lgpl-3.0 isc lppl-1.3c ms-pl mpl-2.0 odc-by odbl openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense
    zlib pddl lgpl-lr deepfloyd-if-license llama2 llama3
    llama3.1 llama3.2 llama3.3 llama4 gemma apple-amlr apple-ascl fair-noncommercial-research-license h-research
    intel-research openmdw-1.0 unknown other
        """,
    )
)
# Names that the Hub has for the library of an exported model.
LIBRARIES = {"ctranslate2": "ctranslate2", "onnx": "onnx"}
# Tasks by the Hub's names: what a model of each is, and what its training text is counted in.
TASKS = {
    "translation": ("translation model", "sentence pairs"),
    "summarization": ("summarization model", "texts with a summary"),
    "text-classification": ("text classifier", "labelled texts"),
    "question-answering": ("question answering model", "windows of contexts"),
    "fill-mask": ("masked language model", "blocks of text"),
    "text-generation": ("causal language model", "blocks of text"),
}
HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


@strict
@dataclass
class ModelCardFacts:
    """
    Facts about a model that its card has and its configuration lacks. Nothing is guessed: `None` is left out.

    Attributes:
        task: one of `TASKS`.
        preset: the architecture's name.
        base_model, base_model_on_hub: what training started from, or what a model without training was imported from,
            and whether it is a repository.
        segmentation: what its tokens are.
        source_lang, target_lang: language codes such as "en".
        license: of the model, as the Hub writes it.
        datasets: data sets on the Hub.
        data_description, limits: the data, and what the model cannot do, in words.
        train_rows, steps, tokens_per_step, warmup_steps, noam_scale, decay_steps, seed, averaged: the training; rows
            are what the task counts, tokens those of either side, averaged is the number of checkpoints.
        new_share: of the trained weights, where the result is a mean of them and those of `base_model`.
        schedule, optimizer, regularization, precision: in words; the schedule where it is not the paper's,
            regularization besides dropout and label smoothing.
        seconds, hardware: how long it took on what.
        example: an input for the code that shows the use; several for tasks that need several, such as a question and
            its context.
        results: the scores of "validation", "test" and other texts.
    """

    task: str = "translation"
    preset: str | None = None
    base_model: str | None = None
    base_model_on_hub: bool = False
    segmentation: str = "byte-level BPE"
    source_lang: str | None = None
    target_lang: str | None = None
    license: str | None = None
    datasets: list[str] = field(default_factory=list)
    data_description: str | None = None
    limits: str | None = None
    train_rows: int | None = None
    steps: int | None = None
    tokens_per_step: int | None = None
    warmup_steps: int | None = None
    noam_scale: float | int = 1.0
    decay_steps: int = 0
    schedule: str | None = None
    seed: int | None = None
    averaged: int | None = None
    new_share: float | int | None = None
    optimizer: str | None = None
    regularization: str | None = None
    precision: str | None = None
    seconds: float | int | None = None
    hardware: str | None = None
    example: str | list[str] = "How are you?"
    results: Results = field(default_factory=Results)

    def save(self, folder: str | Path) -> None:
        """Write `model_card.json` into a model's folder."""
        content = {**dataclasses.asdict(self), "results": self.results.to_json()}
        text = json.dumps(content, indent=2, ensure_ascii=False)
        (Path(folder) / FACTS).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> "ModelCardFacts":
        """
        Read the facts in the folder of a model; a folder without the file says nothing.

        Raises:
            ModelCardError: for a file that is damaged or has fields of another version.
        """
        path = Path(folder) / FACTS
        if not path.is_file():
            return cls()
        try:
            content = read_json(path)
            return cls(**{**content, "results": Results.from_json(content.get("results", {}))})
        except (AttributeError, ValueError, TypeError, StrictDataclassError) as error:
            said = " ".join(str(error).split())
            raise ModelCardError(
                f"{path} is damaged: {said}. Copy it again, or delete it: the card then says less."
            ) from error


@dataclass
class ModelPlace:
    """
    Where a card's reader finds the model, and its other form.

    Attributes:
        path: what `from_pretrained` takes: a repository on the Hub, or a folder.
        revision: the tag of the commit that the card belongs to; none for a folder.
        native: the repository with the same model as a stock `MarianMTModel`.
        original, original_on_hub: of such a repository, what it was made from, and whether that is a repository.
        differences: what it does differently from that.
        form, precision: what it was exported to, "marian", "ctranslate2" or "onnx", and of its weights.
        search, end: the arguments by which CTranslate2's own search comes nearest to the original's, and the token at
            the end of a source.
        in_javascript: whether transformers.js loads it.
    """

    path: str
    revision: str | None = None
    native: str | None = None
    original: str | None = None
    original_on_hub: bool = False
    differences: tuple[str, ...] = ()
    form: str = "marian"
    precision: str = "float32"
    search: str = ""
    end: str = "</s>"
    in_javascript: bool = False

    @property
    def name(self) -> str:
        return self.path.rstrip("/").rpartition("/")[2]


def template_path() -> Path:
    """The template: beside this file in an installed package, at the top of the repository in a clone."""
    here = Path(__file__).resolve().parent
    installed = here / "model_card.md"
    return installed if installed.is_file() else here.parent / "model_card.md"


def render_model_card(
    facts: ModelCardFacts,
    config: VanillaTransformerConfig,
    parameters: int,
    place: ModelPlace,
    pictures: list[str] | None = None,
    generation_config: Named | None = None,
) -> ModelCard:
    """
    The card of a model.

    Args:
        parameters: the number of parameters.
        pictures: the files of `PICTURES` that lie beside the card.
        generation_config: the settings that lie beside it; the paper's without them.

    Raises:
        ModelCardError: for metadata that the Hub would refuse or misread.
        `ImportError`: without jinja2, which fills the template.
    """
    languages = [language for language in (facts.source_lang, facts.target_lang) if language]
    examples = [facts.example] if isinstance(facts.example, str) else facts.example
    card = ModelCard.from_template(
        card_data=card_metadata(facts, place),
        template_path=str(template_path()),
        title=place.name,
        task=facts.task,
        kind=TASKS[facts.task][0],
        direction=f" ({facts.source_lang} to {facts.target_lang})" if len(languages) == 2 else "",
        base_model=facts.base_model,
        imported=facts.base_model is not None and facts.steps is None,
        place=place,
        examples=[json.dumps(text, ensure_ascii=False) for text in examples],
        labels=config.label_names if facts.task == "text-classification" else [],
        architecture=architecture_rows(facts, config, parameters),
        training=training_rows(facts, config),
        results=result_rows(facts.results, TASKS[facts.task][1]),
        signatures=list(facts.results.signatures.values()),
        pictures={name: PICTURES[name] for name in pictures or []},
        from_scratch=facts.steps is not None and facts.base_model is None,
        paper_decoding=is_papers(generation_config, config),
        parts=part_rows(facts.results),
        has_margins=any(
            score.margin is not None for split in facts.results.splits.values() for score in split.scores.values()
        ),
        has_before=bool(facts.results.before),
        robustness=robustness_rows(facts.results),
        limits=facts.limits,
    )
    check_metadata(card.data)
    return card


def is_papers(settings: Named | None, config: VanillaTransformerConfig) -> bool:
    """Whether decoding with some settings is the paper's (§6.1)."""
    paper = VanillaTransformerGenerationMixin.default_generation_config(config).to_diff_dict()
    ours = {name: value for name, value in paper.items() if not name.endswith(("token_id", "version"))}
    return settings is None or all(settings.get(name) == value for name, value in ours.items())


def folder_card(folder: str | Path, place: ModelPlace) -> ModelCard:
    """
    The card of the model in a folder, from its configuration, its `model_card.json` and the pictures that lie there.

    Raises:
        ModelCardError: for a damaged `model_card.json`, and for metadata that the Hub would refuse or misread.
    """
    folder = Path(folder)
    parameters = 0
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as weights:
            parameters += sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
    facts, settings = ModelCardFacts.load(folder), read_generation_config(folder)
    try:
        return render_model_card(
            facts,
            VanillaTransformerConfig.from_pretrained(folder),
            parameters,
            place,
            pictures=[name for name in PICTURES if (folder / name).is_file()],
            generation_config=settings,
        )
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, ModelCardError):
            raise
        raise ModelCardError(
            f"{folder / FACTS} is damaged: {error}. Copy it again, or delete it: the card then says less."
        ) from error


def card_metadata(facts: ModelCardFacts, place: ModelPlace) -> ModelCardData:
    """Return the part of a card that the Hub reads."""
    native = place.original is not None
    measured = [
        EvalResult(
            task_type=facts.task,
            # Other texts than these two are not of the data set that it was trained on.
            dataset_type=facts.datasets[0] if facts.datasets and split in ("validation", "test") else "custom",
            dataset_name=(facts.data_description if split in ("validation", "test") else None) or split,
            dataset_split=split,
            metric_type="bleu" if key == "compound_bleu" else key,
            metric_name=name,
            metric_value=float(write_value(key, scores.scores[key].value)),
            metric_args={"signature": facts.results.signatures[key]} if key in facts.results.signatures else None,
        )
        for split, scores in facts.results.splits.items()
        for key, name in facts.results.names.items()
        if key in scores.scores and not native  # whose results are the original's
    ]
    form = place.form if native else "vanilla_transformer"
    return ModelCardData(
        library_name="transformers.js" if place.in_javascript else LIBRARIES.get(form, "transformers"),
        pipeline_tag=facts.task,
        license=facts.license,
        language=[language for language in (facts.source_lang, facts.target_lang) if language] or None,
        base_model=facts.base_model if facts.base_model_on_hub and not native else None,
        datasets=facts.datasets or None,
        metrics=sorted({result.metric_type for result in measured}) or None,
        tags=[facts.task, form, "arxiv:1706.03762"] + ([] if native else ["custom_code"]),
        model_name=place.name if measured else None,
        eval_results=measured or None,
    )


def architecture_rows(
    facts: ModelCardFacts, config: VanillaTransformerConfig, parameters: int
) -> list[tuple[str, str]]:
    """Names and values of the architecture."""
    stacks = {"encoder": config.encoder_layers, "decoder": config.decoder_layers}
    if not config.is_encoder_decoder:
        stacks.pop("encoder" if config.is_decoder else "decoder")
    rows = [
        ("preset", facts.preset),
        ("parameters", f"{parameters:,}"),
        ("layers (N)", ", ".join(f"{count} {stack}" for stack, count in stacks.items())),
        ("width (d_model)", config.hidden_size),
        ("feed-forward (d_ff)", f"{config.intermediate_size}, {config.hidden_act}"),
        ("heads (h)", f"{config.num_attention_heads}, d_k {config.query_key_size}, d_v {config.value_size}"),
        ("positions", config.position_embedding_type),
        (
            "initialization",
            None
            if config.attention_init_gain == 1
            else f"gain {config.attention_init_gain:g} for the projections to queries, keys and values",
        ),
        ("norm", "before each sublayer" if config.norm_first else "after each sublayer, as in the paper"),
        ("vocabulary", describe_vocabulary(facts, config)),
    ]
    return cells(rows)


def describe_vocabulary(facts: ModelCardFacts, config: VanillaTransformerConfig) -> str:
    """Such as "8,000 joint byte-level BPE"."""
    if config.decoder_vocab_size is not None:
        return f"{config.vocab_size:,} source and {config.decoder_vocab_size:,} target {facts.segmentation}"
    return f"{config.vocab_size:,} {'joint ' if facts.task == 'translation' else ''}{facts.segmentation}"


def cells(rows: Sequence[tuple[str, object]]) -> list[tuple[str, str]]:
    """Rows with a value, as a table of Markdown can hold them."""
    return [(name, cell(value)) for name, value in rows if value is not None]


def cell(value: object) -> str:
    """A value as a table of Markdown can hold it."""
    return " ".join(str(value).split()).replace("|", "\\|")


def training_rows(facts: ModelCardFacts, config: VanillaTransformerConfig) -> list[tuple[str, str]]:
    """Names and values of what is known of the training."""
    schedule, both = facts.schedule, config.is_encoder_decoder
    if facts.warmup_steps is not None:
        scale = "" if facts.noam_scale == 1 else f", scaled by {facts.noam_scale:g}"
        end = f", falling to 0 in the last {facts.decay_steps:,} steps" if facts.decay_steps else ""
        schedule = f"the paper's (§5.3), {facts.warmup_steps:,} warm-up steps{scale}{end}"
    rows = [
        ("data", facts.data_description),
        (TASKS[facts.task][1], None if facts.train_rows is None else f"{facts.train_rows:,}"),
        ("steps", None if facts.steps is None else f"{facts.steps:,}"),
        (
            "tokens a step",
            None
            if facts.tokens_per_step is None
            else f"up to {facts.tokens_per_step:,}" + (" source and as many target" if both else ""),
        ),
        ("optimizer", facts.optimizer),
        ("learning rate", schedule),
        ("dropout, label smoothing", f"{config.dropout:g}, {config.label_smoothing:g}")
        if both
        else ("dropout", f"{config.dropout:g}"),
        ("other regularization", facts.regularization),
        ("averaged checkpoints", facts.averaged),
        (
            "share of the new weights",
            None if facts.new_share is None else f"{facts.new_share:.0%}; the rest is of `{facts.base_model}`",
        ),
        ("precision", facts.precision),
        ("seed", facts.seed),
        ("hardware", facts.hardware),
        ("time", None if facts.seconds is None else f"{facts.seconds / 60:.1f} minutes"),
    ]
    return cells(rows)


def result_rows(results: Results, unit: str) -> list[list[str]]:
    """
    The scores of each text, written out, below the names of those that there are; none if nothing was scored.

    Args:
        unit: what rows of a text are.
    """
    names = results.names
    counted = any(scores.rows is not None for scores in results.splits.values())
    rows = [
        ["set", *([unit] if counted else []), "NLL per token" if "perplexity" in names else "NLL", *names.values()]
    ]
    for split, scores in results.splits.items():
        row = [cell(split), *(["" if scores.rows is None else f"{scores.rows:,}"] if counted else [])]
        row.append(f"{scores.loss:.4f}")
        before = results.before[split].scores if split in results.before else {}
        for key in names:
            now = "" if key not in scores.scores else write_score(key, scores.scores[key])
            row.append(now + ("" if key not in before else f" ({write_value(key, before[key].value)})"))
        rows.append(row)
    return rows if len(rows) > 1 else []


def robustness_rows(results: Results) -> list[list[str]]:
    """BLEU of changed copies of a text, and shares of copied things."""
    return [
        [row.copy, f"{row.sentences:,}", f"{row.pipeline:.1f}", f"{row.generate:.1f}"] for row in results.robustness
    ]


def part_rows(results: Results) -> list[list[str]]:
    """Scores of parts of each text such as labels, below their names; none without any."""
    names = {"count": "texts", **MEASURES}
    parts = [(split, part, found) for split, each in results.splits.items() for part, found in each.parts.items()]
    shown = [key for key in names if any(key in scores for _, _, scores in parts)]
    rows = [["set", "part", *(names[key] for key in shown)]]
    for split, part, scores in parts:
        cells = [
            "" if key not in scores else f"{scores[key]:,}" if key == "count" else write_value(key, scores[key])
            for key in shown
        ]
        rows.append([cell(split), cell(part), *cells])
    return rows if parts else []


def check_metadata(data: ModelCardData) -> None:
    """
    Refuse metadata that the Hub would refuse, or take and show as nothing.

    Raises:
        ModelCardError: the field, its value and the remedy.
    """
    for language in data.language or []:
        check_language(language)
    if data.license is not None:
        check_license(data.license)
    for dataset in data.datasets or []:
        if not HUB_ID.fullmatch(dataset):
            raise ModelCardError(
                f"`datasets` must have names of data sets on the Hub, but has {dataset!r}. Write, for example, "
                "user/name."
            )


def check_language(code: str, name: str = "language") -> None:
    """
    Refuse anything but a code of ISO 639.

    Raises:
        ModelCardError: for a name such as "german", and for a code that is not assigned.
    """
    try:
        import pycountry
    except ImportError:  # the Hub checks it too
        return
    known = pycountry.languages.get(alpha_2=code) or pycountry.languages.get(alpha_3=code)
    if known is None or code != code.lower():  # pycountry does not look at case and the Hub does
        raise ModelCardError(f"`{name}` must be a code of ISO 639, but is {code!r}. Write one such as en, es or ast.")


def check_license(identifier: str) -> None:
    """
    Refuse anything but the identifier of a licence on the Hub.

    Raises:
        ModelCardError: for instance for a name such as "Apache".
    """
    if identifier not in LICENSES:
        close = difflib.get_close_matches(identifier.lower(), LICENSES, n=1)
        raise ModelCardError(
            f"`license` must be an identifier of the Hub, but is {identifier!r}. "
            + (f"Did you mean {close[0]}?" if close else "Write one such as apache-2.0, cc-by-4.0 or other.")
        )
