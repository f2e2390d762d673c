"""
From a YAML file and the command line, which wins, to one frozen recipe.

`null` leaves a field unset, in a recipe, and on the command line whatever the recipe says. Text that the command line
names takes the place of text that the recipe names for the same by other fields.

A recipe may leave fields to the size of the corpus, by a table under `by_corpus_size`, and name under `needs` those
that the command line has to give.
"""

import dataclasses
import json
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import yaml
from transformers import HfArgumentParser

from training.recipe.augmentation import read_mapping, read_shares
from training.recipe.check import TOKENIZER_FIELDS, find_faults_of_values
from training.recipe.corpus_size import ROW_NOTES, choose_row, find_faults_of_table
from training.recipe.fields import FREE_FIELDS, DataFields, ModelFields, TrainingFields
from training.recipe.help import describe_fields
from training.recipe.kinds import find_fault_of_words, find_kinds
from training.recipe.names import FIELD_CLASSES, find_faults_of_names, find_faults_of_task, find_meant_fields, is_field
from training.recipe.ranges import Value
from training.recipe.reading import read_yaml
from training.recipe.refusal import Faults
from training.recipe.replay import read_replay
from training.recipe.sources import read_sources
from vanilla_transformer.errors import RecipeError

T = TypeVar("T")

# Words that leave a field unset, as in YAML.
NULLS = ("null", "Null", "NULL", "~", "")

