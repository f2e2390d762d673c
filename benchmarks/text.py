"""Real sentences as batches of token ids: the same for every system."""

import itertools
import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from training.data.batching import TokenBudgetBatchSampler
from training.data.phrasebook import phrasebook
from vanilla_transformer import VanillaTransformerTokenizer
from vanilla_transformer.text import read_lines

NEWS = Path(os.environ.get("VANILLA_TRANSFORMER_DATA", "")) / "wmt_news_en_de"


@dataclass
class Batch:
    """
    Padded ids of a batch.

    Attributes:
        source, target (`torch.LongTensor` of shape (B, S) and (B, T)): ids ending with `</s>`, padded with 1.
        tokens: source and target tokens, padding not counted.
    """

    source: torch.Tensor
    target: torch.Tensor

    @property
    def tokens(self) -> int:
        return int((self.source != 1).sum() + (self.target != 1).sum())


def sentence_pairs(split: str = "train") -> tuple[list[str], list[str], str]:
    """Return sources, targets, and what they are: WMT news of `VANILLA_TRANSFORMER_DATA`, else the phrasebook."""
    if NEWS.is_dir():
        return read_lines(NEWS / f"{split}.en"), read_lines(NEWS / f"{split}.de"), "WMT news English-German"
    pairs = phrasebook()["train" if split == "train" else "test"]
    return [source for source, _ in pairs], [target for _, target in pairs], "the phrasebook"


def learn_tokenizer(vocab_size: int) -> VanillaTransformerTokenizer:
    """A joint vocabulary of the training text; of a small text it has fewer entries than asked for."""
    sources, targets, _ = sentence_pairs()
    return VanillaTransformerTokenizer.train([*sources, *targets], vocab_size)


def pad(rows: list[list[int]]) -> torch.Tensor:
    """Rows of ids (B, longest), padded with 1."""
    longest = max(map(len, rows))
    return torch.tensor([row + [1] * (longest - len(row)) for row in rows])


def token_batches(vocab_size: int, tokens: int, count: int, seed: int = 0) -> list[Batch]:
    """So many batches of up to so many tokens on either side, of sentences of similar length, drawn at random."""
    source_ids, target_ids = encoded(vocab_size)
    lengths = [np.array([len(ids) for ids in side]) for side in (source_ids, target_ids)]
    sampler = TokenBudgetBatchSampler(*lengths, tokens, seed=seed)
    rows = list(itertools.islice(itertools.cycle(list(sampler)), count))
    return [Batch(pad([source_ids[i] for i in row]), pad([target_ids[i] for i in row])) for row in rows]


def random_batches(vocab_size: int, sentences: int, count: int, seed: int = 0) -> list[Batch]:
    """So many batches of so many sentences of any length, as a Trainer makes them unasked."""
    source_ids, target_ids = encoded(vocab_size)
    rng, needed = np.random.default_rng(seed), sentences * count
    epochs = [rng.permutation(len(source_ids)) for _ in range(math.ceil(needed / len(source_ids)))]
    order = np.concatenate(epochs)[:needed].reshape(count, sentences)
    return [Batch(pad([source_ids[i] for i in row]), pad([target_ids[i] for i in row])) for row in order]


def encoded(vocab_size: int, longest: int = 256) -> tuple[list[list[int]], list[list[int]]]:
    """Ids of the training text, without pairs that are longer."""
    sources, targets, _ = sentence_pairs()
    tokenizer = learn_tokenizer(vocab_size)
    pairs = zip(tokenizer(sources).input_ids, tokenizer(targets).input_ids, strict=True)
    kept = [(source, target) for source, target in pairs if max(len(source), len(target)) <= longest]
    return [source for source, _ in kept], [target for _, target in kept]
