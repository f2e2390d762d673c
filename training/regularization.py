"""Regularization that the paper does not have: BPE-dropout, and R-Drop."""

import copy
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from vanilla_transformer import VanillaTransformerTokenizer
from vanilla_transformer.kernels_vanilla_transformer import add_matmul, matmul
from vanilla_transformer.loss_vanilla_transformer import IGNORED_LABEL, autocast_dtype, rows_at_once


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


class RDropLoss(torch.autograd.Function):
    """
    Σ_i [CE(p_i) + CE(q_i) + α / 2 (KL(p_i || q_i) + KL(q_i || p_i))] with p = softmax(g Wᵀ), q = softmax(h Wᵀ), for a
    chunk of rows at a time.

    CE is the label-smoothed cross-entropy with labels y. The gradients are taken in the forward pass, as in
    `LabelSmoothedCrossEntropy`: with d = log p - log q, that of p's logits is

        p - (1 - ε) [v = y] - ε / V + α / 2 (p (d - KL(p || q)) + p - q)

    and that of q's the same with p and q exchanged.
    """

    @staticmethod
    def forward(
        ctx: Any,
        first: torch.Tensor,
        second: torch.Tensor,
        weight: torch.Tensor,
        labels: torch.Tensor,
        label_smoothing: float,
        alpha: float,
        dtype: torch.dtype,
    ) -> torch.Tensor:
        """
        Args:
            first, second (`torch.Tensor` of shape (N, D)): g and h, in float32.
            weight (`torch.Tensor` of shape (V, D)): W, in float32.
            labels (`torch.LongTensor` of shape (N,)): y, each from 0 to V - 1.
            label_smoothing (`float`): ε.
            alpha (`float`): α.
            dtype (`torch.dtype`): of the matrix products.

        Returns:
            `torch.Tensor` of shape (): the sum.
        """
        projection, targets = weight.to(dtype), labels.unsqueeze(-1)  # (V, D), (N, 1)
        smoothed, half = label_smoothing / len(weight), alpha / 2
        gradients = [torch.empty_like(first), torch.empty_like(second), torch.zeros_like(weight)]
        total = first.new_zeros(())
        rows = rows_at_once(first.device) // 2  # of two passes
        for start in range(0, len(labels), rows):
            chunk = slice(start, start + rows)
            states = (first[chunk].to(dtype), second[chunk].to(dtype))
            logs = [matmul(each, projection.T).float().log_softmax(dim=1) for each in states]  # (R, V)
            for log in logs:
                total -= (1 - label_smoothing) * log.gather(1, targets[chunk]).sum() + smoothed * log.sum()
            p, q = logs[0].exp(), logs[1].exp()
            difference = logs[0].sub_(logs[1])
            for side, (own, other) in enumerate(((p, q), (q, p))):
                divergence = torch.linalg.vecdot(own, difference).unsqueeze(-1)  # KL(own || other), (R, 1)
                total += half * divergence.sum()
                of_logits = (difference * half).add_(1 + half - half * divergence).mul_(own)
                of_logits.sub_(other, alpha=half).sub_(smoothed)
                of_logits.scatter_add_(1, targets[chunk], of_logits.new_full((len(own), 1), label_smoothing - 1))
                of_logits = of_logits.to(dtype)
                gradients[side][chunk] = matmul(of_logits, projection)
                add_matmul(gradients[2], of_logits.T, states[side])
                difference.neg_()
        ctx.save_for_backward(*gradients)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return (*(saved * gradient for saved in ctx.saved_tensors), None, None, None, None)


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
    first, second = hidden_states.flatten(0, -2).chunk(2)  # (B T, D)
    labels = labels.chunk(2)[0].flatten()
    is_real = labels != IGNORED_LABEL
    dtype = autocast_dtype(hidden_states.device) or hidden_states.dtype
    total = RDropLoss.apply(
        first[is_real].float(),
        second[is_real].float(),
        lm_head.weight.float(),
        labels[is_real],
        label_smoothing,
        alpha,
        dtype,
    )
    return total / 2
