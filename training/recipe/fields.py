"""
The fields of a recipe, in three frozen dataclasses; what each may be is declared on it.

Where the `Seq2SeqTrainingArguments` of transformers have a field, its name is used; the defaults here are the paper's.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any

from training.recipe.ranges import FINITE, PROBABILITY, SEED, Range, at_least, more_than, one_of, zero_or_more

# Of the model and of transformers, which are not loaded here: `--help` answers at once.
PRESETS = (
    *("tiny", "base", "big", "A-h1", "A-h4", "A-h16", "A-h32", "B-dk16", "B-dk32", "C-N2", "C-N4", "C-N8"),
    *("C-d256", "C-d1024", "C-ff1024", "C-ff4096"),
    *("D-dropout0.0", "D-dropout0.2", "D-smoothing0.0", "D-smoothing0.2", "E-learned"),
)
LENGTH_PENALTY_TYPES = ("gnmt", "power")
EARLY_STOPPING = {"true": True, "false": False, "never": "never"}  # as in transformers
HUB_STRATEGIES = ("end", "every_save", "checkpoint", "all_checkpoints")
# Of the configuration: fields that have no weights, and so may change in a trained model.
FREE_FIELDS = ("dropout", "attention_dropout", "activation_dropout", "classifier_dropout", "label_smoothing")


@dataclass(frozen=True)
class ModelFields:
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
    preset: Annotated[str, one_of(*PRESETS)] = field(
        default="base", metadata={"help": f"One of: {', '.join(PRESETS)}."}
    )
    dropout: float | None = field(default=None, metadata={"help": "P_drop; the preset's if absent."})
    label_smoothing: float | None = field(default=None, metadata={"help": "ε_ls (§5.4); 0.1 if absent."})
    config_overrides: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Other fields of VanillaTransformerConfig, such as {norm_first: true}."}
    )
    tokenizer: str | None = field(
        default=None, metadata={"help": "Folder of a tokenizer to use. Without it a joint one is learned."}
    )
    vocab_size: int = field(default=37000, metadata={"help": "Entries of the vocabulary to learn (§5.1)."})
    min_frequency: Annotated[int, at_least(1)] = field(
        default=2,
        metadata={
            "help": "How often a pair must stand in the text to become an entry of the vocabulary.",
        },
    )
    split_at_spaces: bool = field(
        default=False,
        metadata={
            "help": "Whether the vocabulary's words end at spaces only, for text that is tokenized already; else at "
            "punctuation and digits too."
        },
    )

    def config_fields(self) -> dict[str, Any]:
        """What the recipe changes in the preset."""
        named = {"dropout": self.dropout, "label_smoothing": self.label_smoothing}
        given = {name: value for name, value in named.items() if value is not None}
        return {**given, **self.config_overrides} if isinstance(self.config_overrides, dict) else given


@dataclass(frozen=True)
class Replay:
    """
    What of old text is mixed in.

    Attributes:
        source, target: two files of old text; without the target the model's own translations of the source.
        file: one file with both sides, in their place.
        share: of the training pairs that are old.
        hold_out: old pairs, at most, that are not trained on: validation looks at them too.
    """

    source: str | None = None
    target: str | None = None
    file: str | None = None
    share: float = 0.5
    hold_out: int = 500

    @property
    def is_synthetic(self) -> bool:
        """Whether the model translates the source by itself."""
        return self.file is None and self.target is None

    def count(self, pairs: int) -> int:
        """The old pairs that make the share beside so many new ones."""
        return max(1, round(pairs * self.share / (1 - self.share)))


@dataclass(frozen=True)
class DataFields:
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
            "help": "Both sides, or texts with labels, in one .jsonl, .csv or .tsv file, or both sides in a .tmx or "
            ".xliff file; for question-answering JSON as SQuAD has it; for fill-mask and text-generation a text a "
            "line, or a column."
        },
    )
    validation_file: str | None = field(default=None, metadata={"help": "The same for evaluation in training."})
    test_file: str | None = field(default=None, metadata={"help": "The same for the score at the end."})
    source_column: str = field(
        default="source",
        metadata={"help": "Column or key of the source in such a file; 1 for the first of a table without a header."},
    )
    target_column: str = field(
        default="target",
        metadata={"help": "Column or key of the target in such a file; its number where there is no header."},
    )
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
    stride: Annotated[int, zero_or_more(", such as 128")] = field(
        default=128,
        metadata={
            "help": "question-answering: tokens of the context that a window shares with the next.",
        },
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
    corrections: str | None = field(
        default=None,
        metadata={
            "help": "A .tsv, .csv or .tmx file of corrected translations to learn, with or without a header; beside "
            "other training text it is added to that. Without validation text they are the validation text."
        },
    )
    replay: dict[str, Any] | str | None = field(
        default=None,
        metadata={
            "help": "Old text to mix into a fine-tuning: {source: old.en, target: old.es, share: 0.5}, or {file: "
            "old.tmx}; without `target` the model's own translations of the source. `hold_out` (500) of the old pairs "
            "are for validation."
        },
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
    hold_out: Annotated[int, Range(lambda value: value >= 0, "Give a number of pairs, or 0 for none")] = field(
        default=0,
        metadata={
            "help": "Without validation text: pairs to hold out of training for it, at most 2%%. 0 is none.",
        },
    )
    check_alignment: bool = field(
        default=True,
        metadata={"help": "Whether to refuse text in which a side is some lines behind the other, or the same."},
    )
    drop_duplicates: bool = field(default=False, metadata={"help": "Whether to keep each training pair once."})
    max_length: Annotated[int | None, at_least(1)] = field(
        default=None,
        metadata={
            "help": "Tokens: longer training pairs are left out, longer texts to classify cut; windows of a context "
            "(384 if absent) and blocks of a language model (256) have so many.",
        },
    )
    max_length_ratio: Annotated[float | None, more_than(1, ", such as 3")] = field(
        default=None,
        metadata={
            "help": "Leave out training pairs with lengths so many times off the usual ratio.",
        },
    )
    report_only: bool = field(default=False, metadata={"help": "Describe the training text, and train nothing."})
    preprocessing_num_workers: Annotated[int | None, at_least(1)] = field(
        default=None,
        metadata={
            "help": "Processes that encode the text; as many as there are cores if absent.",
        },
    )

    @property
    def replayed(self) -> Replay | None:
        """What of old text is mixed in, if any."""
        return Replay(**self.replay) if isinstance(self.replay, dict) and self.replay else None

    def named_test_sets(self) -> dict[str, tuple[str, ...]]:
        """Name -> its file, or its source file and its target file."""
        sets = self.test_sets if isinstance(self.test_sets, dict) else {}
        return {name: (files,) if isinstance(files, str) else tuple(files) for name, files in sets.items()}


@dataclass(frozen=True)
class TrainingFields:
    """
    How it is trained: what the paper needs, and fields of transformers' arguments with the paper's defaults. Its other
    fields may be set too.
    """

    output_dir: str = field(default="", metadata={"help": "Where the model and its checkpoints go."})
    max_steps: Annotated[
        int, Range(lambda value: value != 0, "Give the number of steps, or leave it out for `num_train_epochs`")
    ] = field(
        default=-1,
        metadata={
            "help": "Optimizer steps, in the place of `num_train_epochs`; -1 for these.",
        },
    )
    num_train_epochs: Annotated[float, more_than(0)] = field(
        default=3.0, metadata={"help": "Times that the training text is read."}
    )
    tokens_per_step: Annotated[int, at_least(1)] = field(
        default=25000,
        metadata={
            "help": "Source tokens, and as many target tokens, in one optimizer step (§5.1), padding included.",
        },
    )
    tokens_per_device: Annotated[int | None, at_least(1)] = field(
        default=None,
        metadata={
            "help": "What of them fits on a device at once; the rest is accumulated. All of them if absent.",
        },
    )
    noam: bool = field(
        default=True,
        metadata={"help": "The paper's schedule (§5.3). If false, `lr_scheduler_type` and `learning_rate` hold."},
    )
    noam_scale: Annotated[float, more_than(0)] = field(
        default=1.0, metadata={"help": "Factor on the paper's learning rates."}
    )
    warmup_steps: float = field(default=4000, metadata={"help": "Steps of rising learning rate (§5.3)."})
    learning_rate: Annotated[float, zero_or_more()] = field(
        default=5e-5, metadata={"help": "With `noam: false`: the highest."}
    )
    lr_scheduler_type: str = field(
        default="linear", metadata={"help": "With `noam: false`: a schedule of transformers, such as cosine."}
    )
    lr_scheduler_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Its own settings, such as {num_cycles: 2}."}
    )
    weight_decay: Annotated[float, zero_or_more()] = field(
        default=0.0, metadata={"help": "Decoupled weight decay; the paper has none."}
    )
    adam_beta1: Annotated[float, PROBABILITY] = field(default=0.9, metadata={"help": "β1 of Adam (§5.3)."})
    adam_beta2: Annotated[float, PROBABILITY] = field(default=0.98, metadata={"help": "β2 of Adam (§5.3)."})
    adam_epsilon: Annotated[float, zero_or_more()] = field(default=1e-9, metadata={"help": "ε of Adam (§5.3)."})
    max_grad_norm: Annotated[float, zero_or_more()] = field(
        default=0.0, metadata={"help": "Norm to clip gradients to; the paper does not."}
    )
    average_checkpoints: Annotated[int | None, at_least(1)] = field(
        default=None,
        metadata={
            "help": "The result is the mean of so many last checkpoints: 20 for big, 5 for all others (§6.1).",
        },
    )
    bpe_dropout: Annotated[float, PROBABILITY] = field(
        default=0.0,
        metadata={
            "help": "Probability of leaving out a merge in training (BPE-dropout). Its draws have no seed, and "
            "sentences get more tokens than the batches are made by.",
        },
    )
    augmentation: dict[str, Any] | str | None = field(
        default=None,
        metadata={
            "help": "Shares of the training pairs that each epoch shows as people type them, other pairs each time: "
            "{upper: 0.06, title: 0.05, lower: 0.1, no_stop: 0.1, copies: 0.15}, which true stands for."
        },
    )
    seed: Annotated[int, SEED] = field(default=42, metadata={"help": "Of all that is drawn."})
    data_seed: Annotated[int | None, SEED] = field(
        default=None, metadata={"help": "Of the order of the text; `seed` if absent."}
    )
    eval_strategy: Annotated[str, one_of("no", "steps", "epoch")] = field(
        default="no",
        metadata={
            "help": "no, steps or epoch: when to evaluate in training.",
        },
    )
    eval_steps: Annotated[float | None, more_than(0)] = field(
        default=None, metadata={"help": "Steps from one evaluation to the next."}
    )
    save_steps: Annotated[float, more_than(0)] = field(
        default=500, metadata={"help": "Steps from one checkpoint to the next."}
    )
    save_total_limit: int | None = field(
        default=None, metadata={"help": "Checkpoints to keep; all of them if absent."}
    )
    load_best_model_at_end: bool = field(
        default=False,
        metadata={"help": "Whether the result is the best by validation NLL, or the mean of those up to it."},
    )
    resume_from_checkpoint: str | None = field(
        default=None,
        metadata={"help": "A checkpoint to go on from, true for the last one, or auto for that if there is any."},
    )
    generation_num_beams: Annotated[int | None, at_least(1)] = field(
        default=None,
        metadata={"help": "Beams of evaluations in training; the model's own if absent."},
    )
    fp16: bool = field(default=False, metadata={"help": "Whether to train in float16 mixed precision."})
    dataloader_num_workers: Annotated[int, zero_or_more()] = field(
        default=0, metadata={"help": "Processes that prepare batches; 0 for none."}
    )
    push_to_hub: bool = field(default=False, metadata={"help": "Whether to push the result to the Hub."})
    hub_model_id: str | None = field(
        default=None, metadata={"help": "Its repository; the name of `output_dir` if absent."}
    )
    hub_private_repo: bool | None = field(default=None, metadata={"help": "Whether a new repository is private."})
    patience: Annotated[int | None, at_least(1)] = field(
        default=None,
        metadata={
            "help": "Stop after so many evaluations in a row without a better validation NLL than before.",
        },
    )
    interpolate: bool = field(
        default=False,
        metadata={
            "help": "With `replay`: whether the result is a mean of the weights before and after, with the share that "
            "is best on new and old validation text."
        },
    )
    predict_with_generate: bool = field(
        default=True, metadata={"help": "Whether evaluations in training decode, for BLEU. The last one always does."}
    )
    num_beams: Annotated[int | None, at_least(1)] = field(
        default=None,
        metadata={
            "help": "Beams of the search (§6.1), saved with the model; the paper's 4 if absent.",
        },
    )
    length_penalty: Annotated[float | None, FINITE] = field(
        default=None,
        metadata={
            "help": "α of beam search (§6.1), saved with the model; the paper's 0.6 if absent.",
        },
    )
    length_penalty_type: Annotated[str | None, one_of(*LENGTH_PENALTY_TYPES)] = field(
        default=None,
        metadata={
            "help": "gnmt (§6.1), or power: log P(Y) / |Y|^α. Saved with the model; the paper's gnmt if absent.",
        },
    )
    early_stopping: Annotated[str | None, one_of(*EARLY_STOPPING)] = field(
        default=None,
        metadata={
            "help": "When the search of a sentence ends: true, with as many ended hypotheses as beams; false, when "
            "none of the present length can be better than these; never, when none of any length can. Saved with the "
            "model; the paper's never if absent.",
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
    save_dtype: Annotated[str, one_of("float32", "float16")] = field(
        default="float32",
        metadata={
            "help": "float32 or float16, of the weights in the result's file: float16 halves it, and transformers "
            "reads it as float32. The scores are those of the weights in the file.",
        },
    )
    bf16: bool | None = field(
        default=None, metadata={"help": "bfloat16 mixed precision; if absent, where the GPU computes in it."}
    )
    run_on: Annotated[str, one_of("auto", "cpu", "cuda", "mps")] = field(
        default="auto",
        metadata={
            "help": "auto, cpu, cuda or mps. auto takes what is there.",
        },
    )
    num_threads: Annotated[int | None, at_least(1)] = field(
        default=None, metadata={"help": "At most so many threads on CPU."}
    )
    hub_strategy: Annotated[str, one_of(*HUB_STRATEGIES)] = field(
        default="end",
        metadata={
            "help": "With `push_to_hub`: end pushes the result, every_save also the model of each checkpoint, "
            "checkpoint and all_checkpoints besides the last or every checkpoint itself.",
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
    logging_steps: Annotated[float, more_than(0)] = field(
        default=100, metadata={"help": "Steps from one log line to the next."}
    )
    disable_tqdm: bool | None = field(default=False, metadata={"help": "Whether to hide progress bars."})

    @property
    def search_settings(self) -> dict[str, Any]:
        """The settings of the search that the recipe changes, by their names in the generation configuration."""
        stop = None if self.early_stopping is None else EARLY_STOPPING[self.early_stopping]
        settings = {
            "num_beams": self.num_beams,
            "length_penalty": self.length_penalty,
            "length_penalty_type": self.length_penalty_type,
            "early_stopping": stop,
        }
        return {name: value for name, value in settings.items() if value is not None}

    @property
    def augmentation_shares(self) -> dict[str, float]:
        """All shares of `augmentation`; empty where it is off."""
        return self.augmentation if isinstance(self.augmentation, dict) else {}

    @property
    def data_order_seed(self) -> int:
        """The seed of the order of the text."""
        return self.seed if self.data_seed is None else self.data_seed
