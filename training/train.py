"""
Train a translation model by a recipe.

    python -m training.train training/recipes/demo.yaml
    python -m training.train training/recipes/multi30k_en_de.yaml --output_dir runs/multi30k --seed 2
    accelerate launch -m training.train training/recipes/multi30k_en_de.yaml
    torchrun --nproc_per_node 2 -m training.train training/recipes/multi30k_en_de.yaml   # two processes on CPU

The result is a folder that `AutoModelForSeq2SeqLM` and `AutoTokenizer` load. `--resume_from_checkpoint true` goes on
from the last checkpoint.
"""

import gc
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import torch
import torch.distributed
from huggingface_hub.errors import StrictDataclassError
from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]
from transformers import TrainerState, set_seed
from transformers.trainer_utils import HubStrategy
from transformers.utils import logging

from training.arguments import DataArguments, ModelArguments, RecipeError, TrainingArguments
from training.averaging import average_weights
from training.batching import batch_budget, derive_accumulation
from training.checkpoints import (
    EXTRA,
    SHAPE,
    check_continuation,
    check_space,
    find_best,
    find_checkpoints,
    is_finished,
    prepare_output_dir,
    step_of,
    validation_losses,
)
from training.cleaning import LanguageEvidence, check_direction, clean, describe, hold_out, report
from training.data import ParallelText, load_split, read_two_files
from training.encoding import encode, within
from training.metrics.translation import score_translations
from training.processes import check_processes, first_process
from training.publishing import PushCallback, prepare_push, publish
from training.recipe import ROW_NOTES, Recipe, parse_recipe
from training.results import choose_example, describe_progress, describe_run, save_result, summarize
from training.tasks.translation import TranslationTrainer
from vanilla_transformer import (
    VanillaTransformerConfig,
    VanillaTransformerForConditionalGeneration,
    VanillaTransformerTokenizer,
)
from vanilla_transformer.conversion import ConversionError, marian_config
from vanilla_transformer.loading import ModelFolderError, load_model
from vanilla_transformer.model_card import ModelCardError, ModelPlace
from vanilla_transformer.text import TextError

SPLITS = ("train", "validation", "test")
# What may change in a trained model.
FREE_FIELDS = ("dropout", "attention_dropout", "activation_dropout", "label_smoothing")


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
        check_processes(recipe.training, arguments)
        say = print if recipe.training.process_index == 0 else lambda *_: None
        texts = load_texts(recipe.data, recipe.training)
        for split, text in texts.items():
            say(describe(text, split))
        if recipe.data.report_only:
            say(report(texts["train"]))
        else:
            if recipe.has_table:
                recipe = parse_recipe(arguments, pairs=len(texts["train"]))
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
            "interrupted. Go on from the last checkpoint: repeat the command with `--resume_from_checkpoint true`.",
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


def load_texts(arguments: DataArguments, args: TrainingArguments) -> dict[str, ParallelText]:
    """
    The texts that the recipe names, cleaned: "train" among them, and a held-out part of it where it asks for one.

    Raises:
        TextError, RecipeError: if a text cannot be read, or one that is needed is missing.
    """
    texts: dict[str, ParallelText] = {}
    for split in SPLITS:
        text = load_split(arguments, split)
        if text is not None:
            texts[split] = clean(text, arguments, split)
    if "train" not in texts:
        raise RecipeError(
            "No training text. Name `source` and `target`, or `train_file`, or `dataset_name`, or `corpus`."
        )
    for name, (source, target) in arguments.named_test_sets().items():
        texts[name] = clean(read_two_files(source, target), arguments, name)
    evidence = LanguageEvidence(texts["train"]) if len(texts) > 1 else None
    for split, text in texts.items():
        if evidence is not None and split != "train":
            check_direction(evidence, text, split)
    if "validation" not in texts and arguments.hold_out:
        train, validation = hold_out(texts.pop("train"), arguments.hold_out)
        texts = {"train": train, "validation": validation, **texts}
    if "validation" not in texts and args.eval_strategy != "no" and not arguments.report_only:
        raise RecipeError(
            f"`eval_strategy` is {args.eval_strategy.value} and there is no validation text. Name some, for instance "
            "with `validation_source` and `validation_target`, or set `hold_out`."
        )
    return texts


