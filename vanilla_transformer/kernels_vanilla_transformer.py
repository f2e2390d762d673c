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
"""Ways to compute the same that are faster on some device than those of torch. Each is a function with one branch."""

from typing import Any

import torch
import torch.nn.functional as F

DRAWS = 1 << 16  # 16 random bits decide on an element


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
    if training and 0 < dropped < DRAWS and input.device.type == "cpu" and not torch.compiler.is_compiling():
        return DropoutOfSixteenBits.apply(input, dropped)  # type: ignore[no-untyped-call]
    return F.dropout(input, p=p, training=training)
