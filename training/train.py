"""
Train a model by a recipe: for translation, or for the task that its field `task` names.

    python -m training.train training/recipes/demo.yaml
    python -m training.train training/recipes/multi30k_en_de.yaml --output_dir runs/multi30k --seed 2
    accelerate launch -m training.train training/recipes/multi30k_en_de.yaml
    torchrun --nproc_per_node 2 -m training.train training/recipes/multi30k_en_de.yaml   # two processes on CPU

The result is a folder that the Auto classes load. `--resume_from_checkpoint true` goes on from the last checkpoint.
"""

import gc
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import torch
import torch.distributed
from huggingface_hub.errors import StrictDataclassError
from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]
from transformers import AutoConfig, TrainerState, set_seed
from transformers.trainer_utils import HubStrategy
from transformers.utils import logging

from training.arguments import FREE_FIELDS, ModelArguments, RecipeError
from training.averaging import average_weights
from training.batching import derive_accumulation
from training.checkpoints import (
    RESULTS_BEFORE,
    SHAPE,
    check_continuation,
    check_space,
    find_best,
    find_damage_of_weights,
    is_finished,
    prepare_output_dir,
    regular_checkpoints,
    step_of,
    validation_losses,
)
from training.encoding import lengths
from training.processes import check_processes, first_process, keep_freed_memory
from training.publishing import PushCallback, prepare_push, publish
from training.recipe import ROW_NOTES, Recipe, parse_recipe
from training.results import adopt_languages, describe_progress, describe_run, save_result, summarize
from training.trainer import VanillaTransformerTrainer
from vanilla_transformer import (
    VanillaTransformerConfig,
    VanillaTransformerPreTrainedModel,
    VanillaTransformerTokenizer,
)
from vanilla_transformer.conversion import ConversionError, marian_config
from vanilla_transformer.loading import ModelFolderError, auto_class_of, load_parts
from vanilla_transformer.model_card import ModelCardError, ModelPlace, describe_scores
from vanilla_transformer.text import TextError


class Terminated(BaseException):
    """SIGTERM before the first step or after the last, where there is nothing to save."""


def terminate(*_: Any) -> None:
    raise Terminated


