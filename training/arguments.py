"""
The fields of a recipe.

Three dataclasses, read from one YAML file and from `--field value` on the command line, which wins. Where the
`Seq2SeqTrainingArguments` of transformers have a field, its name is used; the defaults here are the paper's.
"""

import dataclasses
import difflib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from sacrebleu.metrics import BLEU
from transformers import HfArgumentParser, Seq2SeqTrainingArguments

from vanilla_transformer.configuration_vanilla_transformer import PRESETS, VanillaTransformerConfig

BLEU_TOKENIZERS = tuple(sorted(BLEU.TOKENIZERS))
CONFIG_FIELDS = {f.name for f in dataclasses.fields(VanillaTransformerConfig)} | {
    *VanillaTransformerConfig.attribute_map
}


class RecipeError(ValueError):
    """A recipe, a file or a setting that cannot work, in words for the person who wrote it."""


@dataclass
class ModelArguments:
    """What is trained."""

    preset: str = field(default="base", metadata={"help": f"One of: {', '.join(PRESETS)}."})
    dropout: float | None = field(default=None, metadata={"help": "P_drop; the preset's if absent."})
    label_smoothing: float | None = field(default=None, metadata={"help": "ε_ls (§5.4); 0.1 if absent."})
    config_overrides: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Other fields of VanillaTransformerConfig, such as {norm_first: true}."}
    )
    tokenizer: str | None = field(
        default=None, metadata={"help": "Folder of a tokenizer to use. Without it a joint one is learned."}
    )
    vocab_size: int = field(default=37000, metadata={"help": "Entries of the vocabulary to learn (§5.1)."})

    def __post_init__(self) -> None:
        """Check the preset's name and read overrides that come as JSON from the command line."""
        if self.preset not in PRESETS:
            raise RecipeError(f"`preset` is {self.preset!r}. Choose one of: {', '.join(PRESETS)}.")
        overrides: Any = self.config_overrides or {}
        if isinstance(overrides, str):
            try:
                overrides = yaml.safe_load(overrides)
            except yaml.YAMLError:
                overrides = None
        if not isinstance(overrides, dict):
            raise RecipeError(
                f"`config_overrides` is {self.config_overrides!r}. Write fields and values, "
                "such as '{norm_first: true}'."
            )
        for name in overrides:
            if name not in CONFIG_FIELDS:
                close = difflib.get_close_matches(name, CONFIG_FIELDS, n=1)
                hint = f" Did you mean `{close[0]}`?" if close else ""
                raise RecipeError(f"`config_overrides` has `{name}`, which is no field of the configuration.{hint}")
        self.config_overrides = overrides

    def config_fields(self) -> dict[str, Any]:
        """What the recipe changes in the preset."""
        named = {"dropout": self.dropout, "label_smoothing": self.label_smoothing}
        given = {name: value for name, value in named.items() if value is not None}
        return {**given, **self.config_overrides} if isinstance(self.config_overrides, dict) else given


@dataclass
class DataArguments:
    """What it is trained on: two aligned text files, or one JSONL or TSV file, or a corpus of this project."""

    source: str | None = field(default=None, metadata={"help": "Source text, a sentence a line, UTF-8."})
    target: str | None = field(default=None, metadata={"help": "Its translation, line by line."})
    validation_source: str | None = field(default=None, metadata={"help": "Source text for evaluation in training."})
    validation_target: str | None = field(default=None, metadata={"help": "Its translation."})
    test_source: str | None = field(default=None, metadata={"help": "Source text for the score at the end."})
    test_target: str | None = field(default=None, metadata={"help": "Its translation."})
    train_file: str | None = field(default=None, metadata={"help": "Both sides in one .jsonl or .tsv file."})
    validation_file: str | None = field(default=None, metadata={"help": "The same for evaluation in training."})
    test_file: str | None = field(default=None, metadata={"help": "The same for the score at the end."})
    source_column: str = field(default="source", metadata={"help": "Column or key of the source in such a file."})
    target_column: str = field(default="target", metadata={"help": "Column or key of the target in such a file."})
    corpus: str | None = field(default=None, metadata={"help": "'phrasebook': the corpus that comes with the demo."})
    source_lang: str | None = field(default=None, metadata={"help": "Language code for the model card, such as en."})
    target_lang: str | None = field(default=None, metadata={"help": "Language code for the model card, such as es."})
    dataset_name: str | None = field(default=None, metadata={"help": "Name of the data for the model card."})


