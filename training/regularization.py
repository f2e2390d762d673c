"""Regularization that the paper does not have: BPE-dropout, and R-Drop."""

import copy
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from vanilla_transformer import VanillaTransformerTokenizer
from vanilla_transformer.kernels_vanilla_transformer import add_matmul, matmul
from vanilla_transformer.loss_vanilla_transformer import (
    IGNORED_LABEL,
    autocast_dtype,
    label_smoothed_loss,
    rows_at_once,
)


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


class SymmetricDivergence(torch.autograd.Function):
    """
    Σ_i r_i [KL(p_i || q_i) + KL(q_i || p_i)] with p = softmax(g Wᵀ), q = softmax(h Wᵀ), for a chunk of rows at a time.

    The gradients are taken in the forward pass, as in `LabelSmoothedCrossEntropy`: with d = log p - log q, that of p's
    logits is p (d - KL(p || q)) + p - q.
    """

    @staticmethod
    def forward(
        ctx: Any, first: torch.Tensor, second: torch.Tensor, weight: torch.Tensor, dtype: torch.dtype
    ) -> torch.Tensor:
        """
        Args:
            first, second (`torch.Tensor` of shape (N, D)): g and h, in float32.
            weight (`torch.Tensor` of shape (V, D)): W, in float32.
            dtype (`torch.dtype`): of the matrix products.

        Returns:
            `torch.Tensor` of shape (): the sum.
        """
        projection = weight.to(dtype)
        gradients = [torch.empty_like(first), torch.empty_like(second), torch.zeros_like(weight)]
        total = first.new_zeros(())
        rows = rows_at_once(first.device)
        for start in range(0, len(first), rows):
            chunk = slice(start, start + rows)
            states = (first[chunk].to(dtype), second[chunk].to(dtype))
            logs = [matmul(each, projection.T).float().log_softmax(dim=1) for each in states]  # (R, V)
            p, q = logs[0].exp(), logs[1].exp()
            difference = logs[0] - logs[1]
            forward_kl = (p * difference).sum(dim=1, keepdim=True)
            backward_kl = -(q * difference).sum(dim=1, keepdim=True)
            total += (forward_kl + backward_kl).sum()
            of_logits = (p * (difference - forward_kl) + p - q, q * (-difference - backward_kl) + q - p)
            for side in (0, 1):
                of_side = of_logits[side].to(dtype)
                gradients[side][chunk] = matmul(of_side, projection)
                add_matmul(gradients[2], of_side.T, states[side])
        ctx.save_for_backward(*gradients)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return (*(saved * gradient for saved in ctx.saved_tensors), None)


def r_drop_loss(
    hidden_states: torch.Tensor, lm_head: nn.Linear, labels: torch.Tensor, label_smoothing: float, alpha: float
) -> torch.Tensor:
    """
    R-Drop (Liang et al. 2021): the mean loss of two passes with other dropout, and how much they disagree.

        ½ [CE₁ + CE₂ + α / 2 (KL(p₁ || p₂) + KL(p₂ || p₁))]

    which is the paper's loss divided by two, so that it stands beside the loss of one pass.

    Args:
        hidden_states (`torch.Tensor` of shape (2 B, T, D)): the decoder's output, for the same B pairs twice.
        labels (`torch.LongTensor` of shape (2 B, T)): the same B targets twice, -100 where there is none.
        lm_head, label_smoothing: as for `label_smoothed_loss`.
        alpha: the weight of the disagreement; 5 in the paper's translation.

    Returns:
        `torch.Tensor` of shape (): the sum over the labels of B pairs, in float32.
    """
    loss = label_smoothed_loss(hidden_states, lm_head, labels, label_smoothing)
    first, second = hidden_states.flatten(0, -2).chunk(2)  # (B T, D)
    is_real = labels.chunk(2)[0].flatten() != IGNORED_LABEL
    dtype = autocast_dtype(hidden_states.device) or hidden_states.dtype
    weight: torch.Tensor = lm_head.weight
    divergence = SymmetricDivergence.apply(first[is_real].float(), second[is_real].float(), weight.float(), dtype)
    return (loss + alpha / 2 * divergence) / 2
