"""Checkpoints on disk: which there are, which are whole, and the folder they go to."""

import math
import pickle
import re
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME, TRAINER_STATE_NAME
from transformers.trainer_pt_utils import safe_globals
from transformers.utils import CONFIG_NAME

from training.engine.arguments import TrainingArguments
from training.log import logger
from training.recipe.fields import TrainingFields
from vanilla_transformer import VanillaTransformerConfig
from vanilla_transformer.errors import RecipeError
from vanilla_transformer.text import read_json

WEIGHTS = "model.safetensors"
# Of a tokenizer of ours, of Marian's and of FSMT's.
VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab-src.json")
# The fields that make the shape of a model, which training does not change.
SHAPE = (
    "encoder_layers",
    "decoder_layers",
    "hidden_size",
    "num_attention_heads",
    "query_key_size",
    "value_size",
    "intermediate_size",
    "position_embedding_type",
    "norm_first",
)
# The files that a run goes on by; Trainer writes more.
STATE = ("global_step", "epoch", "max_steps", "num_train_epochs", "log_history")
# Where a checkpoint is written before it gets its name: under that name there are only whole ones.
UNFINISHED = "unfinished"
# Where checkpoints wait for their push.
PUSHING = "pushing"
# The scores of the model of `init_from` before it was trained.
RESULTS_BEFORE = "results_before.json"
# A file in a checkpoint that was written on request, between those that the recipe asks for. It serves to go on from,
# takes no part in a mean, and goes when the next one is written.
EXTRA = "extra"


def step_of(checkpoint: Path) -> int:
    """The step of a folder named `checkpoint-STEP`."""
    return int(checkpoint.name.rpartition("-")[2])


