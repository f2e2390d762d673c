# Copyright 2026 The vanilla_transformer authors. All rights reserved.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""The paper's loss: cross-entropy with label smoothing (§5.4), without the logits of a whole batch."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

from .kernels_vanilla_transformer import add_matmul, is_plain_linear, matmul

IGNORED_LABEL = -100


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """What autocast computes in on a device; `None` where it is off."""
    return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None


def rows_at_once(device: torch.device) -> int:
    """Rows of logits that exist at a time: few enough for the caches of a CPU, enough to fill a GPU."""
    return 256 if device.type == "cpu" else 4096


class LabelSmoothedCrossEntropy(torch.autograd.Function):
    """
    Σ_i r_i [logsumexp_v z_iv - (1 - ε) z_iy - ε mean_v z_iv] with z = h Wᵀ, for a chunk of rows at a time.

    The gradients are taken in the forward pass, while the logits of a chunk are there, so that logits are neither kept
    nor computed twice. The exponentials of a row are never divided by their sum s: the row of the product with W is,
    and the row of h that they meet. Smoothing needs no logits: a mean logit is h times the mean row of W.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden_states: torch.Tensor,
        weight: torch.Tensor,
        labels: torch.Tensor,
        is_real: torch.Tensor,
        label_smoothing: float,
        dtype: torch.dtype,
    ) -> torch.Tensor:
        """
        Args:
            hidden_states (`torch.Tensor` of shape (N, D)): h, in float32.
            weight (`torch.Tensor` of shape (V, D)): W, in float32.
            labels (`torch.LongTensor` of shape (N,)): y, each from 0 to V - 1.
            is_real (`torch.Tensor` of shape (N,)): r, in float32: 1 for a row that counts and 0 for another.
            label_smoothing (`float`): ε.
            dtype (`torch.dtype`): of the products with chunks of logits. All else is in float32.

        Returns:
            `torch.Tensor` of shape (): the sum.
        """
        rows = rows_at_once(hidden_states.device)
        projection = weight.to(dtype)
        is_real, targets = is_real.unsqueeze(-1), labels.unsqueeze(-1)  # (N, 1)
        real_states = hidden_states * is_real

        # What does not depend on the logits: h · (w_y - mean_v w_v), and its gradients with those of -z_y.
        target_rows, mean_row = F.embedding(labels, weight), weight.mean(dim=0)
        total = label_smoothing * (real_states * (target_rows - mean_row)).sum()
        hidden_gradient = weight_gradient = None
        if ctx.needs_input_grad[0]:
            hidden_gradient = target_rows.lerp_(mean_row, label_smoothing).mul_(-is_real)  # (N, D)
        if ctx.needs_input_grad[1]:
            smoothed = real_states.sum(dim=0) * (-label_smoothing / len(weight))  # (D)
            weight_gradient = smoothed.expand_as(weight).clone()  # (V, D)
            weight_gradient.index_add_(0, labels, real_states, alpha=label_smoothing - 1)

        for start in range(0, len(labels), rows):
            chunk = slice(start, start + rows)
            logits = matmul(hidden_states[chunk].to(dtype), projection.T).float()  # (R, V)
            target = logits.gather(1, targets[chunk])
            maximum = logits.amax(dim=1, keepdim=True)
            exponentials = logits.sub_(maximum).exp_()
            sums = exponentials.sum(dim=1, keepdim=True)
            # Not in place: a compiled graph of torch 2.11 then takes the loss for a constant, without gradients.
            total = total + ((sums.log() + maximum - target) * is_real[chunk]).sum()
            exponentials = exponentials.to(dtype)
            if hidden_gradient is not None:
                hidden_gradient[chunk] += matmul(exponentials, projection) * (is_real[chunk] / sums)
            if weight_gradient is not None:
                scaled = (real_states[chunk] / sums).to(dtype)
                add_matmul(weight_gradient, exponentials.T, scaled)
        ctx.save_for_backward(hidden_gradient, weight_gradient)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        of_hidden, of_weight = (None if saved is None else saved * gradient for saved in ctx.saved_tensors)
        return of_hidden, of_weight, None, None, None, None


def label_smoothed_loss(
    hidden_states: torch.Tensor, lm_head: nn.Module, labels: torch.Tensor, label_smoothing: float
) -> torch.Tensor:
    """
    Sum over the labels of the label-smoothed cross-entropy, with ε / V of the mass on each of the V entries (§5.4).

    Args:
        hidden_states (`torch.Tensor` of shape (B, T, D)): the decoder's output.
        lm_head (`nn.Module`): the projection (D) -> (V). Anything but a plain linear layer without bias (an adapter, a
            quantised or hooked one) is called as it is, and full logits are made.
        labels (`torch.LongTensor` of shape (B, T)): target ids, -100 where there is none.
        label_smoothing (`float`): ε.

    Returns:
        `torch.Tensor` of shape (): the sum, in float32.
    """
    hidden_states, labels = hidden_states.flatten(0, -2), labels.flatten()  # (N, D), (N,)
    is_real = labels != IGNORED_LABEL
    if not torch.compiler.is_compiling():  # A compiled graph has static shapes: there padding is masked instead.
        hidden_states, labels, is_real = hidden_states[is_real], labels[is_real], is_real[is_real]

    is_transformed = torch._C._are_functorch_transforms_active()  # by `torch.func`, which our function is not made for
    if is_transformed or not is_plain_linear(lm_head) or getattr(lm_head, "bias", None) is not None:
        logits = lm_head(hidden_states).float()
        return F.cross_entropy(
            logits, labels, ignore_index=IGNORED_LABEL, reduction="sum", label_smoothing=label_smoothing
        )
    # The projection runs in the precision of the model, or of autocast, which does not know this function.
    dtype = autocast_dtype(hidden_states.device) or hidden_states.dtype
    weight: torch.Tensor = lm_head.weight  # type: ignore[assignment]
    return LabelSmoothedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden_states.float(), weight.float(), labels.clamp(min=0), is_real.float(), label_smoothing, dtype
    )


def mean_loss(
    total: torch.Tensor, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None
) -> torch.Tensor:
    """
    A sum of losses over the number of labels: of the whole optimizer step where that is given, else of those here.

    Args:
        total (`torch.Tensor` of shape ()): the sum.
        labels (`torch.LongTensor`): those that were to be predicted, -100 where there is none.
        num_items_in_batch (`torch.Tensor` or `int`): labels of the optimizer step, as Trainer counts them.
    """
    if num_items_in_batch is None:
        num_items_in_batch = (labels != IGNORED_LABEL).sum()
    count = torch.as_tensor(num_items_in_batch, device=total.device).squeeze()
    return total / count.clamp(min=1)  # without any label the sum is 0


def check_labels(labels: torch.Tensor | None, number: int) -> None:
    """
    Refuse labels outside of 0 to `number` - 1 that are not -100.

    On a CPU: looking at them on a GPU would wait for it in every step, and there the kernel looks.
    """
    if labels is None or labels.device.type != "cpu" or labels.is_floating_point() or torch.compiler.is_compiling():
        return
    outside = (labels >= number) | ((labels < 0) & (labels != IGNORED_LABEL))
    if outside.any():
        raise ValueError(
            f"`labels` has {labels[outside][0].item()}: give 0 to {number - 1}, or {IGNORED_LABEL} for what is not "
            "to be predicted."
        )
