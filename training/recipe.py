"""
From a YAML file and the command line, which wins, to the fields of `training.arguments`.

`null` leaves a field unset, in a recipe, and on the command line whatever the recipe says. Text that the command line
names takes the place of text that the recipe names for the same by other fields.

A recipe may leave fields to the size of the corpus, by a table under `by_corpus_size`, and name under `needs` those
that the command line has to give.
"""

import dataclasses
import difflib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from transformers import HfArgumentParser

from training.arguments import (
    CONFIG_FIELDS,
    FREE_FIELDS,
    DataArguments,
    ModelArguments,
    RecipeError,
    TrainingArguments,
)
from training.tasks import TASKS
from training.tasks.task import Task

ARGUMENT_CLASSES = (ModelArguments, DataArguments, TrainingArguments)

# Fields of Trainer that this program sets itself, and what stands in their place.
REPLACED = {
    "per_device_train_batch_size": "`tokens_per_device`: batches are counted in tokens",
    "per_device_eval_batch_size": "`tokens_per_device`: batches are counted in tokens",
    "gradient_accumulation_steps": "`tokens_per_step` and `tokens_per_device`, from which it follows",
    "label_smoothing_factor": "`label_smoothing`",
    "use_cpu": "`run_on: cpu`",
    "optim": "nothing: the optimizer is Adam, as in the paper",
    "generation_max_length": "nothing: the length follows the source, as in the paper",
    "prediction_loss_only": "`predict_with_generate: false`",
    "metric_for_best_model": "nothing: the best model has the lowest validation NLL",
    "greater_is_better": "nothing: the best model has the lowest validation NLL",
    "enable_jit_checkpoint": "nothing: SIGTERM saves a checkpoint",
    "train_sampling_strategy": "nothing: sentences of similar length stand together",
    "sortish_sampler": "nothing: sentences of similar length stand together",
    "dataloader_drop_last": "nothing: no sentence is dropped",
    "dataloader_persistent_workers": "nothing: workers begin anew in each epoch, which they draw masks for",
    "dataloader_prefetch_factor": "nothing: each of `dataloader_num_workers` prepares two batches",
    "bf16_full_eval": "nothing: evaluation computes as training does",
    "fp16_full_eval": "nothing: evaluation computes as training does",
    "generation_config": "`generation_num_beams`, `length_penalty` and `length_penalty_type`",
    "hub_token": "nothing: a token is a secret. Run `hf auth login`, or set HF_TOKEN",
    "hub_revision": "nothing: the result is pushed to main and gets a tag",
    "hub_always_push": "nothing: every save is pushed, one after the other",
    "auto_find_batch_size": "`tokens_per_device`",
    "eval_accumulation_steps": "nothing: evaluation keeps texts and sums alone",
}


# Words that leave a field unset, as in YAML.
NULLS = ("null", "Null", "NULL", "~", "")

DATASET = ("dataset_name", "dataset_config_name", "train_split", "validation_split", "test_split")
FILES = ("source", "target", "validation_source", "validation_target", "test_source", "test_target")
# Fields that the command line may give, and those of a recipe that then give way, as the two contradict each other. A
# corpus is added to files, and stays.
GIVE_WAY: dict[str, tuple[str, ...]] = {
    "source": ("train_file", *DATASET),
    "target": ("train_file", *DATASET),
    "train_file": ("source", "target", *DATASET),
    "corpus": DATASET,
    "dataset_name": (*FILES, "train_file", "validation_file", "test_file", "corpus", *DATASET),
    "validation_source": ("validation_file",),
    "validation_target": ("validation_file",),
    "validation_file": ("validation_source", "validation_target"),
    "test_source": ("test_file",),
    "test_target": ("test_file",),
    "test_file": ("test_source", "test_target"),
    "num_train_epochs": ("max_steps",),
}

# Fields that the command line may unset, and those of a recipe that then give way.
UNSET_WITH = {"patience": ("save_total_limit",)}

# What a tokenizer is learned with.
LEARNED_WITH = ("vocab_size", "min_frequency")


@dataclass
class Recipe:
    """
    A recipe as it is run.

    Attributes:
        model, data, training: its fields.
        task: what it trains.
        given: names of the fields that the recipe or the command line sets to a value, by the table of sizes or
            without.
        has_table: whether fields depend on the size of the corpus.
        row: the fields of that table's row that are in force.
    """

    model: ModelArguments
    data: DataArguments
    training: TrainingArguments
    task: Task
    given: set[str]
    has_table: bool
    row: dict[str, Any]


