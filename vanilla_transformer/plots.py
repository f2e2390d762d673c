"""
Pictures of a model and of its training. Each function returns a matplotlib `Figure`, and saves it if a path is given.

    from vanilla_transformer.plots import plot_attention, plot_positions
    plot_attention(model, tokenizer, "How are you?", layer=-1, head=0)  # a notebook shows it
    plot_positions(path="positions.png")

Shapes: S source, T target, H heads, N layers, D hidden_size, V vocabulary.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import decoders
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .errors import SettingsError
from .modeling_vanilla_transformer import VanillaTransformerSinusoidalPositions

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KINDS = {"cross": "cross_attentions", "encoder": "encoder_attentions", "decoder": "decoder_attentions"}
PLAIN = {"parse_math": False}  # dollar signs in a text are not a formula
SPACE = "␣"


# ----- the weights -----


@torch.no_grad()
def attention_weights(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, source: str, target: str | None = None
) -> tuple[dict[str, torch.Tensor], list[str], list[str]]:
    """
    Return the weights of every attention in a model for one pair of sentences (§3.2.1).

    Args:
        source: a sentence.
        target: its translation; without one the model's own.

    Returns:
        the weights by kind, "encoder" (N, H, S, S), "decoder" (N, H, T, T), "cross" (N, H, T, S), without kinds that
        a model lacks, as recurrent ones do; the S source tokens; the T target tokens, each at the position where the
        decoder writes it, having read those before.
    """
    inputs = tokenizer(source, return_tensors="pt", split_special_tokens=True).to(model.device)
    was_training, implementation = model.training, model.config._attn_implementation
    model.eval()
    try:
        if target is None:
            labels = model.generate(**inputs)[:, 1:]
        else:
            labels = tokenizer(text_target=target, return_tensors="pt", split_special_tokens=True).input_ids
        decoder_ids = model.prepare_decoder_input_ids_from_labels(labels.to(model.device))
        model.set_attn_implementation("eager")  # the only one that gives weights
        outputs = model(**inputs, decoder_input_ids=decoder_ids, output_attentions=True)
    finally:
        model.set_attn_implementation(implementation)
        model.train(was_training)
    weights = {
        kind: torch.stack([layer[0] for layer in outputs[name]]) for kind, name in KINDS.items() if outputs.get(name)
    }
    return weights, token_texts(tokenizer, inputs.input_ids[0], of_source=True), token_texts(tokenizer, labels[0])


def token_texts(tokenizer: PreTrainedTokenizerBase, ids: torch.Tensor, of_source: bool = False) -> list[str]:
    """
    Return each token as text, with a visible space.

    Tokens that are only a part of a character's bytes have the whole character, with their number: "世 1/3".

    Args:
        of_source: whether they are of the source language, which has its own vocabulary in some imported models.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)  # which the tokenizers of imported models lack
    if backend is None and of_source:
        names = {index: token for token, index in tokenizer.get_vocab().items()}
        tokens = [names[index] for index in ids.tolist()]
    else:
        tokens = list(tokenizer.convert_ids_to_tokens(ids.tolist()))
    if backend is None or type(backend.decoder) is not decoders.ByteLevel:
        return [token.replace("▁", SPACE).replace("</w>", SPACE) for token in tokens]
    decoder = decoders.ByteLevel()

    def decode(*parts: str) -> str:
        text: str = decoder.decode(list(parts))
        text = text.replace(" ", SPACE)
        return text if text.isprintable() else repr(text)[1:-1]  # a line end is \n

    texts: list[str] = []
    pending: list[str] = []  # tokens that end within a character
    for token in tokens:
        if pending and decode(token)[:1] != "\ufffd":  # it does not go on with the character: that one has no end
            texts += map(decode, pending)
            pending = []
        pending.append(token)
        text = decode(*pending)
        if not text.endswith("\ufffd"):
            count = len(pending)
            texts += [text] if count == 1 else [f"{text} {number}/{count}" for number in range(1, count + 1)]
            pending = []
    return [*texts, *map(decode, pending)]


# ----- attention -----


