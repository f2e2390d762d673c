"""The start of a training: a model, its tokenizer and perhaps a checkpoint."""

import dataclasses
import json
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassClassValidationError, StrictDataclassFieldValidationError
from transformers import AutoConfig, PreTrainedTokenizerBase

from training.data.cache import keep, name_content
from training.engine.arguments import TrainingArguments
from training.engine.checkpoints import SHAPE, check_space, prepare_output_dir
from training.engine.processes import first_process
from training.engine.remote import fetch_checkpoint
from training.engine.task import T, Task
from training.log import logger, quiet_transformers
from training.recipe.fields import FREE_FIELDS, ModelFields, TrainingFields
from training.recipe.names import TASK_FIELDS
from training.recipe.parse import Recipe
from vanilla_transformer import (
    VanillaTransformerConfig,
    VanillaTransformerForConditionalGeneration,
    VanillaTransformerPreTrainedModel,
    VanillaTransformerTokenizer,
)
from vanilla_transformer.conversion.importing import find_source, import_model
from vanilla_transformer.conversion.marian import marian_config
from vanilla_transformer.errors import ModelFolderError, RecipeError
from vanilla_transformer.loading import auto_class_of, forget_origin, load_parts
from vanilla_transformer.pipeline_vanilla_transformer import VanillaTransformerTranslationPipeline
from vanilla_transformer.text import read_json, write_whole

# In the output folder: what the first model makes of old text.
OWN_TRANSLATIONS = "replay_translations.json"


@dataclass(frozen=True)
class Start:
    """
    The start of a training.

    Attributes:
        model, tokenizer: new ones, or those of `init_from` or of the checkpoint.
        new: the names of the tensors that `init_from` lacks.
        checkpoint: to go on from, if any.
        initial: the weights of `init_from`, where the result is a mean of them and the new ones.
    """

    model: VanillaTransformerPreTrainedModel
    tokenizer: VanillaTransformerTokenizer
    new: tuple[str, ...]
    checkpoint: Path | None
    initial: dict[str, torch.Tensor] | None = None


def make_start(recipe: Recipe, task: Task[T], args: TrainingArguments, text: T) -> Start:
    """
    Prepare the folder, and build or load the model and its tokenizer.

    Args:
        text: the training text, of which a new tokenizer is learned.

    Raises:
        RecipeError, ModelFolderError, ConversionError: for whatever would make the run fail later.
    """
    checkpoint = first_process(args, lambda: find_checkpoint(recipe.training))
    start = build_model(recipe, task, args, text, checkpoint)
    model = start.model
    for name, value in recipe.training.search_settings.items():
        setattr(model.generation_config, name, value)
    check_space(args.output_dir, model.num_parameters())
    if recipe.training.hub_native_model_id is not None:
        marian_config(model.config)
    return start


def find_checkpoint(training: TrainingFields) -> Path | None:
    """
    Prepare the output folder, and return the checkpoint to go on from, if any; one on the Hub is fetched.

    Raises:
        RecipeError, HubError: as `prepare_output_dir` and `fetch_checkpoint`.
    """
    if str(training.resume_from_checkpoint).startswith("hub:"):
        training = dataclasses.replace(training, resume_from_checkpoint=str(fetch_checkpoint(training)))
    return prepare_output_dir(training)


def build_model(recipe: Recipe, task: Task[T], args: TrainingArguments, text: T, checkpoint: Path | None) -> Start:
    """Build or load a model and its tokenizer, and say what they are."""
    arguments = recipe.model
    if arguments.init_from is not None:
        model, tokenizer, new = load_initial_model(recipe, task, text, str(checkpoint or arguments.init_from))
    else:
        tokenizer, new = load_tokenizer(recipe, task, args, text, checkpoint), []
        fields = {**task.config_fields(text), **arguments.config_fields(), "vocab_size": len(tokenizer)}
        with faults_of_configuration():
            config = task.model_class.config_class.from_preset(arguments.preset, **fields)
        model = task.model_class(config)
        if checkpoint is None and arguments.tokenizer is None and len(tokenizer) < arguments.vocab_size:
            logger.info(
                f"the vocabulary shrinks from {arguments.vocab_size:,} to {len(tokenizer):,}: no remaining pair of "
                f"tokens occurs at least {arguments.min_frequency} times in the text it is learned from"
            )
    name = arguments.preset if arguments.init_from is None else f"that of {arguments.init_from}"
    logger.info(f"model: {name}, {model.num_parameters():,} parameters, vocabulary of {len(tokenizer):,}")
    if new:
        parts = dict.fromkeys(re.sub(r"\.(layers\.\d+|weight|bias)\b.*", "", tensor) for tensor in new)
        logger.info(f"new parts, which {arguments.init_from} lacks: {', '.join(parts)}")
    forgets = arguments.init_from is not None and recipe.data.replayed is None
    if forgets and checkpoint is None and "replay" in TASK_FIELDS[arguments.task]:
        logger.info("no old text is mixed in, and the model may forget what it knows: see `replay`")
    initial = None
    if recipe.training.interpolate and recipe.data.replayed is not None and arguments.init_from is not None:
        first = model
        if checkpoint is not None:
            first = load_initial_model(recipe, task, text, arguments.init_from)[0]
        initial = {name: tensor.detach().clone() for name, tensor in first.named_parameters()}
    return Start(model, tokenizer, tuple(new), checkpoint, initial)


