"""The model page: fills the template `model_card.md` with what is known of a trained model."""

import json
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from .configuration_vanilla_transformer import VanillaTransformerConfig


@dataclass
class ModelCardFacts:
    """
    What a card says of a model. Nothing is guessed: what is `None` is left out.

    Attributes:
        preset, config, parameters: the architecture, and the number of its parameters.
        base_model: what training started from; `None` is nothing.
        source_lang, target_lang: language codes such as "en".
        data_description: the data, in words or as its name on the Hub.
        train_pairs, steps, tokens_per_step, warmup_steps, noam_scale, seed, averaged: the training; tokens of either
            side, the number of averaged checkpoints.
        optimizer: in words.
        seconds, hardware: how long it took on what.
        example: a source sentence for the code that shows the use.
        results: `{split}_loss`, `{split}_perplexity`, `{split}_bleu` for "validation", "test" and others, with
            `_before` what it was before training, and `bleu_signature`.
    """

    preset: str
    base_model: str | None
    config: VanillaTransformerConfig
    parameters: int
    source_lang: str | None
    target_lang: str | None
    data_description: str | None
    train_pairs: int
    steps: int
    tokens_per_step: int
    warmup_steps: int | None
    noam_scale: float
    seed: int
    averaged: int
    optimizer: str
    seconds: float | None
    hardware: str
    example: str
    results: dict[str, float | int | str]


def template_path() -> Path:
    """The template: beside this file in an installed package, at the top of the repository in a clone."""
    here = Path(__file__).resolve().parent
    installed = here / "model_card.md"
    return installed if installed.is_file() else here.parent / "model_card.md"


def write_model_card(folder: str | Path, facts: ModelCardFacts, hub_model_id: str | None = None) -> Path:
    """
    Write `README.md` into a model's folder. Its code loads `hub_model_id`, or without one the folder.

    Raises:
        `ImportError`: without jinja2, which fills the template.
    """
    path = Path(folder) / "README.md"
    model_path = hub_model_id or str(folder)
    render_model_card(facts, model_path, name=model_path.rstrip("/").rpartition("/")[2]).save(path)
    return path


def render_model_card(facts: ModelCardFacts, model_path: str, name: str) -> ModelCard:
    """The card of a model that is loaded from `model_path` and called `name`."""
    config, results = facts.config, facts.results
    languages = [language for language in (facts.source_lang, facts.target_lang) if language]
    direction = f" ({facts.source_lang} to {facts.target_lang})" if len(languages) == 2 else ""
    signature = results.get("bleu_signature")
    splits = [name.removesuffix("_loss") for name in results if name.endswith("_loss")]
    metadata = ModelCardData(
        library_name="transformers",
        pipeline_tag="translation",
        license="apache-2.0",
        language=languages or None,
        base_model=facts.base_model,
        tags=["translation", "vanilla_transformer", "arxiv:1706.03762"],
        model_name=name,
        eval_results=[
            EvalResult(
                task_type="translation",
                dataset_type=facts.data_description or "custom",
                dataset_name=facts.data_description or "custom",
                dataset_split=split,
                metric_type=metric,
                metric_name={"bleu": "BLEU", "perplexity": "perplexity per token"}[metric],
                metric_value=round(float(results[f"{split}_{metric}"]), 2),
            )
            for split in splits
            for metric in ("bleu", "perplexity")
            if f"{split}_{metric}" in results
        ]
        or None,
    )
    architecture = [
        ("preset", facts.preset),
        ("parameters", f"{facts.parameters:,}"),
        ("layers (N)", f"{config.encoder_layers} encoder, {config.decoder_layers} decoder"),
        ("width (d_model)", config.hidden_size),
        ("feed-forward (d_ff)", config.intermediate_size),
        ("heads (h)", f"{config.num_attention_heads}, d_k {config.query_key_size}, d_v {config.value_size}"),
        ("positions", config.position_embedding_type),
        ("norm", "before each sublayer" if config.norm_first else "after each sublayer, as in the paper"),
        ("vocabulary", f"{config.vocab_size:,} joint byte-level BPE"),
    ]
    schedule = None
    if facts.warmup_steps is not None:
        scale = "" if facts.noam_scale == 1 else f", scaled by {facts.noam_scale:g}"
        schedule = f"the paper's (§5.3), {facts.warmup_steps:,} warm-up steps{scale}"
    training = [
        ("data", facts.data_description),
        ("sentence pairs", f"{facts.train_pairs:,}"),
        ("steps", f"{facts.steps:,}"),
        ("tokens a step", f"up to {facts.tokens_per_step:,} source and as many target"),
        ("optimizer", facts.optimizer),
        ("learning rate", schedule),
        ("dropout, label smoothing", f"{config.dropout:g}, {config.label_smoothing:g}"),
        ("averaged checkpoints", facts.averaged),
        ("seed", facts.seed),
        ("hardware", facts.hardware),
        ("time", None if facts.seconds is None else f"{facts.seconds / 60:.1f} minutes"),
    ]
    return ModelCard.from_template(
        card_data=metadata,
        template_path=str(template_path()),
        title=name,
        direction=direction,
        base_model=facts.base_model,
        model_path=model_path,
        example=json.dumps(facts.example, ensure_ascii=False),
        architecture=architecture,
        training=[(label, value) for label, value in training if value is not None],
        results=[
            {
                "split": split,
                "loss": f"{results[f'{split}_loss']:.4f}",
                "perplexity": f"{results[f'{split}_perplexity']:.2f}",
                "bleu": f"{results[f'{split}_bleu']:.2f}" if f"{split}_bleu" in results else "",
                "before": f" ({results[f'{split}_bleu_before']:.2f})" if f"{split}_bleu_before" in results else "",
            }
            for split in splits
        ],
        bleu_signature=signature,
    )