def describe_choice(recipe: Recipe) -> str:
    """What the table of sizes chose, and what to expect of a corpus of that size."""
    limit = f"up to {recipe.row['up_to']:,}" if "up_to" in recipe.row else "more"
    values = {name: value for name, value in recipe.row.items() if name not in ROW_NOTES}
    shown = (f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items())
    line = f"chosen for this size ({limit} pairs): {', '.join(shown)}"
    return f"{line}\nwhat to expect: {recipe.row['expect']}" if "expect" in recipe.row else line


def run(recipe: Recipe, texts: dict[str, ParallelText], say: Callable[..., None]) -> None:
    """Train, choose, score, and save a folder that can be used and pushed as it is."""
    args = recipe.training
    logging.set_verbosity_warning()
    logging.disable_progress_bar()
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
        disable_progress_bars()
    set_seed(args.seed)
    if args.num_threads is not None:
        torch.set_num_threads(min(args.num_threads, torch.get_num_threads()))
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(Path(args.output_dir) / "logs")

    repositories = first_process(args, lambda: prepare_push(args)) if args.push_to_hub else None
    checkpoint = first_process(args, lambda: prepare_output_dir(args, say))
    model, tokenizer = build_model(recipe, texts["train"], checkpoint, say)
    check_space(args.output_dir, model.num_parameters())
    if args.hub_native_model_id is not None:
        marian_config(model.config)
    say(f"tokens a step, source and target each: {derive_accumulation(args)}")
    encoded = encode_texts(recipe, texts, model.config, tokenizer, say)
    trainer = TranslationTrainer(
        model=model,
        args=args,
        train_dataset=encoded["train"],
        eval_dataset=encoded.get("validation"),
        processing_class=tokenizer,
    )
    example = recipe.data.example or choose_example(encoded["train"])
    pushes = None
    if repositories is not None and args.hub_strategy != HubStrategy.END and args.process_index == 0:
        pushes = PushCallback(trainer, repositories[0], lambda: describe_progress(recipe, trainer, example), say)
        trainer.add_callback(pushes)
    finished = False
    try:
        finished = train_and_save(recipe, trainer, encoded, checkpoint, example, repositories and repositories[0], say)
    finally:
        if pushes is not None:
            pushes.finish(all_of_them=bool(finished))
        trainer.callback_handler.callbacks.clear()  # they hold the trainer, and it the process group
    if finished and repositories is not None:
        for line in first_process(args, lambda: publish(args, *repositories)):
            say(line)


def encode_texts(
    recipe: Recipe,
    texts: dict[str, ParallelText],
    config: VanillaTransformerConfig,
    tokenizer: VanillaTransformerTokenizer,
    say: Callable[..., None],
) -> dict[str, datasets.Dataset]:
    """
    Every text with its token ids, and training text without pairs that are too long for a batch.

    Raises:
        RecipeError: if no training pair is short enough, or a text to score has a pair past the last learned position.
    """
    args = recipe.training
    with args.main_process_first(desc="encoding"):
        workers = recipe.data.preprocessing_num_workers
        encoded = {split: encode(text, tokenizer, f"Encoding {split}", workers) for split, text in texts.items()}
    longest, cause = batch_budget(args), "Raise `tokens_per_step` or `tokens_per_device`"
    for limit, name in ((config.position_limit, "max_position_embeddings"), (recipe.data.max_length, "max_length")):
        if limit is not None and limit < longest:
            longest, cause = limit, f"Raise `{name}`"
    for split, dataset in encoded.items():
        short = within(dataset, longest if split == "train" else config.position_limit or sys.maxsize)
        too_long = len(dataset) - len(short)
        if too_long and split != "train":
            raise RecipeError(
                f"{too_long:,} pairs of the {split} text are longer than the {config.position_limit:,} positions of "
                "the model. Raise `max_position_embeddings`, or leave them out."
            )
        if too_long:
            say(f"{split}: {too_long:,} pairs longer than {longest:,} tokens left out")
        if not len(short):
            raise RecipeError(f"Every pair of the {split} text is longer than {longest:,} tokens. {cause}.")
        encoded[split] = short
    return encoded


