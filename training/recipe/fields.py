"""
The fields of a recipe, in three frozen dataclasses; what each may be is declared on it.

Where the `Seq2SeqTrainingArguments` of transformers have a field, its name is used; the defaults here are the paper's.
"""

from dataclasses import dataclass, field, replace
from typing import Annotated, TypeVar

from training.recipe.ranges import FINITE, PROBABILITY, SEED, Range, Value, at_least, more_than, one_of, zero_or_more

# Of the model and of transformers, which are not loaded here: `--help` answers at once.
PRESETS = (
    *("tiny", "base", "big", "A-h1", "A-h4", "A-h16", "A-h32", "B-dk16", "B-dk32", "C-N2", "C-N4", "C-N8"),
    *("C-d256", "C-d1024", "C-ff1024", "C-ff4096"),
    *("D-dropout0.0", "D-dropout0.2", "D-smoothing0.0", "D-smoothing0.2", "E-learned"),
)
LENGTH_PENALTY_TYPES = ("gnmt", "power")
EARLY_STOPPING: dict[str, bool | str] = {"true": True, "false": False, "never": "never"}  # as in transformers
HUB_STRATEGIES = ("end", "every_save", "checkpoint", "all_checkpoints")
# Of the configuration: fields that have no weights, and so may change in a trained model.
FREE_FIELDS = ("dropout", "attention_dropout", "activation_dropout", "classifier_dropout", "label_smoothing")

T = TypeVar("T")


def setting(default: T, text: str) -> T:
    """Declare a field with its default, and with what `--help` says of it."""
    declared: T = field(default=default, metadata={"help": text})
    return declared


@dataclass(frozen=True)
class ModelFields:
    """The model that is trained."""

    task: str = setting(
        "translation",
        "translation, summarization, text-classification (also of pairs, such as inference), "
        "question-answering, fill-mask or text-generation.",
    )
    init_from: str | None = setting(
        None,
        "Folder, or repository on the Hub, of a model of any task to start from, with its tokenizer.",
    )
    preset: Annotated[str, one_of(*PRESETS)] = setting("base", f"One of: {', '.join(PRESETS)}.")
    dropout: Annotated[float | None, PROBABILITY] = setting(None, "P_drop; the preset's if absent.")
    label_smoothing: Annotated[float | None, PROBABILITY] = setting(None, "ε_ls (§5.4); 0.1 if absent.")
    config_overrides: dict[str, Value] | str | None = setting(
        None,
        "Other fields of VanillaTransformerConfig, such as {norm_first: true}.",
    )
    tokenizer: str | None = setting(None, "Folder of a tokenizer to use; if absent, a joint one is learned.")
    vocab_size: Annotated[int, at_least(1)] = setting(37000, "Entries of the vocabulary to learn (§5.1).")
    min_frequency: Annotated[int, at_least(1)] = setting(
        2,
        "How often a pair must occur in the text to become an entry of the vocabulary.",
    )
    input_sentence_size: Annotated[int | None, at_least(1)] = setting(
        None,
        "The vocabulary is learned from this many pairs (in other tasks lines), at even distances in the text; from "
        "all of them if absent.",
    )
    split_at_spaces: bool = setting(
        False,
        "Whether words of the vocabulary end only at spaces, for text that is tokenized already; otherwise they end "
        "at punctuation and digits too.",
    )

    def config_fields(self) -> dict[str, Value]:
        """Return the changes of the recipe to the preset."""
        named = {"dropout": self.dropout, "label_smoothing": self.label_smoothing}
        given: dict[str, Value] = {name: value for name, value in named.items() if value is not None}
        return {**given, **self.config_overrides} if isinstance(self.config_overrides, dict) else given


