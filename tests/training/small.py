"""A recipe that trains a very small model on a corpus of a few sentences, in seconds, and arguments without one."""

import dataclasses
from pathlib import Path

import datasets
import yaml

from training.data.phrasebook import phrasebook
from training.engine.arguments import TrainingArguments, make_arguments
from training.engine.trainer import VanillaTransformerTrainer
from training.recipe.fields import DataFields, TrainingFields
from training.tasks import TASKS
from vanilla_transformer import VanillaTransformerPreTrainedModel, VanillaTransformerTokenizer


def write_recipe(folder: Path) -> Path:
    """Write `recipe.yaml` and its texts into a folder; the run goes to `run` beside them."""
    corpus = phrasebook()
    for split, count in (("train", 200), ("validation", 20)):
        for side, language in enumerate(("en", "es")):
            lines = [pair[side] for pair in corpus[split][:count]]
            (folder / f"{split}.{language}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    settings = {
        "source": str(folder / "train.en"),
        "target": str(folder / "train.es"),
        "validation_source": str(folder / "validation.en"),
        "validation_target": str(folder / "validation.es"),
        "source_lang": "en",
        "target_lang": "es",
        "output_dir": str(folder / "run"),
        "preset": "tiny",
        "config_overrides": {"encoder_layers": 1, "decoder_layers": 1, "hidden_size": 32, "intermediate_size": 32},
        "vocab_size": 300,
        "tokens_per_step": 400,
        "warmup_steps": 20,
        "max_steps": 12,
        "save_steps": 2,
        "eval_strategy": "steps",
        "eval_steps": 6,
        "logging_steps": 2,
        "average_checkpoints": 3,
        "run_on": "cpu",
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


def make_training_arguments(**settings: object) -> TrainingArguments:
    """Make the arguments of Trainer out of recipe fields and others of transformers."""
    names = {field.name for field in dataclasses.fields(TrainingFields)}
    others = {name: settings.pop(name) for name in list(settings) if name not in names}
    return make_arguments(TrainingFields(**settings), others)


def make_trainer(
    task: str,
    model: VanillaTransformerPreTrainedModel,
    args: TrainingArguments,
    tokenizer: VanillaTransformerTokenizer,
    train_dataset: datasets.Dataset | None = None,
    **fields: object,
) -> VanillaTransformerTrainer:
    """Make the trainer of a task without its recipe."""
    objective = TASKS[task](DataFields(), args.recipe).make_objective(tokenizer, model.config, train_dataset)
    return VanillaTransformerTrainer(
        model, args, objective, train_dataset=train_dataset, processing_class=tokenizer, **fields
    )