def train_and_save(
    recipe: Recipe,
    trainer: TranslationTrainer,
    encoded: dict[str, datasets.Dataset],
    checkpoint: Path | None,
    example: str,
    repo: str | None,
    say: Callable[..., None],
) -> bool:
    """From the first step, or from a checkpoint, to the folder with the result; whether it got there."""
    args, model = recipe.training, trainer.model
    scored = [split for split in encoded if split != "train"]
    before = score_before(recipe, trainer, encoded, scored, checkpoint, say)

    started = time.perf_counter()
    if checkpoint is not None:
        say(f"going on from {checkpoint}")
        logging.set_verbosity_error()  # Trainer's comparison of settings, which knows less than ours
        check_continuation(checkpoint, model.config, trainer.make_train_sampler().steps)
    if checkpoint is not None and is_finished(checkpoint, args):
        # Ended after its last step, in scoring perhaps. Trainer would take one step more.
        say(f"{checkpoint} is the last step: no training is left")
        model.load_state_dict(average_weights([checkpoint]), strict=False)
        trainer.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
    else:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if trainer.termination.obeyed:
        say(
            f"stopped by SIGTERM after step {trainer.state.global_step:,}, which is saved. Go on: repeat the command "
            "with `--resume_from_checkpoint true`."
        )
        return False
    seconds = None if checkpoint else round(time.perf_counter() - started, 1)  # the first part's is not known

    averaged = choose_weights(trainer, say)
    results = {
        **before,
        **score(trainer, encoded, scored, recipe.data.target_lang),
        "steps": trainer.state.global_step,
    }
    if seconds is not None:
        results["train_seconds"] = seconds
    if args.process_index == 0:
        trainer.restore_settings()
        facts = describe_run(recipe, trainer, results, example, averaged, seconds)
        save_result(trainer, facts, ModelPlace(repo or args.hub_model_id or str(args.output_dir)), say)
    summarize(say, Path(args.output_dir), results, scored, example)
    return True


def score_before(
    recipe: Recipe,
    trainer: TranslationTrainer,
    encoded: dict[str, datasets.Dataset],
    splits: list[str],
    checkpoint: Path | None,
    say: Callable[..., None],
) -> dict[str, Any]:
    """What the model of `init_from` reaches before it is trained; kept in a file for the case that the run goes on."""
    path = Path(recipe.training.output_dir) / "results_before.json"
    if recipe.model.init_from is None:
        return {}
    if checkpoint is not None:
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
    scores = score(trainer, encoded, splits, recipe.data.target_lang)
    for split in splits:
        say(f"before training, {split}: NLL {scores[f'{split}_loss']:.4f}, BLEU {scores[f'{split}_bleu']:.2f}")
    before = {f"{name}_before": value for name, value in scores.items() if not name.endswith("_signature")}
    if recipe.training.process_index == 0:
        path.write_text(json.dumps(before, indent=2) + "\n", encoding="utf-8")
    return before


def build_model(
    recipe: Recipe, text: ParallelText, checkpoint: Path | None, say: Callable[..., None]
) -> tuple[VanillaTransformerForConditionalGeneration, VanillaTransformerTokenizer]:
    """A model to train and its tokenizer: new ones, or those that the recipe starts from."""
    arguments = recipe.model
    if arguments.init_from is not None:
        model, tokenizer = load_initial_model(recipe)
    else:
        tokenizer = load_tokenizer(arguments, text, checkpoint, recipe.training)
        config = VanillaTransformerConfig.from_preset(
            arguments.preset, **{**arguments.config_fields(), "vocab_size": len(tokenizer)}
        )
        model = VanillaTransformerForConditionalGeneration(config)
        if checkpoint is None and arguments.tokenizer is None and len(tokenizer) < arguments.vocab_size:
            say(
                f"the vocabulary shrinks from {arguments.vocab_size:,} to {len(tokenizer):,}: no two tokens are left "
                f"that stand side by side {arguments.min_frequency} times in the text"
            )
    name = arguments.preset if arguments.init_from is None else f"that of {arguments.init_from}"
    say(f"model: {name}, {model.num_parameters():,} parameters, vocabulary of {len(tokenizer):,}")
    return model, tokenizer


