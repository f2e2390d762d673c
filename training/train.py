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
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import datasets
import torch
import torch.distributed
from huggingface_hub.errors import StrictDataclassError
from transformers import TrainerState, set_seed
from transformers.utils import logging

from training.arguments import DataArguments, ModelArguments, RecipeError, TrainingArguments, parse_recipe
from training.averaging import average_weights, find_checkpoints, step_of
from training.data import ParallelText, encode, load_split, within
from training.trainer import VanillaTransformerTrainer, batch_budget, derive_accumulation
from vanilla_transformer import (
    VanillaTransformerConfig,
    VanillaTransformerForConditionalGeneration,
    VanillaTransformerTokenizer,
)
from vanilla_transformer.model_card import ModelCardFacts, write_model_card
from vanilla_transformer.text import TextError

SPLITS = ("train", "validation", "test")


def main(arguments: list[str] | None = None) -> int:
    """Run a recipe; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    status = 0
    try:
        model_arguments, data_arguments, args = parse_recipe(arguments)
        check_processes(args, arguments)
        run(model_arguments, data_arguments, args)
    except (RecipeError, TextError) as error:
        print(f"error: {error}", file=sys.stderr)
        status = 2
    except StrictDataclassError as error:  # a configuration; its cause says it without a frame around
        print(f"error: {error.__cause__ or error}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print(
            "interrupted. Go on from the last checkpoint: repeat the command with `--resume_from_checkpoint true`.",
            file=sys.stderr,
        )
        status = 130
    # After an error the others may not come to a barrier; the launcher stops them.
    if torch.distributed.is_initialized() and status == 0:
        gc.collect()  # gloo aborts at exit if groups outlive the objects that use them
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
    return status


def check_processes(args: TrainingArguments, arguments: list[str]) -> None:
    """Refuse launches that would silently not do what they seem to."""
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if args.world_size != started:
        raise RecipeError(
            f"{started} processes were started and each sees {args.world_size}. Launch with "
            f"`torchrun --nproc_per_node {started} -m training.train {' '.join(arguments)}`."
        )
    if args.n_gpu > 1:
        raise RecipeError(
            f"Plain python would drive {args.n_gpu} GPUs by nn.DataParallel, which is slow. Launch with "
            f"`accelerate launch -m training.train {' '.join(arguments)}`."
        )


def run(model_arguments: ModelArguments, data_arguments: DataArguments, args: TrainingArguments) -> None:
    """Train, average, score, and save a folder that can be used and pushed as it is."""
    say = print if args.process_index == 0 else lambda *_: None
    logging.set_verbosity_warning()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()
    set_seed(args.seed)
    if args.num_threads is not None:
        torch.set_num_threads(min(args.num_threads, torch.get_num_threads()))
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(Path(args.output_dir) / "logs")

    texts = load_texts(data_arguments, args)
    checkpoint = prepare_output_dir(args)
    for split, text in texts.items():
        left_out = f", {text.empty:,} with an empty side left out" if text.empty else ""
        say(f"{split}: {len(text):,} pairs{left_out}")
    tokenizer = load_tokenizer(model_arguments, texts["train"], checkpoint)
    config = VanillaTransformerConfig.from_preset(
        model_arguments.preset, **{**model_arguments.config_fields(), "vocab_size": len(tokenizer)}
    )
    model = VanillaTransformerForConditionalGeneration(config)
    say(f"model: {model_arguments.preset}, {model.num_parameters():,} parameters, vocabulary of {len(tokenizer):,}")
    if checkpoint is None and model_arguments.tokenizer is None and len(tokenizer) < model_arguments.vocab_size:
        say(f"the text has no pairs left to merge for a vocabulary of {model_arguments.vocab_size:,}")

    say(f"tokens a step, source and target each: {derive_accumulation(args)}")
    encoded = {split: encode(text, tokenizer) for split, text in texts.items()}
    longest = min(batch_budget(args), config.position_limit or batch_budget(args))
    train_dataset = within(encoded["train"], longest)
    if not len(train_dataset):
        raise RecipeError(f"Every pair is longer than {longest:,} tokens. Raise `tokens_per_step`.")
    if too_long := len(encoded["train"]) - len(train_dataset):
        say(f"{too_long:,} pairs longer than {longest:,} tokens left out")
    trainer = VanillaTransformerTrainer(
        model=model,
        args=args,
        train_dataset=train_dataset,
        eval_dataset=encoded.get("validation"),
        processing_class=tokenizer,
    )

    started = time.perf_counter()
    if checkpoint is not None and is_finished(checkpoint, args):
        # Ended after its last step, in scoring perhaps. Trainer would take one step more.
        say(f"{checkpoint} is the last step: no training is left")
        model.load_state_dict(average_weights([checkpoint]), strict=False)
        trainer.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
    else:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    seconds = None if checkpoint else round(time.perf_counter() - started, 1)  # the first part's is not known

    # Not those of a later step, which another run may have left.
    averaged = find_checkpoints(args.output_dir, up_to_step=trainer.state.global_step)[
        -(args.average_checkpoints or 1) :
    ]
    if len(averaged) > 1:
        # Tied weights are stored once; loading them under that name leaves the ties as they are.
        model.load_state_dict(average_weights(averaged), strict=False)
        say(f"averaged {len(averaged)} checkpoints: {', '.join(folder.name for folder in averaged)}")
    results: dict[str, float | int | str] = {}
    for split in ("validation", "test"):
        if split in encoded:
            measured = trainer.evaluate(encoded[split], metric_key_prefix=split)
            names = [f"{split}_{name}" for name in ("loss", "perplexity", "bleu")]
            results |= {name: measured[name] for name in names if name in measured}
    results["steps"] = trainer.state.global_step
    if seconds is not None:
        results["train_seconds"] = seconds
    if trainer.bleu_signature is not None:
        results["bleu_signature"] = trainer.bleu_signature

    if args.process_index == 0:
        trainer.restore_settings()
        facts = ModelCardFacts(
            preset=model_arguments.preset,
            config=config,
            parameters=model.num_parameters(),
            source_lang=data_arguments.source_lang,
            target_lang=data_arguments.target_lang,
            dataset_name=data_arguments.dataset_name,
            train_pairs=len(train_dataset),
            steps=trainer.state.global_step,
            tokens_per_step=args.tokens_per_step,
            warmup_steps=int(args.warmup_steps) if args.noam else None,
            noam_scale=args.noam_scale,
            seed=args.seed,
            averaged=len(averaged),
            optimizer=f"Adam, β1 {args.adam_beta1:g}, β2 {args.adam_beta2:g}, ε {args.adam_epsilon:g}",
            seconds=seconds,
            hardware=describe_hardware(args),
            example=texts["train"].sources[0],
            results=results,
        )
        save_result(Path(args.output_dir), model, tokenizer, facts, args.hub_model_id)
    summarize(say, Path(args.output_dir), results, texts["train"].sources[0])
    trainer.callback_handler.callbacks.clear()  # they hold the trainer, and it the process group


def is_finished(checkpoint: Path, args: TrainingArguments) -> bool:
    """Whether a run that goes on from a checkpoint has no step left to do."""
    last = args.max_steps
    if last <= 0:  # counted in epochs: as many as the run that wrote the checkpoint was to do
        state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        last = state["max_steps"] if state["num_train_epochs"] == args.num_train_epochs else sys.maxsize
    return step_of(checkpoint) >= last


def load_texts(arguments: DataArguments, args: TrainingArguments) -> dict[str, ParallelText]:
    """The splits that the recipe names, with "train" among them."""
    texts = {split: text for split in SPLITS if (text := load_split(arguments, split)) is not None}
    if "train" not in texts:
        raise RecipeError("No training text. Name `source` and `target`, or `train_file`, or `corpus`.")
    if "validation" not in texts and args.eval_strategy != "no":
        raise RecipeError(
            f"`eval_strategy` is {args.eval_strategy.value} and there is no validation text. Name some, for instance "
            "with `validation_source` and `validation_target`."
        )
    return texts


def save_result(
    output_dir: Path,
    model: VanillaTransformerForConditionalGeneration,
    tokenizer: VanillaTransformerTokenizer,
    facts: ModelCardFacts,
    hub_model_id: str | None,
) -> None:
    """Write the model, its tokenizer, its results and its card: what a repository on the Hub holds."""
    model.save_pretrained(output_dir)
    tokenizer.save_pretrained(output_dir)
    for weights in output_dir.glob("*.safetensors"):  # written for the owner's eyes alone
        shutil.copymode(output_dir / "config.json", weights)
    (output_dir / "all_results.json").write_text(json.dumps(facts.results, indent=2) + "\n", encoding="utf-8")
    write_model_card(output_dir, facts, hub_model_id)


def prepare_output_dir(args: TrainingArguments) -> Path | None:
    """Make the folder and see that it can be written; returns the checkpoint to go on from, if any."""
    output_dir = Path(args.output_dir)
    checkpoints = find_checkpoints(output_dir)
    resume = str(args.resume_from_checkpoint or "false")
    checkpoint: Path | None = None
    if resume.lower() == "true":
        if not checkpoints:
            raise RecipeError(f"`resume_from_checkpoint` is true and {output_dir} has no complete checkpoint.")
        checkpoint = checkpoints[-1]
    elif resume.lower() != "false":
        checkpoint = Path(resume)
        if not (checkpoint / "trainer_state.json").is_file():
            raise RecipeError(f"`resume_from_checkpoint` is {resume}, which is no complete checkpoint.")
    # A checkpoint that was cut off would be in the way of the next one of its name, whichever way it goes on.
    stale = set(output_dir.glob("checkpoint-*")) - set(checkpoints)
    others = [folder for folder in checkpoints if checkpoint is None or step_of(folder) > step_of(checkpoint)]
    if checkpoint is not None and checkpoint.parent.resolve() != output_dir.resolve():
        others = checkpoints
    if others and not args.overwrite_output_dir:
        raise RecipeError(
            f"{output_dir} holds {others[-1].name} of an earlier run. Go on with `--resume_from_checkpoint true`, or "
            "delete it and start again with `--overwrite_output_dir true`."
        )
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        if args.process_index == 0:
            for folder in stale.union(others):
                shutil.rmtree(folder)
            with tempfile.TemporaryFile(dir=output_dir):
                pass
    except OSError as error:
        raise RecipeError(f"`output_dir` {output_dir} cannot be written: {error.strerror}.") from error
    return checkpoint


def load_tokenizer(
    arguments: ModelArguments, text: ParallelText, checkpoint: Path | None
) -> VanillaTransformerTokenizer:
    """The tokenizer of the checkpoint, or the one the recipe names, or one learned from both sides of the text."""
    folder = checkpoint or arguments.tokenizer
    if folder is None:
        try:
            return VanillaTransformerTokenizer.train([*text.sources, *text.targets], arguments.vocab_size)
        except ValueError as error:
            raise RecipeError(str(error)) from error
    if not (Path(folder) / "tokenizer.json").is_file():
        raise RecipeError(f"`tokenizer` is {folder}, which has no tokenizer.json.")
    return VanillaTransformerTokenizer.from_pretrained(folder)


def describe_hardware(args: TrainingArguments) -> str:
    """Such as "2 x NVIDIA H100" or "CPU, 2 threads"."""
    if args.device.type == "cuda":
        return f"{args.world_size} x {torch.cuda.get_device_name()}"
    threads = torch.get_num_threads()
    processes = f"{args.world_size} processes of " if args.world_size > 1 else ""
    return f"{args.device.type.upper()}, {processes}{threads} thread{'s' if threads > 1 else ''}"


def summarize(say: Callable[..., None], output_dir: Path, results: dict[str, float | int | str], example: str) -> None:
    """One screen: what came out, and what to do with it."""
    duration = f" in {results['train_seconds']:,.0f} s" if "train_seconds" in results else ""
    say(f"\n{results['steps']:,} steps{duration}")
    for split in ("validation", "test"):
        if f"{split}_loss" in results:
            line = f"{split}: NLL {results[f'{split}_loss']:.4f}, perplexity {results[f'{split}_perplexity']:.2f}"
            if f"{split}_bleu" in results:
                line += f", BLEU {results[f'{split}_bleu']:.2f}"
            say(line)
    if "bleu_signature" in results:
        say(f"sacreBLEU {results['bleu_signature']}")
    say(f"model: {output_dir}\ntranslate: {translate_command(output_dir, example)}")


def translate_command(model: Path, text: str) -> str:
    """The command line that translates a text with a model, as it can be pasted here."""
    program = Path(sys.executable).parent / "vanilla-transformer"
    if program.is_relative_to(Path.cwd()):
        program = program.relative_to(Path.cwd())
    return shlex.join([str(program), "translate", "--model", str(model), text])


if __name__ == "__main__":
    sys.exit(main())