@dataclass(frozen=True)
class Replay:
    """
    The old text that is mixed in.

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
class TextSource:
    """
    One of several texts to train on.

    Attributes:
        source, target: two aligned files.
        file: one file with both sides, in their place.
        dataset_name, dataset_config_name, split: a data set, in their place.
        source_column, target_column: where both sides are; as in the recipe if absent.
        weight: how often an epoch shows each of its pairs; of 0.5, each epoch shows half of the pairs, and the next
            one others.
    """

    source: str | None = None
    target: str | None = None
    file: str | None = None
    dataset_name: str | None = None
    dataset_config_name: str | None = None
    split: str | None = None
    source_column: str | None = None
    target_column: str | None = None
    weight: float = 1.0


@dataclass(frozen=True)
class DataFields:
    """
    The training text. For translation and summarization: two aligned text files, or one file with columns, or a
    data set, or this project's corpus. For other tasks: a file, or a data set.
    """

    source: str | None = setting(None, "Source text, a sentence a line, UTF-8; .gz and .zst are read.")
    target: str | None = setting(None, "Its translation, line by line.")
    sources: list[dict[str, Value]] | str | None = setting(
        None,
        "Several texts instead of `source` and `target`: [{source: a.en, target: a.de, weight: 2}, {file: "
        "b.parquet}, {dataset_name: c}]. An epoch shows each pair as often as its weight says (1); with 0.5, each "
        "epoch shows another half.",
    )
    validation_source: str | None = setting(None, "Source text for evaluation in training.")
    validation_target: str | None = setting(None, "Its translation.")
    test_source: str | None = setting(None, "Source text for the score at the end.")
    test_target: str | None = setting(None, "Its translation.")
    train_file: str | None = setting(
        None,
        "Both sides, or texts with labels, in one .jsonl, .csv, .tsv or .parquet file, or both sides in a .tmx or "
        ".xliff file; for question-answering JSON as SQuAD has it; for fill-mask and text-generation a text a line, "
        "or a column.",
    )
    validation_file: str | None = setting(None, "The same for evaluation in training.")
    test_file: str | None = setting(None, "The same for the score at the end.")
    source_column: str = setting(
        "source",
        "Column or key of the source in such a file; 1 for the first of a table without a header.",
    )
    target_column: str = setting(
        "target",
        "Column or key of the target in such a file; its number where there is no header.",
    )
    text_columns: list[str] | None = setting(
        None,
        "Column of the text in a file with columns; two to classify pairs, such as premise hypothesis. If absent: "
        "sentence; for fill-mask and text-generation: text.",
    )
    label_column: str = setting(
        "label",
        "text-classification: column of the label; rows with '-' have no label, nor have pairs with -1.",
    )
    turn_separator: str | None = setting(
        None,
        "fill-mask and text-generation: the separator of the turns of a dialogue in its line.",
    )
    stride: Annotated[int, zero_or_more(", such as 128")] = setting(
        128,
        "question-answering: tokens of the context that a window shares with the next.",
    )
    dataset_name: str | None = setting(
        None,
        "Data set on the Hub, or its folder, with the columns that the task needs.",
    )
    dataset_config_name: str | None = setting(None, "One of its configurations.")
    train_split: str | None = setting(None, "Its split for training, such as train[:90%%]; train if absent.")
    validation_split: str | None = setting(
        None,
        "Its split for evaluation in training; if absent: validation, where there is one.",
    )
    test_split: str | None = setting(None, "Its split for the score at the end; if absent: test, where there is one.")
    corpus: str | None = setting(
        None,
        "'phrasebook': the corpus that comes with the demo; 'everyday': the same with words and greetings as people "
        "type them. Beside files, it is added to them.",
    )
    corrections: str | None = setting(
        None,
        "A .tsv, .csv or .tmx file of corrected translations to learn, with or without a header; beside other "
        "training text it is added to that. Without validation text they are the validation text.",
    )
    replay: dict[str, Value] | str | None = setting(
        None,
        "Old text to mix into a fine-tuning: {source: old.en, target: old.es, share: 0.5}, or {file: "
        "old.tmx}; without `target`, the model translates the source. `hold_out` (500) of the old pairs are for "
        "validation.",
    )
    source_lang: str | None = setting(None, "Language code for the model card, such as en.")
    target_lang: str | None = setting(None, "Language code, such as es, for the model card and the scores.")
    data_description: str | None = setting(None, "A description of the data, for the model card.")
    limits: str | None = setting(None, "Limits of the model, for the model card.")
    license: str | None = setting(None, "Licence of the model, for the model card.")
    example: str | None = setting(
        None,
        "A source sentence for the model card; a short one of the training text if absent.",
    )
    test_sets: dict[str, Value] | str | None = setting(
        None,
        "More texts to score, such as {news: [news.en, news.de]}, or {news: news.tsv}.",
    )
    hold_out: Annotated[
        int, Range(lambda value: value >= 0, "at least 0", "Give a number of pairs, or 0 for none")
    ] = setting(0, "Without validation text: pairs to hold out of training for validation, at most 2%%; 0 for none.")
    check_alignment: bool = setting(
        True,
        "Whether to refuse text in which one side is some lines behind the other, or equals it.",
    )
    drop_duplicates: bool = setting(False, "Whether to keep only one of several equal training pairs.")
    max_length: Annotated[int | None, at_least(1)] = setting(
        None,
        "Most tokens of a sequence: longer training pairs are left out, and longer texts to classify are cut; also "
        "the length of windows of a context (384 if absent) and of blocks of a language model (256).",
    )
    max_length_ratio: Annotated[float | None, more_than(1, ", such as 3")] = setting(
        None,
        "Leave out training pairs whose ratio of lengths is more than this many times off the usual one.",
    )
    report_only: bool = setting(False, "Describe the training text, and train nothing.")
    preprocessing_num_workers: Annotated[int | None, at_least(1)] = setting(
        None,
        "Processes that encode the text; if absent, one for each core.",
    )

    @property
    def replayed(self) -> Replay | None:
        """Return the old text that is mixed in, if any."""
        if not isinstance(self.replay, dict) or not self.replay:
            return None
        return Replay(**self.replay)  # type: ignore[arg-type]  # `read_replay` has checked them

    @property
    def text_sources(self) -> tuple[TextSource, ...]:
        """The texts of `sources`."""
        given = self.sources if isinstance(self.sources, list) else []
        return tuple(TextSource(**each) for each in given)  # type: ignore[arg-type]  # `read_sources` has checked them

    def of_source(self, text: TextSource) -> "DataFields":
        """These fields, where one of `sources` is all there is to train on."""
        return replace(
            self,
            sources=None,
            corpus=None,
            corrections=None,
            source=text.source,
            target=text.target,
            train_file=text.file,
            dataset_name=text.dataset_name,
            dataset_config_name=text.dataset_config_name,
            train_split=text.split,
            source_column=text.source_column or self.source_column,
            target_column=text.target_column or self.target_column,
        )

    def named_test_sets(self) -> dict[str, tuple[str, ...]]:
        """Name -> its file, or its source file and its target file."""
        sets = self.test_sets if isinstance(self.test_sets, dict) else {}
        return {name: tuple(map(str, files if isinstance(files, list) else [files])) for name, files in sets.items()}


@dataclass(frozen=True)
class TrainingFields:
    """
    The training: what the paper needs, and fields of transformers' arguments with the paper's defaults. Its other
    fields may be set too.
    """

    output_dir: str = setting("", "Where the model and its checkpoints go.")
    max_steps: Annotated[
        int,
        Range(
            lambda value: value != 0,
            "more than 0, or -1",
            "Give the number of steps, or leave it out for `num_train_epochs`",
        ),
    ] = setting(-1, "Optimizer steps, instead of `num_train_epochs`; -1 for epochs.")
    num_train_epochs: Annotated[float, more_than(0)] = setting(3.0, "Times that the training text is read.")
    tokens_per_step: Annotated[int, at_least(1)] = setting(
        25000,
        "Source tokens, and as many target tokens, in one optimizer step (§5.1), padding included.",
    )
    tokens_per_device: Annotated[int | None, at_least(1)] = setting(
        None,
        "Tokens that fit on a device at once; gradients of the rest are accumulated. All of them if absent.",
    )
    noam: bool = setting(
        True, "Whether to use the paper's schedule (§5.3), instead of `lr_scheduler_type` and `learning_rate`."
    )
    noam_scale: Annotated[float, more_than(0)] = setting(1.0, "Factor on the paper's learning rates.")
    warmup_steps: float = setting(4000, "Steps of rising learning rate (§5.3).")
    decay_steps: Annotated[float, zero_or_more()] = setting(
        0,
        "Last steps, or below 1 the share of all steps, in which a falling factor takes the paper's schedule to 0.",
    )
    learning_rate: Annotated[float, zero_or_more()] = setting(5e-5, "With `noam: false`: the highest learning rate.")
    lr_scheduler_type: str = setting("linear", "With `noam: false`: a schedule of transformers, such as cosine.")
    lr_scheduler_kwargs: dict[str, Value] | str | None = setting(None, "Its own settings, such as {num_cycles: 2}.")
    weight_decay: Annotated[float, zero_or_more()] = setting(0.0, "Decoupled weight decay; the paper has none.")
    adam_beta1: Annotated[float, PROBABILITY] = setting(0.9, "β1 of Adam (§5.3).")
    adam_beta2: Annotated[float, PROBABILITY] = setting(0.98, "β2 of Adam (§5.3).")
    adam_epsilon: Annotated[float, zero_or_more()] = setting(1e-9, "ε of Adam (§5.3).")
    max_grad_norm: Annotated[float, zero_or_more()] = setting(
        0.0, "Norm to clip gradients to; 0, as in the paper, for no clipping."
    )
    skip_non_finite: bool = setting(
        False,
        "Whether to leave out steps with a gradient that is not finite, and count them; otherwise such a step ends "
        "the run. With fp16, its scaler leaves them out in any case.",
    )
    average_checkpoints: Annotated[int | None, at_least(1)] = setting(
        None,
        "Number of last checkpoints whose mean is the result; if absent, 20 for big and 5 for all others (§6.1).",
    )
    bpe_dropout: Annotated[float, PROBABILITY] = setting(
        0.0,
        "Probability of leaving out a merge in training (BPE-dropout). Its draws have no seed, and sentences "
        "get more tokens than batches are planned for.",
    )
    augmentation: dict[str, float] | str | None = setting(
        None,
        "Shares of the training pairs that an epoch shows as people type them, each epoch other pairs; true means "
        "{upper: 0.06, title: 0.05, lower: 0.1, no_stop: 0.1, copies: 0.15}.",
    )
    seed: Annotated[int, SEED] = setting(42, "Seed of all random draws.")
    data_seed: Annotated[int | None, SEED] = setting(None, "Seed of the order of the text; `seed` if absent.")
    eval_strategy: Annotated[str, one_of("no", "steps", "epoch")] = setting(
        "no",
        "When to evaluate in training: no, steps or epoch.",
    )
    eval_steps: Annotated[float | None, more_than(0)] = setting(None, "Steps from one evaluation to the next.")
    save_steps: Annotated[float, more_than(0)] = setting(500, "Steps from one checkpoint to the next.")
    save_total_limit: int | None = setting(None, "Checkpoints to keep; all of them if absent.")
    load_best_model_at_end: bool = setting(
        False,
        "Whether the result is the checkpoint with the best validation NLL, or the mean of those up to it.",
    )
    resume_from_checkpoint: str | None = setting(
        None,
        "A checkpoint to go on from; true for the last one, auto for the last one if there is any; hub:USER/NAME or "
        "hub:USER/NAME@STEP for one that `hub_strategy` has pushed.",
    )
    generation_num_beams: Annotated[int | None, at_least(1)] = setting(
        None,
        "Beams of evaluations in training; the model's own if absent.",
    )
    fp16: bool = setting(False, "Whether to train in float16 mixed precision.")
    dataloader_num_workers: Annotated[int, zero_or_more()] = setting(0, "Processes that prepare batches; 0 for none.")
    push_to_hub: bool = setting(False, "Whether to push the result to the Hub.")
    hub_model_id: str | None = setting(None, "Its repository; the name of `output_dir` if absent.")
    hub_private_repo: bool | None = setting(None, "Whether a new repository is private.")
    patience: Annotated[int | None, at_least(1)] = setting(
        None,
        "Stop after this many evaluations in a row without a better validation NLL than before.",
    )
    interpolate: Annotated[
        float | None, Range(lambda value: 0 < value <= 1, "more than 0 and at most 1", "Give 1 for the best mean")
    ] = setting(
        None,
        "With `replay`: the result is a mean of the weights before and after the training, with the smallest share of "
        "new weights that reaches this part of what the best share gains in NLL on new and old validation text.",
    )
    predict_with_generate: bool = setting(
        True,
        "Whether evaluations in training decode, for BLEU. The last one always does.",
    )
    num_beams: Annotated[int | None, at_least(1)] = setting(
        None,
        "Beams of the search (§6.1), saved with the model; the paper's 4 if absent.",
    )
    length_penalty: Annotated[float | None, FINITE] = setting(
        None,
        "α of beam search (§6.1), saved with the model; the paper's 0.6 if absent.",
    )
    length_penalty_type: Annotated[str | None, one_of(*LENGTH_PENALTY_TYPES)] = setting(
        None,
        "gnmt (§6.1), or power: log P(Y) / |Y|^α. Saved with the model; the paper's gnmt if absent.",
    )
    early_stopping: Annotated[str | None, one_of(*EARLY_STOPPING)] = setting(
        None,
        "When the search of a sentence ends: true, with as many ended hypotheses as beams; false, when none "
        "of the present length can be better than these; never, when none of any length can. Saved with the model; "
        "the paper's never if absent.",
    )
    bleu_tokenize: str | None = setting(
        None,
        "sacreBLEU's tokenizer; 'none' for tokenized text; if absent, that of `target_lang`.",
    )
    compound_bleu: bool = setting(
        False, "Whether the scores at the end include the paper's BLEU, which takes compounds apart."
    )
    bootstrap_samples: int = setting(1000, "Samples for the 95%% intervals of the scores at the end; 0 for none.")
    save_dtype: Annotated[str, one_of("float32", "float16")] = setting(
        "float32",
        "Precision of the weights in the result's file, float32 or float16: float16 halves the file, and transformers "
        "reads it as float32. The scores are those of the weights in the file.",
    )
    bf16: bool | None = setting(
        None, "Whether to train in bfloat16 mixed precision; if absent, where the GPU computes in it."
    )
    run_on: Annotated[str, one_of("auto", "cpu", "cuda", "mps")] = setting(
        "auto",
        "Device: auto, cpu, cuda or mps; auto takes an accelerator if there is one.",
    )
    num_threads: Annotated[int | None, at_least(1)] = setting(None, "Most threads to use on a CPU.")
    hub_strategy: Annotated[str, one_of(*HUB_STRATEGIES)] = setting(
        "end",
        "With `push_to_hub`: end pushes the result; every_save also the model of each checkpoint; checkpoint also the "
        "last checkpoint itself; all_checkpoints also every checkpoint itself.",
    )
    hub_native_model_id: str | None = setting(None, "Repository for the result as a stock MarianMTModel.")
    overwrite_output_dir: bool = setting(
        False,
        "Whether to delete the checkpoints of an earlier run in `output_dir`, and to overwrite its model.",
    )
    ddp_timeout: int = setting(7200, "Seconds that processes wait for the first, which encodes a large text.")
    report_to: str | None = setting("tensorboard", "Where logs go besides the screen.")
    logging_steps: Annotated[float, more_than(0)] = setting(100, "Steps from one log line to the next.")
    disable_tqdm: bool | None = setting(False, "Whether to hide progress bars.")

    @property
    def search_settings(self) -> dict[str, Value]:
        """The settings of the search that the recipe changes, by their names in the generation configuration."""
        stop = None if self.early_stopping is None else EARLY_STOPPING[self.early_stopping]
        settings: dict[str, Value] = {
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
