"""
A peer for comparisons of quality: MarianMTModel under a plain Seq2SeqTrainer, on the text of one of our recipes.

    python -m benchmarks.quality.marian_peer training/recipes/tatoeba_en_es.yaml --source train.en ... \
        --tokenizer checkpoints/tiny-en-es --epochs 40 --seconds 2700 --output_dir runs/marian

It has our vocabulary, our shape (of the model beside the tokenizer) and our time; batches, schedule and loss are the
Trainer's own, with the settings that its users choose for small data. The weights of the lowest validation loss are
kept. It leaves `hypothesis.txt`, the translations of the test text with beam 4, for `training.score --hypothesis`.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch
from transformers import (
    AutoConfig,
    DataCollatorForSeq2Seq,
    MarianMTModel,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)

from training.data.encoding import encode
from training.engine.arguments import runs_on_cpu
from training.recipe.parse import parse_recipe
from training.train import make_task
from vanilla_transformer import VanillaTransformerTokenizer
from vanilla_transformer.conversion.marian import marian_config


class Deadline(TrainerCallback):
    """Ends the training after so many seconds."""

    def __init__(self, seconds: float):
        self.seconds = seconds
        self.started = time.perf_counter()

    def on_train_begin(self, *_: object, **kwargs: object) -> None:
        self.started = time.perf_counter()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        left = torch.tensor(self.seconds - (time.perf_counter() - self.started))
        if torch.distributed.is_initialized():
            torch.distributed.broadcast(left, src=0)  # all processes stop after one step
        if left <= 0:
            control.should_training_stop = control.should_evaluate = control.should_save = True


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality.marian_peer", description="Train MarianMTModel."
    )
    parser.add_argument("--seconds", type=float, required=True, help="of training")
    parser.add_argument("--batch_size", type=int, default=64, help="sentences in a batch of a process (64)")
    parser.add_argument("--learning_rate", type=float, default=1e-3, help="the highest (0.001)")
    parser.add_argument("--warmup_steps", type=int, default=1000, help="of the rising learning rate (1000)")
    parser.add_argument("--epochs", type=float, required=True, help="how many fit into the seconds: for the schedule")
    options, words = parser.parse_known_args()
    recipe = parse_recipe(words)
    folder = str(recipe.model.tokenizer)
    tokenizer = VanillaTransformerTokenizer.from_pretrained(folder)
    config = marian_config(AutoConfig.from_pretrained(folder))
    config.dropout = AutoConfig.from_pretrained(folder).dropout
    texts = make_task(recipe).load_texts()
    columns = ["input_ids", "labels"]
    encoded = {split: encode(text, tokenizer).select_columns(columns) for split, text in texts.items()}
    set_seed(recipe.training.seed)
    model = MarianMTModel(config)
    arguments = Seq2SeqTrainingArguments(
        output_dir=recipe.training.output_dir,
        use_cpu=runs_on_cpu(recipe.training.run_on),
        seed=recipe.training.seed,
        per_device_train_batch_size=options.batch_size,
        per_device_eval_batch_size=options.batch_size,
        train_sampling_strategy="group_by_length",
        learning_rate=options.learning_rate,
        warmup_steps=options.warmup_steps,
        lr_scheduler_type="linear",
        label_smoothing_factor=0.1,
        num_train_epochs=options.epochs,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        logging_steps=100,
        report_to="none",
        disable_tqdm=True,
    )
    trainer = Seq2SeqTrainer(
        model,
        arguments,
        train_dataset=encoded["train"],
        eval_dataset=encoded["validation"],
        data_collator=DataCollatorForSeq2Seq(tokenizer, model=model),
        processing_class=tokenizer,
        callbacks=[Deadline(options.seconds)],
    )
    started = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - started
    if arguments.process_index == 0:
        translate(model, tokenizer, texts["test"].sources, Path(arguments.output_dir) / "hypothesis.txt")
        trainer.save_model()
        summary = {
            "parameters": model.num_parameters(),
            "steps": trainer.state.global_step,
            "epochs": trainer.state.epoch,
            "seconds": round(seconds),
            "best_validation_loss": trainer.state.best_metric,
        }
        print(json.dumps(summary))
    if torch.distributed.is_initialized():
        trainer.callback_handler.callbacks.clear()
        del trainer
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
    return 0


def translate(model: MarianMTModel, tokenizer: VanillaTransformerTokenizer, sources: list[str], path: Path) -> None:
    """Write translations with beam 4, sorted by length for the batches and in the order of the sources in the file."""
    model.eval()
    order = sorted(range(len(sources)), key=lambda i: len(sources[i]))
    translations = [""] * len(sources)
    for start in range(0, len(order), 64):
        chosen = order[start : start + 64]
        batch = tokenizer([sources[i] for i in chosen], return_tensors="pt", padding=True, split_special_tokens=True)
        outputs = model.generate(
            batch["input_ids"], attention_mask=batch["attention_mask"], num_beams=4, max_length=200
        )
        for i, text in zip(chosen, tokenizer.batch_decode(outputs, skip_special_tokens=True), strict=True):
            translations[i] = text
    path.write_text("\n".join(translations) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
