"""Forced decoding: what a model thinks of given translations, token by token."""

import dataclasses
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .errors import TextError
from .generation_vanilla_transformer import length_penalty
from .plots import token_texts


@dataclass(frozen=True)
class ForcedScore:
    """
    A translation Y of X under a model.

    Attributes:
        tokens: of Y, with `</s>`.
        log_probabilities: log P(token | those before it, X) of each, in nats.
        log_probability: log P(Y|X), their sum.
        score: log P(Y|X) / length penalty, which beam search ranks by (§6.1).
    """

    tokens: list[str]
    log_probabilities: list[float]
    log_probability: float
    score: float


@torch.no_grad()
def force_decode(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sources: Sequence[str],
    targets: Sequence[str],
    tokens_per_batch: int = 2048,
) -> list[ForcedScore]:
    """
    Score given translations, those of similar length together.

    Args:
        tokens_per_batch: source or target tokens in a batch, padding included.

    Raises:
        TextError: if there are not as many translations as sources.
    """
    if len(sources) != len(targets):
        raise TextError(f"`targets` must have a text for each of the {len(sources)} sources, but has {len(targets)}.")
    if not sources:
        return []
    settings = model.generation_config
    is_gnmt = getattr(settings, "length_penalty_type", None) == "gnmt"
    penalty = length_penalty(1.0 if settings.length_penalty is None else settings.length_penalty, is_gnmt)
    source_ids = tokenizer(list(sources), split_special_tokens=True)["input_ids"]
    target_ids = tokenizer(text_target=list(targets), split_special_tokens=True)["input_ids"]
    sizes = [max(len(source), len(target)) for source, target in zip(source_ids, target_ids, strict=True)]
    batches: list[list[int]] = []
    for index in sorted(range(len(sizes)), key=sizes.__getitem__, reverse=True):
        if not batches or (len(batches[-1]) + 1) * sizes[batches[-1][0]] > tokens_per_batch:
            batches.append([])
        batches[-1].append(index)
    found: dict[int, ForcedScore] = {}
    was_training = model.training
    model.eval()
    for batch in batches:
        inputs = tokenizer.pad({"input_ids": [source_ids[index] for index in batch]}, return_tensors="pt")
        padded = tokenizer.pad({"input_ids": [target_ids[index] for index in batch]}, return_tensors="pt")
        labels = padded["input_ids"].to(model.device)  # (B, T)
        decoder_ids = model.prepare_decoder_input_ids_from_labels(labels)
        logits = model(**inputs.to(model.device), decoder_input_ids=decoder_ids).logits.float()  # (B, T, V)
        chosen = logits.log_softmax(dim=-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)  # (B, T)
        for row, index in enumerate(batch):
            ids = torch.tensor(target_ids[index])
            values = chosen[row, : len(ids)].tolist()
            found[index] = ForcedScore(
                token_texts(tokenizer, ids), values, sum(values), sum(values) / penalty(len(ids))
            )
    model.train(was_training)
    return [found[index] for index in range(len(sizes))]


def write_forced(scores: Iterable[ForcedScore], path: Path) -> None:
    """Write scores as JSON lines, one for each translation."""
    lines = [json.dumps(dataclasses.asdict(each), ensure_ascii=False) + "\n" for each in scores]
    path.write_text("".join(lines), encoding="utf-8")
