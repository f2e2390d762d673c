"""From the first step, or from a checkpoint, to the chosen weights and their scores."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import datasets
import torch
from transformers import TrainerState
from transformers.utils import logging

from training.engine.averaging import average_weights
from training.engine.checkpoints import (
    RESULTS_BEFORE,
    check_continuation,
    count_processes,
    find_best,
    find_damage_of_weights,
    is_finished,
    regular_checkpoints,
    step_of,
    validation_losses,
)
from training.engine.evaluate import full_precision
from training.engine.processes import first_process
from training.engine.start import Start
from training.engine.task import Task
from training.engine.trainer import VanillaTransformerTrainer
from training.log import logger
from training.recipe.parse import Recipe
from vanilla_transformer.scores import Results, Robustness, SplitScores
from vanilla_transformer.text import read_json, write_whole

# Of new weights in a mean with those before.
SHARES = tuple(tenth / 10 for tenth in range(11))


@dataclass(frozen=True)
class Choice:
    """
    The choice of the weights of a result.

    Attributes:
        averaged: how many checkpoints they are the mean of.
        new_share: of that mean, where the rest is of the weights before the training; else none.
    """

    averaged: int
    new_share: float | None = None


def fit(trainer: VanillaTransformerTrainer, start: Start) -> Choice | None:
    """
    Train, and load the weights of the result into the model.

    Returns:
        what they are; `None` if SIGTERM has ended the training before its last step.
    """
    args, model, checkpoint = trainer.args, trainer.model, start.checkpoint
    if checkpoint is not None and trainer.train_sampler is not None:
        logger.info(f"going on from {checkpoint}")
        logging.set_verbosity_error()  # Trainer's comparison of settings, which knows less than ours
        check_continuation(checkpoint, model.config, trainer.train_sampler.steps, args)
        before = count_processes(checkpoint)
        if before != args.world_size:
            logger.info(
                f"number of processes: {before} until now, {args.world_size} from here. The steps have the same "
                "sentences; the dropout of each process is drawn anew"
            )
    if checkpoint is not None and is_finished(checkpoint, args.recipe):
        # Ended after its last step, in scoring perhaps. Trainer would take one step more.
        logger.info(f"{checkpoint} is the last step: no training is left")
        model.load_state_dict(average_weights([checkpoint]), strict=False)
        trainer.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        trainer.stopwatch.resume(trainer.state)
    else:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if trainer.termination.obeyed:
        logger.info(
            f"stopped by SIGTERM after step {trainer.state.global_step:,}, which is saved. Go on: repeat the command "
            "with `--resume_from_checkpoint true`."
        )
        return None
    choice = Choice(choose_weights(trainer))
    enough = args.recipe.interpolate
    if enough is not None and start.initial is not None and trainer.evaluator.old_dataset and trainer.eval_dataset:
        choice = Choice(choice.averaged, interpolate_weights(trainer, start.initial, enough))
    if args.recipe.save_dtype == "float16":
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(parameter.half())  # as they come out of the file that is written
    return choice


def choose_weights(trainer: VanillaTransformerTrainer) -> int:
    """
    Load the mean of the last checkpoints (§6.1); with `load_best_model_at_end` of the last ones up to the best, or
    only the best where validation NLL says so.

    Returns:
        how many checkpoints the result is the mean of.
    """
    args, state = trainer.args, trainer.state
    # Not those of a later step, which another run may have left.
    whole = []
    for folder in regular_checkpoints(args.output_dir, up_to_step=state.global_step):
        damage = find_damage_of_weights(folder)
        if damage is None:
            whole.append(folder)
        else:
            logger.info(f"{folder} is damaged and is left out of the result: {damage}")
    best = find_best(whole, state.log_history) if args.load_best_model_at_end else None
    if best is not None:
        whole = [folder for folder in whole if step_of(folder) <= step_of(best)]
    averaged = whole[-(args.recipe.average_checkpoints or 1) :]
    model = trainer.accelerator.unwrap_model(trainer.model)
    if len(averaged) > 1:
        # Tied weights are stored once; loading them under that name leaves the ties as they are.
        model.load_state_dict(average_weights(averaged), strict=False)
        logger.info(f"averaged {len(averaged)} checkpoints: {', '.join(folder.name for folder in averaged)}")
    elif best is not None:
        model.load_state_dict(average_weights([best]), strict=False)
        logger.info(f"kept {best.name}, the best by validation NLL")
    if best is not None and len(averaged) > 1:
        mean_loss = measure_validation(trainer)
        best_loss = validation_losses(state.log_history)[step_of(best)]
        if best_loss <= mean_loss:
            averaged = [best]
            model.load_state_dict(average_weights(averaged), strict=False)
        kept = "the mean" if len(averaged) > 1 else best.name
        logger.info(f"validation NLL: mean {mean_loss:.4f}, {best.name} {best_loss:.4f}; {kept} is kept")
    return len(averaged)


def measure_validation(trainer: VanillaTransformerTrainer) -> float:
    """Return the NLL of the validation text, or the mean of it and of that of the old text."""
    return trainer.evaluator.validate(trainer.get_eval_dataloader()).metrics["loss"]


def interpolate_weights(trainer: VanillaTransformerTrainer, old: dict[str, torch.Tensor], enough: float) -> float:
    """
    Load the mean of old and new weights with the smallest share of the new that wins enough on new and old validation
    text together.

    Args:
        old: the weights before, by the names of the parameters.
        enough: a part of what the best share wins in NLL. Less than 1 stays closer to the old weights.

    Returns:
        the share of the new weights, one of `SHARES`.
    """
    model = trainer.accelerator.unwrap_model(trainer.model)
    new = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}

    def load(share: float) -> None:
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(torch.lerp(old[name].to(parameter.device), new[name], share))

    losses = {}
    for share in SHARES:
        load(share)
        losses[share] = measure_validation(trainer)
    lowest = min(losses.values())
    limit = lowest + (1 - enough) * (losses[0.0] - lowest)
    chosen = next(share for share in SHARES if losses[share] <= limit)
    load(chosen)
    shown = ", ".join(f"{share:.0%} {loss:.4f}" for share, loss in losses.items())
    logger.info(f"validation NLL, new and old text, by the share of the new weights: {shown}; {chosen:.0%} is kept")
    return chosen


def score_before(
    recipe: Recipe,
    task: Task,
    trainer: VanillaTransformerTrainer,
    encoded: dict[str, datasets.Dataset],
    start: Start,
) -> Mapping[str, SplitScores]:
    """
    Score a model that was trained already before it is trained on.

    The scores are kept in a file for a run that goes on; a model with new parts has none.
    """
    if recipe.model.init_from is None or start.new:
        return {}
    path = Path(recipe.training.output_dir) / RESULTS_BEFORE
    if start.checkpoint is not None:
        return Results.from_json(read_json(path)).before if path.is_file() else {}
    scored = score_splits(task, trainer, encoded)
    for split, scores in scored.items():
        logger.info(f"before training, {split}: {scores.describe()}")
    results = Results(before={split: scores.without_details() for split, scores in scored.items()})
    if trainer.args.process_index == 0:
        write_whole(path, json.dumps(results.to_json(), indent=2) + "\n")
    return results.before


def score_splits(
    task: Task, trainer: VanillaTransformerTrainer, encoded: dict[str, datasets.Dataset]
) -> dict[str, SplitScores]:
    """Measure every text but the training text, in float32, in which the weights are saved."""
    return {split: task.score(trainer.evaluator, dataset) for split, dataset in encoded.items() if split != "train"}


def score(
    task: Task, trainer: VanillaTransformerTrainer, encoded: dict[str, datasets.Dataset]
) -> tuple[dict[str, SplitScores], tuple[Robustness, ...]]:
    """Measure every text, and one of them as people type it."""
    splits = score_splits(task, trainer, encoded)
    model, tokenizer = trainer.accelerator.unwrap_model(trainer.model), trainer.processing_class
    with full_precision(model):
        return splits, first_process(trainer.args, lambda: task.score_everyday_input(model, tokenizer, encoded))