def main(arguments: list[str] | None = None) -> int:
    """Run a recipe; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    status = 0
    try:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, terminate)
        recipe = parse_recipe(arguments)
        adopt_languages(recipe)
        check_processes(recipe.training, arguments)
        say = print if recipe.training.process_index == 0 else lambda *_: None
        texts = recipe.task.load_texts()
        for split, text in texts.items():
            say(recipe.task.describe(text, split))
        for note in recipe.task.notes:
            say(note)
        if recipe.data.report_only:
            report = recipe.task.report(texts["train"])
            if report is not None:
                say(report)
        else:
            if recipe.has_table:
                languages = recipe.data.source_lang, recipe.data.target_lang
                recipe = parse_recipe(arguments, pairs=len(texts["train"]))
                recipe.data.source_lang, recipe.data.target_lang = languages
                say(describe_choice(recipe))
            run(recipe, texts, say)
    except (RecipeError, TextError, ModelFolderError, ModelCardError, ConversionError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        status = 2
    except StrictDataclassError as error:  # a configuration; its cause says it without a frame around
        print(f"error: {error.__cause__ or error}", file=sys.stderr)
        status = 2
    except Terminated:
        print("stopped by SIGTERM while nothing was being trained. Go on with `--resume_from_checkpoint auto`.")
    except KeyboardInterrupt:
        print(
            "interrupted. Go on from the last checkpoint: repeat the command with `--resume_from_checkpoint auto`.",
            file=sys.stderr,
        )
        status = 130
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # After an error the others may not come to a barrier; the launcher stops them.
    if torch.distributed.is_initialized() and status == 0:
        gc.collect()  # gloo aborts at exit if groups outlive the objects that use them
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
    return status


def describe_choice(recipe: Recipe) -> str:
    """What the table of sizes chose, and what to expect of a corpus of that size."""
    limit = f"up to {recipe.row['up_to']:,}" if "up_to" in recipe.row else "more"
    values = {name: value for name, value in recipe.row.items() if name not in ROW_NOTES}
    shown = (f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items())
    line = f"chosen for this size ({limit} pairs): {', '.join(shown)}"
    return f"{line}\nwhat to expect: {recipe.row['expect']}" if "expect" in recipe.row else line


def run(recipe: Recipe, texts: dict[str, Any], say: Callable[..., None]) -> None:
    """Train, choose, score, and save a folder that can be used and pushed as it is."""
    args, task = recipe.training, recipe.task
    logging.set_verbosity_warning()
    logging.disable_progress_bar()
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
        disable_progress_bars()
    set_seed(args.seed)
    if args.num_threads is not None:
        torch.set_num_threads(min(args.num_threads, torch.get_num_threads()))
    if args.use_cpu:
        keep_freed_memory()
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(Path(args.output_dir) / "logs")

    repositories = first_process(args, lambda: prepare_push(args)) if args.push_to_hub else None
    checkpoint = first_process(args, lambda: prepare_output_dir(args, say))
    model, tokenizer, new = build_model(recipe, texts["train"], checkpoint, say)
    for name in ("length_penalty", "length_penalty_type"):
        if getattr(args, name) is not None:
            setattr(model.generation_config, name, getattr(args, name))
    check_space(args.output_dir, model.num_parameters())
    if args.hub_native_model_id is not None:
        marian_config(model.config)
    sides = ", source and target each" if model.config.is_encoder_decoder else ""
    say(f"tokens a step{sides}: {derive_accumulation(args)}")
    encoded = task.encode_texts(texts, model.config, tokenizer, say)
    if model.config.is_encoder_decoder:
        longest = int(lengths(encoded["train"])[0].max())
        # Translating tells by it which texts are far from all that was learned, before a fine-tuning too.
        settings = model.generation_config
        settings.longest_source = max(longest, getattr(settings, "longest_source", None) or 0)
        task.adapt_settings(settings, texts["train"])
    trainer = task.make_trainer(
        model=model,
        args=args,
        train_dataset=encoded["train"],
        eval_dataset=encoded.get("validation"),
        processing_class=tokenizer,
    )
    example = task.example(texts["train"], encoded["train"])
    pushes = None
    if repositories is not None and args.hub_strategy != HubStrategy.END and args.process_index == 0:
        pushes = PushCallback(trainer, repositories[0], lambda: describe_progress(recipe, trainer, example), say)
        trainer.add_callback(pushes)
    finished = False
    try:
        before = (
            {} if recipe.model.init_from is None or new else score_before(recipe, trainer, encoded, checkpoint, say)
        )
        repo = repositories and repositories[0]
        finished = train_and_save(recipe, trainer, encoded, checkpoint, before, example, repo, say)
    finally:
        if pushes is not None:
            pushes.finish(all_of_them=bool(finished))
        trainer.callback_handler.callbacks.clear()  # they hold the trainer, and it the process group
    if finished and repositories is not None:
        for line in first_process(args, lambda: publish(args, *repositories)):
            say(line)


def train_and_save(
    recipe: Recipe,
    trainer: VanillaTransformerTrainer,
    encoded: dict[str, datasets.Dataset],
    checkpoint: Path | None,
    before: dict[str, Any],
    example: str | list[str],
    repo: str | None,
    say: Callable[..., None],
) -> bool:
    """From the first step, or from a checkpoint, to the folder with the result; whether it got there."""
    args, model = recipe.training, trainer.model
    if checkpoint is not None:
        say(f"going on from {checkpoint}")
        logging.set_verbosity_error()  # Trainer's comparison of settings, which knows less than ours
        check_continuation(checkpoint, model.config, trainer.make_train_sampler().steps, args)
    if checkpoint is not None and is_finished(checkpoint, args):
        # Ended after its last step, in scoring perhaps. Trainer would take one step more.
        say(f"{checkpoint} is the last step: no training is left")
        model.load_state_dict(average_weights([checkpoint]), strict=False)
        trainer.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        trainer.stopwatch.resume(trainer.state)
    else:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if trainer.termination.obeyed:
        say(
            f"stopped by SIGTERM after step {trainer.state.global_step:,}, which is saved. Go on: repeat the command "
            "with `--resume_from_checkpoint true`."
        )
        return False

    averaged = choose_weights(trainer, say)
    if args.save_dtype == "float16":
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(parameter.half())  # as they come out of the file that is written
    results = {
        **before,
        **score(recipe, trainer, encoded),
        **everyday_scores(recipe, trainer, encoded),
        "steps": trainer.state.global_step,
        "train_seconds": round(trainer.stopwatch.seconds, 1),
    }
    if args.process_index == 0:
        trainer.restore_settings()
        facts = describe_run(recipe, trainer, results, example, averaged)
        save_result(trainer, facts, ModelPlace(repo or args.hub_model_id or Path(args.output_dir).as_posix()), say)
    summarize(recipe, results, example, say)
    return True


def score_before(
    recipe: Recipe,
    trainer: VanillaTransformerTrainer,
    encoded: dict[str, datasets.Dataset],
    checkpoint: Path | None,
    say: Callable[..., None],
) -> dict[str, Any]:
    """What the model of `init_from` reaches before it is trained; kept in a file for the case that the run goes on."""
    path = Path(recipe.training.output_dir) / RESULTS_BEFORE
    if checkpoint is not None:
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
    scores = score(recipe, trainer, encoded)
    for split in encoded:
        if split != "train":
            say(f"before training, {split}: {describe_scores(scores, split)}")
    before = {
        f"{name}_before": value
        for name, value in scores.items()
        if not name.endswith(("_rows", "_signature", "_margin"))
    }
    if recipe.training.process_index == 0:
        path.write_text(json.dumps(before, indent=2) + "\n", encoding="utf-8")
    return before


def build_model(
    recipe: Recipe, text: Any, checkpoint: Path | None, say: Callable[..., None]
) -> tuple[VanillaTransformerPreTrainedModel, VanillaTransformerTokenizer, list[str]]:
    """
    A model to train and its tokenizer: new ones, or those that the recipe starts from, with the names of the tensors
    that are new in these.
    """
    arguments, task = recipe.model, recipe.task
    if arguments.init_from is not None:
        model, tokenizer, new = load_initial_model(recipe, text, str(checkpoint or arguments.init_from))
    else:
        tokenizer, new = load_tokenizer(recipe, text, checkpoint), []
        fields = {**task.config_fields(text), **arguments.config_fields(), "vocab_size": len(tokenizer)}
        model = task.model_class(VanillaTransformerConfig.from_preset(arguments.preset, **fields))
        if checkpoint is None and arguments.tokenizer is None and len(tokenizer) < arguments.vocab_size:
            say(
                f"the vocabulary shrinks from {arguments.vocab_size:,} to {len(tokenizer):,}: no two tokens are left "
                f"that stand side by side {arguments.min_frequency} times in the text"
            )
    name = arguments.preset if arguments.init_from is None else f"that of {arguments.init_from}"
    say(f"model: {name}, {model.num_parameters():,} parameters, vocabulary of {len(tokenizer):,}")
    if new:
        parts = dict.fromkeys(re.sub(r"\.(layers\.\d+|weight|bias)\b.*", "", tensor) for tensor in new)
        say(f"new parts, which {arguments.init_from} has not: {', '.join(parts)}")
    return model, tokenizer, new


def load_initial_model(
    recipe: Recipe, text: Any, folder: str
) -> tuple[VanillaTransformerPreTrainedModel, VanillaTransformerTokenizer, list[str]]:
    """
    The model of `init_from` with its tokenizer, in float32, with the recipe's dropout and label smoothing, and the
    names of its tensors that are new: a head, or a stack that the model there has not.

    Args:
        folder: `init_from`; where a run goes on its checkpoint, which has all of it: `init_from` may have changed.

    Raises:
        ModelFolderError, RecipeError: if it cannot be loaded, is another kind of model, or the recipe says that it has
            another shape or vocabulary than it has.
    """
    arguments = recipe.model
    changes = arguments.config_fields()
    free = {name: changes[name] for name in changes if name in FREE_FIELDS}
    task = recipe.task
    auto_class = auto_class_of(task.model_class.__name__)
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # transformers' table of new parts, which we tell in a line
    model, tokenizer, new = load_parts(folder, auto_class, **task.config_fields(text), **free)
    logging.set_verbosity(verbosity)
    if not isinstance(model, task.model_class):
        raise RecipeError(
            f"`init_from` {folder} is a model of type {model.config.model_type!r}. Name a folder that "
            "this program wrote, or a repository made from one."
        )
    source = AutoConfig.from_pretrained(folder)
    damaged = [name for name in new if is_part_of(name, source)]
    if damaged:
        raise ModelFolderError(f"The weights in {folder} lack {len(damaged)} tensors, such as {damaged[0]}.")
    same = source.architectures == [task.model_class.__name__] and source.id2label == model.config.id2label
    head = getattr(model, "classifier", None)
    if head is not None and not new and not same:
        torch.nn.init.xavier_uniform_(head.weight)  # what it told apart are other labels
        torch.nn.init.zeros_(head.bias)
        new = ["classifier.bias", "classifier.weight"]
    model.config.validate_architecture()
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
                f"`init_from` {folder} has `{name}` {getattr(model.config, name)} and {cause} says "
                f"{value}. A trained model keeps what it was made with: leave this out, or train a new model."
            )
    if arguments.tokenizer is not None:
        raise RecipeError(
            f"`tokenizer` is {arguments.tokenizer} beside `init_from`, whose model knows its own tokenizer alone. "
            "Leave `tokenizer` out."
        )
    return model.float(), tokenizer, new


def is_part_of(name: str, config: VanillaTransformerConfig) -> bool:
    """Whether a tensor belongs to a stack, or to the embeddings, of a model with that configuration."""
    stacks = {"encoder": config.has_encoder, "decoder": config.has_decoder}
    stack = name.removeprefix("model.").partition(".")[0]
    if ".encoder_attn" in name:
        return config.is_encoder_decoder
    return stack == "shared" or stacks.get(stack, False)


def load_tokenizer(recipe: Recipe, text: Any, checkpoint: Path | None) -> VanillaTransformerTokenizer:
    """The tokenizer of the checkpoint, or the one the recipe names, or one learned from the text."""
    arguments = recipe.model
    folder = checkpoint or arguments.tokenizer
    if folder is not None:
        if not (Path(folder) / "tokenizer.json").is_file():
            raise RecipeError(f"`tokenizer` is {folder}, which has no tokenizer.json.")
        return VanillaTransformerTokenizer.from_pretrained(folder)
    return first_process(recipe.training, lambda: learn_tokenizer(arguments, recipe.task.lines(text)))


def learn_tokenizer(arguments: ModelArguments, lines: list[str]) -> VanillaTransformerTokenizer:
    """A tokenizer of some text; of parallel text a joint one (§5.1)."""
    try:
        return VanillaTransformerTokenizer.train(
            lines,
            arguments.vocab_size,
            min_frequency=arguments.min_frequency,
            show_progress=sys.stderr.isatty(),
        )
    except ValueError as error:
        raise RecipeError(str(error)) from error


def choose_weights(trainer: VanillaTransformerTrainer, say: Callable[..., None]) -> int:
    """
    Load the mean of the last checkpoints (§6.1); with `load_best_model_at_end` of the last ones up to the best, or the
    best alone where validation NLL says so.

    Returns:
        how many checkpoints the result is the mean of.
    """
    args, state = trainer.args, trainer.state
    # Not those of a later step, which another run may have left.
    whole = []
    for folder in regular_checkpoints(args.output_dir, up_to_step=state.global_step):
        damage = find_damage_of_weights(folder)
        if damage is None:
            whole.append(folder)
        else:
            say(f"{folder} is damaged and takes no part in the result: {damage}")
    best = find_best(whole, state.log_history) if args.load_best_model_at_end else None
    if best is not None:
        whole = [folder for folder in whole if step_of(folder) <= step_of(best)]
    averaged = whole[-(args.average_checkpoints or 1) :]
    model = trainer.accelerator.unwrap_model(trainer.model)
    if len(averaged) > 1:
        # Tied weights are stored once; loading them under that name leaves the ties as they are.
        model.load_state_dict(average_weights(averaged), strict=False)
        say(f"averaged {len(averaged)} checkpoints: {', '.join(folder.name for folder in averaged)}")
    elif best is not None:
        model.load_state_dict(average_weights([best]), strict=False)
        say(f"kept {best.name}, the best by validation NLL")
    if best is not None and len(averaged) > 1:
        trainer.decode = False
        mean_loss = trainer.evaluate(metric_key_prefix="mean")["mean_loss"]
        best_loss = validation_losses(state.log_history)[step_of(best)]
        if best_loss <= mean_loss:
            averaged = [best]
            model.load_state_dict(average_weights(averaged), strict=False)
        kept = "the mean" if len(averaged) > 1 else best.name
        say(f"validation NLL: mean {mean_loss:.4f}, {best.name} {best_loss:.4f}; {kept} is kept")
    return len(averaged)


def score(recipe: Recipe, trainer: VanillaTransformerTrainer, encoded: dict[str, datasets.Dataset]) -> dict[str, Any]:
    """Every score of every text but the training text, in float32, in which the weights are saved."""
    results: dict[str, Any] = {}
    with trainer.full_precision():
        for split, dataset in encoded.items():
            if split != "train":
                results |= {f"{split}_rows": len(dataset), **recipe.task.score(trainer, dataset, split)}
    return results


def everyday_scores(
    recipe: Recipe, trainer: VanillaTransformerTrainer, encoded: dict[str, datasets.Dataset]
) -> dict[str, Any]:
    """Scores of text as people type it, in float32 too."""
    with trainer.full_precision():
        return recipe.task.everyday_scores(trainer, encoded)


if __name__ == "__main__":
    sys.exit(main())
