"""Regularization that the paper does not have: BPE-dropout."""

import copy

from vanilla_transformer import VanillaTransformerTokenizer


class BpeDropout:
    """
    Segments text anew each time, leaving out each merge with some probability (Provilkov et al. 2020).

    It works on a copy of the tokenizer: what is saved and what decodes knows nothing of it. The library that draws
    takes no seed, so that two runs differ, and a run that goes on is not the one that was never stopped.

    Args:
        tokenizer: whose merges are left out.
        probability: of each; 0.1 in the paper.
        longest: tokens that a sentence may have; one that would have more is segmented as usual.
    """

    def __init__(self, tokenizer: VanillaTransformerTokenizer, probability: float, longest: int):
        self.tokenizer = copy.deepcopy(tokenizer)
        self.tokenizer.backend_tokenizer.model.dropout = probability
        self.longest = longest

    def __call__(self, texts: list[str], usual: list[list[int]]) -> list[list[int]]:
        """Token ids of texts with their usual ids."""
        drawn = self.tokenizer(texts, split_special_tokens=True).input_ids
        return [ids if len(ids) <= self.longest else known for ids, known in zip(drawn, usual, strict=True)]