@contextmanager
def faults_of_configuration() -> Iterator[None]:
    """
    Raise what a configuration says of its values as a `RecipeError`; the cause says it without a frame around.

    Other errors, also those of code that checks, are bugs and pass.
    """
    try:
        yield
    except StrictDataclassFieldValidationError as error:
        raise RecipeError(str(error.__cause__)) from error
    except StrictDataclassClassValidationError as error:
        if not isinstance(error.__cause__, ValueError):
            raise
        raise RecipeError(str(error.__cause__)) from error


def translate_once(start: Start, args: TrainingArguments, lines: list[str]) -> list[str]:
    """
    Translate lines by the model that training starts from, greedily, in the first process.

    The translations are kept in the output folder, for a run that goes on from a checkpoint of another model.

    Raises:
        RecipeError: if such a run finds them no more.
    """
    file = Path(args.output_dir) / OWN_TRANSLATIONS

    def translate() -> list[str]:
        kept = read_json(file) if file.is_file() else {}
        if kept.get("sources") == lines and start.checkpoint is not None:
            return list(kept["targets"])
        if start.checkpoint is not None:
            raise RecipeError(f"{file} does not hold the translations of this run's old text. Begin anew.")
        logger.info(f"replay: translating {len(lines):,} lines by the model itself")
        pipeline = VanillaTransformerTranslationPipeline(
            model=start.model, tokenizer=start.tokenizer, device=args.device
        )
        results = pipeline(lines, num_beams=1, progress=sys.stderr.isatty(), split_sentences=False)
        targets = [result["translation_text"] for result in results]
        write_whole(file, json.dumps({"sources": lines, "targets": targets}, ensure_ascii=False))
        return targets

    return first_process(args, translate)


def load_initial_model(
    recipe: Recipe, task: Task[T], text: T, folder: str
) -> tuple[VanillaTransformerPreTrainedModel, VanillaTransformerTokenizer, list[str]]:
    """
    The model of `init_from` with its tokenizer, in float32, with the recipe's dropout and label smoothing, and the
    names of its tensors that are new: a head, or a stack that the model there lacks.

    Args:
        folder: `init_from`; where a run goes on its checkpoint, which has all of it: `init_from` may have changed.

    Raises:
        ModelFolderError, RecipeError: if it cannot be loaded, is another kind of model, or the recipe says that it has
            another shape or vocabulary than it has.
    """
    arguments = recipe.model
    changes = arguments.config_fields()
    free = {name: changes[name] for name in changes if name in FREE_FIELDS}
    with faults_of_configuration():  # while loading they would read as faults of the folder
        VanillaTransformerConfig.from_preset(arguments.preset, **free)
    auto_class = auto_class_of(task.model_class.__name__)
    foreign = find_source(folder)
    if foreign is not None and task.model_class is not VanillaTransformerForConditionalGeneration:
        raise RecipeError(f"`task` must be translation or summarization to start from {folder}, but is {task.name}.")
    with quiet_transformers():  # its table of new parts, which we tell in a line
        if foreign is None:
            model, tokenizer, new = load_parts(folder, auto_class, **task.config_fields(text), **free)
        else:
            (model, tokenizer), new = import_model(foreign, **task.config_fields(text), **free), []
    if not isinstance(model, task.model_class):
        raise RecipeError(
            f"`init_from` must be a folder that this program wrote, or a repository made from one, but is {folder} "
            f"with a model of type {model.config.model_type!r}. Name another."
        )
    source = AutoConfig.from_pretrained(folder, trust_remote_code=False) if foreign is None else model.config
    damaged = [name for name in new if is_part_of(name, source)]
    if damaged:
        raise ModelFolderError(f"The weights in {folder} lack {len(damaged)} tensors, such as {damaged[0]}.")
    same = foreign is not None or (
        source.architectures == [task.model_class.__name__] and source.id2label == model.config.id2label
    )
    head = getattr(model, "classifier", None)
    if head is not None and not new and not same:
        torch.nn.init.xavier_uniform_(head.weight)  # what it told apart are other labels
        torch.nn.init.zeros_(head.bias)
        new = ["classifier.bias", "classifier.weight"]
    check_initial_model(recipe, model, tokenizer, folder)
    return model.float(), tokenizer, new  # type: ignore[return-value]