def parse_recipe(arguments: list[str], pairs: int | None = None) -> Recipe:
    """
    Read `RECIPE.yaml [--field value ...]`.

    Args:
        arguments: the command line without the program's name. The recipe may be left out.
        pairs: the size of the training text, which chooses a row of the recipe's table `by_corpus_size`; its fields
            hold where neither the recipe nor the command line says otherwise. Unknown, it is the last row.

    Raises:
        RecipeError: for a file that is not there or not YAML, and for a field that does not exist or does not fit.
    """
    settings: dict[str, Any] = {}
    if arguments and not arguments[0].startswith("-"):
        settings = read_recipe(Path(arguments[0]))
        arguments = arguments[1:]
    table, needed = settings.pop("by_corpus_size", None), settings.pop("needs", [])
    row = choose_row(table, pairs) if table is not None else {}
    options = group_words(arguments)
    unset = {name for name, words in options.items() if is_null(words)}
    check_fields(unset | {name for name, value in settings.items() if value is None})
    on_command_line = set(options) - unset - {""}
    arguments = [word for name, words in options.items() if name not in unset for word in words]
    giving_way = unset | {other for name in on_command_line for other in GIVE_WAY.get(name, ())}
    giving_way |= {other for name in unset for other in UNSET_WITH.get(name, ())}
    row = {name: value for name, value in row.items() if name not in {*settings, *giving_way}}
    settings = {name: value for name, value in settings.items() if value is not None and name not in giving_way}
    from_model = fields_of_new({name for name, value in settings.items() if value} | on_command_line)
    idle = fields_of_new(on_command_line)  # in a recipe for new models, which says what they are
    settings = {name: value for name, value in settings.items() if name not in idle}
    if "init_from" in on_command_line:
        overrides = settings.get("config_overrides")
        if isinstance(overrides, dict):
            settings["config_overrides"] = {name: overrides[name] for name in overrides if name in FREE_FIELDS}
    row = {name: value for name, value in row.items() if name not in {*on_command_line, *from_model}}
    fields = {name: value for name, value in row.items() if name not in ROW_NOTES and value is not None}
    given = {*fields, *settings, *on_command_line}
    check_fields({*given, *needed})
    for name in needed:
        if name not in given:
            raise RecipeError(
                f"`{name}` is missing, which this recipe needs. Give it on the command line: --{name} ..."
            )

    boolean = {
        f.name for arguments in ARGUMENT_CLASSES for f in dataclasses.fields(arguments) if "bool" in str(f.type)
    }
    boolean.add("resume_from_checkpoint")
    words: list[str] = []
    for name, value in {**fields, **settings}.items():
        if value is False and name not in boolean:
            value = "no"  # as it was written: YAML takes it for false
        if isinstance(value, list):
            words += [f"--{name}", *map(str, value)]
        else:  # in one word: it may begin with a dash
            words.append(f"--{name}={json.dumps(value) if isinstance(value, dict) else value}")
    parser = HfArgumentParser(
        ARGUMENT_CLASSES, prog="python -m training.train", usage="%(prog)s RECIPE.yaml [--field value ...]"
    )
    try:
        model, data, training = parser.parse_args_into_dataclasses(words + arguments)
    except RecipeError:
        raise
    except ValueError as error:  # what transformers' own checks say, among them of words that belong to no field
        raise RecipeError(str(error)) from error
    # Where the command line chooses another schedule than the recipe, the recipe's fields for its own are idle.
    chosen = on_command_line if {"noam", "no_noam"} & on_command_line else {*settings, *on_command_line}
    for name in ("learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs"):
        if training.noam and name in chosen:
            raise RecipeError(
                f"`{name}` has no effect beside the paper's schedule. Use `noam_scale`, or set `noam: false`."
            )
    if not training.noam and "noam_scale" in chosen:
        raise RecipeError("`noam_scale` has no effect with `noam: false`. Use `learning_rate`.")
    for start in ("init_from", "tokenizer"):
        # The vocabulary of a model is compared with its own.
        names = [name for name in LEARNED_WITH if name in given and (start, name) != ("init_from", "vocab_size")]
        if getattr(model, start) is not None and names:
            raise RecipeError(f"`{names[0]}` has no effect beside `{start}`: no tokenizer is learned. Leave it out.")
    if model.init_from is not None:
        base, output_dir = Path(model.init_from).resolve(), Path(training.output_dir).resolve()
        if output_dir in (base, *base.parents):
            raise RecipeError(
                f"`output_dir` {training.output_dir} holds the model of `init_from`, which would be written over. "
                "Name another folder."
            )
    if training.patience is not None and training.eval_strategy == "no":
        raise RecipeError(
            f"`patience` is {training.patience} and `eval_strategy` no: nothing would be compared. "
            "Set `eval_strategy: steps`, or `patience: null`."
        )
    if training.average_checkpoints is None:
        training.average_checkpoints = 20 if model.preset == "big" else 5
    check_kept_checkpoints(training)
    task = choose_task(model.task, given)(data, training)
    return Recipe(model, data, training, task, given, has_table=table is not None, row=row)


def group_words(arguments: list[str]) -> dict[str, list[str]]:
    """The words of each option of a command line, its own first; of one that is repeated, the last time."""
    options: dict[str, list[str]] = {}
    name = ""
    for word in arguments:
        if word.startswith("--"):
            name = word[2:].split("=")[0].replace("-", "_")
            options[name] = []
        options.setdefault(name, []).append(word)
    return options