def load_initial_model(
    recipe: Recipe,
) -> tuple[VanillaTransformerForConditionalGeneration, VanillaTransformerTokenizer]:
    """
    The model of `init_from` with its tokenizer, in float32, with the recipe's dropout and label smoothing.

    Raises:
        ModelFolderError, RecipeError: if it cannot be loaded, is another kind of model, or the recipe says that it has
            another shape or vocabulary than it has.
    """
    arguments = recipe.model
    changes = arguments.config_fields()
    free = {name: changes[name] for name in changes if name in FREE_FIELDS}
    model, tokenizer = load_model(str(arguments.init_from), **free)
    if not isinstance(model, VanillaTransformerForConditionalGeneration):
        raise RecipeError(
            f"`init_from` {arguments.init_from} is a model of type {model.config.model_type!r}. Name a folder that "
            "this program wrote, or a repository made from one."
        )
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
                f"`init_from` {arguments.init_from} has `{name}` {getattr(model.config, name)} and {cause} says "
                f"{value}. A trained model keeps its shape and vocabulary: leave this out, or train a new model."
            )
    if arguments.tokenizer is not None:
        raise RecipeError(
            f"`tokenizer` is {arguments.tokenizer} beside `init_from`, whose model knows its own tokenizer alone. "
            "Leave `tokenizer` out."
        )
    return model.float(), tokenizer


def load_tokenizer(
    arguments: ModelArguments, text: ParallelText, checkpoint: Path | None, args: TrainingArguments
) -> VanillaTransformerTokenizer:
    """The tokenizer of the checkpoint, or the one the recipe names, or one learned from both sides of the text."""
    folder = checkpoint or arguments.tokenizer
    if folder is not None:
        if not (Path(folder) / "tokenizer.json").is_file():
            raise RecipeError(f"`tokenizer` is {folder}, which has no tokenizer.json.")
        return VanillaTransformerTokenizer.from_pretrained(folder)
    return first_process(args, lambda: learn_tokenizer(arguments, text))


def learn_tokenizer(arguments: ModelArguments, text: ParallelText) -> VanillaTransformerTokenizer:
    """A joint tokenizer of both sides of a text (§5.1)."""
    try:
        return VanillaTransformerTokenizer.train(
            [*text.sources, *text.targets],
            arguments.vocab_size,
            min_frequency=arguments.min_frequency,
            show_progress=sys.stderr.isatty(),
        )
    except ValueError as error:
        raise RecipeError(str(error)) from error


def choose_weights(trainer: TranslationTrainer, say: Callable[..., None]) -> int:
    """
    Load the mean of the last checkpoints (§6.1); with `load_best_model_at_end` of the last ones up to the best, or the
    best alone where validation NLL says so.

    Returns:
        how many checkpoints the result is the mean of.
    """
    args, state = trainer.args, trainer.state
    # Not those of a later step, which another run may have left, nor one that was written for an interruption.
    whole = find_checkpoints(args.output_dir, up_to_step=state.global_step)
    whole = [folder for folder in whole if not (folder / EXTRA).exists()]
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


def score(
    trainer: TranslationTrainer,
    encoded: dict[str, datasets.Dataset],
    splits: list[str],
    target_lang: str | None,
) -> dict[str, Any]:
    """NLL, perplexity and every score of translations of some splits, with their signatures."""
    trainer.decode = True
    results: dict[str, Any] = {}
    for split in splits:
        output = trainer.predict(encoded[split], metric_key_prefix=split)
        results |= {name: output.metrics[name] for name in (f"{split}_loss", f"{split}_perplexity")}
        scores = score_translations(
            list(output.predictions), encoded[split]["target"], target_lang, trainer.args.bleu_tokenize
        )
        for key, score in scores.items():
            results |= {f"{split}_{key}": score.value, f"{key}_signature": score.signature}
    trainer.decode = trainer.args.predict_with_generate
    return results


if __name__ == "__main__":
    sys.exit(main())