def find_checkpoints(output_dir: str | Path, up_to_step: int | None = None) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    folders = [f for f in Path(output_dir).glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", f.name)]
    return sorted((f for f in folders if up_to_step is None or step_of(f) <= up_to_step), key=step_of)


def regular_checkpoints(output_dir: str | Path, up_to_step: int | None = None) -> list[Path]:
    """Those that the recipe asked for, oldest first, without the one that an interruption may have left."""
    return [folder for folder in find_checkpoints(output_dir, up_to_step) if not (folder / EXTRA).exists()]


def validation_losses(log_history: list[dict[str, float]]) -> dict[float, float]:
    """Step -> validation NLL, of the steps that were evaluated."""
    return {entry["step"]: entry["eval_loss"] for entry in log_history if "eval_loss" in entry}


def find_best(checkpoints: list[Path], log_history: list[dict[str, float]]) -> Path | None:
    """The checkpoint with the lowest validation NLL, of those that were evaluated."""
    losses = validation_losses(log_history)
    evaluated = [folder for folder in checkpoints if step_of(folder) in losses]
    return min(evaluated, key=lambda folder: losses[step_of(folder)], default=None)


def count_processes(checkpoint: Path) -> int:
    """Return how many processes wrote a checkpoint, by their random states."""
    return len(list(checkpoint.glob("rng_state_*.pth"))) or 1


def find_damage_of_weights(checkpoint: Path) -> str | None:
    """Return the damage of a checkpoint's weights, in a few words; `None` for whole ones."""
    try:
        with safe_open(checkpoint / WEIGHTS, "pt") as weights:
            weights.keys()
    except FileNotFoundError:
        return f"{WEIGHTS} is missing"
    except (OSError, SafetensorError) as error:
        return f"{WEIGHTS} cannot be read: {error}"
    return None


def find_damage(checkpoint: Path) -> str | None:
    """Return the damage that keeps a run from going on from a checkpoint, in a few words; `None` for a whole one."""
    name = ""
    try:
        vocabulary = next((each for each in VOCABULARIES if (checkpoint / each).is_file()), VOCABULARIES[0])
        for name in (CONFIG_NAME, vocabulary, TRAINER_STATE_NAME):
            content = read_json(checkpoint / name)
        lacking = [entry for entry in STATE if entry not in content]
        if lacking:
            return f"{name} has no {lacking[0]}"
        random_states = sorted(file.name for file in checkpoint.glob("rng_state*.pth"))
        for name in (OPTIMIZER_NAME, SCHEDULER_NAME, *(random_states or ["rng_state.pth"])):
            with zipfile.ZipFile(checkpoint / name) as archive:
                if archive.testzip() is not None:
                    return f"{name} has wrong checksums"
            with safe_globals():  # what Trainer reads of random states
                torch.load(checkpoint / name, map_location="cpu", mmap=True, weights_only=True)
    except FileNotFoundError:
        return f"{name} is missing"
    except pickle.UnpicklingError:
        return f"{name} holds more than numbers, as a file with code does"
    except (OSError, ValueError, TypeError, RuntimeError, KeyError, EOFError, zipfile.BadZipFile) as error:
        return f"{name} cannot be read: {error}"
    return find_damage_of_weights(checkpoint)


def choose_checkpoint(checkpoints: list[Path], args: TrainingFields) -> tuple[Path | None, list[Path]]:
    """
    Return the checkpoint that a run goes on from, if any, and those that are damaged and later.

    Raises:
        RecipeError: if there is none to go on from, or the one that is named is not whole.
    """
    resume = str(args.resume_from_checkpoint or "false")
    damaged: list[Path] = []
    if resume.lower() in ("true", "auto"):
        for folder in reversed(checkpoints):
            damage = find_damage(folder)
            if damage is None:
                return folder, damaged
            logger.info(f"{folder} is damaged and is skipped: {damage}")
            damaged.append(folder)
        if resume.lower() == "true":
            raise RecipeError(
                f"`resume_from_checkpoint` must be auto or false for {args.output_dir}, which has no complete "
                "checkpoint, but is true. Use auto, which begins anew where there is none."
            )
    elif resume.lower() != "false":
        damage = find_damage(Path(resume))
        if damage is not None:
            raise RecipeError(
                f"`resume_from_checkpoint` must be a complete checkpoint, but {resume} is not: {damage}. Name "
                "another, or use auto, which takes the last complete one."
            )
        return Path(resume), damaged
    return None, damaged


def prepare_output_dir(args: TrainingFields) -> Path | None:
    """
    Make the folder, see that it can be written, and clear what is in the way of the checkpoints to come.

    `resume_from_checkpoint` is a checkpoint, "true" for the newest whole one, or "auto" for that if there is any.

    Returns:
        the checkpoint to go on from, if any.

    Raises:
        RecipeError: if there is none to go on from, if others or a model are there, or if the folder cannot be
            written.
    """
    output_dir = Path(args.output_dir)
    checkpoints = find_checkpoints(output_dir)
    checkpoint, damaged = choose_checkpoint(checkpoints, args)
    starts_anew = checkpoint is None or checkpoint.parent.resolve() != output_dir.resolve()
    first = 0 if checkpoint is None or starts_anew else step_of(checkpoint) + 1
    others = [folder for folder in checkpoints if folder not in damaged and step_of(folder) >= first]
    if checkpoint is None and damaged:
        logger.info("no checkpoint is left to go on from: starting with the first step")
    has_model = (output_dir / CONFIG_NAME).exists()
    if starts_anew and not has_model:
        kept = sorted(file.name for pattern in ("README.md", "*.py") for file in output_dir.glob(pattern))
        if kept:  # a model's folder has files of these names
            raise RecipeError(
                f"`output_dir` must be a new folder, or one with a model, but {output_dir} has {kept[0]} and no "
                f"model: {kept[0]} would be overwritten. Name another folder."
            )
    if others and not args.overwrite_output_dir:
        raise RecipeError(
            f"{output_dir} holds {others[-1].name} of an earlier run. Go on with `--resume_from_checkpoint true`, or "
            "delete it and start again with `--overwrite_output_dir true`."
        )
    if starts_anew and has_model and not args.overwrite_output_dir:
        raise RecipeError(
            f"`output_dir` must not hold a model, which would be written over, but {output_dir} does. Name another "
            "folder, or give that model up with `--overwrite_output_dir true`."
        )
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        for folder in damaged:
            aside = folder.with_name(f"damaged-{folder.name}")
            shutil.rmtree(aside, ignore_errors=True)
            folder.rename(aside)
        for folder in [*others, output_dir / UNFINISHED, output_dir / PUSHING]:
            if folder.exists():
                shutil.rmtree(folder)
        if starts_anew:
            (output_dir / RESULTS_BEFORE).unlink(missing_ok=True)
        with tempfile.TemporaryFile(dir=output_dir) as file:
            file.write(b"0" * 4096)
    except OSError as error:
        raise RecipeError(
            f"`output_dir` must be a folder that can be written, but {output_dir} is not: {error.strerror}. Name "
            "another."
        ) from error
    return checkpoint


def check_space(output_dir: str | Path, parameters: int) -> None:
    """
    Refuse a run whose first checkpoint would not fit on the disk.

    Raises:
        RecipeError: if there is less space than weights and two moments of Adam take, in float32.
    """
    needed, free = 3 * 4 * parameters, shutil.disk_usage(output_dir).free
    if free < needed:
        raise RecipeError(
            f"`output_dir` must have room for a checkpoint, {needed / 1e6:,.0f} MB, but {output_dir} has "
            f"{free / 1e6:,.0f} MB left. Free some space, or name another folder."
        )


def patience_is_over(log_history: list[dict[str, float]], patience: int) -> bool:
    """Whether none of the last `patience` evaluations was better than all before them."""
    losses = list(validation_losses(log_history).values())
    return bool(losses) and len(losses) - 1 - losses.index(min(losses)) >= patience


def is_finished(checkpoint: Path, args: TrainingFields) -> bool:
    """Whether a run that goes on from a checkpoint has no step left to do."""
    state = read_json(checkpoint / TRAINER_STATE_NAME)
    if args.patience is not None and patience_is_over(state["log_history"], args.patience):
        return True
    last = args.max_steps
    if last <= 0:  # counted in epochs: as many as the run that wrote the checkpoint was to do
        epochs = math.ceil(args.num_train_epochs)
        last = state["max_steps"] if state["num_train_epochs"] == epochs else sys.maxsize
    return step_of(checkpoint) >= last


def check_continuation(
    checkpoint: Path, config: VanillaTransformerConfig, steps_per_epoch: int, args: TrainingArguments
) -> None:
    """
    Refuse to go on from a checkpoint of another model, or with other steps than it was made with.

    Raises:
        RecipeError: if a size or the initialization differs, the number of steps in an epoch, or a setting of Adam,
            which Trainer would take from the checkpoint.
    """
    saved = VanillaTransformerConfig.from_pretrained(checkpoint)
    for name in ("vocab_size", *SHAPE, "attention_init_gain", "id2label"):
        if getattr(saved, name) != getattr(config, name):
            raise RecipeError(
                f"{checkpoint} has `{name}` {getattr(saved, name)}, but the recipe sets it to "
                f"{getattr(config, name)}. Go on with the settings and the text that the run began with, or start a "
                "new one."
            )
    state = read_json(checkpoint / TRAINER_STATE_NAME)
    was = round(state["global_step"] / state["epoch"]) if state["epoch"] else steps_per_epoch
    if was != steps_per_epoch:
        raise RecipeError(
            f"{checkpoint} was made with {was:,} steps an epoch, but now there are {steps_per_epoch:,}: the text or "
            "`tokens_per_step` has changed. Go on as the run began, or start a new one with `init_from`."
        )
    optimizer = torch.load(checkpoint / OPTIMIZER_NAME, map_location="cpu", mmap=True, weights_only=True)
    group = optimizer["param_groups"][0]
    saved_settings = {
        "noam": group["initial_lr"] == 1,  # whose schedule gives absolute rates
        "learning_rate": group["initial_lr"],
        "weight_decay": max(other["weight_decay"] for other in optimizer["param_groups"]),
        "adam_beta1": group["betas"][0],
        "adam_beta2": group["betas"][1],
        "adam_epsilon": group["eps"],
    }
    for name, value in saved_settings.items():
        wanted = args.recipe.noam if name == "noam" else getattr(args, name)
        if wanted != value:
            raise RecipeError(
                f"{checkpoint} was made with `{name}` {value}, but the recipe sets {wanted}. Go on as the "
                "run began, or start a new one with `init_from`."
            )