def is_null(words: list[str]) -> bool:
    """Whether an option of a command line, `--field null` or `--field=null`, leaves its field unset."""
    _, equals, value = words[0].partition("=")
    values = [value, *words[1:]] if equals else words[1:]
    return len(values) == 1 and values[0] in NULLS


def fields_of_new(given: set[str]) -> tuple[str, ...]:
    """Fields that say what a new model or its tokenizer is, where one is given that was made before."""
    if "init_from" in given:
        return ("preset", *LEARNED_WITH)
    return LEARNED_WITH if "tokenizer" in given else ()


def choose_task(name: str, given: set[str]) -> type[Task]:
    """
    The task of that name.

    Raises:
        RecipeError: if there is none, or a field is given that has no effect in it.
    """
    if name not in TASKS:
        close = difflib.get_close_matches(name, TASKS, n=1)
        hint = f"Did you mean {close[0]}?" if close else f"Choose one of: {', '.join(TASKS)}."
        raise RecipeError(f"`task` is {name!r}. {hint}")
    without_effect = {field for task in TASKS.values() for field in task.fields} - TASKS[name].fields
    for field in sorted(given & without_effect):
        of = [task for task in TASKS if field in TASKS[task].fields]
        raise RecipeError(f"`{field}` has no effect in {name}, only in {' and '.join(of)}. Leave it out.")
    return TASKS[name]


# What a row of `by_corpus_size` says besides fields.
ROW_NOTES = ("up_to", "expect")


def choose_row(table: Any, pairs: int | None) -> dict[str, Any]:
    """
    The first row that is for a corpus of so many pairs.

    Raises:
        RecipeError: if it is no table of rows in rising order, the last without a limit, or a row has fields that do
            not exist, or that are needed before the size of the corpus is known.
    """
    rows = table if isinstance(table, list) and all(isinstance(row, dict) for row in table) else []
    limits = [row.get("up_to", math.inf) for row in rows]
    numbers = all(isinstance(limit, (int, float)) for limit in limits)
    if not rows or not numbers or limits != sorted(limits) or limits[-1] != math.inf:
        raise RecipeError(
            "`by_corpus_size` is no table. Write a list of rows of fields, each but the last with `up_to`, the number "
            "of pairs it is for, in rising order."
        )
    text_fields = {f.name for f in dataclasses.fields(DataArguments)}
    for row in rows:
        check_fields({name for name in row if name not in ROW_NOTES})
        for name in sorted(text_fields & set(row)):
            raise RecipeError(
                f"`by_corpus_size` has `{name}`, which says what the corpus is. Write it above the table."
            )
    return rows[-1] if pairs is None else next(row for row, limit in zip(rows, limits, strict=True) if pairs <= limit)


def check_kept_checkpoints(training: TrainingArguments) -> None:
    """Refuse to delete checkpoints before they are averaged."""
    kept, averaged = training.save_total_limit, training.average_checkpoints or 1
    if training.load_best_model_at_end and kept is not None and training.patience is None:
        raise RecipeError(
            f"`save_total_limit` is {kept} with `load_best_model_at_end` and without `patience`: the best checkpoint "
            "may be any, and those before it deleted. Set `patience`, or unset the other: `save_total_limit: null`."
        )
    # The mean ends with the best one, which is as old as patience allows.
    needed = averaged + (training.patience or 0) if training.load_best_model_at_end else averaged
    if kept is not None and kept < needed:
        beside = f" and `patience` {training.patience}" if needed > averaged else ""
        raise RecipeError(
            f"`save_total_limit` is {kept} and `average_checkpoints` {averaged}{beside}: checkpoints would be deleted "
            f"before they are averaged. Keep at least {needed}."
        )


class RecipeLoader(yaml.SafeLoader):
    """YAML in which no field stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value]
        for name in names:
            if names.count(name) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"`{name}` stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read_recipe(path: Path) -> dict[str, Any]:
    """The fields of one YAML file."""
    try:
        settings = yaml.load(path.read_text(encoding="utf-8"), RecipeLoader)
    except OSError as error:
        raise RecipeError(f"Recipe {path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"Recipe {path} is not YAML: {error}") from error
    if not isinstance(settings, dict) or not all(isinstance(name, str) for name in settings):
        raise RecipeError(f"Recipe {path} holds no fields. Write lines such as `preset: base`.")
    return settings


def check_fields(given: set[str]) -> None:
    """Refuse fields that do not exist or that this program sets itself."""
    fields = {f.name for arguments in ARGUMENT_CLASSES for f in dataclasses.fields(arguments)}
    for name in sorted(given):
        if name in REPLACED:
            raise RecipeError(f"`{name}` is not set in a recipe. Use {REPLACED[name]}.")
        if not {name, name.removeprefix("no_")} & {*fields, "help"}:
            close = difflib.get_close_matches(name, fields, n=1)
            hint = f" Did you mean `{close[0]}`?" if close else " `--help` lists all."
            if name in CONFIG_FIELDS:
                hint = f" It is one of the configuration: write `config_overrides: {{{name}: ...}}`."
            raise RecipeError(f"There is no recipe field `{name}`.{hint}")
