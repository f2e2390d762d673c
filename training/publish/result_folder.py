"""The result of a run: a folder for the Hub, a picture of its curves, and one screen of words."""

import json
import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import TrainerState

from training.engine.arguments import TrainingArguments
from training.engine.callbacks import StopwatchCallback
from training.engine.checkpoints import UNFINISHED
from training.engine.fit import Choice
from training.engine.optimization import count_decay_steps
from training.engine.task import Task
from training.engine.trainer import VanillaTransformerTrainer
from training.log import logger
from training.recipe.fields import TrainingFields
from training.recipe.parse import Recipe
from training.recipe.resolve import base_facts
from training.tasks.robustness import table
from vanilla_transformer.errors import RecipeError
from vanilla_transformer.loading import share_weights, store_in_half
from vanilla_transformer.model_card import (
    PICTURES,
    RESULTS,
    ModelCardFacts,
    ModelPlace,
    folder_card,
)
from vanilla_transformer.plots import plot_attention, plot_curves
from vanilla_transformer.scores import MEASURES, Results

CURVES, ATTENTION = PICTURES
# Files of a result that not every one has.
OF_A_RESULT = (*PICTURES, "generation_config.json", "*.safetensors*", "*_vanilla_transformer.py")
# The score that is drawn, of those that a task has.
DRAWN = ("bleu", "rougeL", "accuracy", "exact_match")
# Of which the losses of a task are means.
LOSS_UNITS = {
    "translation": "target token",
    "summarization": "target token",
    "text-classification": "text",
    "question-answering": "window",
    "fill-mask": "masked token",
    "text-generation": "token",
}


@dataclass(frozen=True)
class Course:
    """
    How a training goes.

    Attributes:
        args: what Trainer goes by.
        train_rows: rows of the encoded training text.
        stopwatch: of the training.
    """

    args: TrainingArguments
    train_rows: int
    stopwatch: StopwatchCallback

    @property
    def seconds(self) -> float:
        """The time of the training so far."""
        return round(self.stopwatch.seconds, 1)


def describe_run(
    recipe: Recipe,
    course: Course,
    state: TrainerState,
    results: Results,
    example: str | list[str],
    choice: Choice | None = None,
) -> ModelCardFacts:
    """Return the facts about a training for the model card."""
    args, training, data = course.args, recipe.training, recipe.data
    init_from, name = recipe.model.init_from, data.dataset_name
    folder = Path(name) if name is not None and Path(name).exists() else None
    on_hub = init_from is not None and not Path(init_from).exists()
    regularization = [f"BPE-dropout {training.bpe_dropout:g}"] if training.bpe_dropout else []
    if training.augmentation_shares:
        shares = ", ".join(f"{name} {share:g}" for name, share in training.augmentation_shares.items() if share)
        regularization.append(f"augmentation of everyday input ({shares})")
    if data.replayed is not None:
        made = ", the model's own translations" if data.replayed.is_synthetic else ""
        regularization.append(f"replay (old text{made}, share {data.replayed.share:g})")
    warmup_steps = args.get_warmup_steps(state.max_steps)
    base = base_facts(init_from) if init_from is not None else ModelCardFacts(preset=recipe.model.preset)
    base_model = init_from
    if base.base_model is not None and base.steps is None:  # imported, and trained for the first time
        base_model, on_hub = base.base_model, base.base_model_on_hub
    elif init_from is not None and not on_hub:
        base_model = Path(init_from).resolve().name
    return ModelCardFacts(
        task=recipe.model.task,
        preset=base.preset,
        base_model=base_model,
        base_model_on_hub=on_hub,
        segmentation=base.segmentation,
        source_lang=data.source_lang,
        target_lang=data.target_lang,
        license=data.license or base.license,
        datasets=[name] if name is not None and folder is None else [],
        data_description=data.data_description or (folder.resolve().name if folder else name),
        limits=data.limits,
        train_rows=course.train_rows,
        steps=state.global_step,
        tokens_per_step=training.tokens_per_step,
        warmup_steps=int(args.warmup_steps) if training.noam else None,
        noam_scale=training.noam_scale,
        decay_steps=find_decay_steps(training, state),
        seed=args.seed,
        averaged=None if choice is None else choice.averaged,
        new_share=None if choice is None else choice.new_share,
        schedule=None
        if training.noam
        else f"{args.learning_rate:g} at most, {args.lr_scheduler_type.value}, {warmup_steps:,} warm-up steps",
        optimizer=f"Adam, β1 {args.adam_beta1:g}, β2 {args.adam_beta2:g}, ε {args.adam_epsilon:g}"
        + (f", decoupled weight decay {args.weight_decay:g}" if args.weight_decay else ""),
        regularization=", ".join(regularization) or None,
        precision="bfloat16 mixed" if args.bf16 else "float16 mixed" if args.fp16 else "float32",
        seconds=course.seconds,
        hardware=describe_hardware(args),
        example=example,
        results=results,
    )


