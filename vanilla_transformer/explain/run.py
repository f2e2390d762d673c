"""Facts about a run of the model: its texts, its steps, its search."""

from dataclasses import dataclass

import torch

from .beams import Hypothesis
from .trace import Stack


@dataclass
class Candidate:
    """An entry of the vocabulary that may come next, with its probability."""

    token: str
    id: int
    probability: float


@dataclass
class Run:
    """
    One sentence on its way through a model.

    Attributes:
        text, translation: as people read them.
        source_tokens (S), target_tokens (T), source_ids, target_ids: what the encoder reads; what the decoder writes.
        decoder_tokens (T): what the decoder reads, shifted right by the start token (§3.1).
        encoder, decoder: every step of the stacks.
        logits (T, V): for the token that is written at each position.
        candidates (T, 10): the most probable tokens of each position.
        beams: for each step of the search its hypotheses, the best first; none for a given translation.
        sizes: of the model, by the names of its configuration.
    """

    text: str
    translation: str
    source_tokens: list[str]
    source_ids: list[int]
    target_tokens: list[str]
    target_ids: list[int]
    decoder_tokens: list[str]
    encoder: Stack
    decoder: Stack
    logits: torch.Tensor
    candidates: list[list[Candidate]]
    beams: list[list[Hypothesis]]
    beam_tokens: list[list[str]]  # the last token of each hypothesis of `beams`
    sizes: dict[str, int | float | bool | str]
