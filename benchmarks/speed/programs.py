"""
How fast whole programs train: ours by the recipe of the paper's base model, MarianMTModel by Trainer's defaults.

    python -m benchmarks.speed.programs --threads 2

Both read the same text, of which ours leaves out what the recipe does (repeated pairs, those that are 4 times as long
on one side, those for its scores), and have the base shape; they run in turn, in one process each (`--processes 2
--threads 1` starts each under torchrun). Ours has what recipe and program choose: batches of 25,000 tokens a side, of
similar lengths, label smoothing, freed memory kept. Marian has what Trainer chooses: 8 random sentences, no smoothing.
Both are shown in float32, as they come, and with bfloat16 switched on. Speed is source and target tokens a second,
without padding, of all processes, from the second step on.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import datasets
import torch
import yaml
from transformers import (
    BatchEncoding,
    DataCollatorForSeq2Seq,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    TrainerCallback,
)

from benchmarks.machine import describe, show_table
from benchmarks.speed.systems import SHAPES, marian_model
from benchmarks.speed.workers import rotated
from benchmarks.text import encoded, learn_tokenizer, sentence_pairs

MODULE = "benchmarks.speed.programs"
RECIPE = Path(__file__).resolve().parents[2] / "training" / "recipes" / "wmt14_en_de_base.yaml"
HELD_OUT = 100  # pairs, so that our program has something to translate at its end
SYSTEMS = ("ours, bfloat16", "ours, float32", "MarianMTModel, bfloat16", "MarianMTModel, float32")
SPEED = re.compile(r"([\d,]+) tokens/s")


def our_command(folder: Path, precision: str, steps: int) -> list[str]:
    """Our program with the recipe, reading files in the place of the recipe's data set."""
    fields = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    fields = {name: value for name, value in fields.items() if not name.startswith("dataset_")}
    for split in ("train", "held_out"):
        for side, ending in (("source", "en"), ("target", "de")):
            fields[side if split == "train" else f"validation_{side}"] = str(folder / f"{split}.{ending}")
    del fields["source_column"], fields["target_column"]
    fields |= {"output_dir": str(folder / "ours"), "overwrite_output_dir": True, "max_steps": steps}
    fields |= {"logging_steps": 1, "eval_strategy": "no", "average_checkpoints": 1}
    fields["bf16"] = precision == "bfloat16"
    recipe = folder / f"{precision}.yaml"
    recipe.write_text(yaml.safe_dump(fields), encoding="utf-8")
    return ["training.train", str(recipe)]


class Counting:
    """A collator that counts the tokens of each batch, in the order in which they are trained on."""

    def __init__(self, collator: DataCollatorForSeq2Seq):
        self.collator = collator
        self.tokens: list[int] = []

    def __call__(self, rows: list[dict[str, list[int]]]) -> BatchEncoding:
        self.tokens.append(sum(len(row["input_ids"]) + len(row["labels"]) for row in rows))
        return self.collator(rows)


class Clock(TrainerCallback):
    """Notes when each step ends."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step_end(self, *_: object, **kwargs: object) -> None:
        self.times.append(time.perf_counter())


def train_marian(folder: Path, precision: str, steps: int) -> None:
    """MarianMTModel under Seq2SeqTrainer, with the batches and the optimizer it has unasked."""
    shape = SHAPES["base"]
    source_ids, target_ids = encoded(shape.vocab_size)
    tokenizer, model = learn_tokenizer(shape.vocab_size), marian_model(shape)
    collator, clock = Counting(DataCollatorForSeq2Seq(tokenizer, model=model)), Clock()
    arguments = Seq2SeqTrainingArguments(
        str(folder / "marian"),
        max_steps=steps,
        bf16=precision == "bfloat16",
        use_cpu=not torch.cuda.is_available(),
        report_to="none",
        disable_tqdm=True,
    )
    trainer = Seq2SeqTrainer(
        model,
        arguments,
        train_dataset=datasets.Dataset.from_dict({"input_ids": source_ids, "labels": target_ids}),
        data_collator=collator,
        callbacks=[clock],
    )
    trainer.train()
    tokens = sum(collator.tokens[1:steps]) * arguments.world_size
    seconds = clock.times[-1] - clock.times[0]
    print(f"{tokens / seconds:,.0f} tokens/s", flush=True)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def speed(command: list[str], options: argparse.Namespace) -> float:
    """Tokens a second that a program says it reached after its first step."""
    launcher = ["torch.distributed.run", "--standalone", "--nproc_per_node", str(options.processes), "-m"]
    words = [sys.executable, "-m", *(launcher if options.processes > 1 else []), *command]
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads), "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)} ended with status {done.returncode}:\n{done.stderr[-2000:]}")
    found = [float(each.replace(",", "")) for each in SPEED.findall(done.stdout + done.stderr)]
    return statistics.median(found[1:] or found)


def write_text(folder: Path) -> str:
    """The pairs, as files in a folder; what they are."""
    sources, targets, text = sentence_pairs()
    for side, lines in (("en", sources), ("de", targets)):
        for name, part in (("train", lines[HELD_OUT:]), ("held_out", lines[:HELD_OUT])):
            (folder / f"{name}.{side}").write_text("\n".join(part) + "\n", encoding="utf-8", newline="\n")
    return text


def main() -> int:
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description="Compare speeds of whole programs.")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--processes", type=int, default=1, help="of each system (1)")
    parser.add_argument("--threads", type=int, default=2, help="of each process (2)")
    parser.add_argument("--rounds", type=int, default=2, help="in which each system has its turn (2)")
    parser.add_argument("--our_steps", type=int, default=3, help="of the 25,000 source tokens of the recipe (3)")
    parser.add_argument("--marian_steps", type=int, default=40, help="of 8 sentences (40)")
    parser.add_argument("--output", type=Path, help="file for the table")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--precision", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker is not None:
        train_marian(options.worker, options.precision, options.marian_steps)
        return 0
    found: dict[str, list[float]] = {name: [] for name in options.systems}
    with tempfile.TemporaryDirectory() as path:
        folder = Path(path)
        text = write_text(folder)
        for turn in range(options.rounds):
            for name, speeds in rotated(found, turn):
                precision = name.split()[-1]
                if name.startswith("ours"):
                    command = our_command(folder, precision, options.our_steps)
                else:
                    command = [MODULE, "--worker", str(folder), "--precision", precision]
                    command += ["--marian_steps", str(options.marian_steps)]
                speeds.append(speed(command, options))
    first, rows = found[options.systems[0]], []
    for name, speeds in found.items():
        ratio = statistics.median(mine / other for mine, other in zip(first, speeds, strict=True))
        rows.append(
            {
                "program": name,
                "tokens/s": f"{statistics.median(speeds):,.0f}",
                "lowest to highest": f"{min(speeds):,.0f} to {max(speeds):,.0f}",
                f"{options.systems[0]} / this": f"{ratio:.2f}",
            }
        )
    processes = f"{options.processes} process{'es' if options.processes > 1 else ''}"
    head = f"Whole programs, base, {text}; {processes} each, {describe(options.threads)}"
    show_table(f"{head}; median of {options.rounds} rounds", rows, options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
