"""Checks of the fields of a recipe against each other."""

from collections.abc import Callable, Set
from pathlib import Path

from training.recipe.fields import DataFields, ModelFields, TrainingFields
from training.recipe.kinds import describe_rule, is_of_kind
from training.recipe.names import CONFIG_FIELDS
from training.recipe.ranges import find_faults
from training.recipe.refusal import Faults
from vanilla_transformer import VanillaTransformerConfig
from vanilla_transformer.errors import UserError
from vanilla_transformer.model_card import check_language, check_license

# With which a tokenizer is learned.
TOKENIZER_FIELDS = ("vocab_size", "min_frequency", "input_sentence_size", "split_at_spaces")


def find_faults_of_values(
    model: ModelFields,
    data: DataFields,
    training: TrainingFields,
    chosen: Set[str],
    given: Set[str],
    faults: Faults,
) -> None:
    """
    Find values that do not fit their fields or each other.

    Args:
        model, data, training: the fields, with their defaults in place of values that cannot be read.
        chosen: the fields that must have an effect.
        given: all fields that have a value.
        faults: takes what is found.
    """
    for fields in (model, data, training):
        for name, fault in find_faults(fields).items():
            faults.add_wrong(name, fault)
    find_faults_of_model(model, given, faults)
    find_faults_of_data(data, faults)
    find_faults_of_schedule(training, chosen, faults)
    find_faults_of_folders(model, training, faults)
    find_faults_of_checkpoints(training, given, faults)


def find_faults_of_model(model: ModelFields, given: Set[str], faults: Faults) -> None:
    overrides = model.config_overrides if isinstance(model.config_overrides, dict) else {}
    types = VanillaTransformerConfig.__annotations__
    for name, value in overrides.items():
        annotation = types.get(VanillaTransformerConfig.attribute_map.get(name, name))
        if name == "vocab_size":
            faults.add(
                "`vocab_size` must be a field of the recipe itself, but is in `config_overrides`. Write it beside."
            )
        elif name not in CONFIG_FIELDS:
            hint = VanillaTransformerConfig.nearest_field(name)
            faults.add(f"`config_overrides` must have fields of the configuration, but has `{name}`.{hint}")
        elif name in ("dropout", "label_smoothing") and getattr(model, name) is not None:
            faults.add(
                f"`{name}` must be given once, but is {getattr(model, name)}, and {value} in `config_overrides`. "
                "Leave it out there.",
                name,
            )
        elif annotation is not None and not is_of_kind(value, annotation):
            rule = describe_rule(annotation)
            faults.add(f"`{name}` in `config_overrides` must be {rule}, but is {value!r}. Give one.")
    for start in ("init_from", "tokenizer"):
        for name in TOKENIZER_FIELDS:
            # The vocabulary of a model is compared with its own.
            if {start, name} <= given and (start, name) != ("init_from", "vocab_size"):
                faults.add(f"`{name}` has no effect beside `{start}`: no tokenizer is learned. Leave it out.")
    for name in ("replay", "corrections", "interpolate"):
        if name in given and "init_from" not in given:
            faults.add(
                f"`{name}` must have a model that was trained before, but has none. Name one with `init_from`.",
                "init_from",
            )
    if "interpolate" in given and "replay" not in given:
        faults.add("`interpolate` must have old text to choose by, but has none. Name it with `replay`.", "replay")


def find_faults_of_data(data: DataFields, faults: Faults) -> None:
    def check(name: str, call: Callable[..., None], *more: str) -> None:
        if (value := getattr(data, name)) is not None:
            try:
                call(value, *more)
            except UserError as error:
                faults.add_wrong(name, str(error))

    check("license", check_license)
    check("source_lang", check_language, "source_lang")
    check("target_lang", check_language, "target_lang")
    if data.text_columns is not None and not 1 <= len(data.text_columns) <= 2:
        faults.add_wrong(
            "text_columns", f"`text_columns` must be one column, or two, but is {data.text_columns}. Name one, or two."
        )
    for name, files in data.test_sets.items() if isinstance(data.test_sets, dict) else ():
        several = isinstance(files, list) and all(isinstance(file, str) for file in files)
        if not (several or isinstance(files, str)):
            faults.add(
                f"`test_sets` must have files under {name!r}, but has {files!r}. Name one, or two: [source, target]."
            )
        if name in ("train", "validation", "test", "eval", "mean", "replay"):
            faults.add(f"`test_sets` must have names of its own, but has {name!r}, which is taken. Choose another.")


def find_faults_of_schedule(training: TrainingFields, chosen: Set[str], faults: Faults) -> None:
    if training.noam and training.warmup_steps < 1:
        faults.add(
            "`warmup_steps` must be at least 1 in the paper's schedule, which counts whole steps, but is "
            f"{training.warmup_steps}. Give more.",
            *("noam", "warmup_steps"),
        )
    for name in ("learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs"):
        if training.noam and name in chosen:
            faults.add(
                f"`{name}` has no effect beside the paper's schedule. Use `noam_scale`, or set `noam: false`.", "noam"
            )
    for name in ("noam_scale", "decay_steps"):
        if not training.noam and name in chosen:
            remedy = "`learning_rate`" if name == "noam_scale" else "`lr_scheduler_type`"
            faults.add(f"`{name}` has no effect with `noam: false`. Use {remedy}.", "noam")


def find_faults_of_folders(model: ModelFields, training: TrainingFields, faults: Faults) -> None:
    if not training.output_dir:
        faults.add("`output_dir` is missing. Name the folder for the model and its checkpoints.", "output_dir")
    elif model.init_from is not None:
        base, output_dir = Path(model.init_from).resolve(), Path(training.output_dir).resolve()
        if output_dir in (base, *base.parents):
            faults.add(
                "`output_dir` must not hold the model of `init_from`, which would be written over, but is "
                f"{training.output_dir}. Name another folder."
            )
    if training.hub_native_model_id is not None and not training.push_to_hub:
        faults.add("`hub_native_model_id` has no effect without `push_to_hub: true`.", "push_to_hub")


def find_faults_of_checkpoints(training: TrainingFields, given: Set[str], faults: Faults) -> None:
    """Find settings by which checkpoints would be deleted before they are averaged or compared."""
    if training.patience is not None and training.eval_strategy == "no":
        faults.add(
            f"`patience` must have evaluations to compare, but is {training.patience} with `eval_strategy` no. Set "
            "`eval_strategy: steps`, or `patience: null`.",
            *("patience", "eval_strategy"),
        )
    kept, averaged = training.save_total_limit, training.average_checkpoints or 1
    number = "average_checkpoints" if "average_checkpoints" in given else "preset"  # which the default goes by
    read = "save_total_limit", "load_best_model_at_end", "patience", "average_checkpoints", number
    if training.load_best_model_at_end and kept is not None and training.patience is None:
        faults.add(
            "`save_total_limit` must be null with `load_best_model_at_end` and without `patience`, else checkpoints "
            f"before the best one may be deleted, but is {kept}. Set `patience` and keep at least {averaged} more "
            "than that, or keep all checkpoints: `save_total_limit: null`.",
            *read,
        )
        return
    # The mean ends with the best one, which is as old as patience allows.
    needed = averaged + (training.patience or 0) if training.load_best_model_at_end else averaged
    if kept is not None and kept < needed:
        beside = f" and `patience` {training.patience}" if needed > averaged else ""
        faults.add(
            f"`save_total_limit` must be at least {needed} with `average_checkpoints` {averaged}{beside}, else "
            f"checkpoints are deleted before they are averaged, but is {kept}. Keep more.",
            *read,
        )
