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
"""
Ways to compute the same that are faster on some device than those of torch: dropout, products of float32 matrices,
linear layers with packed weights, steps of attention, and the paper's loss without the logits of a whole batch.

`Dropout`, `linear`, `side_by_side`, `matmul` and `add_matmul` each branch to the faster way where there is one.
"""

import functools
import platform
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

from .configuration_vanilla_transformer import IGNORED_LABEL

DRAWS = 1 << 16  # 16 random bits decide on an element
ADDED_ROWS = 2048  # of a product that is added to something: its memory is used again
# Tensors that are nothing but their numbers. Others, such as quantised weights, have their own ways to multiply.
PLAIN_TENSORS = (torch.Tensor, nn.Parameter)
HAS_ONEDNN: bool = torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """Return the type in which autocast computes on a device; `None` where it is off."""
    return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None


# ---------------------------------------------------------------------------------------------------------------------
# Dropout (§5.4)
# ---------------------------------------------------------------------------------------------------------------------


class Dropout16Bit(torch.autograd.Function):
    """
    Dropout whose probability is a multiple of 2^-16, exactly, from a quarter of the random numbers: torch's takes 64
    random bits an element, one element at a time, and keeps the mask as numbers.
    """

    @staticmethod
    def forward(ctx: Any, input: torch.Tensor, dropped: int) -> torch.Tensor:
        bits = torch.empty((input.numel() + 3) // 4, dtype=torch.int64, device=input.device)
        bits.random_(-(2**63), None)  # all of them, so that each 16 are uniform from -2^15 to 2^15 - 1
        kept = (bits.view(torch.int16)[: input.numel()] >= dropped - DRAWS // 2).view(input.shape)
        ctx.save_for_backward(kept)
        ctx.scale = DRAWS / (DRAWS - dropped)
        return (input * kept).mul_(ctx.scale)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        (kept,) = ctx.saved_tensors
        return gradient * kept * ctx.scale, None


class Dropout(nn.Dropout):
    """`nn.Dropout`, four times faster on a CPU, where drawing its mask is a seventh of a small model's training."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return input
        dropped = round(self.p * DRAWS)
        is_plain = not (torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active())
        if 0 < dropped < DRAWS and input.device.type == "cpu" and is_plain and not self.inplace:
            return Dropout16Bit.apply(input, dropped)
        return super().forward(input)


# ---------------------------------------------------------------------------------------------------------------------
# Products of matrices
# ---------------------------------------------------------------------------------------------------------------------


@functools.cache
def is_amd_with_avx512() -> bool:
    """Whether this is a CPU on which MKL, which torch multiplies float32 by, uses half of the width there is."""
    vendor = platform.processor()
    with suppress(OSError):
        vendor += Path("/proc/cpuinfo").read_text(errors="replace")[:1000]
    return "AuthenticAMD" in vendor and torch.backends.cpu.get_cpu_capability() == "AVX512"


def is_for_onednn(*matrices: torch.Tensor) -> bool:
    """Whether to multiply float32 by oneDNN: on an AMD CPU with AVX-512, where it takes half of MKL's time (Zen 5)."""
    return bool(
        not torch.compiler.is_compiling()
        and HAS_ONEDNN
        and is_amd_with_avx512()
        and torch.backends.mkldnn.enabled
        and torch.backends.mkl.is_available()
        # Tools that record or transform operations know those of torch.
        and torch._C._get_tracing_state() is None
        and not torch._C._len_torch_dispatch_stack()
        and not torch._C._len_torch_function_stack()
        and torch.autograd.forward_ad._current_level < 0
        and not torch._C._are_functorch_transforms_active()
        and all(each.device.type == "cpu" and each.dtype == torch.float32 for each in matrices)
        and all(type(each) in PLAIN_TENSORS and each.numel() > 0 for each in matrices)
    )


def dense(matrix: torch.Tensor) -> torch.Tensor:
    """A matrix whose rows or columns lie one after the other; by others on the right oneDNN has no fast product."""
    return matrix if matrix.is_contiguous() or matrix.T.is_contiguous() else matrix.contiguous()


def onednn_product(left: torch.Tensor, right: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """`left @ right + bias` of (N, K) and (K, M), by oneDNN."""
    product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(left, dense(right.T), bias, "none", [], "")
    return product


def matmul(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """`left @ right` of (N, K) and (K, M), without a gradient."""
    if is_for_onednn(left, right):
        return onednn_product(left, right)
    return left @ right


def add_matmul(total: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> None:
    """`total += left @ right` of (N, M), (N, K) and (K, M), without a gradient; the sum may have more precision."""
    uses_torch_matmul = not is_for_onednn(left, right)
    if uses_torch_matmul and total.dtype == left.dtype:
        total.addmm_(left, right)
    elif uses_torch_matmul and total.device.type != "cpu":
        total += left @ right
    else:
        for rows, some in zip(torch.split(total, ADDED_ROWS), torch.split(left, ADDED_ROWS), strict=True):
            rows += matmul(some, right)


class LinearByOneDnn(torch.autograd.Function):
    """
    `torch.nn.functional.linear` of a matrix (N, K) in float32. Its gradients are products of the same kind, and have
    gradients. Of more dimensions oneDNN gives a view, which no one could write into.
    """

    @staticmethod
    def forward(ctx: Any, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        needs_input, needs_weight, _ = ctx.needs_input_grad
        ctx.save_for_backward(input if needs_weight else None, weight if needs_input else None)
        return onednn_product(input, weight.T, bias)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        input, weight = ctx.saved_tensors
        grad_input, grad_weight, grad_bias = None, None, None
        if ctx.needs_input_grad[0]:
            grad_input = differentiable_matmul(gradient, weight)
        if ctx.needs_input_grad[1]:
            grad_weight = differentiable_matmul(gradient.T, input)
        if ctx.needs_input_grad[2]:
            grad_bias = gradient.sum(dim=0)
        return grad_input, grad_weight, grad_bias


def differentiable_matmul(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """`left @ right` of (N, K) and (K, M), with a gradient."""
    return LinearByOneDnn.apply(left, right.T, None) if is_for_onednn(left, right) else left @ right


# ---------------------------------------------------------------------------------------------------------------------
# Linear layers, and their weights packed for few rows
# ---------------------------------------------------------------------------------------------------------------------

WEIGHT_PRECISIONS = (None, "bfloat16", "int8")
PACKED_ROWS = 16  # rows that packed weights are laid out for
MANY_ROWS = 32  # from so many on, one step of attention to a source is faster written out
Product = Callable[[torch.Tensor], torch.Tensor]


def is_plain_linear(layer: nn.Module) -> TypeGuard[nn.Linear]:
    """Whether calling a layer is `F.linear` and nothing else: no hook, no adapter, no quantised weight."""
    hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks)
    return (
        type(layer) is nn.Linear
        and all(type(each) in PLAIN_TENSORS for each in (layer.weight, layer.bias) if each is not None)
        and not any(hooks)
        and not getattr(nn.modules.module, "_has_any_global_hook", bool)()
        and "forward" not in vars(layer)
        and not hasattr(layer, "_hf_hook")
        and not hasattr(layer, "parametrizations")
    )


def linear(layer: nn.Module, states: torch.Tensor, may_pack: bool = True) -> torch.Tensor:
    """
    `layer(states)`, faster where a product with its weight is all that the layer does.

    Inside `packed`, unless `may_pack` is false, it multiplies by a packed weight, elsewhere by oneDNN where
    `is_for_onednn` says so. All other layers, such as adapters, quantised and hooked ones, are called. A subclass of
    `nn.Linear` could not do that: libraries that quantise look for `nn.Linear` itself.
    """
    if not torch.compiler.is_compiling():
        weights = PACKED.get() if may_pack else None
        product = None if weights is None else weights.product((layer,))
        if product is not None:
            return product(states)
        if is_for_onednn(states) and not torch.is_autocast_enabled("cpu") and is_plain_linear(layer):
            parameters = (layer.weight,) if layer.bias is None else (layer.weight, layer.bias)
            if is_for_onednn(*parameters):
                rows = LinearByOneDnn.apply(states.reshape(-1, states.shape[-1]), layer.weight, layer.bias)
                return rows.view(*states.shape[:-1], -1)
    output: torch.Tensor = layer(states)
    return output


def side_by_side(states: torch.Tensor, *layers: nn.Linear) -> tuple[torch.Tensor, ...]:
    """Return the outputs of layers that read the same states; inside `packed` they are one product."""
    weights = None if torch.compiler.is_compiling() else PACKED.get()
    product = None if weights is None else weights.product(layers)
    if product is None:
        return tuple(linear(layer, states) for layer in layers)
    return torch.split(product(states), [layer.out_features for layer in layers], dim=-1)


def is_step_on_cpu(queries: torch.Tensor) -> bool:
    """Return whether queries (B, H, T, K) are of one position, on a CPU and inside `packed`: a step of a search."""
    is_packed = not torch.compiler.is_compiling() and PACKED.get() is not None
    return is_packed and queries.device.type == "cpu" and queries.shape[2] == 1


def attend_in_step(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: object,
) -> tuple[torch.Tensor, None]:
    """
    `sdpa_attention_forward` of one position, or of several that see the same, in half of its time for few rows: it
    looks for cases that are not here.

    Shapes: query (B, H, T, K), key (B, H, S, K), value (B, H, S, d_v), mask (B, 1, T, S) -> (B, T, H, d_v).
    """
    attended = F.scaled_dot_product_attention(query, key, value, attention_mask, dropout, scale=scaling)
    return attended.transpose(1, 2), None


class PackedWeights:
    """
    Products with the weights of linear layers, packed when they are first asked for.

    Neither weights nor hooks may change while an object is in use: it looks at each layer once.

    Args:
        precision (`str`, *optional*): of the weights, "bfloat16" or "int8"; `None` is their own. "int8" has a scale
            for each output, and one for the states of each call. The output has the precision of the states.
    """

    def __init__(self, precision: str | None):
        self.precision = precision
        self.products: dict[tuple[nn.Module, ...], Product | None] = {}

    def product(self, layers: tuple[nn.Module, ...]) -> Product | None:
        """Return one product for all layers, or `None` if one of them is not plain or packing does not help."""
        if layers not in self.products:
            self.products[layers] = self.known(layers) if can_be_one_product(layers) else None
        return self.products[layers]

    def known(self, layers: tuple[nn.Linear, ...]) -> Product | None:
        """Return the product that was packed before, or a new one if the weights have changed since."""
        known, key = KNOWN.setdefault(layers[0], {}), (self.precision, len(layers))
        stamp = tuple(stamp_parameter(each) for layer in layers for each in (layer.weight, layer.bias))
        if key not in known or known[key][0] != stamp:
            known[key] = (stamp, pack(layers, self.precision))
        return known[key][1]


# The stamp of a parameter, if there is one: its address, version, type and sums.
Stamp = tuple[int, int, torch.dtype, tuple[int, float]] | None
Stamps = tuple[Stamp, ...]
# The packed weights of a layer, by precision and number of layers, with a stamp of its weights.
KNOWN: "weakref.WeakKeyDictionary[nn.Module, dict[tuple[str | None, int], tuple[Stamps, Product | None]]]" = (
    weakref.WeakKeyDictionary()
)
# The weights that this thread multiplies by, and those that it holds for the next `packed` blocks.
PACKED: ContextVar[PackedWeights | None] = ContextVar("PACKED", default=None)
HELD: ContextVar[dict[str | None, PackedWeights] | None] = ContextVar("HELD", default=None)


@contextmanager
def packed(precision: str | None = None) -> Iterator[None]:
    """Let `linear` multiply by packed weights in this thread. They must not change before the end of the block."""
    held = HELD.get()
    weights = PackedWeights(precision) if held is None else held.setdefault(precision, PackedWeights(precision))
    token = PACKED.set(weights)
    try:
        yield
    finally:
        PACKED.reset(token)


@contextmanager
def unchanged_weights() -> Iterator[None]:
    """Let all `packed` blocks of this thread share what they pack: weights and hooks do not change before the end."""
    token = HELD.set({} if HELD.get() is None else HELD.get())
    try:
        yield
    finally:
        HELD.reset(token)


def can_be_one_product(layers: tuple[nn.Module, ...]) -> TypeGuard[tuple[nn.Linear, ...]]:
    """Return whether all layers are plain, of one precision and device, and all or none have a bias."""
    if not all(map(is_plain_linear, layers)):
        return False
    return len({(layer.weight.dtype, layer.weight.device, layer.bias is None) for layer in layers}) == 1


@torch.inference_mode(False)
@torch.no_grad()
def pack(layers: tuple[nn.Linear, ...], precision: str | None) -> Product | None:
    """Pack the weights of layers side by side: (..., D) -> (..., sum of their outputs). `None` if nothing is won."""
    weight = torch.cat([layer.weight for layer in layers]) if len(layers) > 1 else layers[0].weight.detach()
    biases: list[torch.Tensor] = [layer.bias for layer in layers if layer.bias is not None]
    bias = torch.cat(biases) if biases else None
    if precision == "int8":
        return pack_int8(weight.float(), None if bias is None else bias.float())
    if precision == "bfloat16":
        weight, bias = weight.bfloat16(), None if bias is None else bias.bfloat16()
    multiply = pack_dense(weight, bias)
    if multiply is None and precision is None and len(layers) == 1:
        return None
    multiply = multiply or functools.partial(F.linear, weight=weight, bias=bias)
    if precision is None:
        return multiply
    return lambda states: multiply(states.bfloat16()).to(states.dtype)


def pack_dense(weight: torch.Tensor, bias: torch.Tensor | None) -> Product | None:
    """Pack a weight (M, D) as oneDNN wants it for few rows, which torch does only when it compiles, if it can."""
    if not (HAS_ONEDNN and torch.backends.mkldnn.enabled and weight.device.type == "cpu"):
        return None
    if weight.dtype not in (torch.float32, torch.bfloat16):
        return None
    if weight.dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return None
    packed_weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), PACKED_ROWS)
    return lambda states: torch.ops.mkldnn._linear_pointwise(states, packed_weight, bias, "none", [], "")


def pack_int8(weight: torch.Tensor, bias: torch.Tensor | None) -> Product:
    """Pack a weight (M, D) as numbers from -127 to 127."""
    scales = (weight.abs().amax(dim=1) / 127).clamp(min=1e-12).double()
    zeros = torch.zeros(len(weight), dtype=torch.long)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.quantize_per_tensor", UserWarning)  # it is to move to torchao
        quantized = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
    packed_weight = torch.ops.quantized.linear_prepack(quantized, bias)
    # Without VNNI the sums of two products can overflow: states then get 7 bits.
    reduce_range = not torch.cpu._is_vnni_supported()
    multiply = torch.ops.quantized.linear_dynamic
    return lambda states: multiply(states.float(), packed_weight, reduce_range).to(states.dtype)


def stamp_parameter(parameter: torch.Tensor | None) -> Stamp:
    """Return what changes with a parameter. Fused optimizers and writes to `.data` leave its version as it is."""
    if parameter is None:
        return None
    version = 0 if parameter.is_inference() else parameter._version
    return parameter.data_ptr(), version, parameter.dtype, checksum(parameter)


@functools.cache
def random_vector(length: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return the same random numbers (length,) each time."""
    with torch.inference_mode(False):
        return torch.randn(length, generator=torch.Generator().manual_seed(length)).to(device, dtype)


def checksum(parameter: torch.Tensor) -> tuple[int, float]:
    """
    Return the sum of a parameter's bits modulo 2^64, which every single change alters, and its product with random
    numbers, which an exchange of rows or columns alters.
    """
    parameter = parameter.detach()
    flat = parameter.reshape(-1)
    if flat.storage_offset() * flat.element_size() % 8:
        flat = flat.clone()
    whole = flat.numel() * flat.element_size() // 8 * 8 // flat.element_size()
    rest = flat[whole:].double().sum().item() if whole < len(flat) else 0
    product = parameter.flatten(1) if parameter.dim() > 1 else parameter
    while product.dim():
        product = product @ random_vector(product.shape[-1], product.dtype, product.device)
    return hash((int(flat[:whole].view(torch.int64).sum()), rest)), product.item()


# ---------------------------------------------------------------------------------------------------------------------
# Loss: cross-entropy with label smoothing (§5.4)
# ---------------------------------------------------------------------------------------------------------------------


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

        # The part that does not depend on the logits: h · (w_y - mean_v w_v), and its gradients with those of -z_y.
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
        grad_hidden, grad_weight = (None if saved is None else saved * gradient for saved in ctx.saved_tensors)
        return grad_hidden, grad_weight, None, None, None, None


def label_smoothed_loss(
    hidden_states: torch.Tensor, lm_head: nn.Module, labels: torch.Tensor, label_smoothing: float
) -> torch.Tensor:
    """
    Sum over the labels of the label-smoothed cross-entropy, with ε / V of the mass on each of the V entries (§5.4).

    Args:
        hidden_states (`torch.Tensor` of shape (B, T, D)): the decoder's output.
        lm_head (`nn.Module`): the projection (D) -> (V). Anything but a plain linear layer (an adapter, a quantised or
            hooked one) is called as it is, and full logits are made.
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
    if is_transformed or not is_plain_linear(lm_head):
        logits = lm_head(hidden_states).float()
        return F.cross_entropy(
            logits, labels, ignore_index=IGNORED_LABEL, reduction="sum", label_smoothing=label_smoothing
        )
    # The projection runs in the precision of the model, or of autocast, which does not know this function.
    dtype = autocast_dtype(hidden_states.device) or hidden_states.dtype
    weight = lm_head.weight
    if isinstance(lm_head.bias, torch.Tensor):  # one more column, of which the states have 1
        weight = torch.cat([weight, lm_head.bias.unsqueeze(1)], dim=1)  # (V, D + 1)
        hidden_states = F.pad(hidden_states, (0, 1), value=1.0)  # (N, D + 1)
    return LabelSmoothedCrossEntropy.apply(
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