def check_initial_model(
    recipe: Recipe, model: VanillaTransformerPreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: str
) -> None:
    """
    Refuse a recipe that says other than the model that it starts from.

    Args:
        folder: where the model is.

    Raises:
        RecipeError: naming the field.
    """
    arguments, changes = recipe.model, recipe.model.config_fields()
    with faults_of_configuration():
        model.config.validate()  # which calls `validate_architecture`
    fixed = {name: value for name, value in changes.items() if name not in FREE_FIELDS}
    if "preset" in recipe.given:
        preset = VanillaTransformerConfig.from_preset(arguments.preset)
        fixed = {**{name: getattr(preset, name) for name in SHAPE}, **fixed}
    if "vocab_size" in recipe.given:
        fixed["vocab_size"] = arguments.vocab_size
    for name, value in fixed.items():
        if getattr(model.config, name) != value:
            cause = "the recipe" if name in changes or name == "vocab_size" else f"`preset` {arguments.preset}"
            raise RecipeError(
                f"`{name}` must be that of `init_from` {folder}, {getattr(model.config, name)}, since a trained model "
                f"keeps what it was made with, but {cause} has {value}. Leave this out, or train a new model."
            )
    if recipe.training.bpe_dropout and not hasattr(tokenizer, "backend_tokenizer"):
        raise RecipeError(
            f"`bpe_dropout` must be 0 for {folder}, whose tokenizer cannot leave out merges, but is "
            f"{recipe.training.bpe_dropout:g}. Leave it out."
        )
    if arguments.tokenizer is not None:
        raise RecipeError(
            "`tokenizer` must be left out beside `init_from`, whose model knows only its own tokenizer, but is "
            f"{arguments.tokenizer}. Leave it out."
        )


def is_part_of(name: str, config: VanillaTransformerConfig) -> bool:
    """Whether a tensor belongs to a stack, or to the embeddings, of a model with that configuration."""
    stacks = {"encoder": config.has_encoder, "decoder": config.has_decoder}
    stack = name.removeprefix("model.").partition(".")[0]
    if ".encoder_attn" in name:
        return config.is_encoder_decoder
    return stack == "shared" or stacks.get(stack, False)


def load_tokenizer(
    recipe: Recipe, task: Task[T], args: TrainingArguments, text: T, checkpoint: Path | None
) -> VanillaTransformerTokenizer:
    """The tokenizer of the checkpoint, or the one the recipe names, or one learned from the text."""
    arguments = recipe.model
    folder = checkpoint or arguments.tokenizer
    if folder is not None:
        if not (Path(folder) / "tokenizer.json").is_file():
            raise RecipeError(
                f"`tokenizer` must be a folder with tokenizer.json, but {folder} lacks it. Name another."
            )
        return forget_origin(VanillaTransformerTokenizer.from_pretrained(folder))
    return forget_origin(first_process(args, lambda: learn_once(arguments, task, text)))


def learn_once(arguments: ModelFields, task: Task[T], text: T) -> VanillaTransformerTokenizer:
    """A tokenizer of some text; of a text in the cache it is kept there too."""
    key = task.name_lines(text)
    at_most = arguments.input_sentence_size
    if key is None:
        return learn_tokenizer(arguments, task.sample_lines(text, at_most))

    def write(folder: Path) -> None:
        learn_tokenizer(arguments, task.sample_lines(text, at_most)).save_pretrained(folder)

    settings = (arguments.vocab_size, arguments.split_at_spaces, arguments.min_frequency, at_most)
    return keep(f"tokenizer-{name_content(key, settings)}", write, VanillaTransformerTokenizer.from_pretrained)


def learn_tokenizer(arguments: ModelFields, lines: Iterable[str]) -> VanillaTransformerTokenizer:
    """A tokenizer of some text; of parallel text a joint one (§5.1)."""
    try:
        return VanillaTransformerTokenizer.train(
            iter(lines),
            arguments.vocab_size,
            arguments.split_at_spaces,
            min_frequency=arguments.min_frequency,
            show_progress=sys.stderr.isatty(),
        )
    except ValueError as error:
        raise RecipeError(str(error)) from error
