"""Pictures of what a model does."""

from pathlib import Path

import torch
from tokenizers import decoders
from transformers import PreTrainedModel, PreTrainedTokenizerBase

KINDS = {"cross": "cross_attentions", "encoder": "encoder_attentions", "decoder": "decoder_attentions"}


@torch.no_grad()
def attention_weights(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, source: str, target: str | None = None
) -> tuple[dict[str, torch.Tensor], list[str], list[str]]:
    """
    The weights of every attention in a model for one pair of sentences (§3.2.1).

    Args:
        source: a sentence.
        target: its translation; without one the model's own.

    Returns:
        the weights by kind, "encoder" (N, H, S, S), "decoder" (N, H, T, T), "cross" (N, H, T, S); the S source tokens;
        the T target tokens, each at the position where the decoder writes it, having read those before.
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
    weights = {kind: torch.stack([layer[0] for layer in outputs[name]]) for kind, name in KINDS.items()}
    return weights, tokens_of(tokenizer, inputs.input_ids[0]), tokens_of(tokenizer, labels[0])


def tokens_of(tokenizer: PreTrainedTokenizerBase, ids: torch.Tensor) -> list[str]:
    """
    Each token as text, with a visible space.

    Tokens that are only a part of a character's bytes have the whole character, with their number: "世 1/3".
    """
    decoder = decoders.ByteLevel()

    def text_of(*parts: str) -> str:
        text: str = decoder.decode(list(parts))
        return text.replace(" ", "␣")

    texts: list[str] = []
    pending: list[str] = []  # tokens that end within a character
    for token in tokenizer.convert_ids_to_tokens(ids.tolist()):
        if pending and text_of(token)[:1] != "\ufffd":  # it does not go on with the character: that one has no end
            texts += map(text_of, pending)
            pending = []
        pending.append(token)
        text = text_of(*pending)
        if not text.endswith("\ufffd"):
            count = len(pending)
            texts += [text] if count == 1 else [f"{text} {number}/{count}" for number in range(1, count + 1)]
            pending = []
    return [*texts, *map(text_of, pending)]


def plot_attention(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    source: str,
    path: str | Path,
    target: str | None = None,
    kind: str = "cross",
    layer: int = -1,
    head: int | None = None,
) -> None:
    """
    Draw the attention weights of one layer for one pair of sentences as a PNG; a row for each query, which sums to 1.

    Args:
        source, target: as for `attention_weights`.
        kind: "cross" (target to source), "encoder" (source to itself) or "decoder" (target to itself).
        layer: which layer, from 0, or from the end below 0; the last by default.
        head: which head, from 0; the mean of all by default.

    Raises:
        `ValueError`: for another kind, or a layer or head that the model has not.
        `ImportError`: without matplotlib.
    """
    from matplotlib.figure import Figure  # without pyplot no window system is looked for

    if kind not in KINDS:
        raise ValueError(f"`kind` is {kind!r}. Choose one of: {', '.join(KINDS)}.")
    weights, source_tokens, target_tokens = attention_weights(model, tokenizer, source, target)
    layers, heads = weights[kind].shape[:2]
    for name, value, number in (("layer", layer, layers), ("head", head or 0, heads)):
        if not -number <= value < number:
            raise ValueError(f"`{name}` is {value} and the model has {number}: give 0 to {number - 1}.")
    matrix = weights[kind][layer].mean(dim=0) if head is None else weights[kind][layer, head]
    rows = source_tokens if kind == "encoder" else target_tokens
    columns = [tokenizer.bos_token, *target_tokens[:-1]] if kind == "decoder" else source_tokens

    figure = Figure(figsize=(2.5 + 0.4 * len(columns), 1.8 + 0.35 * len(rows)), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(matrix.cpu().numpy(), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    plain = {"parse_math": False}  # dollar signs are no formulas
    axes.set_xticks(range(len(columns)), columns, rotation=60, ha="right", rotation_mode="anchor", **plain)
    axes.set_yticks(range(len(rows)), rows, **plain)
    axes.set_xlabel("attended to")
    axes.set_ylabel("written" if kind != "encoder" else "attends")
    which = "mean of heads" if head is None else f"head {head % heads}"
    axes.set_title(f"{kind} attention, layer {layer % layers} of 0 to {layers - 1}, {which}", fontsize=10)
    figure.colorbar(image, ax=axes, label="weight", shrink=0.8)
    figure.savefig(path, dpi=120)
