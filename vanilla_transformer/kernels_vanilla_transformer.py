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
Ways to compute the same that are faster on some device than those of torch: dropout, and products of float32 matrices.

`dropout`, `linear`, `matmul` and `add_matmul` each branch to the faster way where there is one.
"""

import functools
import platform
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

DRAWS = 1 << 16  # 16 random bits decide on an element
ADDED_ROWS = 2048  # of a product that is added to something: its memory is used again
# Tensors that are nothing but their numbers. Others, such as quantised weights, have their own ways to multiply.
PLAIN_TENSORS = (torch.Tensor, nn.Parameter)
HAS_ONEDNN: bool = torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class DropoutOfSixteenBits(torch.autograd.Function):
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


def dropout(input: torch.Tensor, p: float, training: bool) -> torch.Tensor:
    """
    `torch.nn.functional.dropout`, four times faster on a CPU, where drawing its mask is a seventh of a small model's
    training.
    """
    dropped = round(p * DRAWS)
    is_plain = not (torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active())
    if training and 0 < dropped < DRAWS and input.device.type == "cpu" and is_plain:
        return DropoutOfSixteenBits.apply(input, dropped)  # type: ignore[no-untyped-call]
    return F.dropout(input, p=p, training=training)


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
        and torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
        # What records or transforms operations knows those of torch.
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


def product_of_onednn(left: torch.Tensor, right: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """`left @ right + bias` of (N, K) and (K, M), by oneDNN."""
    product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(left, dense(right.T), bias, "none", [], "")
    return product


def matmul(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """`left @ right` of (N, K) and (K, M), without a gradient."""
    if is_for_onednn(left, right):
        return product_of_onednn(left, right)
    return left @ right


def add_matmul(total: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> None:
    """`total += left @ right` of (N, M), (N, K) and (K, M), without a gradient; the sum may have more precision."""
    is_torch_s = not is_for_onednn(left, right)
    if is_torch_s and total.dtype == left.dtype:
        total.addmm_(left, right)
    elif is_torch_s and total.device.type != "cpu":
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
        of_input, of_weight, _ = ctx.needs_input_grad
        ctx.save_for_backward(input if of_weight else None, weight if of_input else None)
        return product_of_onednn(input, weight.T, bias)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        input, weight = ctx.saved_tensors
        of_input, of_weight, of_bias = None, None, None
        if ctx.needs_input_grad[0]:
            of_input = differentiable_matmul(gradient, weight)
        if ctx.needs_input_grad[1]:
            of_weight = differentiable_matmul(gradient.T, input)
        if ctx.needs_input_grad[2]:
            of_bias = gradient.sum(dim=0)
        return of_input, of_weight, of_bias


linear_by_onednn: Callable[..., torch.Tensor] = LinearByOneDnn.apply


def differentiable_matmul(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """`left @ right` of (N, K) and (K, M), with a gradient."""
    return linear_by_onednn(left, right.T, None) if is_for_onednn(left, right) else left @ right


def is_plain_linear(layer: nn.Module) -> bool:
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


def linear(layer: Any, states: torch.Tensor) -> torch.Tensor:
    """`layer(states)`, in half the time where the layer is a plain one and `is_for_onednn` says so."""
    if is_for_onednn(states) and not torch.is_autocast_enabled("cpu") and is_plain_linear(layer):
        parameters = (layer.weight,) if layer.bias is None else (layer.weight, layer.bias)
        if is_for_onednn(*parameters):
            rows = linear_by_onednn(states.reshape(-1, states.shape[-1]), layer.weight, layer.bias)
            return rows.view(*states.shape[:-1], -1)
    output: torch.Tensor = layer(states)
    return output