def find_decay_steps(training: TrainingFields, state: TrainerState) -> int:
    """Return the number of last steps with a falling learning rate; 0 for a run that ended before all its steps."""
    has_end = training.noam and state.global_step >= state.max_steps
    return count_decay_steps(training.decay_steps, state.max_steps) if has_end else 0


def describe_progress(
    recipe: Recipe, task: Task, course: Course, state: TrainerState, example: str | list[str]
) -> ModelCardFacts:
    """Return what the card of a checkpoint says; it has a score if it was evaluated."""
    step = state.global_step
    evaluations = (entry for entry in state.log_history if "eval_loss" in entry and entry["step"] == step)
    scored = next(evaluations, None)
    splits = {} if scored is None else {"validation": task.scores_in_training(scored)}
    return describe_run(recipe, course, state, Results(splits), example)


def save_result(
    trainer: VanillaTransformerTrainer, facts: ModelCardFacts, repositories: tuple[str, str | None] | None
) -> None:
    """
    Write the model, its tokenizer, its scores, pictures and card, in the first process: what a repository holds.

    All of it is written aside first: a model that lies there already stays whole if something fails.

    Raises:
        RecipeError: if it cannot be written.
    """
    if trainer.args.process_index != 0:
        return
    trainer.restore_settings()
    output_dir = Path(trainer.args.output_dir)
    unfinished = output_dir / UNFINISHED
    name = repositories[0] if repositories is not None else trainer.args.hub_model_id
    place = ModelPlace(name or output_dir.as_posix())
    model, tokenizer = trainer.accelerator.unwrap_model(trainer.model), trainer.processing_class
    try:
        model.save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)
        if trainer.args.recipe.save_dtype == "float16":
            store_in_half(unfinished)
        share_weights(unfinished)
        (unfinished / RESULTS).write_text(json.dumps(facts.results.to_json(), indent=2) + "\n", encoding="utf-8")
        facts.save(unfinished)
        try:
            smoothed = model.config.is_encoder_decoder and model.config.label_smoothing > 0
            history = trainer.state.log_history
            plot_curves(history, unfinished / CURVES, LOSS_UNITS[facts.task], smoothed, drawn_score(history))
            if model.config.is_encoder_decoder:
                plot_attention(model, tokenizer, str(facts.example), unfinished / ATTENTION)
        except (RuntimeError, ValueError) as error:  # no picture is worth the result
            logger.info(f"a picture is missing: {error}")
        folder_card(unfinished, place).save(unfinished / "README.md")
        written = [file.name for file in unfinished.iterdir()]
        for name in written:
            (unfinished / name).replace(output_dir / name)
        for pattern in OF_A_RESULT:  # of a model that lay here before
            for file in output_dir.glob(pattern):
                if file.name not in written:
                    file.unlink()
    except (OSError, SafetensorError) as error:
        raise RecipeError(
            f"The result cannot be written to {output_dir}: {error}. Its checkpoints are whole: free some space and "
            "repeat the command with `--resume_from_checkpoint true`."
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def drawn_score(log_history: list[dict[str, float]]) -> tuple[str, str] | None:
    """Return the key and the name of the score that is drawn; none where none was measured."""
    logged = {f"eval_{name}": f"validation {MEASURES[name]}" for name in DRAWN}
    return next(((key, name) for key, name in logged.items() if any(key in entry for entry in log_history)), None)


def describe_hardware(args: TrainingArguments) -> str:
    """Such as "2 x NVIDIA H100" or "CPU, 2 threads"."""
    if args.device.type == "cuda":
        return f"{args.world_size} x {torch.cuda.get_device_name()}"
    threads = torch.get_num_threads()
    processes = f"{args.world_size} processes of " if args.world_size > 1 else ""
    return f"{args.device.type.upper()}, {processes}{threads} thread{'s' if threads > 1 else ''}"


def summarize(recipe: Recipe, results: Results, example: str | list[str]) -> None:
    """One screen: what came out, and what to do with it."""
    output_dir = Path(recipe.training.output_dir)
    logger.info(f"\n{results.steps:,} steps in {results.train_seconds:,.0f} s")
    for split in results.splits:
        logger.info(f"{split}: {results.describe(split)}")
    for signature in results.signatures.values():
        logger.info(signature)
    if results.robustness:
        logger.info(f"\n{table(results.robustness)}\n")
    logger.info(f"model: {output_dir}\ncurves: {output_dir / CURVES}")
    if recipe.model.task == "translation":
        logger.info(f"translate: {translate_command(output_dir, str(example))}")
    else:
        logger.info(f"how to use it: {output_dir / 'README.md'}")


def translate_command(model: Path, text: str) -> str:
    """The command line that translates a text with a model, as it can be pasted here."""
    program = Path(sys.executable).parent / "vanilla-transformer"
    if program.is_relative_to(Path.cwd()):
        program = program.relative_to(Path.cwd())
    words = [str(program), "translate", "--model", str(model), text]
    if os.name == "nt":  # for PowerShell, where a program between quotation marks needs the &
        return "& " + " ".join("'" + word.replace("'", "''") + "'" for word in words)
    return shlex.join(words)
