"""transformers' arguments of a training, made from a recipe. They are mutable and Trainer changes them."""

import dataclasses
from collections.abc import Mapping

import torch
from transformers import SchedulerType, Seq2SeqTrainingArguments
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK, get_available_reporting_integrations

from training.recipe.fields import TrainingFields
from vanilla_transformer.errors import RecipeError, UserError


class TrainingArguments(Seq2SeqTrainingArguments):
    """
    The arguments of Trainer.

    Attributes:
        recipe: what it was made from, with the fields that Trainer does not know.
    """

    recipe: TrainingFields
    output_dir: str
    lr_scheduler_type: SchedulerType

    def to_dict(self) -> dict[str, object]:
        """Return all settings, for the logs."""
        return {**dataclasses.asdict(self.recipe), **super().to_dict()}


def make_arguments(training: TrainingFields, others: Mapping[str, object] | None = None) -> TrainingArguments:
    """
    Make the arguments of Trainer, and choose the device and the precision where the recipe leaves them open.

    Args:
        others: more fields of transformers' arguments.

    Raises:
        RecipeError: for what transformers refuses, such as a device that is not there.
    """
    use_cpu, bf16 = runs_on_cpu(training.run_on), training.bf16
    if bf16 is None:
        bf16 = not (use_cpu or training.fp16) and torch.cuda.is_available() and has_native_bf16()
    known = {f.name for f in dataclasses.fields(Seq2SeqTrainingArguments)}
    values = {name: value for name, value in vars(training).items() if name in known}
    values |= {
        **(others or {}),
        "use_cpu": use_cpu,
        "bf16": bf16,
        # Pairs are read by name from the data set, and batches are made here.
        "remove_unused_columns": False,
        # It looks at every loss, and hides what would stop the run.
        "logging_nan_inf_filter": training.skip_non_finite,
        "ddp_find_unused_parameters": False,  # every parameter has a gradient in every step
    }
    if training.noam:
        values["learning_rate"] = 1.0  # the schedule gives absolute rates
    if training.patience is not None or training.load_best_model_at_end:
        values |= {"metric_for_best_model": "eval_loss", "greater_is_better": False}
    try:
        arguments = TrainingArguments(**values)
    except UserError:
        raise
    except ValueError as error:
        raise RecipeError(str(error)) from error
    arguments.recipe = training
    for name in arguments.report_to or ():
        if name not in INTEGRATION_TO_CALLBACK:
            programs = ", ".join(INTEGRATION_TO_CALLBACK)
            raise RecipeError(f"`report_to` must be one of none, {programs}, but is {name}. Choose one.")
        if name not in {*get_available_reporting_integrations(), "flyte"}:  # which that list leaves out
            raise RecipeError(
                f"`report_to` must be a program that is installed, but is {name}. Install it, or choose another."
            )
    return arguments


def runs_on_cpu(run_on: str) -> bool:
    """
    Return whether to use the CPU. Left to itself, Trainer starts no process group where there is no accelerator.

    Raises:
        RecipeError: for a device that is not there.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if run_on == "auto":
        return not (available["cuda"] or available["mps"])
    if not available.get(run_on, False):
        raise RecipeError(f"`run_on` must be a device that torch finds here, but is {run_on}. Use auto or cpu.")
    return run_on == "cpu"


def has_native_bf16() -> bool:
    """Return whether the GPU computes in bfloat16 itself; older ones emulate it, slowly."""
    return torch.cuda.is_bf16_supported(including_emulation=False)


def cpu_emulates_bf16() -> bool:
    """Return whether oneDNN, if it is there, has no fast bfloat16 on this CPU, as on x86 without AVX-512."""
    return torch.backends.mkldnn.is_available() and not torch.ops.mkldnn._is_mkldnn_bf16_supported()
