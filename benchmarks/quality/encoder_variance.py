"""
Whether an encoder keeps the words of a sentence apart: the share of the variance that is within sentences.

    python -m benchmarks.quality.encoder_variance runs/mine/checkpoint-* --source valid.en --target valid.es \
        --gains 1 0.7071 0.5 --output benchmarks/results/encoder_variance.md

A column for the sums of embeddings and positions, and one for each layer; NLL is that of the translations. At 0 all
words of a sentence have the same state, and cross-attention has nothing to choose from. `--gains` shows random weights
in the shape of the first model, as `attention_init_gain` makes them.
"""

import argparse
import copy
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.machine import Row, describe, show_table
from vanilla_transformer import VanillaTransformerForConditionalGeneration, VanillaTransformerTokenizer
from vanilla_transformer.loading import load_model
from vanilla_transformer.text import read_lines


def share_within(states: torch.Tensor, mask: torch.Tensor) -> float:
    """States (B, S, D) of words, which a mask (B, S) shows -> the share of their variance within sentences."""
    shown = mask.unsqueeze(-1).to(states.dtype)
    means = (states * shown).sum(dim=1, keepdim=True) / shown.sum(dim=1, keepdim=True)
    mean = (states * shown).sum(dim=(0, 1)) / shown.sum()
    within, total = (((states - each).square() * shown).sum().item() for each in (means, mean))
    return within / total


@torch.no_grad()
def measure(
    model: VanillaTransformerForConditionalGeneration,
    tokenizer: VanillaTransformerTokenizer,
    sources: Sequence[str],
    targets: Sequence[str],
) -> Row:
    """Return a row of the table."""
    batch = tokenizer(list(sources), text_target=list(targets), padding=True, return_tensors="pt")
    labels = batch["labels"].masked_fill(batch["labels"] == tokenizer.pad_token_id, -100)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    outputs = model.eval()(**inputs, labels=labels, output_hidden_states=True)
    nll = torch.nn.functional.cross_entropy(outputs.logits.flatten(0, 1), labels.flatten())
    layers = [share_within(states, inputs["attention_mask"]) for states in outputs.encoder_hidden_states]
    return {"NLL": f"{nll:.2f}", **{str(layer): f"{share:.3f}" for layer, share in enumerate(layers)}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="folders, such as the checkpoints of a training")
    parser.add_argument("--source", type=Path, required=True, help="a sentence a line")
    parser.add_argument("--target", type=Path, required=True, help="the translations")
    parser.add_argument("--gains", nargs="*", type=float, default=[])
    parser.add_argument("--lines", type=int, default=200, help="of the text")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    texts = [[*read_lines(path)][: options.lines] for path in (options.source, options.target)]
    rows = []
    for gain in options.gains:
        model, tokenizer = load_model(options.models[0])
        config = copy.deepcopy(model.config)
        config.attention_init_gain = gain
        torch.manual_seed(0)
        rows.append({"model": f"random, gain {gain:g}"} | measure(type(model)(config), tokenizer, *texts))
    for folder in options.models:
        rows.append({"model": "/".join(Path(folder).resolve().parts[-2:])} | measure(*load_model(folder), *texts))
    head = f"Variance within sentences, by layer of the encoder; {describe(torch.get_num_threads())}"
    show_table(head, rows, options.output)


if __name__ == "__main__":
    main()
