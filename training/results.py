"""What a run leaves: a folder for the Hub, a picture of its curves, and one screen of words."""

import json
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from training.arguments import TrainingArguments
from vanilla_transformer import VanillaTransformerForConditionalGeneration, VanillaTransformerTokenizer
from vanilla_transformer.model_card import ModelCardFacts, write_model_card

CURVES = "curves.png"


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


def plot_curves(log_history: list[dict[str, float]], path: Path) -> None:
    """Draw training loss, validation NLL, learning rate and, where it was measured, BLEU by step, as a PNG."""
    from matplotlib.figure import Figure  # without pyplot no window system is looked for

    def curve(name: str) -> tuple[list[float], list[float]]:
        entries = [entry for entry in log_history if name in entry]
        return [entry["step"] for entry in entries], [entry[name] for entry in entries]

    bleu = curve("eval_bleu")
    figure = Figure(figsize=(8, 6 if not bleu[0] else 8), layout="constrained")
    rows = figure.subplots(3 if bleu[0] else 2, 1, sharex=True, height_ratios=[2, 1, 1][: 3 if bleu[0] else 2])
    few = "." if len(curve("loss")[0]) < 20 else None
    rows[0].plot(*curve("loss"), marker=few, label="training loss (label-smoothed)")
    if curve("eval_loss")[0]:
        rows[0].plot(*curve("eval_loss"), marker="o", label="validation NLL")
    rows[0].set_ylabel("nats per target token")
    rows[0].legend()
    rows[1].plot(*curve("learning_rate"), marker=few, color="tab:green")
    rows[1].set_ylabel("learning rate")
    if bleu[0]:
        rows[2].plot(*bleu, marker="o", color="tab:red")
        rows[2].set_ylabel("validation BLEU")
    for axes in rows:
        axes.grid(alpha=0.3)
    rows[-1].set_xlabel("step")
    figure.savefig(path, dpi=120)


def describe_hardware(args: TrainingArguments) -> str:
    """Such as "2 x NVIDIA H100" or "CPU, 2 threads"."""
    if args.device.type == "cuda":
        return f"{args.world_size} x {torch.cuda.get_device_name()}"
    threads = torch.get_num_threads()
    processes = f"{args.world_size} processes of " if args.world_size > 1 else ""
    return f"{args.device.type.upper()}, {processes}{threads} thread{'s' if threads > 1 else ''}"


def summarize(
    say: Callable[..., None], output_dir: Path, results: dict[str, Any], splits: list[str], example: str
) -> None:
    """One screen: what came out, and what to do with it."""
    duration = f" in {results['train_seconds']:,.0f} s" if "train_seconds" in results else ""
    say(f"\n{results['steps']:,} steps{duration}")
    for split in splits:
        line = f"{split}: NLL {results[f'{split}_loss']:.4f}, perplexity {results[f'{split}_perplexity']:.2f}"
        line += f", BLEU {results[f'{split}_bleu']:.2f}"
        if f"{split}_bleu_before" in results:
            line += f" (before: NLL {results[f'{split}_loss_before']:.4f}, BLEU {results[f'{split}_bleu_before']:.2f})"
        say(line)
    if "bleu_signature" in results:
        say(f"sacreBLEU {results['bleu_signature']}")
    say(f"model: {output_dir}\ncurves: {output_dir / CURVES}\ntranslate: {translate_command(output_dir, example)}")


def translate_command(model: Path, text: str) -> str:
    """The command line that translates a text with a model, as it can be pasted here."""
    program = Path(sys.executable).parent / "vanilla-transformer"
    if program.is_relative_to(Path.cwd()):
        program = program.relative_to(Path.cwd())
    return shlex.join([str(program), "translate", "--model", str(model), text])
