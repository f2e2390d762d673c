"""
Word alignments from cross-attention, layer by layer and head by head, against alignments made by hand.

    python -m benchmarks.quality.alignment --output benchmarks/results/alignment.md

Layers and heads are numbered from 0. The alignment error rate is 1 - 2 |A ∩ G| / (|A| + |G|) for links A of the model
and G of the hand (Och and Ney 2003, with sure links only). "written": weights of the step that writes a token; "read":
of the step that reads it. The diagonal links words at the same share of the sentence and knows nothing of the model.
"""

import argparse
from pathlib import Path

import torch

from benchmarks.machine import describe, show_table
from vanilla_transformer.loading import load_model
from vanilla_transformer.pipeline_vanilla_transformer import align_words, link_words, word_numbers

DATA = Path(__file__).resolve().parents[2] / "tests" / "data" / "alignments.en-es.tsv"
Links = list[tuple[int, int]]


def read_gold(path: Path = DATA) -> tuple[list[str], list[str], list[Links]]:
    """Return sources, translations and the links between their words."""
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()[1:]]
    links = [[(int(pair.split("-")[0]), int(pair.split("-")[1])) for pair in row[2].split()] for row in rows]
    return [row[0] for row in rows], [row[1] for row in rows], links


def error_rate(found: list[Links], gold: list[Links]) -> float:
    """Return the alignment error rate in percent."""
    common = sum(len(set(a) & set(g)) for a, g in zip(found, gold, strict=True))
    return 100 * (1 - 2 * common / (sum(map(len, found)) + sum(map(len, gold))))


def diagonal(source: str, target: str) -> Links:
    """Link words that are as far into their sentences."""
    count, length = len(source.split()), len(target.split())
    places = [torch.arange(number) / max(1, number - 1) for number in (length, count)]
    return link_words(-(places[0].unsqueeze(1) - places[1]).abs(), list(range(count)), list(range(length)))


@torch.no_grad()
def measure(folder: str) -> tuple[list[dict[str, str]], float]:
    """Return the rows of the table, and the error rate of the diagonal."""
    model, tokenizer = load_model(folder)
    model.set_attn_implementation("eager")
    sources, targets, gold = read_gold()
    pairs = []
    for text, translation in zip(sources, targets, strict=True):
        source = tokenizer(text, return_offsets_mapping=True)
        target = tokenizer(text_target=translation, return_offsets_mapping=True)
        labels = torch.tensor([target.input_ids])
        decoder_ids = model.prepare_decoder_input_ids_from_labels(labels)
        outputs = model(torch.tensor([source.input_ids]), decoder_input_ids=decoder_ids, output_attentions=True)
        words = (
            word_numbers(text, source.offset_mapping),
            word_numbers(translation, target.offset_mapping),
        )
        pairs.append((torch.stack([layer[0] for layer in outputs.cross_attentions]), *words))  # (N, H, T, S)
    rows = []
    layers, heads = pairs[0][0].shape[:2]
    for layer in range(layers):
        for step, shift in (("written", 0), ("read", 1)):
            row = {"layer": str(layer), "step": step}
            for name, head in [*((f"head {head}", [head]) for head in range(heads)), ("mean", list(range(heads)))]:
                found = []
                for weights, of_source, of_target in pairs:
                    chosen = weights[layer, head].mean(dim=0).roll(-shift, dims=0)
                    found.append(link_words(chosen, of_source, of_target))
                row[name] = f"{error_rate(found, gold):.1f}"
            rows.append(row)
    return rows, error_rate([diagonal(*pair) for pair in zip(sources, targets, strict=True)], gold)


def main(arguments: list[str] | None = None) -> int:
    """Print the table, and write it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality.alignment")
    parser.add_argument("--model", default="checkpoints/tiny-en-es")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args(arguments)
    rows, baseline = measure(options.model)
    sources, targets, gold = read_gold()
    model, tokenizer = load_model(options.model)
    used = error_rate(align_words(model, tokenizer, sources, targets), gold)
    empty = dict.fromkeys(list(rows[0])[2:-1], "")
    rows += [
        {"layer": "`align_words`", "step": "written", **empty, "mean": f"{used:.1f}"},
        {"layer": "the diagonal", "step": "", **empty, "mean": f"{baseline:.1f}"},
    ]
    title = f"Alignment error rate in percent, on {len(sources)} sentences aligned by hand"
    show_table(f"{title}; {describe(torch.get_num_threads())}", rows, options.output)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