@dataclass
class TrainingArguments(Seq2SeqTrainingArguments):
    """How it is trained: transformers' arguments with the paper's defaults, and what the paper needs besides."""

    output_dir: str = field(default="", metadata={"help": "Where the model and its checkpoints go."})
    tokens_per_step: int = field(
        default=25000,
        metadata={"help": "Source tokens, and as many target tokens, in one optimizer step (§5.1), padding included."},
    )
    tokens_per_device: int | None = field(
        default=None,
        metadata={"help": "What of them fits on a device at once; the rest is accumulated. All of them if absent."},
    )
    noam: bool = field(
        default=True,
        metadata={"help": "The paper's schedule (§5.3). If false, `lr_scheduler_type` and `learning_rate` hold."},
    )
    noam_scale: float = field(default=1.0, metadata={"help": "Factor on the paper's learning rates."})
    warmup_steps: float = field(default=4000, metadata={"help": "Steps of rising learning rate (§5.3)."})
    adam_beta2: float = field(default=0.98, metadata={"help": "β2 of Adam (§5.3)."})
    adam_epsilon: float = field(default=1e-9, metadata={"help": "ε of Adam (§5.3)."})
    max_grad_norm: float = field(default=0.0, metadata={"help": "Norm to clip gradients to; the paper does not."})
    average_checkpoints: int | None = field(
        default=None,
        metadata={"help": "The result is the mean of so many last checkpoints: 20 for big, 5 for all others (§6.1)."},
    )
    predict_with_generate: bool = field(default=True, metadata={"help": "Measure BLEU by decoding in evaluation."})
    bleu_tokenize: str = field(
        default="13a", metadata={"help": "sacreBLEU's tokenizer; 'none' for text that is tokenized already."}
    )
    run_on: str = field(default="auto", metadata={"help": "auto, cpu, cuda or mps. auto takes what is there."})
    num_threads: int | None = field(default=None, metadata={"help": "At most so many threads on CPU."})
    overwrite_output_dir: bool = field(
        default=False, metadata={"help": "Whether to delete the checkpoints of an earlier run in `output_dir`."}
    )
    report_to: str | None = field(default="tensorboard", metadata={"help": "Where logs go besides the screen."})
    logging_steps: float = field(default=100, metadata={"help": "Steps from one log line to the next."})
    disable_tqdm: bool | None = field(default=False, metadata={"help": "Whether to hide progress bars."})

    def __post_init__(self) -> None:
        if not self.output_dir:
            raise RecipeError("`output_dir` is missing. Name the folder for the model and its checkpoints.")
        if self.label_smoothing_factor:
            raise RecipeError(
                f"`label_smoothing_factor` is {self.label_smoothing_factor}. Use `label_smoothing`: the model makes "
                "the smoothed loss itself, without the full logits that Trainer's smoother needs."
            )
        if self.run_on not in ("auto", "cpu", "cuda", "mps"):
            raise RecipeError(f"`run_on` is {self.run_on!r}. Choose auto, cpu, cuda or mps.")
        for name in ("tokens_per_step", "tokens_per_device", "average_checkpoints", "num_threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise RecipeError(f"`{name}` is {value}. Give at least 1.")
        if self.bleu_tokenize not in BLEU_TOKENIZERS:
            raise RecipeError(f"`bleu_tokenize` is {self.bleu_tokenize!r}. Choose one of: {BLEU_TOKENIZERS}.")
        if self.noam and self.warmup_steps < 1:
            raise RecipeError(
                f"`warmup_steps` is {self.warmup_steps}. The paper's schedule counts whole steps: give at least 1."
            )
        if self.max_steps == 0:
            raise RecipeError("`max_steps` is 0. Give the number of steps, or leave it out for `num_train_epochs`.")
        # Pairs are read by name from the data set, and batches are made here.
        self.remove_unused_columns = False
        self.use_cpu = self._runs_on_cpu()
        self.ddp_find_unused_parameters = False  # every parameter has a gradient in every step
        super().__post_init__()

    def _runs_on_cpu(self) -> bool:
        """Whether to use the CPU. Left to itself, Trainer starts no process group where there is no accelerator."""
        available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        if self.run_on == "auto":
            return not (available["cuda"] or available["mps"])
        if not available[self.run_on]:
            raise RecipeError(f"`run_on` is {self.run_on} and torch finds no such device. Use auto or cpu.")
        return self.run_on == "cpu"


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
    "load_best_model_at_end": "`average_checkpoints`: the result is a mean of the last ones",
    "train_sampling_strategy": "nothing: sentences of similar length stand together",
    "sortish_sampler": "nothing: sentences of similar length stand together",
    "dataloader_drop_last": "nothing: no sentence is dropped",
    "auto_find_batch_size": "`tokens_per_device`",
    "eval_accumulation_steps": "nothing: evaluation keeps texts and sums alone",
}


