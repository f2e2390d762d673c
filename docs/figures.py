"""
Draw the pictures of docs/learn, from the model that comes with the project and the sentence "How are you?".

    python docs/figures.py
"""

from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from vanilla_transformer.kernels_vanilla_transformer import linear
from vanilla_transformer.loading import load_model
from vanilla_transformer.plots import attention_weights, plot_attention, token_texts

ROOT = Path(__file__).resolve().parent.parent
ASSETS = ROOT / "docs" / "assets"
SENTENCE = "How are you?"


def save(figure: Figure, name: str) -> None:
    figure.savefig(ASSETS / f"{name}.png", dpi=100)


def draw_matrix(name: str, matrix: torch.Tensor, rows: list[str], xlabel: str, cmap: str = "RdBu") -> None:
    """Draw one row of numbers for each token; colours are symmetric around 0."""
    figure = Figure(figsize=(6, 1.2 + 0.35 * len(rows)), layout="constrained")
    axes = figure.subplots()
    most = float(matrix.abs().max())
    image = axes.imshow(matrix.numpy(), cmap=cmap, vmin=-most, vmax=most, aspect="auto", interpolation="nearest")
    axes.set_yticks(range(len(rows)), rows, parse_math=False)
    axes.set_xlabel(xlabel)
    figure.colorbar(image, ax=axes, shrink=0.8)
    save(figure, name)


def draw_heads(weights: torch.Tensor, source: list[str], target: list[str]) -> None:
    """Draw each head of the last layer's cross-attention (H, T, S)."""
    figure = Figure(figsize=(7, 2.4), layout="constrained")
    for number, (axes, head) in enumerate(zip(figure.subplots(1, len(weights)), weights, strict=True)):
        axes.imshow(head.numpy(), cmap="Blues", vmin=0, vmax=1, aspect="auto")
        axes.set_xticks(range(len(source)), source, rotation=60, ha="right", rotation_mode="anchor", fontsize=7)
        axes.set_yticks(range(len(target)), target if not number else [""] * len(target), fontsize=7)
        axes.set_title(f"head {number}", fontsize=9)
    save(figure, "heads")


def draw_positions(encoding: torch.Tensor) -> None:
    """Draw the sinusoids (T, D)."""
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(encoding.numpy(), cmap="RdBu", aspect="auto", interpolation="nearest")
    axes.set_xlabel("dimension of d_model")
    axes.set_ylabel("position")
    figure.colorbar(image, ax=axes)
    save(figure, "positions")


def draw_norm(before: torch.Tensor, after: torch.Tensor) -> None:
    """Draw how the numbers of x + Sublayer(x) lie before and after the norm."""
    figure = Figure(figsize=(6, 2.6), layout="constrained")
    axes = figure.subplots()
    for name, values in (("x + Sublayer(x)", before), ("LayerNorm(x + Sublayer(x))", after)):
        axes.hist(values.flatten().numpy(), bins=60, alpha=0.6, label=name, density=True)
    axes.set_xlabel("value")
    axes.set_yticks([])
    axes.legend()
    save(figure, "residual")


def draw_bars(name: str, labels: list[str], values: list[float], xlabel: str) -> None:
    figure = Figure(figsize=(6, 0.9 + 0.3 * len(labels)), layout="constrained")
    axes = figure.subplots()
    axes.barh(range(len(labels)), values, color="#3f51b5")
    axes.set_yticks(range(len(labels)), labels, parse_math=False)
    axes.invert_yaxis()
    axes.set_xlabel(xlabel)
    save(figure, name)


def draw_schedule() -> None:
    """Draw the learning rate of the paper's base model, and of one with twice the width."""
    figure = Figure(figsize=(6, 2.8), layout="constrained")
    axes = figure.subplots()
    steps = torch.arange(1, 40_001, dtype=torch.float64)
    for width in (512, 1024):
        rates = width**-0.5 * torch.minimum(steps**-0.5, steps * 4000**-1.5)
        axes.plot(steps.numpy(), rates.numpy(), label=f"d_model {width}")
    axes.set_xlabel("step")
    axes.set_ylabel("learning rate")
    axes.legend()
    save(figure, "schedule")


@torch.no_grad()
def main() -> None:
    ASSETS.mkdir(exist_ok=True)
    model, tokenizer = load_model(ROOT / "checkpoints" / "tiny-en-es")
    weights, source, target = attention_weights(model, tokenizer, SENTENCE)
    for kind in ("encoder", "decoder", "cross"):
        plot_attention(model, tokenizer, SENTENCE, ASSETS / f"{kind}_attention.png", kind=kind)
    draw_heads(weights["cross"][-1], source, target)

    inputs = tokenizer(SENTENCE, return_tensors="pt")
    encoder, layer = model.model.encoder, model.model.encoder.layers[0]
    embedded = encoder.embed_tokens(inputs.input_ids)[0]  # (S, D)
    draw_matrix("embedding", embedded, source, "dimension of d_model")
    draw_positions(encoder.embed_positions(torch.arange(60)))

    seen: dict[str, Any] = {}
    handles = [
        layer.final_layer_norm.register_forward_hook(lambda _, given, out: seen.update(before=given[0], after=out)),
        layer.self_attn_layer_norm.register_forward_hook(lambda _, given, out: seen.update(attended=out)),
    ]
    states = encoder(**inputs, output_hidden_states=True)
    for handle in handles:
        handle.remove()
    draw_norm(seen["before"][0], seen["after"][0])
    hidden = layer.activation_fn(linear(layer.fc1, seen["attended"]))[0]  # (S, d_ff)
    draw_matrix("feed_forward", hidden, source, "dimension of d_ff, after ReLU")
    draw_matrix("encoder", states.last_hidden_state[0], source, "dimension of d_model, after the last layer")

    decoder_ids = torch.tensor([[model.config.decoder_start_token_id]])
    logits = model(**inputs, decoder_input_ids=decoder_ids).logits[0, -1]
    best = logits.softmax(-1).topk(6)
    draw_bars(
        "probabilities", token_texts(tokenizer, best.indices), best.values.tolist(), "probability of the first token"
    )
    spread, size = 0.1, model.config.vocab_size
    draw_bars(
        "smoothing",
        ["the target", "each other entry"],
        [1 - spread + spread / size, spread / size],
        f"what the loss asks for, {size:,} entries",
    )
    draw_schedule()


if __name__ == "__main__":
    main()
