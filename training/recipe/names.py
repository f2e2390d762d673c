"""The names of recipe fields: which there are, which this program sets itself, and which have an effect in a task."""

import dataclasses
import difflib
import typing
from collections.abc import Set
from typing import TYPE_CHECKING

from transformers import Seq2SeqTrainingArguments

from training.recipe.fields import DataFields, ModelFields, TrainingFields
from training.recipe.refusal import Faults
from vanilla_transformer import VanillaTransformerConfig

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

CONFIG_FIELDS = {f.name for f in dataclasses.fields(VanillaTransformerConfig)} | {
    *VanillaTransformerConfig.attribute_map
}
# Fields of transformers that this program sets itself, and the remedy or the reason.
REPLACED = {
    "per_device_train_batch_size": "Use `tokens_per_device`: batches are counted in tokens",
    "per_device_eval_batch_size": "Use `tokens_per_device`: batches are counted in tokens",
    "gradient_accumulation_steps": "Use `tokens_per_step` and `tokens_per_device`, from which it follows",
    "label_smoothing_factor": "Use `label_smoothing`: the model makes the smoothed loss itself, without full logits",
    "use_cpu": "Use `run_on: cpu`",
    "optim": "Leave it out: the optimizer is always Adam, as in the paper",
    "generation_max_length": "Leave it out: the length follows the source, as in the paper",
    "prediction_loss_only": "Use `predict_with_generate: false`",
    "metric_for_best_model": "Leave it out: the best model has the lowest validation NLL",
    "greater_is_better": "Leave it out: the best model has the lowest validation NLL",
    "enable_jit_checkpoint": "Leave it out: SIGTERM saves a checkpoint",
    "train_sampling_strategy": "Leave it out: sentences of similar length are put together",
    "sortish_sampler": "Leave it out: sentences of similar length are put together",
    "dataloader_drop_last": "Leave it out: every sentence is kept",
    "dataloader_persistent_workers": "Leave it out: workers begin anew in each epoch, which they draw masks for",
    "dataloader_prefetch_factor": "Leave it out: each of `dataloader_num_workers` prepares two batches",
    "bf16_full_eval": "Leave it out: evaluation computes as training does",
    "fp16_full_eval": "Leave it out: evaluation computes as training does",
    "generation_config": "Use `num_beams`, `length_penalty`, `length_penalty_type` and `early_stopping`",
    "hub_token": "Leave it out: a token is a secret. Run `hf auth login`, or set HF_TOKEN",
    "hub_revision": "Leave it out: the result is pushed to main and gets a tag",
    "hub_always_push": "Leave it out: every save is pushed, one after the other",
    "auto_find_batch_size": "Use `tokens_per_device`",
    "eval_accumulation_steps": "Leave it out: evaluation keeps only texts and sums",
}

# Fields that have an effect in some tasks only, by the Hub's names of the tasks.
OF_TRANSLATION = frozenset(
    {
        *("source", "target", "validation_source", "validation_target", "test_source", "test_target"),
        *("sources", "source_column", "target_column", "corpus", "target_lang", "example"),
        *("hold_out", "check_alignment", "drop_duplicates", "max_length_ratio"),
        *("label_smoothing", "augmentation", "bpe_dropout"),
        *("corrections", "replay", "interpolate"),
        *("predict_with_generate", "generation_num_beams"),
        *("num_beams", "length_penalty", "length_penalty_type", "early_stopping"),
        *("bleu_tokenize", "compound_bleu", "bootstrap_samples"),
        *("hub_native_model_id", "preprocessing_num_workers"),
    }
)
OF_LANGUAGE_MODELS = frozenset({"text_columns", "turn_separator", "example"})
TASK_FIELDS = {
    "translation": OF_TRANSLATION,
    "summarization": OF_TRANSLATION
    - {"bleu_tokenize", "compound_bleu", "bootstrap_samples", "augmentation", "corpus", "target_lang"}
    - {"corrections", "replay", "interpolate"},
    "text-classification": frozenset({"text_columns", "label_column"}),
    "question-answering": frozenset({"stride"}),
    "fill-mask": OF_LANGUAGE_MODELS,
    "text-generation": OF_LANGUAGE_MODELS,
}


def find_other_fields() -> list[tuple[str, type, object]]:
    """Return name, type and definition of each field of transformers' arguments that a recipe may set besides."""
    ours = {f.name for f in dataclasses.fields(TrainingFields)}
    types = typing.get_type_hints(Seq2SeqTrainingArguments)
    return [
        (
            f.name,
            types[f.name],
            dataclasses.field(default=f.default, metadata=f.metadata)
            if f.default_factory is dataclasses.MISSING
            else dataclasses.field(default_factory=f.default_factory, metadata=f.metadata),
        )
        for f in dataclasses.fields(Seq2SeqTrainingArguments)
        if f.name not in ours and f.name not in REPLACED
    ]


OtherFields = dataclasses.make_dataclass("OtherFields", find_other_fields(), frozen=True)
FIELD_CLASSES: tuple["type[DataclassInstance]", ...] = (ModelFields, DataFields, TrainingFields, OtherFields)


FIELDS = {f.name for part in FIELD_CLASSES for f in dataclasses.fields(part)}


def is_field(name: str) -> bool:
    """Return whether a recipe may set a field of this name; `no_` before that of a switch turns it off."""
    return name not in REPLACED and bool({name, name.removeprefix("no_")} & {*FIELDS, "help", "help_all"})


def find_near_field(name: str) -> str | None:
    """Return the field, or the field of transformers, whose name is nearest to one that is neither, if any is near."""
    return next(iter(difflib.get_close_matches(name, FIELDS | REPLACED.keys(), n=1)), None)


def find_meant_fields(given: Set[str]) -> set[str]:
    """Return the fields that are probably meant by names that are not fields, unless they are given as well."""
    near = {find_near_field(name) for name in given if name not in REPLACED and not is_field(name)}
    return {name for name in near if name is not None and is_field(name)} - given


def find_faults_of_names(given: Set[str]) -> list[str]:
    """Find fields that do not exist or that this program sets itself."""
    faults = []
    for name in sorted(given):
        if name in REPLACED:
            faults.append(f"`{name}` cannot be set in a recipe. {REPLACED[name]}.")
        elif not is_field(name):
            near = find_near_field(name)
            hint = f" Did you mean `{near}`?" if near else " `--help_all` lists all of them."
            if near in REPLACED:
                hint = f" {REPLACED[near]}."
            if name in CONFIG_FIELDS:
                hint = f" It is a field of the configuration: write `config_overrides: {{{name}: ...}}`."
            faults.append(f"There is no recipe field `{name}`.{hint}")
    return faults


def find_faults_of_task(name: str, given: Set[str], faults: Faults) -> None:
    """Find a task that does not exist, or fields that have no effect in it."""
    if name not in TASK_FIELDS:
        close = difflib.get_close_matches(name, TASK_FIELDS, n=1)
        hint = f"Did you mean {close[0]}?" if close else "Choose one."
        faults.add_wrong("task", f"`task` must be one of {', '.join(TASK_FIELDS)}, but is {name!r}. {hint}")
        return
    of_some = {field for fields in TASK_FIELDS.values() for field in fields}
    for field in sorted(given & (of_some - TASK_FIELDS[name])):
        tasks = " and ".join(task for task in TASK_FIELDS if field in TASK_FIELDS[task])
        faults.add(f"`{field}` has no effect in {name}, only in {tasks}. Leave it out.", "task")
