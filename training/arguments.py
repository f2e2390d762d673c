"""
The fields of a recipe, in three dataclasses.

Where the `Seq2SeqTrainingArguments` of transformers have a field, its name is used; the defaults here are the paper's.
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import yaml
from transformers import Seq2SeqTrainingArguments
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK, get_available_reporting_integrations
from transformers.trainer_utils import HubStrategy

from training.everyday import CASES, DEFAULT_SHARES
from training.metrics.translation import bleu_metric, check_samples
from vanilla_transformer.configuration_vanilla_transformer import PRESETS, VanillaTransformerConfig
from vanilla_transformer.generation_vanilla_transformer import LENGTH_PENALTY_TYPES
from vanilla_transformer.model_card import ModelCardError, check_language, check_license

CONFIG_FIELDS = {f.name for f in dataclasses.fields(VanillaTransformerConfig)} | {
    *VanillaTransformerConfig.attribute_map
}


# Of the configuration: fields that have no weights, and so may change in a trained model.
FREE_FIELDS = ("dropout", "attention_dropout", "activation_dropout", "classifier_dropout", "label_smoothing")


class RecipeError(ValueError):
    """A recipe, a file or a setting that cannot work, in words for the person who wrote it."""


def read_mapping(value: Any, name: str, example: str) -> dict[str, Any]:
    """A field of names and values, which the command line gives as YAML."""
    mapping: Any = value or {}
    if isinstance(mapping, str):
        try:
            mapping = yaml.safe_load(mapping)
        except yaml.YAMLError:
            mapping = None
    if not isinstance(mapping, dict):
        raise RecipeError(f"`{name}` is {value!r}. Write names and values, such as '{example}'.")
    return mapping


def read_shares(value: Any) -> dict[str, float]:
    """The shares of `augmentation`, complete; empty where it is off."""
    if str(value).lower() in ("none", "false"):
        return {}
    if str(value).lower() == "true":
        return dict(DEFAULT_SHARES)
    example = f"{{{', '.join(f'{name}: {share}' for name, share in DEFAULT_SHARES.items())}}}"
    shares = read_mapping(value, "augmentation", example)
    for name, share in shares.items():
        if name not in DEFAULT_SHARES:
            raise RecipeError(f"`augmentation` has `{name}`. Give shares of: {', '.join(DEFAULT_SHARES)}.")
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share <= 1:
            raise RecipeError(f"`augmentation` has `{name}` {share!r}. Give a share: a number from 0 to 1.")
    complete = {name: float(shares.get(name, 0)) for name in DEFAULT_SHARES}
    of_case = sum(complete[name] for name in CASES)
    if of_case > 1:
        raise RecipeError(f"`augmentation` has {of_case:g} for {', '.join(CASES)} together. Give 1 at most.")
    return complete if any(complete.values()) else {}


@dataclass
class ModelArguments:
    """What is trained."""

    task: str = field(
        default="translation",
        metadata={
            "help": "translation, summarization, text-classification (also of pairs, such as inference), "
            "question-answering, fill-mask or text-generation."
        },
    )
    init_from: str | None = field(
        default=None,
        metadata={
            "help": "Folder, or repository on the Hub, of a model of any task to start from, with its tokenizer."
        },
    )
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
    min_frequency: int = field(
        default=2, metadata={"help": "How often a pair must stand in the text to become an entry of the vocabulary."}
    )

    def __post_init__(self) -> None:
        """Check the figures and read overrides that come as YAML from the command line."""
        if self.min_frequency < 1:
            raise RecipeError(f"`min_frequency` is {self.min_frequency}. Give at least 1.")
        if self.preset not in PRESETS:
            raise RecipeError(f"`preset` is {self.preset!r}. Choose one of: {', '.join(PRESETS)}.")
        overrides = read_mapping(self.config_overrides, "config_overrides", "{norm_first: true}")
        for name in overrides:
            if name == "vocab_size":
                raise RecipeError("`config_overrides` has `vocab_size`. It is a field of the recipe: write it beside.")
            if name not in CONFIG_FIELDS:
                hint = VanillaTransformerConfig.nearest_field(name)
                raise RecipeError(f"`config_overrides` has `{name}`, but the configuration has no such field.{hint}")
        self.config_overrides = overrides

    def config_fields(self) -> dict[str, Any]:
        """What the recipe changes in the preset."""
        named = {"dropout": self.dropout, "label_smoothing": self.label_smoothing}
        given = {name: value for name, value in named.items() if value is not None}
        return {**given, **self.config_overrides} if isinstance(self.config_overrides, dict) else given


@dataclass
class DataArguments:
    """
    What it is trained on. For translation and summarization: two aligned text files, or one file with columns, or a
    data set, or this project's corpus. For other tasks: a file, or a data set.
    """

    source: str | None = field(default=None, metadata={"help": "Source text, a sentence a line, UTF-8; .gz is read."})
    target: str | None = field(default=None, metadata={"help": "Its translation, line by line."})
    validation_source: str | None = field(default=None, metadata={"help": "Source text for evaluation in training."})
    validation_target: str | None = field(default=None, metadata={"help": "Its translation."})
    test_source: str | None = field(default=None, metadata={"help": "Source text for the score at the end."})
    test_target: str | None = field(default=None, metadata={"help": "Its translation."})
    train_file: str | None = field(
        default=None,
        metadata={
            "help": "Both sides, or texts with labels, in one .jsonl, .csv or .tsv file; for question-answering JSON "
            "as SQuAD has it; for fill-mask and text-generation a text a line, or a column."
        },
    )
    validation_file: str | None = field(default=None, metadata={"help": "The same for evaluation in training."})
    test_file: str | None = field(default=None, metadata={"help": "The same for the score at the end."})
    source_column: str = field(default="source", metadata={"help": "Column or key of the source in such a file."})
    target_column: str = field(default="target", metadata={"help": "Column or key of the target in such a file."})
    text_columns: list[str] | None = field(
        default=None,
        metadata={
            "help": "Column of the text where there are columns: sentence if absent, or two to classify pairs, such "
            "as premise hypothesis; for fill-mask and text-generation text."
        },
    )
    label_column: str = field(
        default="label",
        metadata={"help": "text-classification: column of the label; rows with '-', or of pairs -1, have none."},
    )
    turn_separator: str | None = field(
        default=None,
        metadata={"help": "fill-mask and text-generation: what stands between the turns of a dialogue in its line."},
    )
    stride: int = field(
        default=128, metadata={"help": "question-answering: tokens of the context that a window shares with the next."}
    )
    dataset_name: str | None = field(
        default=None, metadata={"help": "Data set on the Hub, or its folder, with what the task needs in columns."}
    )
    dataset_config_name: str | None = field(default=None, metadata={"help": "Which of its configurations."})
    train_split: str | None = field(
        default=None, metadata={"help": "Its split for training, such as train[:90%%]; train if absent."}
    )
    validation_split: str | None = field(
        default=None, metadata={"help": "Its split for evaluation in training; validation if absent, and there."}
    )
    test_split: str | None = field(
        default=None, metadata={"help": "Its split for the score at the end; test if absent, and there."}
    )
    corpus: str | None = field(
        default=None,
        metadata={"help": "'phrasebook': the corpus that comes with the demo; beside files, it is added to them."},
    )
    source_lang: str | None = field(default=None, metadata={"help": "Language code for the model card, such as en."})
    target_lang: str | None = field(
        default=None, metadata={"help": "Language code, such as es, for the model card and the scores."}
    )
    data_description: str | None = field(default=None, metadata={"help": "What the data is, for the model card."})
    limits: str | None = field(default=None, metadata={"help": "What the model cannot do, for the model card."})
    license: str | None = field(default=None, metadata={"help": "Licence of the model, for the model card."})
    example: str | None = field(
        default=None,
        metadata={"help": "A source sentence for the model card; a short one of the training text if absent."},
    )
    test_sets: dict[str, Any] | str | None = field(
        default=None,
        metadata={"help": "More texts to score, such as {news: [news.en, news.de]}, or {news: news.tsv}."},
    )
    hold_out: int = field(
        default=0,
        metadata={"help": "Without validation text: pairs to hold out of training for it, at most 2%%. 0 is none."},
    )
    check_alignment: bool = field(
        default=True,
        metadata={"help": "Whether to refuse text in which a side is some lines behind the other, or the same."},
    )
    drop_duplicates: bool = field(default=False, metadata={"help": "Whether to keep each training pair once."})
    max_length: int | None = field(
        default=None,
        metadata={
            "help": "Tokens: longer training pairs are left out, longer texts to classify cut; windows of a context "
            "(384 if absent) and blocks of a language model (256) have so many."
        },
    )
    max_length_ratio: float | None = field(
        default=None, metadata={"help": "Leave out training pairs with lengths so many times off the usual ratio."}
    )
    report_only: bool = field(default=False, metadata={"help": "Describe the training text, and train nothing."})
    preprocessing_num_workers: int | None = field(
        default=None, metadata={"help": "Processes that encode the text; as many as there are cores if absent."}
    )

    def __post_init__(self) -> None:
        """Check the figures and read sets that come as YAML from the command line."""
        try:
            if self.license is not None:
                check_license(self.license)
            for name in ("source_lang", "target_lang"):
                if getattr(self, name) is not None:
                    check_language(getattr(self, name), name)
        except ModelCardError as error:
            raise RecipeError(str(error)) from error
        if self.text_columns is not None and not 1 <= len(self.text_columns) <= 2:
            raise RecipeError(f"`text_columns` is {self.text_columns}. Name one column, or two.")
        if self.stride < 0:
            raise RecipeError(f"`stride` is {self.stride}. Give 0 or more, such as 128.")
        if self.hold_out < 0:
            raise RecipeError(f"`hold_out` is {self.hold_out}. Give a number of pairs, or 0 for none.")
        if self.max_length is not None and self.max_length < 1:
            raise RecipeError(f"`max_length` is {self.max_length}. Give at least 1, or null to leave it unset.")
        if self.max_length_ratio is not None and not 1 < self.max_length_ratio < math.inf:
            raise RecipeError(
                f"`max_length_ratio` is {self.max_length_ratio}. Give more than 1, such as 3, or null to leave it "
                "unset."
            )
        if self.preprocessing_num_workers is not None and self.preprocessing_num_workers < 1:
            raise RecipeError(
                f"`preprocessing_num_workers` is {self.preprocessing_num_workers}. Give at least 1, or null to leave "
                "it unset."
            )
        sets = read_mapping(self.test_sets, "test_sets", "{news: [news.en, news.de]}")
        for name, files in sets.items():
            several = isinstance(files, list) and all(isinstance(file, str) for file in files)
            if not (several or isinstance(files, str)):
                raise RecipeError(f"`test_sets` has {files!r} under {name!r}. Name a file, or two: [source, target].")
            if name in ("train", "validation", "test", "eval", "mean"):
                raise RecipeError(f"`test_sets` has the name {name!r}, which is taken. Choose another.")
        self.test_sets = sets

    def named_test_sets(self) -> dict[str, tuple[str, ...]]:
        """Name -> its file, or its source file and its target file."""
        sets = self.test_sets if isinstance(self.test_sets, dict) else {}
        return {name: (files,) if isinstance(files, str) else tuple(files) for name, files in sets.items()}


# Fields that are numbers, which of these they can be, and what to say of the others.
RANGES: tuple[tuple[tuple[str, ...], Callable[[float], bool], str], ...] = (
    (
        (
            "tokens_per_step",
            "tokens_per_device",
            "average_checkpoints",
            "num_threads",
            "patience",
            "generation_num_beams",
        ),
        lambda value: value >= 1,
        "Give at least 1",
    ),
    (
        ("noam_scale", "logging_steps", "save_steps", "eval_steps"),
        lambda value: 0 < value < math.inf,
        "Give more than 0",
    ),
    (
        ("learning_rate", "weight_decay", "adam_epsilon", "max_grad_norm", "dataloader_num_workers"),
        lambda value: 0 <= value < math.inf,
        "Give 0 or more",
    ),
    (
        ("adam_beta1", "adam_beta2", "bpe_dropout"),
        lambda value: 0 <= value < 1,
        "Give at least 0 and less than 1",
    ),
)


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
    bpe_dropout: float = field(
        default=0.0,
        metadata={
            "help": "Probability of leaving out a merge in training (BPE-dropout). Its draws have no seed, and "
            "sentences get more tokens than the batches are made by."
        },
    )
    augmentation: dict[str, Any] | str | None = field(
        default=None,
        metadata={
            "help": "Shares of the training pairs that each epoch shows as people type them, other pairs each time: "
            "{upper: 0.06, title: 0.05, lower: 0.1, no_stop: 0.1, copies: 0.15}, which true stands for."
        },
    )
    patience: int | None = field(
        default=None,
        metadata={"help": "Stop after so many evaluations in a row without a better validation NLL than before."},
    )
    predict_with_generate: bool = field(
        default=True, metadata={"help": "Whether evaluations in training decode, for BLEU. The last one always does."}
    )
    length_penalty: float | None = field(
        default=None, metadata={"help": "α of beam search (§6.1), saved with the model; the paper's 0.6 if absent."}
    )
    length_penalty_type: str | None = field(
        default=None,
        metadata={
            "help": "gnmt (§6.1), or power: log P(Y) / |Y|^α. Saved with the model; the paper's gnmt if absent."
        },
    )
    bleu_tokenize: str | None = field(
        default=None,
        metadata={"help": "sacreBLEU's tokenizer, if absent that of `target_lang`; 'none' for tokenized text."},
    )
    compound_bleu: bool = field(
        default=False, metadata={"help": "Whether the scores at the end have the paper's BLEU, compounds taken apart."}
    )
    bootstrap_samples: int = field(
        default=1000, metadata={"help": "Samples for the 95%% intervals of the scores at the end; 0 for none."}
    )
    save_dtype: str = field(
        default="float32",
        metadata={
            "help": "float32 or float16, of the weights in the result's file: float16 halves it, and transformers "
            "reads it as float32. The scores are those of the weights in the file."
        },
    )
    bf16: bool | None = field(
        default=None, metadata={"help": "bfloat16 mixed precision; if absent, where the GPU computes in it."}
    )
    run_on: str = field(default="auto", metadata={"help": "auto, cpu, cuda or mps. auto takes what is there."})
    num_threads: int | None = field(default=None, metadata={"help": "At most so many threads on CPU."})
    hub_strategy: str = field(
        default="end",
        metadata={
            "help": "With `push_to_hub`: end pushes the result, every_save also the model of each checkpoint, "
            "checkpoint and all_checkpoints besides the last or every checkpoint itself."
        },
    )
    hub_native_model_id: str | None = field(
        default=None, metadata={"help": "Repository for the result as a stock MarianMTModel."}
    )
    overwrite_output_dir: bool = field(
        default=False,
        metadata={
            "help": "Whether to delete the checkpoints of an earlier run in `output_dir`, and to write over its model."
        },
    )
    ddp_timeout: int = field(
        default=7200, metadata={"help": "Seconds that processes wait for the first, which encodes a large text."}
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
        if self.save_dtype not in ("float32", "float16"):
            raise RecipeError(f"`save_dtype` is {self.save_dtype!r}. Choose float32 or float16.")
        for names, fits, remedy in RANGES:
            for name in names:
                value = getattr(self, name)
                if value is not None and not fits(value):
                    null = ", or null to leave it unset" if getattr(type(self), name) is None else ""
                    raise RecipeError(f"`{name}` is {value}. {remedy}{null}.")
        for name, check in (("bleu_tokenize", bleu_metric), ("bootstrap_samples", check_samples)):
            if getattr(self, name) is None:
                continue
            try:
                check(getattr(self, name), f"`{name}`")
            except ValueError as error:
                raise RecipeError(str(error)) from error
        if self.length_penalty is not None and not math.isfinite(self.length_penalty):
            raise RecipeError(f"`length_penalty` is {self.length_penalty}. Give a number, such as 0.6.")
        if self.length_penalty_type not in (None, *LENGTH_PENALTY_TYPES):
            raise RecipeError(
                f"`length_penalty_type` is {self.length_penalty_type!r}. Choose {' or '.join(LENGTH_PENALTY_TYPES)}."
            )
        self.augmentation = read_shares(self.augmentation)
        if self.noam and self.warmup_steps < 1:
            raise RecipeError(
                f"`warmup_steps` is {self.warmup_steps}. The paper's schedule counts whole steps: give at least 1."
            )
        for name in ("seed", "data_seed"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 2**32:
                raise RecipeError(f"`{name}` is {value}. Give a number from 0 to 4,294,967,295.")
        if self.hub_strategy not in list(HubStrategy):
            raise RecipeError(f"`hub_strategy` is {self.hub_strategy!r}. Choose one of: {', '.join(HubStrategy)}.")
        if self.hub_native_model_id is not None and not self.push_to_hub:
            raise RecipeError("`hub_native_model_id` has no effect without `push_to_hub: true`.")
        if self.num_train_epochs <= 0:
            raise RecipeError(f"`num_train_epochs` is {self.num_train_epochs}. Give more than 0.")
        if self.max_steps == 0:
            raise RecipeError("`max_steps` is 0. Give the number of steps, or leave it out for `num_train_epochs`.")
        # Pairs are read by name from the data set, and batches are made here.
        self.remove_unused_columns = False
        self.logging_nan_inf_filter = False  # it would look at every loss, and hide what stops the run
        self.use_cpu = self._runs_on_cpu()
        if self.bf16 is None:
            self.bf16 = not (self.use_cpu or self.fp16) and torch.cuda.is_available() and has_native_bf16()
        if self.patience is not None or self.load_best_model_at_end:
            self.metric_for_best_model, self.greater_is_better = "eval_loss", False
        self.ddp_find_unused_parameters = False  # every parameter has a gradient in every step
        super().__post_init__()
        for name in self.report_to or ():
            if name not in INTEGRATION_TO_CALLBACK:
                raise RecipeError(f"`report_to` is {name}. Choose one of: none, {', '.join(INTEGRATION_TO_CALLBACK)}.")
            if name not in {*get_available_reporting_integrations(), "flyte"}:  # which that list leaves out
                raise RecipeError(f"`report_to` is {name}, which is not installed. Install it, or choose another.")

    @property
    def augmentation_shares(self) -> dict[str, float]:
        """All shares of `augmentation`; empty where it is off."""
        return self.augmentation if isinstance(self.augmentation, dict) else {}

    def _runs_on_cpu(self) -> bool:
        """Whether to use the CPU. Left to itself, Trainer starts no process group where there is no accelerator."""
        available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        if self.run_on == "auto":
            return not (available["cuda"] or available["mps"])
        if not available[self.run_on]:
            raise RecipeError(f"`run_on` is {self.run_on} and torch finds no such device. Use auto or cpu.")
        return self.run_on == "cpu"


def has_native_bf16() -> bool:
    """Whether the GPU computes in bfloat16 itself; older ones emulate it, slowly."""
    return torch.cuda.is_bf16_supported(including_emulation=False)