DATASET = ("dataset_name", "dataset_config_name", "train_split", "validation_split", "test_split")
FILES = ("source", "target", "validation_source", "validation_target", "test_source", "test_target")
# Fields that the command line may give, and those of a recipe that then give way, as the two contradict each other. A
# corpus is added to files, and stays.
GIVE_WAY: dict[str, tuple[str, ...]] = {
    "source": ("train_file", "sources", *DATASET),
    "target": ("train_file", "sources", *DATASET),
    "train_file": ("source", "target", "sources", *DATASET),
    "sources": ("source", "target", "train_file", *DATASET),
    "corpus": DATASET,
    "dataset_name": (*FILES, "sources", "train_file", "validation_file", "test_file", "corpus", *DATASET),
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


@dataclass(frozen=True)
class Recipe:
    """
    A recipe as it is run.

    Attributes:
        model, data, training: its fields.
        others: more fields of transformers' arguments, by their names.
        given: names of the fields that the recipe or the command line sets to a value, by the table of sizes or
            without.
        has_table: whether fields depend on the size of the corpus.
        row: the fields of that table's row that are in force.
    """

    model: ModelFields
    data: DataFields
    training: TrainingFields
    others: Mapping[str, object]
    given: frozenset[str]
    has_table: bool
    row: Mapping[str, Value]


@dataclass(frozen=True)
class Settings:
    """
    The values of a file, a row of its table and a command line, before they have a type.

    Attributes:
        values: of the file and the row.
        words: of each option of the command line, its own first.
        has_table, row: as in `Recipe`.
    """

    values: Mapping[str, Value]
    words: Mapping[str, tuple[str, ...]]
    has_table: bool
    row: Mapping[str, Value]

    @property
    def on_command_line(self) -> frozenset[str]:
        """The names of the fields that the command line sets."""
        return frozenset(self.words)

    @property
    def given(self) -> frozenset[str]:
        return frozenset({*self.values, *self.on_command_line})


def parse_recipe(arguments: list[str], pairs: int | None = None) -> Recipe:
    """
    Read `RECIPE.yaml [--field value ...]`.

    Args:
        arguments: the command line without the program's name. The recipe may be left out.
        pairs: the size of the training text, which chooses a row of the recipe's table `by_corpus_size`; its fields
            hold where neither the recipe nor the command line says otherwise. Unknown, it is the last row.

    Raises:
        RecipeError: for a file that is not there or not YAML, and for fields that do not exist or do not fit; all of
            them are named.
    """
    if {"-h", "--help"} & set(arguments):
        print(describe_fields())
        raise SystemExit(0)
    faults = Faults()
    settings = merge(["--help" if word == "--help_all" else word for word in arguments], pairs, faults)
    (model, data, training), others = read_fields(settings, faults)
    if training.average_checkpoints is None:
        training = dataclasses.replace(training, average_checkpoints=20 if model.preset == "big" else 5)
    # Where the command line chooses another schedule than the recipe, the recipe's fields for its own are idle.
    chosen = settings.on_command_line if {"noam", "no_noam"} & settings.on_command_line else settings.given
    find_faults_of_values(model, data, training, chosen, settings.given, faults)
    find_faults_of_task(model.task, settings.given, faults)
    faults.refuse()
    return Recipe(model, data, training, vars(others), settings.given, settings.has_table, settings.row)


def merge(arguments: list[str], pairs: int | None, faults: Faults) -> Settings:
    """
    Read the file, choose the row of its table, and let the command line win.

    Args:
        arguments, pairs: as for `parse_recipe`.
        faults: takes the faults of names and of the table.

    Returns:
        `Settings`: the settings of fields that exist.
    """
    settings: dict[str, Value] = {}
    if arguments and not arguments[0].startswith("-"):
        settings = read_recipe(Path(arguments[0]))
        arguments = arguments[1:]
    table, needs = settings.pop("by_corpus_size", None), settings.pop("needs", None) or []
    needed = [str(name) for name in needs] if isinstance(needs, list) else [str(needs)]
    options = group_words(arguments)
    stray = options.pop("", [])
    for word in stray:
        faults.add(f"{word!r} belongs to no field. Write --field value after the recipe.")
    faults_of_table = find_faults_of_table(table) if table is not None else []
    for fault in (*find_faults_of_names({*settings, *options, *needed}), *faults_of_table):
        faults.add(fault)
    faults.wrong |= find_meant_fields({*settings, *options})
    row = choose_row(table, pairs) if table is not None and not faults_of_table else {}
    settings = {name: value for name, value in settings.items() if is_field(name)}
    options = {name: words for name, words in options.items() if is_field(name)}

    unset = {name for name, words in options.items() if is_null(words)}
    on_command_line = set(options) - unset
    giving_way = unset | {other for name in on_command_line for other in GIVE_WAY.get(name, ())}
    giving_way |= {other for name in unset for other in UNSET_WITH.get(name, ())}
    row = {name: value for name, value in row.items() if name not in {*settings, *giving_way}}
    settings = {name: value for name, value in settings.items() if value is not None and name not in giving_way}
    from_model = new_model_fields({name for name, value in settings.items() if value} | on_command_line)
    idle = new_model_fields(on_command_line)  # in a recipe for new models, which says what they are
    settings = {name: value for name, value in settings.items() if name not in idle}
    if "init_from" in on_command_line:
        overrides = settings.get("config_overrides")
        if isinstance(overrides, dict):
            settings["config_overrides"] = {name: overrides[name] for name in overrides if name in FREE_FIELDS}
    row = {name: value for name, value in row.items() if name not in {*on_command_line, *from_model}}
    fields = {name: value for name, value in row.items() if name not in ROW_NOTES and value is not None}
    given = {*fields, *settings, *on_command_line}
    for name in needed:
        if is_field(name) and name not in given:
            faults.add(
                f"`{name}` is missing, which this recipe needs. Give it on the command line: --{name} ...", name
            )
    words = {name: tuple(each) for name, each in options.items() if name in on_command_line}
    return Settings({**fields, **settings}, words, table is not None, row)


def read_fields(settings: Settings, faults: Faults) -> tuple[tuple[ModelFields, DataFields, TrainingFields], object]:
    """
    Give every value the type of its field.

    Args:
        settings: the values.
        faults: takes the faults of values that are left out.

    Returns:
        `tuple`: the fields of this program, and those of transformers.
    """
    parser = HfArgumentParser(
        FIELD_CLASSES,  # type: ignore[arg-type]
        prog="python -m training.train",
        usage="%(prog)s RECIPE.yaml [--field value ...]",
        exit_on_error=False,
    )
    if "help" in settings.on_command_line:
        parser.parse_args(["--help"])
    types = {name: kind for part in FIELD_CLASSES for name, kind in typing.get_type_hints(part).items()}
    words: list[str] = []
    for name, value in settings.values.items():
        if name in settings.on_command_line:
            continue
        written = write_words(name, value, types[name])
        fault = find_fault_of_words(parser, written, types[name], value)
        if fault is None:
            words += written
        else:
            faults.add_wrong(name, fault)
    for name, given in settings.words.items():
        fault = find_fault_of_words(parser, list(given), types[name.removeprefix("no_")], None)
        if fault is None:
            words += given
        else:
            faults.add_wrong(name.removeprefix("no_"), fault)
    model, data, training, others = parser.parse_args_into_dataclasses(words)

    def read(name: str, reader: Callable[..., T], value: Value, *more: str) -> T | None:
        try:
            return reader(value, *more)
        except RecipeError as error:
            faults.add_wrong(name, str(error))
            return None

    overrides = read(
        "config_overrides", read_mapping, model.config_overrides, "config_overrides", "{norm_first: true}"
    )
    stop = training.early_stopping and training.early_stopping.lower()  # "True" of YAML's true
    sets = read("test_sets", read_mapping, data.test_sets, "test_sets", "{news: [news.en, news.de]}")
    replay = read("replay", read_replay, data.replay)
    sources = read("sources", read_sources, data.sources)
    shares = read("augmentation", read_shares, training.augmentation)
    fields = (
        dataclasses.replace(model, config_overrides=overrides),
        dataclasses.replace(data, test_sets=sets, replay=replay, sources=sources),
        dataclasses.replace(training, augmentation=shares, early_stopping=stop),
    )
    return fields, others


def write_words(name: str, value: Value, annotation: object) -> list[str]:
    """Write a value of a file as on the command line."""
    # `early_stopping` and `resume_from_checkpoint` have true and false beside other words.
    is_switch = bool in find_kinds(annotation) or name in ("resume_from_checkpoint", "early_stopping")
    if value is False and not is_switch:
        value = "no"  # as it was written: YAML takes it for false
    if isinstance(value, list) and not any(isinstance(each, dict) for each in value):
        return [f"--{name}", *map(str, value)]
    # In one word: it may begin with a dash.
    return [f"--{name}={json.dumps(value) if isinstance(value, dict | list) else value}"]


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


def new_model_fields(given: set[str]) -> tuple[str, ...]:
    """Fields that say what a new model or its tokenizer is, where one is given that was made before."""
    if "init_from" in given:
        return ("preset", *TOKENIZER_FIELDS)
    return TOKENIZER_FIELDS if "tokenizer" in given else ()


def read_recipe(path: Path) -> dict[str, Value]:
    """The fields of one YAML file."""
    try:
        settings = read_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(
            f"Recipe {path} cannot be read: {error.strerror}. Check its path and permissions."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"Recipe {path} is not YAML: {error}") from error
    if not isinstance(settings, dict) or not all(isinstance(name, str) for name in settings):
        raise RecipeError(f"Recipe {path} holds no fields. Write lines such as `preset: base`.")
    return settings