def plot_attention(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    source: str,
    path: str | Path | None = None,
    target: str | None = None,
    kind: str = "cross",
    layer: int = -1,
    head: int | None = None,
) -> "Figure":
    """
    Draw the attention weights of one layer for one pair of sentences; a row for each query, which sums to 1.

    Args:
        source, target: as for `attention_weights`.
        path: where to save the picture.
        kind: "cross" (target to source), "encoder" (source to itself) or "decoder" (target to itself).
        layer: which layer, from 0, or from the end below 0; the last by default.
        head: which head, from 0; the mean of all by default.

    Raises:
        `SettingsError`: for another kind, or a layer or head that the model lacks.
        `ImportError`: without matplotlib.
    """
    check_kind(kind)
    weights, source_tokens, target_tokens = attention_weights(model, tokenizer, source, target)
    layers, heads = weights[kind].shape[:2]
    for name, value, number in (("layer", layer, layers), ("head", head or 0, heads)):
        if not -number <= value < number:
            raise SettingsError(f"`{name}` must be from 0 to {number - 1}, but is {value}.")
    matrix = weights[kind][layer].mean(dim=0) if head is None else weights[kind][layer, head]
    rows, columns = name_sides(kind, source_tokens, target_tokens, str(tokenizer.bos_token))

    figure = make_figure(2.5 + 0.4 * len(columns), 1.8 + 0.35 * len(rows))
    axes = figure.subplots()
    image = axes.imshow(matrix.cpu().numpy(), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    label_tokens(axes, rows, columns)
    axes.set_xlabel("attended to")
    axes.set_ylabel("written" if kind != "encoder" else "attends")
    which = "mean of heads" if head is None else f"head {head % heads}"
    axes.set_title(f"{kind} attention, layer {layer % layers} of 0 to {layers - 1}, {which}", fontsize=10)
    figure.colorbar(image, ax=axes, label="weight", shrink=0.8)
    return save_figure(figure, path)


def plot_attention_grid(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    source: str,
    path: str | Path | None = None,
    target: str | None = None,
    kind: str = "cross",
) -> "Figure":
    """Draw the attention weights of every layer (a row) and head (a column); arguments as for `plot_attention`."""
    check_kind(kind)
    weights, source_tokens, target_tokens = attention_weights(model, tokenizer, source, target)
    layers, heads = weights[kind].shape[:2]
    rows, columns = name_sides(kind, source_tokens, target_tokens, str(tokenizer.bos_token))
    width, height = 0.6 + 0.16 * len(columns), 0.5 + 0.16 * len(rows)
    figure = make_figure(1.2 + max(1.2, width) * heads, 1.2 + max(1.0, height) * layers)
    grid = figure.subplots(layers, heads, squeeze=False, sharex=True, sharey=True)
    for layer in range(layers):
        for head in range(heads):
            axes = grid[layer, head]
            axes.imshow(weights[kind][layer, head].cpu().numpy(), cmap="Blues", vmin=0, vmax=1, aspect="auto")
            label_tokens(axes, rows, columns, fontsize=7)
            if layer == 0:
                axes.set_title(f"head {head}", fontsize=9)
            if head == 0:
                axes.set_ylabel(f"layer {layer}", fontsize=9)
    figure.suptitle(f"{kind} attention", fontsize=10)
    return save_figure(figure, path)


def plot_alignment(
    source: Sequence[str],
    target: Sequence[str],
    links: Iterable[tuple[int, int]],
    path: str | Path | None = None,
    gold: Iterable[tuple[int, int]] = (),
) -> "Figure":
    """
    Draw which words of a translation belong to which words of its source.

    Args:
        source, target: the words.
        links: pairs (source word, target word), from 0: filled squares.
        gold: links made by hand: frames.
    """
    figure = make_figure(1.6 + 0.5 * len(source), 1.4 + 0.35 * len(target))
    axes = figure.subplots()
    matrix = torch.zeros(len(target), len(source))
    for source_word, target_word in links:
        matrix[target_word, source_word] = 1
    axes.imshow(matrix.numpy(), cmap="Blues", vmin=0, vmax=1.3, aspect="auto")
    for source_word, target_word in gold:
        axes.plot(source_word, target_word, marker="s", markersize=16, markerfacecolor="none", color="tab:orange")
    label_tokens(axes, target, source)
    axes.set_xticks([i - 0.5 for i in range(1, len(source))], minor=True)
    axes.set_yticks([i - 0.5 for i in range(1, len(target))], minor=True)
    axes.grid(which="minor", alpha=0.3)
    axes.tick_params(which="minor", length=0)
    return save_figure(figure, path)


# ----- positions, targets, embeddings -----


def plot_positions(length: int = 100, hidden_size: int = 512, path: str | Path | None = None) -> "Figure":
    """Draw the sinusoids that are added to embeddings (§3.5): a row for each position, a column for each dimension."""
    encoding = VanillaTransformerSinusoidalPositions(hidden_size)(torch.arange(length))  # (T, D)
    figure = make_figure(8, 4)
    axes = figure.subplots()
    image = axes.imshow(encoding.numpy(), cmap="RdBu", vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
    axes.set_xlabel("dimension: even sin, odd cos")
    axes.set_ylabel("position")
    axes.set_title("PE(pos, 2i) = sin(pos / 10000^(2i/d)), PE(pos, 2i + 1) = cos(pos / 10000^(2i/d))", fontsize=10)
    figure.colorbar(image, ax=axes)
    return save_figure(figure, path)


def plot_learning_rates(
    schedules: Sequence[tuple[int, int]] = ((512, 4000), (512, 8000), (256, 4000)),
    steps: int = 20_000,
    path: str | Path | None = None,
) -> "Figure":
    """
    Draw the paper's learning rate by step (§5.3): d^-0.5 · min(step^-0.5, step · warmup^-1.5).

    Args:
        schedules: pairs of d_model and warm-up steps, a curve each.
        steps: up to which to draw.
    """
    figure = make_figure(8, 4)
    axes = figure.subplots()
    step = torch.arange(1, steps + 1, dtype=torch.float64)
    for hidden_size, warmup in schedules:
        rate = hidden_size**-0.5 * torch.minimum(step**-0.5, step * warmup**-1.5)
        axes.plot(step.numpy(), rate.numpy(), label=f"d_model {hidden_size}, {warmup:,} warm-up steps")
    axes.set_xlabel("step")
    axes.set_ylabel("learning rate")
    axes.grid(alpha=0.3)
    axes.legend()
    return save_figure(figure, path)


def plot_smoothed_targets(
    labels: Sequence[int] = (2, 1, 3, 0), vocab_size: int = 5, smoothing: float = 0.1, path: str | Path | None = None
) -> "Figure":
    """
    Draw the distributions that a model is trained towards with label smoothing (§5.4).

    Args:
        labels: the right entry of the vocabulary at each position.
        smoothing: ε, which is spread over all entries, the right one included.
    """
    targets = torch.full((len(labels), vocab_size), smoothing / vocab_size)  # (T, V)
    targets[torch.arange(len(labels)), torch.tensor(labels)] += 1 - smoothing
    figure = make_figure(2 + 0.7 * vocab_size, 1.5 + 0.5 * len(labels))
    axes = figure.subplots()
    image = axes.imshow(targets.numpy(), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row, column in torch.cartesian_prod(torch.arange(len(labels)), torch.arange(vocab_size)).tolist():
        value = float(targets[row, column])
        axes.text(column, row, f"{value:.3g}", ha="center", va="center", color="white" if value > 0.6 else "black")
    axes.set_xticks(range(vocab_size))
    axes.set_yticks(range(len(labels)))
    axes.set_xlabel("entry of the vocabulary")
    axes.set_ylabel("position")
    axes.set_title(f"label smoothing, ε = {smoothing:g}", fontsize=10)
    figure.colorbar(image, ax=axes, label="probability")
    return save_figure(figure, path)


def plot_neighbours(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    words: Sequence[str],
    count: int = 8,
    path: str | Path | None = None,
) -> "Figure":
    """
    Draw the tokens whose embeddings are nearest to those of some words, by the cosine of the angle between them.

    Args:
        words: each is looked up with a space before it; of a word of several tokens the first one counts.
        count: neighbours of each.
    """
    found = find_neighbours(model, tokenizer, words, count)
    figure = make_figure(3 * len(found), 0.8 + 0.3 * count)
    panels = figure.subplots(1, len(found), squeeze=False)[0]
    for axes, (token, neighbours) in zip(panels, found, strict=True):
        axes.barh(range(count), [value for _, value in neighbours], color="tab:blue")
        axes.set_yticks(range(count), [text for text, _ in neighbours], **PLAIN)
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.set_title(token, fontsize=10, **PLAIN)
        axes.set_xlabel("cosine")
    return save_figure(figure, path)


@torch.no_grad()
def find_neighbours(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, words: Sequence[str], count: int = 8
) -> list[tuple[str, list[tuple[str, float]]]]:
    """Return for each word its token, and the `count` tokens with the nearest embeddings and their cosines."""
    vectors = torch.nn.functional.normalize(model.get_input_embeddings().weight.float(), dim=-1)  # (V, D)
    found = []
    for word in words:
        first = tokenizer(f" {word}", add_special_tokens=False, split_special_tokens=True).input_ids[0]
        cosines = vectors @ vectors[first]  # (V,)
        cosines[first] = -1
        best, ids = cosines.topk(count)
        names = token_texts(tokenizer, torch.tensor([first, *ids.tolist()]), of_source=True)
        found.append((names[0], list(zip(names[1:], best.tolist(), strict=True))))
    return found


# ----- training -----


def plot_curves(
    log_history: Sequence[Mapping[str, float]],
    path: str | Path | None = None,
    unit: str = "target token",
    smoothed: bool = True,
    score: tuple[str, str] | None = None,
) -> "Figure":
    """
    Draw training loss, validation NLL, learning rate and, where it was measured, a score by step.

    Args:
        log_history: what Trainer logged (`trainer.state.log_history`).
        unit: of which the losses are means.
        smoothed: whether the training loss is label-smoothed, and so higher than an NLL, which never is.
        score: the key of a score in the log, such as "eval_bleu", and its name.
    """

    def curve(name: str) -> tuple[list[float], list[float]]:
        entries = [entry for entry in log_history if name in entry]
        return [entry["step"] for entry in entries], [entry[name] for entry in entries]

    count = 2 if score is None else 3
    figure = make_figure(8, 2 + 2 * count)
    rows = figure.subplots(count, 1, sharex=True, height_ratios=[2, 1, 1][:count])
    few = "." if len(curve("loss")[0]) < 20 else None
    rows[0].plot(*curve("loss"), marker=few, label="training loss (label-smoothed)" if smoothed else "training loss")
    if curve("eval_loss")[0]:
        rows[0].plot(*curve("eval_loss"), marker="o", label="validation NLL")
    rows[0].set_ylabel(f"nats per {unit}")
    rows[0].legend()
    rows[1].plot(*curve("learning_rate"), marker=few, color="tab:green")
    rows[1].set_ylabel("learning rate")
    if score is not None:
        rows[2].plot(*curve(score[0]), marker="o", color="tab:red")
        rows[2].set_ylabel(score[1])
    for axes in rows:
        axes.grid(alpha=0.3)
    rows[-1].set_xlabel("step")
    return save_figure(figure, path)


# ----- what the pictures share -----


def make_figure(width: float, height: float) -> "Figure":
    """
    Return an empty figure of a size in inches.

    Raises:
        `ImportError`: without matplotlib.
    """
    try:
        from matplotlib.figure import Figure  # without pyplot no window system is looked for
    except ImportError as error:
        raise ImportError("Pictures need matplotlib. Install it: pip install matplotlib") from error
    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: "Figure", path: str | Path | None) -> "Figure":
    """Save a figure if there is a path, and return it."""
    if path is not None:
        figure.savefig(path, dpi=120)
    return figure


def check_kind(kind: str) -> None:
    """
    Raises:
        `SettingsError`: for a kind of attention that there is not.
    """
    if kind not in KINDS:
        raise SettingsError(f"`kind` must be one of {', '.join(KINDS)}, but is {kind!r}.")


def name_sides(kind: str, source: list[str], target: list[str], start: str) -> tuple[list[str], list[str]]:
    """Return the tokens that attend, and those that are attended to."""
    if kind == "encoder":
        return source, source
    return target, [start, *target[:-1]] if kind == "decoder" else source


def label_tokens(axes: "Axes", rows: Sequence[str], columns: Sequence[str], **style: Any) -> None:
    """Write tokens at the rows and columns of a picture."""
    style = {**PLAIN, **style}
    axes.set_xticks(range(len(columns)), columns, rotation=60, ha="right", rotation_mode="anchor", **style)
    axes.set_yticks(range(len(rows)), rows, **style)
