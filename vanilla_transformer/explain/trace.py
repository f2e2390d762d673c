"""
Every number of one run of the model: recorded while the model computes, by hooks and an attention function of its own.

Shapes: T tokens of a stack (S of the source), H heads, K key size, D hidden_size; one sentence, without a batch.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import eager_mask
from transformers.modeling_outputs import BaseModelOutput

from ..modeling_vanilla_transformer import VanillaTransformerStack

RECORDING = "vanilla_transformer_explain"  # the name of the attention function that records


@dataclass
class Attention:
    """
    One attention (§3.2), T queries to S keys.

    Attributes:
        queries (H, T, K), keys (H, S, K), values (H, S, d_v): the projections of the input, by head.
        products (H, T, S): Q Kᵀ.
        scores (H, T, S): the products times 1 / sqrt(d_k).
        allowed (T, S): which keys each query may see.
        weights (H, T, S): the softmax of the scores, 0 where a query may not see.
        heads (H, T, d_v): weights times values.
        output (T, D): the heads side by side, times W^O.
    """

    queries: torch.Tensor
    keys: torch.Tensor
    values: torch.Tensor
    products: torch.Tensor
    scores: torch.Tensor
    allowed: torch.Tensor
    weights: torch.Tensor
    heads: torch.Tensor
    output: torch.Tensor


@dataclass
class Sublayer:
    """
    The surroundings of an attention or a feed-forward network (§5.4).

    Attributes:
        input (T, D): x.
        output (T, D): of the sublayer.
        residual (T, D): x + output.
        norm (T, D): of the residual, or with `norm_first` of x.
        attention: of an attention sublayer.
        inner (T, d_ff): max(0, x W1 + b1) of a feed-forward network (§3.3).
    """

    input: torch.Tensor
    output: torch.Tensor
    residual: torch.Tensor
    norm: torch.Tensor
    attention: Attention | None = None
    inner: torch.Tensor | None = None


@dataclass
class Layer:
    """A layer of the encoder, which lacks cross-attention, or of the decoder (§3.1)."""

    self_attention: Sublayer
    cross_attention: Sublayer | None
    feed_forward: Sublayer
    output: torch.Tensor


@dataclass
class Stack:
    """
    The encoder or the decoder.

    Attributes:
        embeddings (T, D): of the tokens, times sqrt(D) (§3.4).
        positions (T, D): their encodings (§3.5).
        input (T, D): the sum of both.
        layers: from the bottom.
        output (T, D): of the last layer, with `norm_first` after the last norm.
    """

    embeddings: torch.Tensor
    positions: torch.Tensor
    input: torch.Tensor
    layers: list[Layer]
    output: torch.Tensor


class Recorder:
    """Keeps what modules of a model take and give while it runs, by module in the order of their calls."""

    def __init__(self) -> None:
        self.inputs: dict[nn.Module, list[torch.Tensor]] = {}
        self.outputs: dict[nn.Module, list[torch.Tensor]] = {}
        self.attentions: dict[nn.Module, dict[str, torch.Tensor]] = {}

    def watch(self, module: nn.Module) -> RemovableHandle:
        """Record a module until the returned handle is removed."""

        def record(
            _: nn.Module, inputs: tuple[object, ...], output: torch.Tensor | tuple[torch.Tensor, ...] | BaseModelOutput
        ) -> None:
            output = output[0] if isinstance(output, tuple) else output
            output = output.last_hidden_state if hasattr(output, "last_hidden_state") else output
            self.outputs.setdefault(module, []).append(output[0] if output.dim() == 3 else output)
            if inputs and torch.is_tensor(inputs[0]):
                self.inputs.setdefault(module, []).append(inputs[0][0])

        return module.register_forward_hook(record)

    def attend(
        self,
        module: nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        scaling: float,
        **kwargs: object,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute what `eager_attention_forward` does, step by step, and keep every step."""
        products = query @ key.transpose(2, 3)  # (1, H, T, S)
        scores = products * scaling
        allowed = torch.ones_like(scores[0, 0], dtype=torch.bool)  # (T, S)
        if attention_mask is not None:
            allowed = attention_mask[0, 0] if attention_mask.dtype == torch.bool else attention_mask[0, 0] == 0
        weights = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min).softmax(dim=-1)
        heads = weights @ value  # (1, H, T, d_v)
        steps = {"queries": query, "keys": key, "values": value, "products": products, "scores": scores}
        steps |= {"weights": weights, "heads": heads}
        self.attentions[module] = {**{name: each[0] for name, each in steps.items()}, "allowed": allowed}
        return heads.transpose(1, 2).contiguous(), weights


@contextmanager
def recorded(model: PreTrainedModel) -> Iterator[Recorder]:
    """A context in which all that the stacks of a model compute is recorded; the model is as before after it."""
    recorder = Recorder()
    AttentionInterface.register(RECORDING, recorder.attend)
    AttentionMaskInterface.register(RECORDING, eager_mask)
    implementation, was_training = model.config._attn_implementation, model.training
    with ExitStack() as stack:
        stack.callback(model.train, was_training)
        stack.callback(model.set_attn_implementation, implementation)
        model.eval()
        model.set_attn_implementation(RECORDING)
        for module in model.base_model.modules():
            if module is not model.base_model:
                handle = recorder.watch(module)
                stack.callback(handle.remove)
        yield recorder


def build_stack(recorder: Recorder, stack: VanillaTransformerStack) -> Stack:
    """Put together what was recorded of an encoder or a decoder."""
    return Stack(
        embeddings=recorder.outputs[stack.embed_tokens][0],
        positions=recorder.outputs[stack.embed_positions][0],
        input=recorder.inputs[stack.dropout][0],
        layers=[build_layer(recorder, layer) for layer in stack.layers],
        output=recorder.outputs[stack][0],
    )


def build_layer(recorder: Recorder, layer: Any) -> Layer:
    """Put together what was recorded of a layer: its sublayers come in the order of their norms."""
    norms = [module for name, module in layer.named_children() if name.endswith("layer_norm")]
    attentions = [module for module in layer.children() if module in recorder.attentions]
    sublayers: list[Sublayer] = []
    state = recorder.inputs[layer][0]
    for number, norm in enumerate(norms):
        output, normed = recorder.inputs[layer.dropout][number], recorder.outputs[norm][0]
        sublayer = Sublayer(state, output, state + output, normed)
        if number < len(attentions):
            module = attentions[number]
            sublayer.attention = Attention(**recorder.attentions[module], output=recorder.outputs[module][0])
        else:
            sublayer.inner = recorder.outputs[layer.activation_fn][0]
        state = sublayer.residual if layer.norm_first else normed
        sublayers.append(sublayer)
    cross_attention = sublayers[1] if len(sublayers) == 3 else None
    return Layer(sublayers[0], cross_attention, sublayers[-1], recorder.outputs[layer][0])
