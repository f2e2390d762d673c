"""
Train a model by a recipe: for translation, or for the task that its field `task` names.

    python -m training.train training/recipes/demo.yaml
    python -m training.train training/recipes/multi30k_en_de.yaml --output_dir runs/multi30k --seed 2
    accelerate launch -m training.train training/recipes/multi30k_en_de.yaml
    torchrun --nproc_per_node 2 -m training.train training/recipes/multi30k_en_de.yaml   # two processes on CPU

The result is a folder that the Auto classes load. `--resume_from_checkpoint true` goes on from the last checkpoint.
"""

import sys

from transformers import TrainerState

from training.data.batching import StepPlan
from training.engine.arguments import TrainingArguments
from training.engine.fit import fit, score, score_before
from training.engine.processes import end_process_group, end_with_sigterm, launch, prepare_process
from training.engine.start import make_start, translate_once
from training.engine.task import Task
from training.engine.trainer import VanillaTransformerTrainer
from training.log import logger
from training.publish.progress import prepare_push, publish, push_checkpoints
from training.publish.result_folder import Course, describe_progress, describe_run, save_result, summarize
from training.recipe.corpus_size import describe_choice
from training.recipe.parse import Recipe
from training.recipe.resolve import resolve_recipe
from training.tasks import TASKS
from vanilla_transformer.errors import run_command
from vanilla_transformer.model_card import ModelCardFacts
from vanilla_transformer.scores import Results


def main(arguments: list[str] | None = None) -> int:
    """Run a recipe; returns the exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    with end_with_sigterm() as ended:
        ended.status = run_command(
            lambda: run(words),
            "interrupted. Go on from the last checkpoint: repeat the command with `--resume_from_checkpoint auto`.",
        )
    if ended.status == 0:  # after an error the others may not come to a barrier; the launcher stops them
        end_process_group()
    return ended.status


def run(words: list[str]) -> int:
    """Read the texts, and train on them unless the recipe asks for a report only; returns 0."""
    recipe = resolve_recipe(words)
    args, task = launch(recipe, words), make_task(recipe)
    with args.main_process_first(desc="reading"):  # a large text is prepared once for all
        texts = task.load_texts()
    for line in (*(task.describe(text, split) for split, text in texts.items()), *task.notes):
        logger.info(line)
    if recipe.data.report_only:
        if (report := task.report(texts["train"])) is not None:
            logger.info(report)
        return 0
    if recipe.has_table:
        recipe = resolve_recipe(words, pairs=len(texts["train"]))
        args, task = launch(recipe, words), make_task(recipe)
        logger.info(describe_choice(recipe.row))
    train(recipe, args, task, texts)
    return 0


def make_task(recipe: Recipe) -> Task:
    """Return the task that the recipe names."""
    return TASKS[recipe.model.task](recipe.data, recipe.training)


def train(recipe: Recipe, args: TrainingArguments, task: Task, texts: dict) -> None:
    """Train, choose, score, and save a folder that can be used as it is; empties `texts` once they are encoded."""
    prepare_process(args)
    repositories = prepare_push(args)
    start = make_start(recipe, task, args, texts["train"])
    texts |= task.add_old_text(texts, lambda lines: translate_once(start, args, lines))
    plan = StepPlan.make(recipe.training.tokens_per_step, recipe.training.tokens_per_device, args.world_size)
    sides = ", source and target each" if start.model.config.is_encoder_decoder else ""
    logger.info(f"tokens a step{sides}: {plan}")

    with args.main_process_first(desc="encoding"):
        encoded = task.encode_texts(texts, start.model.config, start.tokenizer)
    task.adapt_model(start.model, texts["train"], encoded["train"])
    trainer = VanillaTransformerTrainer(
        start.model,
        args,
        task.make_objective(start.tokenizer, start.model.config, encoded["train"]),
        train_dataset=encoded["train"],
        eval_dataset=encoded.get("validation"),
        processing_class=start.tokenizer,
        plan=plan,
    )
    trainer.evaluator.old_dataset = encoded.get("replay")
    example = task.example(texts["train"], encoded["train"])
    texts.clear()  # for the caller too: from here on only the encoded text is needed

    course = Course(args, len(encoded["train"]), trainer.stopwatch)

    def describe(state: TrainerState) -> ModelCardFacts:
        return describe_progress(recipe, task, course, state, example)

    with push_checkpoints(trainer, repositories, describe):
        before = score_before(recipe, task, trainer, encoded, start)
        choice = fit(trainer, start)
        if choice is None:  # stopped by SIGTERM, with a checkpoint
            return
        splits, robustness = score(task, trainer, encoded)
        results = Results(splits, before, robustness, trainer.state.global_step, course.seconds)
        facts = describe_run(recipe, course, trainer.state, results, example, choice)
        save_result(trainer, facts, repositories)
        summarize(recipe, results, example)
    if repositories is not None:
        publish(args, repositories)


if __name__ == "__main__":
    sys.exit(main())
