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
Beam search and greedy search as transformers does them, on a decoder that is laid out for one token at a time.

It gives the tokens of the plain path, in less time: the beams of a sentence share one copy of the source's keys and
values, no table of the size of the vocabulary is copied or sorted as a whole, finished sentences leave the batch, and
on a CPU the weights are packed for few rows. `generate` comes here by itself where nothing is asked for that only the
plain path has; `can_search` says where.
"""

import functools
import warnings
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers.cache_utils import DynamicCache, EncoderDecoderCache
from transformers.generation import GenerationConfig, StoppingCriteriaList
from transformers.generation.stopping_criteria import EosTokenCriteria, MaxLengthCriteria

from .configuration_vanilla_transformer import CACHE_NAME
from .kernels_vanilla_transformer import HAS_ONEDNN, PLAIN_TENSORS
from .layers_vanilla_transformer import eager_attention_forward
from .loss_vanilla_transformer import autocast_dtype

WEIGHT_PRECISIONS = (None, "bfloat16", "int8")
# Rows that packed weights are laid out for.
PACKED_ROWS = 16
# Positions by which caches of keys and values grow.
CACHE_BLOCK = 32
# Rows of logits at once: few enough that their memory is used again instead of being asked for anew each time.
LOGIT_ROWS = 64
# Logits of which the highest is looked for first: about the square root of a usual vocabulary.
VOCABULARY_BLOCK = 192
# Methods that this search does not call: where one is another's, what it does would be left out.
REPLACED_METHODS = (
    "forward",
    "feed_forward",
    "residual",
    "project_keys_and_values",
    "prepare_inputs_for_generation",
    "_update_model_kwargs_for_generation",
)
NEVER = -1.0e9  # a score that nothing has


class Projection:
    """
    Linear layers that read the same states, as one: (N, D) -> (N, sum of their outputs).

    On a CPU the weights are packed as oneDNN wants them, which torch does unasked only when it compiles.

    Args:
        layers: whose outputs are put side by side.
        precision: of the weights; `None` is their own, "int8" has a scale for each output and for the states in each
            call. What comes out is in the precision that went in.
    """

    def __init__(self, *layers: nn.Linear, precision: str | None = None):
        self.weight = torch.cat([layer.weight for layer in layers]) if len(layers) > 1 else layers[0].weight
        biases: list[torch.Tensor] = [layer.bias for layer in layers if layer.bias is not None]
        self.bias = torch.cat(biases) if biases else None
        if precision == "int8":
            self.multiply = self.int8()
        elif precision == "bfloat16":
            self.weight, self.bias = self.weight.bfloat16(), None if self.bias is None else self.bias.bfloat16()
            multiply = self.packed()
            self.multiply = lambda states: multiply(states.bfloat16()).to(states.dtype)
        else:
            self.multiply = self.packed()
        del self.weight, self.bias

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        return self.multiply(states)

    def packed(self) -> Callable[[torch.Tensor], torch.Tensor]:
        """The product with packed weights, or where they cannot be packed with the weights as they are."""
        weight, bias = self.weight, self.bias
        is_packable = weight.dtype == torch.float32 or (
            weight.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        )
        if HAS_ONEDNN and torch.backends.mkldnn.enabled and weight.device.type == "cpu" and is_packable:
            packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), PACKED_ROWS)
            return lambda states: torch.ops.mkldnn._linear_pointwise(states, packed, bias, "none", [], "")
        return lambda states: F.linear(states, weight, bias)

    def int8(self) -> Callable[[torch.Tensor], torch.Tensor]:
        """The product with weights from -127 to 127."""
        weight, bias = self.weight.float(), None if self.bias is None else self.bias.float()
        scales = (weight.abs().amax(dim=1) / 127).clamp(min=1e-12).double()
        zeros = torch.zeros(len(weight), dtype=torch.long)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.quantize_per_tensor", UserWarning)  # it is to move to torchao
            quantized = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
        packed = torch.ops.quantized.linear_prepack(quantized, bias)
        # Without VNNI the sums of two products can overflow: states then get 7 bits.
        reduce_range = not torch.cpu._is_vnni_supported()
        return lambda states: torch.ops.quantized.linear_dynamic(states.float(), packed, reduce_range).to(states.dtype)


class StepDecoder:
    """
    The decoder and the output projection, for one token of every row.

    Args:
        model: of the head that translates; its weights are copied where packing needs that.
        precision: of the weights, as for `Projection`.
    """

    def __init__(self, model: Any, precision: str | None = None):
        decoder = model.model.decoder
        self.config = model.config
        self.layers = list(decoder.layers)
        self.embedding, self.embed_positions, self.last_norm = (
            decoder.embed_tokens,
            decoder.embed_positions,
            decoder.layer_norm,
        )
        projection = functools.partial(Projection, precision=precision)
        attentions = [layer.self_attn for layer in self.layers]
        self.self_inputs = [projection(each.q_proj, each.k_proj, each.v_proj) for each in attentions]
        self.self_outputs = [projection(each.out_proj) for each in attentions]
        self.cross_queries = [projection(layer.encoder_attn.q_proj) for layer in self.layers]
        self.cross_outputs = [projection(layer.encoder_attn.out_proj) for layer in self.layers]
        self.inner = [(projection(layer.fc1), projection(layer.fc2)) for layer in self.layers]
        self.lm_head = projection(model.lm_head)
        heads = self.config.num_attention_heads
        self.key_width, self.value_width = heads * self.config.query_key_size, heads * self.config.value_size

    def positions(self, count: int) -> torch.Tensor:
        """The first `count` positions (count, D) in the precision of the embeddings."""
        weight = self.embedding.weight
        table: torch.Tensor = self.embed_positions(torch.arange(count, device=weight.device), weight.dtype)
        return table

    def __call__(self, tokens: torch.Tensor, position: torch.Tensor, state: "SearchState") -> Iterator[torch.Tensor]:
        """tokens (N,), position (D,) -> logits in float32, in chunks of rows (R, V)."""
        states = self.embedding(tokens) + position
        for index, layer in enumerate(self.layers):
            states = self.residual(layer, states, layer.self_attn_layer_norm, self.attend_to_target, index, state)
            states = self.residual(layer, states, layer.encoder_attn_layer_norm, self.attend_to_source, index, state)
            states = self.residual(layer, states, layer.final_layer_norm, self.feed_forward, index, state)
        if self.last_norm is not None:
            states = self.last_norm(states)
        return (self.lm_head(rows).float() for rows in states.split(LOGIT_ROWS))

    @staticmethod
    def residual(
        layer: Any,
        states: torch.Tensor,
        norm: nn.LayerNorm,
        sublayer: Callable[[int, torch.Tensor, "SearchState"], torch.Tensor],
        index: int,
        state: "SearchState",
    ) -> torch.Tensor:
        """As in `VanillaTransformerLayer.residual`, without dropout."""
        if layer.norm_first:
            return states + sublayer(index, norm(states), state)
        summed: torch.Tensor = norm(states + sublayer(index, states, state))
        return summed

    def attend_to_target(self, index: int, states: torch.Tensor, state: "SearchState") -> torch.Tensor:
        """(N, D) -> (N, D), over the tokens so far; the keys and values of this one are added to them."""
        widths = [self.key_width, self.key_width, self.value_width]
        queries, keys, values = torch.split(self.self_inputs[index](states), widths, dim=-1)
        heads, rows = self.config.num_attention_heads, len(states)
        all_keys, all_values = state.append(index, keys.view(rows, heads, -1), values.view(rows, heads, -1))
        attended = F.scaled_dot_product_attention(
            queries.view(rows, heads, 1, -1), all_keys, all_values, scale=self.layers[index].self_attn.scaling
        )
        return self.self_outputs[index](attended.view(rows, -1))

    def attend_to_source(self, index: int, states: torch.Tensor, state: "SearchState") -> torch.Tensor:
        """(N, D) -> (N, D), over the source, whose keys and values the beams of a sentence share."""
        keys, values = state.source[index]
        sentences, heads = keys.shape[0], keys.shape[1]
        queries = self.cross_queries[index](states).view(sentences, -1, heads, self.config.query_key_size)
        # Written out: for so few queries it is faster than the fused kernel.
        attention = self.layers[index].encoder_attn
        attended, _ = eager_attention_forward(
            attention, queries.transpose(1, 2), keys, values, state.source_mask, scaling=attention.scaling
        )  # (B, N / B, H, d_v)
        return self.cross_outputs[index](attended.view(len(states), -1))

    def feed_forward(self, index: int, states: torch.Tensor, state: "SearchState") -> torch.Tensor:
        """(N, D) -> (N, D)."""
        first, second = self.inner[index]
        return second(self.layers[index].activation_fn(first(states)))


class SearchState:
    """
    Keys and values, of the source for each sentence and of the target for each beam.

    Attributes:
        source: keys (B, H, S, K) and values (B, H, S, d_v) of each layer.
        source_mask (`torch.Tensor` of shape (B, 1, 1, S) or `None`): added to scores; none where all are tokens.
        target: keys (N, H, capacity, K) and values of each layer, of which `length` positions are filled.
    """

    def __init__(self, decoder: StepDecoder, encoded: torch.Tensor, mask: torch.Tensor | None, beams: int):
        config, encoded = decoder.config, encoded.to(decoder.embedding.weight.dtype)
        heads, rows = config.num_attention_heads, encoded.shape[0] * beams
        self.source = [layer.encoder_attn.project_keys_and_values(encoded) for layer in decoder.layers]
        self.source = [(keys.contiguous(), values.contiguous()) for keys, values in self.source]
        self.source_mask = None
        if mask is not None and not bool(mask.all()):
            padding = ~mask.bool()[:, None, None, :]
            self.source_mask = encoded.new_zeros(padding.shape).masked_fill(padding, torch.finfo(encoded.dtype).min)
        self.length = 0
        self.target = [
            [encoded.new_empty(rows, heads, CACHE_BLOCK, size) for size in (config.query_key_size, config.value_size)]
            for _ in decoder.layers
        ]

    def append(self, index: int, *states: torch.Tensor) -> list[torch.Tensor]:
        """Add keys (N, H, K) and values of a layer at the position at hand; all of them up to that."""
        filled = []
        for side, new in enumerate(states):
            cache = self.target[index][side]
            if self.length == cache.shape[2]:
                grown = cache.new_empty(*cache.shape[:2], self.length + CACHE_BLOCK, cache.shape[3])
                grown[:, :, : self.length] = cache
                cache = self.target[index][side] = grown
            cache[:, :, self.length] = new
            filled.append(cache[:, :, : self.length + 1])
        return filled

    def advance(self) -> None:
        """Go to the next position."""
        self.length += 1

    def copy_beams(self, origins: torch.Tensor, places: torch.Tensor) -> None:
        """Write the beams of some rows (M,) over those of other rows (M,)."""
        if len(origins):
            for layer in self.target:
                for cache in layer:
                    filled = cache[:, :, : self.length]
                    filled.index_copy_(0, places, filled.index_select(0, origins))

    def keep_sentences(self, order: torch.Tensor) -> None:
        """Keep the sentences of `order` (B',), see `filling_order`: each at its place or at that of a dropped one."""
        count, beams = len(order), len(self.target[0][0]) // len(self.source[0][0])
        places = (order >= count).nonzero().squeeze(-1)
        origins = order[places]
        rows = torch.arange(beams, device=order.device)
        self.copy_beams(*((beams * each.unsqueeze(-1) + rows).flatten() for each in (origins, places)))
        self.target = [[cache[: count * beams] for cache in layer] for layer in self.target]
        for layer in self.source:
            for states in layer:
                states[places] = states[origins]
        self.source = [(keys[:count], values[:count]) for keys, values in self.source]
        if self.source_mask is not None:
            self.source_mask = self.source_mask[order]


def filling_order(is_kept: torch.Tensor) -> torch.Tensor:
    """The sentences that are kept, of (B,), so that few of them move: the last ones take the places of the dropped."""
    kept = is_kept.nonzero().squeeze(-1)
    order = torch.arange(len(kept), device=kept.device)
    order[~is_kept[: len(kept)]] = kept[kept >= len(kept)]
    return order


def places_of_beams(parents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Where the new beams of each sentence go so that few have to be copied: one of them to the place of its parent, and
    those that have the same parent to the places that no beam comes from.

    Args:
        parents (`torch.Tensor` of shape (B, K)): the place of each new beam's parent, from 0 to K - 1.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: which new beam each place gets (B, K), and whether it stays in the place
        of its parent (B, K).
    """
    beams = parents.shape[1]
    is_same = parents.unsqueeze(2) == parents.unsqueeze(1)
    is_first = ~is_same.tril(-1).any(dim=2)
    is_parent = torch.zeros_like(is_first).scatter(1, parents, True)
    free = is_parent.int().argsort(dim=1, stable=True)  # places that no beam comes from, in front
    rank = ((~is_first).cumsum(dim=1) - 1).clamp(min=0)
    places = torch.where(is_first, parents, free.gather(1, rank))
    beam_at = torch.empty_like(places).scatter(1, places, torch.arange(beams, device=places.device).expand_as(places))
    return beam_at, is_parent


@dataclass
class Request:
    """
    What a search is asked for.

    Attributes:
        encoded (`torch.Tensor` of shape (B, S, D)), mask (`torch.Tensor` of shape (B, S) or `None`): the source.
        start, padding: token ids.
        ends (`torch.Tensor` of shape (E,)): ids that end a sentence.
        limits (`torch.LongTensor` of shape (B,)): the most tokens to generate for each sentence.
        precision: of the decoder's weights, as for `Projection`.
    """

    encoded: torch.Tensor
    mask: torch.Tensor | None
    start: torch.Tensor
    padding: int
    ends: torch.Tensor
    limits: torch.Tensor
    precision: str | None


_prepared: "weakref.WeakKeyDictionary[Any, tuple[Any, StepDecoder]]" = weakref.WeakKeyDictionary()


@functools.cache
def random_vector(length: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """The same numbers each time."""
    return torch.randn(length, generator=torch.Generator().manual_seed(length)).to(device, dtype)


def checksum(parameter: torch.Tensor) -> tuple[int, float]:
    """
    The sum of its bits modulo 2^64, which every single change alters, and its product with random numbers, which an
    exchange of rows or columns does.
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


def step_decoder(model: Any, precision: str | None) -> StepDecoder:
    """The decoder of a model, laid out anew if its weights, or their precision, are others than the last time."""
    parameters = dict.fromkeys([*model.model.decoder.parameters(), *model.lm_head.parameters()])  # tied ones once
    # Versions alone are not enough: fused optimizers, and whoever writes to `.data`, leave them as they are.
    stamp = (
        precision,
        [(parameter.data_ptr(), parameter._version, parameter.dtype, checksum(parameter)) for parameter in parameters],
    )
    known = _prepared.get(model)
    if known is None or known[0] != stamp:
        known = _prepared[model] = (stamp, StepDecoder(model, precision))
    return known[1]


def can_search(
    model: Any,
    input_ids: torch.Tensor,
    logits_processor: Any,
    stopping_criteria: StoppingCriteriaList,
    generation_config: GenerationConfig,
    known_criteria: tuple[type, ...],
    synced_gpus: bool = False,
    streamer: Any = None,
    **model_kwargs: Any,
) -> bool:
    """Whether a call asks for nothing that this search does not have, of a model that is as it was built."""
    cache = model_kwargs.get(CACHE_NAME)
    is_new_cache = cache is None or (
        not getattr(cache, "_is_user_defined", False)
        and type(cache) is EncoderDecoderCache
        and type(cache.self_attention_cache) is DynamicCache
        and cache.get_seq_length() == 0
        and not cache.is_updated.get(0)
    )
    plain_arguments = {"attention_mask", "encoder_outputs", CACHE_NAME, "use_cache", "logits_to_keep"}
    given = {name for name, value in model_kwargs.items() if value is not None}
    return (
        len(logits_processor) == 0
        and all(is_own_criterion(each, generation_config, known_criteria) for each in stopping_criteria)
        and not (generation_config.do_sample or generation_config.return_dict_in_generate or synced_gpus)
        and streamer is None
        and generation_config.cache_implementation is None
        and generation_config._eos_token_tensor is not None
        and input_ids.shape[1] == 1
        and (model.config.position_limit is None or generation_config.max_length <= model.config.position_limit)
        and given <= plain_arguments
        and is_new_cache
        and bool(model_kwargs.get("use_cache"))
        and autocast_dtype(input_ids.device) in (None, torch.bfloat16)
        and model.config._attn_implementation in ("sdpa", "eager")
        and is_as_built(model)
        and model_kwargs["encoder_outputs"][0].device == input_ids.device == model.lm_head.weight.device
    )


def is_own_criterion(criterion: Any, generation_config: GenerationConfig, known: tuple[type, ...]) -> bool:
    """Whether a criterion is one that `generate` makes from its settings; the caller's take the places of these."""
    if type(criterion) is EosTokenCriteria:
        return set(criterion.eos_token_id.tolist()) == set(generation_config._eos_token_tensor.tolist())
    if type(criterion) is MaxLengthCriteria:
        return bool(criterion.max_length == generation_config.max_length)
    return type(criterion) in known


def is_as_built(model: Any) -> bool:
    """
    Whether every layer of the decoder is the plain one: no adapter, no quantised weight, no hook, no method of others,
    one device, and none in training.
    """
    modules = [model, model.model, *model.model.decoder.modules(), model.lm_head]
    parameters = [*model.model.decoder.parameters(), *model.lm_head.parameters()]
    return (
        type(model.lm_head) is nn.Linear
        and not getattr(nn.modules.module, "_has_any_global_hook", bool)()
        and not any(has_hook(each) for each in modules)
        and all(has_known_methods(each) for each in modules)
        and not any(each.training for each in modules)
        and all(
            type(layer) is nn.Linear
            for each in model.model.decoder.layers
            for block in (each.self_attn, each.encoder_attn)
            for layer in (block.q_proj, block.k_proj, block.v_proj, block.out_proj, each.fc1, each.fc2)
        )
        and all(type(parameter) in PLAIN_TENSORS for parameter in parameters)
        and len({(parameter.device, parameter.dtype) for parameter in parameters}) == 1
        and not any(parameter.is_inference() for parameter in parameters)
        and not any(hasattr(each, "parametrizations") for each in modules)
    )


def has_hook(module: nn.Module) -> bool:
    """Whether something acts on what goes in or out, which transformers' own hooks for recording outputs do not."""
    hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
    acting = [each for each in hooks if getattr(each, "__module__", "") != "transformers.utils.output_capturing"]
    return bool(acting) or hasattr(module, "_hf_hook")


def has_known_methods(module: nn.Module) -> bool:
    """Whether what this search does in the place of a module's methods is theirs: the class's and the object's own."""
    known = (f"{__name__.rpartition('.')[0]}.", "torch.nn.", "transformers.activations", "transformers.generation.")
    methods = (getattr(type(module), name, None) for name in REPLACED_METHODS)
    return not any(name in vars(module) for name in REPLACED_METHODS) and all(
        method is None or str(method.__module__).startswith(known) for method in methods
    )


def request_of(
    input_ids: torch.Tensor,
    stopping_criteria: StoppingCriteriaList,
    generation_config: GenerationConfig,
    beams: int,
    model_kwargs: dict[str, Any],
) -> Request:
    """A request out of what `generate` passes to its searches, where every sentence stands `beams` times."""
    encoded = model_kwargs["encoder_outputs"][0][::beams]
    mask = model_kwargs.get("attention_mask")
    precision = getattr(generation_config, "weight_precision", None)
    if precision is None and autocast_dtype(encoded.device) == torch.bfloat16:
        precision = "bfloat16"
    limits = torch.full((encoded.shape[0],), generation_config.max_length, device=encoded.device)
    for criterion in stopping_criteria:
        own = getattr(criterion, "max_length", None)
        if isinstance(own, torch.Tensor):  # one for each sentence
            limits = torch.minimum(limits, own.to(limits.device))
    ends, padding = generation_config._eos_token_tensor, generation_config._pad_token_tensor
    return Request(
        encoded=encoded,
        mask=None if mask is None else mask[::beams],
        start=input_ids[::beams, 0],
        padding=int(ends[0] if padding is None else padding),
        ends=ends,
        limits=limits - input_ids.shape[1],
        precision=precision,
    )


def without_autocast(search: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """A search in the precisions of its weights alone: packed ones take no others."""

    @functools.wraps(search)
    def run(model: Any, request: Request, *arguments: Any, **kwargs: Any) -> torch.Tensor:
        with torch.autocast(request.encoded.device.type, enabled=False):
            return search(model, request, *arguments, **kwargs)

    return run


@without_autocast
def greedy_search(model: Any, request: Request) -> torch.Tensor:
    """The most probable token each time: (B, 1 + T)."""
    decoder = step_decoder(model, request.precision)
    state = SearchState(decoder, request.encoded, request.mask, 1)
    longest = int(request.limits.max())
    positions = decoder.positions(longest)
    output = request.start.new_full((len(request.start), 1 + longest), request.padding)
    output[:, 0] = request.start
    active = torch.arange(len(output), device=output.device)
    tokens, width = request.start, 1
    for step in range(longest):
        tokens = torch.cat([logits.argmax(dim=-1) for logits in decoder(tokens, positions[step], state)])
        state.advance()
        output[active, step + 1] = tokens
        width = step + 2
        going_on = ~torch.isin(tokens, request.ends) & (request.limits[active] > step + 1)
        if not bool(going_on.all()):
            kept = filling_order(going_on)
            if not len(kept):
                break
            active, tokens = active[kept], tokens[kept]
            state.keep_sentences(kept)
    return output[:, :width]


def most_probable(logits: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Logits (R, V) -> the highest log-probabilities (R, C), C = min(count, V), and the ids they are of (R, C).

    The logits are overwritten: another tensor of their size would cost more than what is computed in it.
    """
    best, ids = highest(logits, count)
    probabilities = torch.softmax(logits, dim=-1, out=logits)
    return best - best[:, :1] + probabilities.gather(1, ids[:, :1]).log(), ids


def highest(logits: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """
    `logits.topk(min(count, V), dim=-1)` of (R, V), from the blocks with the highest maxima: no others can have one of
    the highest logits, and finding maxima takes a tenth of the time that sorting takes.
    """
    rows, vocab_size = logits.shape
    blocks = vocab_size // VOCABULARY_BLOCK
    if blocks <= count:
        return logits.topk(min(count, vocab_size), dim=-1)
    divided = logits[:, : blocks * VOCABULARY_BLOCK].view(rows, blocks, VOCABULARY_BLOCK)
    chosen = divided.amax(dim=-1).topk(count, dim=-1, sorted=False).indices.unsqueeze(-1)  # (R, C, 1)
    ids = (chosen * VOCABULARY_BLOCK + torch.arange(VOCABULARY_BLOCK, device=logits.device)).flatten(1)
    rest = torch.arange(blocks * VOCABULARY_BLOCK, vocab_size, device=logits.device)  # of no whole block
    ids = torch.cat([ids, rest.expand(rows, -1)], dim=1)
    best, places = logits.gather(1, ids).topk(count, dim=-1)
    return best, ids.gather(1, places)


@without_autocast
def beam_search(
    model: Any,
    request: Request,
    beams: int,
    penalty: Callable[[Any], Any],
    is_rising: bool,
    early_stopping: bool | str,
    returned: int,
) -> torch.Tensor:
    """
    Beam search: (B * returned, 1 + T), the best first.

    Args:
        penalty: what log P(Y|X) is divided by, of a length |Y| or a tensor of lengths.
        is_rising: whether the penalty grows with the length.
        early_stopping: as in transformers' `GenerationConfig`.
        returned: hypotheses for each sentence.
    """
    decoder = step_decoder(model, request.precision)
    state = SearchState(decoder, request.encoded, request.mask, beams)
    device, count, longest = request.start.device, len(request.start), int(request.limits.max())
    positions = decoder.positions(longest)
    candidates = max(2, 1 + len(request.ends)) * beams  # enough to go on with if many of them end
    in_front = torch.arange(candidates, device=device) < beams

    # Of every sentence: the best finished hypotheses so far.
    finished = request.start.new_full((count, beams, longest), request.padding)
    finished_scores = torch.full((count, beams), NEVER, device=device)
    # Of those that are searched: where they stand in the batch, their running hypotheses and the log P of these.
    active = torch.arange(count, device=device)
    limits = request.limits
    running = request.start.new_full((count, beams, longest), request.padding)
    scores = torch.full((count, beams), NEVER, device=device)
    scores[:, 0] = 0.0  # all beams are the same: one of them is enough
    tokens = request.start.repeat_interleave(beams)
    for step in range(longest):
        length = step + 1
        # The best of all beams are among the best of each, so that no table of them all is needed.
        found = [most_probable(logits, candidates) for logits in decoder(tokens, positions[step], state)]
        best, ids = (torch.cat(parts) for parts in zip(*found, strict=True))  # (N, C)
        state.advance()
        summed = best.view(len(active), beams, -1) + scores.unsqueeze(-1)
        top_scores, top = summed.flatten(1).topk(candidates, dim=-1)  # (B, C)
        top_beams = top // best.shape[-1]
        top_tokens = ids.view(len(active), -1).gather(1, top)
        top_running = running.gather(1, top_beams.unsqueeze(-1).expand(-1, -1, longest))
        top_running[:, :, step] = top_tokens

        ending = torch.isin(top_tokens, request.ends) | (limits.unsqueeze(-1) <= length)
        ended = ending & in_front
        if bool(ended.any()):
            new = torch.where(ended, top_scores / penalty(length), torch.full_like(top_scores, NEVER))
            if early_stopping is True:
                new = new.masked_fill((finished_scores[active] > NEVER).all(dim=-1, keepdim=True), NEVER)
            merged = torch.cat([finished_scores[active], new], dim=1)
            best_scores, chosen = merged.topk(beams, dim=-1)
            hypotheses = torch.cat([finished[active], top_running], dim=1)
            finished[active] = hypotheses.gather(1, chosen.unsqueeze(-1).expand(-1, -1, longest))
            finished_scores[active] = best_scores

        scores, chosen = (top_scores + ending * NEVER).topk(beams, dim=-1)
        beam_at, is_kept = places_of_beams(top_beams.gather(1, chosen))
        scores, chosen = scores.gather(1, beam_at), chosen.gather(1, beam_at)
        running = top_running.gather(1, chosen.unsqueeze(-1).expand(-1, -1, longest))
        tokens = top_tokens.gather(1, chosen)

        # A sentence is done when no beam can be better than the worst of enough finished hypotheses.
        far = limits if early_stopping == "never" and is_rising else length
        full = (finished_scores[active] > NEVER).all(dim=-1)
        possible = scores.amax(dim=-1) / penalty(far) > finished_scores[active].amin(dim=-1)
        done = (full & ~possible) | ending.all(dim=-1)
        if early_stopping is True:
            done |= full
        is_copied = (~is_kept & ~done.unsqueeze(-1)).flatten()
        rows = (top_beams.gather(1, chosen) + beams * torch.arange(len(active), device=device).unsqueeze(-1)).flatten()
        state.copy_beams(rows[is_copied], is_copied.nonzero().squeeze(-1))
        if bool(done.any()):
            kept = filling_order(~done)
            if not len(kept):
                break
            active, limits, running, scores = active[kept], limits[kept], running[kept], scores[kept]
            tokens = tokens[kept]
            state.keep_sentences(kept)
        tokens = tokens.flatten()

    output = finished[:, :returned].flatten(0, 1)  # (B * returned, longest)
    is_end, limits = torch.isin(output, request.ends), request.limits.repeat_interleave(returned)
    ended_at = torch.where(is_end.any(dim=-1), is_end.int().argmax(dim=-1) + 1, limits).minimum(limits)
    return torch.cat(
        [request.start.repeat_interleave(returned).unsqueeze(-1), output[:, : int(ended_at.max())]], dim=1
    )


def length_penalty(alpha: float, is_gnmt: bool) -> Callable[[Any], Any]:
    """What log P(Y|X) is divided by: ((5 + |Y|) / 6)^α of GNMT, or |Y|^α."""
    if is_gnmt:
        return lambda length: ((5 + length) / 6) ** alpha
    return lambda length: length**alpha