def parse_recipe(arguments: list[str]) -> tuple[ModelArguments, DataArguments, TrainingArguments]:
    """
    Read `RECIPE.yaml [--field value ...]`.

    Args:
        arguments: the command line without the program's name. The recipe may be left out.

    Raises:
        RecipeError: for a file that is not there or not YAML, and for a field that does not exist or does not fit.
    """
    settings: dict[str, Any] = {}
    if arguments and not arguments[0].startswith("--"):
        settings = read_recipe(Path(arguments[0]))
        arguments = arguments[1:]
    given = set(settings) | {word[2:].split("=")[0].replace("-", "_") for word in arguments if word.startswith("--")}
    check_fields(given)

    words: list[str] = []
    for name, value in settings.items():
        if value is None:
            continue
        values = value if isinstance(value, list) else [value]
        words += [f"--{name}", *(json.dumps(v) if isinstance(v, dict) else str(v) for v in values)]
    parser = HfArgumentParser(
        ARGUMENT_CLASSES, prog="python -m training.train", usage="%(prog)s RECIPE.yaml [--field value ...]"
    )
    try:
        model_arguments, data_arguments, training_arguments = parser.parse_args_into_dataclasses(words + arguments)
    except RecipeError:
        raise
    except ValueError as error:  # what transformers' own checks say, among them of words that belong to no field
        raise RecipeError(str(error)) from error
    if training_arguments.noam and "learning_rate" in given:
        raise RecipeError(
            "`learning_rate` has no effect beside the paper's schedule. Use `noam_scale`, or set `noam: false`."
        )
    if training_arguments.average_checkpoints is None:
        training_arguments.average_checkpoints = 20 if model_arguments.preset == "big" else 5
    averaged, kept = training_arguments.average_checkpoints, training_arguments.save_total_limit
    if kept is not None and kept < averaged:
        raise RecipeError(
            f"`save_total_limit` is {kept} and `average_checkpoints` {averaged}: checkpoints would be deleted before "
            "they are averaged. Raise the one or lower the other."
        )
    return model_arguments, data_arguments, training_arguments


def read_recipe(path: Path) -> dict[str, Any]:
    """The fields of one YAML file."""
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"Recipe {path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"Recipe {path} is not YAML: {error}") from error
    if not isinstance(settings, dict):
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
