"""One search, over the layers or over the called model, gives what transformers' own loop gives."""

import copy
import io
import re
import threading

import pytest
import torch
from peft import LoraConfig, PrefixTuningConfig, PromptTuningConfig, TaskType, get_peft_model
from torch import nn
from transformers import DynamicCache, EncoderDecoderCache, LogitsProcessorList
from transformers.generation import EosTokenCriteria, MaxLengthCriteria, StoppingCriteria, StoppingCriteriaList
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from tests.conftest import REPOSITORY
from tests.plain import Unchanged, plain
from vanilla_transformer import VanillaTransformerForConditionalGeneration
from vanilla_transformer import generation_vanilla_transformer as search
from vanilla_transformer import kernels_vanilla_transformer as kernels
from vanilla_transformer.modeling_vanilla_transformer import (
    VanillaTransformerAttention,
    VanillaTransformerDecoderLayer,
)

LENGTHS = (11, 3, 5, 8, 2, 10, 6)


@pytest.fixture
def steps(monkeypatch):
    """Counts the fast steps: the rows of each."""
    rows = []
    step = search.FastSteps.step

    def counted(self, ids):
        rows.append(len(ids))
        return step(self, ids)

    monkeypatch.setattr(search.FastSteps, "step", counted)
    return rows


def ending_model(config, seed=0):
    """A model that ends its sentences at various lengths."""
    torch.manual_seed(seed)
    model = VanillaTransformerForConditionalGeneration(config).eval()
    with torch.no_grad():
        model.lm_head.weight.mul_(3)
        model.lm_head.weight[2] += 2 * model.lm_head.weight.mean(dim=0)
    model.generation_config.source_length_offset = 20  # what has not ended by then says no more
    return model


def ragged_source():
    torch.manual_seed(1)
    ids = torch.randint(4, 60, (len(LENGTHS), max(LENGTHS)))
    mask = torch.ones_like(ids)
    for row, length in enumerate(LENGTHS):
        ids[row, length - 1], ids[row, length:], mask[row, length:] = 2, 1, 0
    return {"input_ids": ids, "attention_mask": mask}


CONFIGURATIONS = {
    "paper": {},
    "pre-norm with biases": {"norm_first": True, "attention_bias": True},
    "learned positions": {"position_embedding_type": "learned", "max_position_embeddings": 100},
    "own head sizes": {"qk_head_dim": 6, "v_head_dim": 10},
    "gelu, untied": {"hidden_act": "gelu", "tie_word_embeddings": False},
}
REQUESTS = {
    "paper": {},
    "greedy": {"num_beams": 1},
    "no penalty": {"num_beams": 3, "length_penalty": 0.0},
    "falling penalty": {"length_penalty": -1.0},
    "power": {"length_penalty_type": "power", "length_penalty": 1.0, "early_stopping": False},
    "first full": {"early_stopping": True},
    "several": {"num_return_sequences": 3},
    "short": {"max_new_tokens": 4},
    "two ends": {"eos_token_id": [2, 7]},
    "own limits": {"source_length_offset": 3, "num_beams": 2},
}


class EndsAtThrees(StoppingCriteria):
    def __call__(self, input_ids, scores, **kwargs):
        return input_ids[:, -1] % 7 == 3


def criteria(*own):
    return {"stopping_criteria": StoppingCriteriaList(own)}


def prompts(padded):
    ids = torch.randint(4, 60, (len(LENGTHS), 4), generator=torch.Generator().manual_seed(5))
    mask = torch.ones_like(ids)
    ids[:, 0] = 0
    if padded:
        ids[::2, :2], mask[::2, 0] = torch.tensor([1, 0]), 0
    return {"decoder_input_ids": ids, "decoder_attention_mask": mask}


MODELS = {
    "paper": ("paper", 0),
    "pre-norm": ("pre-norm with biases", 2),
    "paper, other seed": ("paper", 2),
    "pre-norm, other seed": ("pre-norm with biases", 0),
}
RECORDED = {"return_dict_in_generate": True, "output_scores": True}
# The settings of each, and whether the steps are fast.
FURTHER = {
    "unchanged": ({"logits_processor": LogitsProcessorList([Unchanged()])}, True),
    "repetition penalty": ({"repetition_penalty": 1.3}, True),
    "no repetition": ({"no_repeat_ngram_size": 2}, True),
    "least length": ({"min_new_tokens": 5}, True),
    "one length": ({"min_new_tokens": 7, "max_new_tokens": 7}, True),
    "never generated": ({"suppress_tokens": [3, 5, 9, 20]}, True),
    "forced ends": ({"forced_bos_token_id": 7, "forced_eos_token_id": 2}, True),
    "bad words": ({"bad_words_ids": [[5], [6, 7]]}, True),
    "allowed tokens": ({"prefix_allowed_tokens_fn": lambda row, ids: [2, 10 + row, 20 + row, 30 + row, 40]}, True),
    "own criterion": (criteria(EndsAtThrees()), True),
    "own length criterion": (criteria(MaxLengthCriteria(4)), True),
    "subclass of a criterion": (criteria(type("Own", (MaxLengthCriteria,), {})(20)), True),
    "own end criterion": (criteria(EosTokenCriteria(7)), True),
    "dictionary": ({"return_dict_in_generate": True}, True),
    "scores": ({**RECORDED, "output_logits": True}, True),
    "attentions": ({**RECORDED, "output_attentions": True, "output_hidden_states": True}, False),
    "prompt": ({"decoder_input_ids": prompts(False)["decoder_input_ids"]}, False),
    "prompt with a mask": (prompts(False), False),
    "prompt padded on the left": (prompts(True), False),
    "no cache": ({"use_cache": False}, False),
    "own cache": ({"past_key_values": (DynamicCache, DynamicCache)}, False),
    "static cache": ({"cache_implementation": "static"}, False),
    "sampled beams": ({"do_sample": True}, True),
    "sampled beams of few": ({"do_sample": True, "top_k": 5, "temperature": 0.7}, True),
    "sampled": ({"do_sample": True, "num_beams": 1}, False),
    "greedy repetition penalty": ({"num_beams": 1, "repetition_penalty": 1.3}, True),
    "greedy scores": ({**RECORDED, "num_beams": 1}, False),
    "several scores": ({**RECORDED, "num_return_sequences": 3}, True),
    "first full, unchanged": ({"early_stopping": True, "logits_processor": LogitsProcessorList([Unchanged()])}, True),
    "no end": ({"max_new_tokens": 6, "eos_token_id": 59}, True),
}


def same(first, second):
    """Whether outputs are equal: ids exactly, scores but for rounding."""
    if isinstance(first, torch.Tensor) and first.is_floating_point():
        return first.shape == second.shape and torch.allclose(first, second, rtol=1e-4, atol=2e-4)
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, (tuple, list)):
        return len(first) == len(second) and all(map(same, first, second))
    return first is None and second is None


def both_ways(model, source, **request):
    """The outputs of the own search and of transformers' loop, from the same seed."""
    outputs = []
    for run in (lambda **kwargs: model.generate(**kwargs), lambda **kwargs: plain(model, **kwargs)):
        own = {name: value for name, value in request.items() if name != "past_key_values"}
        if "past_key_values" in request:
            own["past_key_values"] = EncoderDecoderCache(*(kind() for kind in request["past_key_values"]))
        torch.manual_seed(9)
        outputs.append(run(**source, **own))
    return outputs


def combinations(configurations, requests):
    """Every request with every configuration, and those that `make test` leaves out: all but one of each request."""
    return [
        pytest.param(configuration, request, marks=[] if place == number % len(configurations) else pytest.mark.slow)
        for number, request in enumerate(requests)
        for place, configuration in enumerate(configurations)
    ]


@pytest.mark.parametrize(("configuration", "request_name"), combinations(CONFIGURATIONS, REQUESTS))
def test_tokens_are_those_of_the_plain_loop(small_config, steps, configuration, request_name, request):
    is_slow = request.node.get_closest_marker("slow") is not None
    asked, different = REQUESTS[request_name], 0
    for seed in (2,) if is_slow else (0, 2):
        model = ending_model(small_config(**CONFIGURATIONS[configuration]), seed)
        own, expected = both_ways(model, ragged_source(), **asked)
        assert steps
        steps.clear()
        assert torch.equal(own, expected)
        different += len({tuple(row) for row in own.tolist()})
    # Where those of some models still begin alike.
    assert different > (2 if is_slow else 5) or "max_new_tokens" in asked


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("model_kind", "request_name"), combinations(MODELS, FURTHER))
def test_all_that_a_call_may_ask_for_is_that_of_the_plain_loop(small_config, steps, model_kind, request_name):
    request, is_fast = FURTHER[request_name]
    request = {**({} if "max_new_tokens" in request else {"source_length_offset": 12}), **request}
    configuration, seed = MODELS[model_kind]
    model = ending_model(small_config(**CONFIGURATIONS[configuration]), seed)
    own, expected = both_ways(model, ragged_source(), **request)
    assert bool(steps) == is_fast
    if isinstance(own, torch.Tensor):
        assert torch.equal(own, expected)
        return
    assert list(own) == list(expected)
    for name in own:
        if name not in search.CACHE_NAME:
            assert same(own[name], expected[name]), name
    for part in ("self_attention_cache", "cross_attention_cache"):
        first, second = (getattr(each.cache, part).layers for each in (own, expected))
        assert same([each.keys for each in first], [each.keys for each in second])
        assert same([each.values for each in first], [each.values for each in second])


def test_finished_sentences_leave_the_batch(config, steps):
    ending_model(config).generate(**ragged_source())
    assert steps[0] == 4 * len(LENGTHS) and steps[-1] < steps[0] and steps == sorted(steps, reverse=True)


def test_few_beams_and_sentences_move():
    parents = torch.tensor([[2, 0, 2, 2], [0, 1, 2, 3], [1, 1, 1, 1], [3, 0, 1, 0]])
    beam_at = search.beams_by_place(parents)
    # Places: the first beam of each parent stays there, the others fill the free ones in order.
    assert beam_at.tolist() == [[1, 2, 0, 3], [0, 1, 2, 3], [1, 0, 2, 3], [1, 2, 3, 0]]
    assert search.filling_order(torch.tensor([1, 0, 1, 0, 1, 1]).bool()).tolist() == [0, 4, 2, 5]
    assert search.filling_order(torch.zeros(3).bool()).tolist() == []


@pytest.mark.parametrize("num_beams", [1, 4])
def test_a_sentence_is_translated_the_same_in_any_batch(config, num_beams):
    model, source = ending_model(config), ragged_source()
    together = model.generate(**source, num_beams=num_beams)
    for row, length in enumerate(LENGTHS):
        alone = model.generate(source["input_ids"][row : row + 1, :length], num_beams=num_beams)[0]
        assert torch.equal(together[row, : len(alone)], alone)
        assert (together[row, len(alone) :] == 1).all()


@pytest.mark.parametrize("num_beams", [1, 4])
def test_autocast_rounds_the_weights_of_the_search(config, steps, num_beams):
    model, source = ending_model(config), ragged_source()
    exact = model.generate(**source, num_beams=num_beams)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model.generate(**source, num_beams=num_beams)
        encoded = model.get_encoder()(**source)
    assert len(steps) > 0
    asked_for = model.generate(
        attention_mask=source["attention_mask"], encoder_outputs=encoded, num_beams=num_beams,
        weight_precision="bfloat16",
    )  # fmt: skip
    assert torch.equal(rounded, asked_for)
    assert torch.equal(exact, model.generate(**source, num_beams=num_beams))  # nothing of it stays


def test_new_weights_are_seen(config, steps):
    model, source = ending_model(config), ragged_source()
    before = model.generate(**source)
    assert steps
    with torch.no_grad():
        model.model.decoder.layers[0].fc1.weight.normal_()
    after = model.generate(**source)
    assert not torch.equal(before, after)
    assert torch.equal(after, plain(model, **source))
    # A fused optimizer does not count what it writes as a new version.
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05, fused=True)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    stepped = model.generate(**source)
    assert not torch.equal(stepped, after)
    assert torch.equal(stepped, plain(model, **source))
    model.lm_head.weight.data[5:9] *= 1.5
    assert torch.equal(model.generate(**source), plain(model, **source))
    # Neither do a new order of rows, of which the sums are the same, and a bias that the others lack.
    before = model.generate(**source)
    model.lm_head.weight.data.copy_(model.lm_head.weight.data.flip(0))
    exchanged = model.generate(**source)
    assert not torch.equal(exchanged, before)
    assert torch.equal(exchanged, plain(model, **source))
    model.lm_head.bias = nn.Parameter(torch.zeros(60))
    assert torch.equal(model.generate(**source), exchanged)
    with torch.no_grad():
        model.lm_head.bias[7] = 50.0
    assert (model.generate(**source, max_new_tokens=5)[:, 1:] == 7).all()
    model.lm_head.bias = None
    model.load_state_dict(ending_model(config, seed=5).state_dict())
    found = model.generate(**source)
    steps.clear()
    assert torch.equal(found, plain(ending_model(config, seed=5), **source))
    assert not steps


def test_bfloat16_and_double_work(config, steps):
    for dtype in (torch.bfloat16, torch.float64):
        model = ending_model(config).to(dtype)
        with torch.inference_mode():
            found = model.generate(**ragged_source())
        assert found.shape[0] == len(LENGTHS)
    assert steps
    assert torch.equal(found, plain(model, **ragged_source()))  # in double


def first_scores(model, **options):
    """The logits of the first token, as float32: (B, V)."""
    outputs = model.generate(
        **ragged_source(), num_beams=1, max_new_tokens=1, return_dict_in_generate=True, output_logits=True, **options
    )
    return outputs.logits[0].float()


def test_bfloat16_works_where_torch_is_built_without_onednn(config, monkeypatch, steps):
    monkeypatch.setattr(kernels, "HAS_ONEDNN", False)
    monkeypatch.setattr(torch.ops, "mkldnn", object())
    model = ending_model(config)
    exact = first_scores(model)
    rounded_model = copy.deepcopy(model).to(torch.bfloat16)
    for each, options in ((model, {"weight_precision": "bfloat16"}), (rounded_model, {})):
        rounded = first_scores(each, **options)
        assert 1e-4 < (rounded - exact).norm() / exact.norm() < 3e-2
        steps.clear()
        assert each.generate(**ragged_source(), **options).shape[0] == len(LENGTHS)
        assert steps


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_weights_of_another_precision_are_near_and_are_not_kept(small_config, steps, precision):
    model = ending_model(small_config(attention_bias=True, norm_first=True))
    source = ragged_source()
    exact, rounded = first_scores(model), first_scores(model, weight_precision=precision)
    assert 1e-4 < (rounded - exact).norm() / exact.norm() < 3e-2
    before = model.generate(**source)
    steps.clear()
    assert model.generate(**source, weight_precision=precision).shape[0] == len(LENGTHS)
    assert steps
    assert torch.equal(model.generate(**source), before)
    assert not hasattr(model.generation_config, "weight_precision")


def test_a_precision_that_is_not_there_is_refused(config):
    model = ending_model(config)
    with pytest.raises(ValueError, match=r"`weight_precision` is 'int4'\. Choose one of"):
        model.generate(**ragged_source(), weight_precision="int4")
    with pytest.raises(ValueError, match="`weight_precision` is 'int8' on meta"):
        model.to("meta").generate(**ragged_source(), weight_precision="int8")


@pytest.fixture
def precisions(monkeypatch):
    """The precisions in which weights are packed."""
    seen = []
    pack = kernels.pack
    monkeypatch.setattr(kernels, "pack", lambda layers, precision: seen.append(precision) or pack(layers, precision))
    return seen


def test_the_precision_of_the_model_s_settings_holds_unless_the_call_has_one(config, precisions):
    model = ending_model(config)
    model.generation_config.weight_precision = "int8"
    for arguments, precision in (({}, "int8"), ({"weight_precision": "bfloat16"}, "bfloat16")):
        precisions.clear()
        model.generate(**ragged_source(), **arguments)
        assert set(precisions) == {precision}
    model.generation_config.weight_precision = "int4"
    with pytest.raises(ValueError, match=r"`weight_precision` is 'int4'\. Choose one of"):
        model.generate(**ragged_source())


@pytest.mark.parametrize(
    "request_",
    [
        {"do_sample": True, "num_beams": 1},
        {"decoder_input_ids": torch.tensor([[0, 5]] * len(LENGTHS))},
        {"return_dict_in_generate": True, "output_attentions": True},
        {"use_cache": False},
    ],
    ids=lambda request: " ".join(request),
)
def test_a_precision_holds_for_every_request_and_under_autocast(config, precisions, request_):
    model = ending_model(config)
    for context in (torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16)):
        precisions.clear()
        with context:
            model.generate(**ragged_source(), **request_, weight_precision="int8", max_new_tokens=4)
        assert set(precisions) <= {"int8"}
    assert kernels.KNOWN[model.lm_head].keys() == {("int8", 1)}


def test_weights_are_packed_once_for_all_calls_and_checked_once_in_a_block(config, monkeypatch):
    model, source, seen, checked = ending_model(config), ragged_source(), [], []
    pack, checksum = kernels.pack, kernels.checksum
    monkeypatch.setattr(kernels, "pack", lambda *arguments: seen.append(1) or pack(*arguments))
    monkeypatch.setattr(kernels, "checksum", lambda parameter: checked.append(1) or checksum(parameter))
    model.generate(**source)
    first, once = len(seen), len(checked)
    assert first and once
    model.generate(**source)
    assert len(seen) == first and len(checked) == 2 * once
    with kernels.unchanged_weights():
        for _ in range(3):
            model.generate(**source)
    assert len(seen) == first and len(checked) == 3 * once


# ----- changed models -----


class Doubled(nn.Linear):
    def forward(self, states):
        return super().forward(states) * 2


def hook_on(name, change):
    return lambda model: model.get_submodule(name).register_forward_hook(lambda module, inputs, output: change(output))


def replace_fc2(model):
    layer = model.model.decoder.layers[1]
    doubled = Doubled(layer.fc2.in_features, layer.fc2.out_features)
    doubled.load_state_dict(layer.fc2.state_dict())
    layer.fc2 = doubled


class OwnFeedForward(VanillaTransformerDecoderLayer):
    def feed_forward(self, states):
        return 2 * super().feed_forward(states)


def replace_layers(model):
    for layer in model.model.decoder.layers:
        layer.__class__ = OwnFeedForward


LAYER = "model.decoder.layers.1"
CHANGES = {
    "hook on a product": hook_on(f"{LAYER}.fc2", lambda output: output * 2),
    "hook on queries": hook_on(f"{LAYER}.self_attn.q_proj", lambda output: output * 3),
    "hook on attention": hook_on(f"{LAYER}.encoder_attn", lambda output: (output[0] * 2, output[1])),
    "hook on a layer": hook_on(LAYER, lambda output: output * 2),
    "own product": replace_fc2,
    "own layers": replace_layers,
}


@pytest.mark.parametrize("beams", [4, 1])
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_inside_takes_effect_in_fast_steps(config, steps, change, beams):
    model = ending_model(config)
    before = model.generate(**ragged_source(), num_beams=beams)
    CHANGES[change](model)
    steps.clear()
    own, expected = both_ways(model, ragged_source(), num_beams=beams)
    assert steps and same(own, expected) and not same(own, before)


def test_a_change_outside_is_called(config, steps):
    calls = []

    class Own(VanillaTransformerForConditionalGeneration):
        def forward(self, *arguments, **kwargs):
            calls.append(None)
            return super().forward(*arguments, **kwargs)

    class OwnPreparation(VanillaTransformerForConditionalGeneration):
        def prepare_inputs_for_generation(self, *arguments, **kwargs):
            calls.append(None)
            return super().prepare_inputs_for_generation(*arguments, **kwargs)

    def hook(module, inputs, output):
        calls.append(None)

    expected = ending_model(config).generate(**ragged_source())
    models = [ending_model(config) for _ in range(6)]
    models[0].register_forward_hook(hook)
    models[1].model.decoder.register_forward_hook(hook)
    plain_forward = models[2].model.decoder.forward
    models[2].model.decoder.forward = lambda *arguments, **kwargs: (
        calls.append(None) or plain_forward(*arguments, **kwargs)
    )
    plain_preparation = models[3].prepare_inputs_for_generation
    models[3].prepare_inputs_for_generation = lambda *arguments, **kwargs: (
        calls.append(None) or plain_preparation(*arguments, **kwargs)
    )
    models[4].__class__, models[5].__class__ = Own, OwnPreparation
    steps.clear()
    for model in models:
        calls.clear()
        assert torch.equal(model.generate(**ragged_source()), expected) and len(calls) > 3
    calls.clear()
    handle = nn.modules.module.register_module_forward_hook(hook)
    assert torch.equal(ending_model(config).generate(**ragged_source()), expected) and calls
    handle.remove()
    training = ending_model(config).train()
    training.generate(**ragged_source(), max_new_tokens=5)
    assert not steps
    one_in_training = ending_model(config)
    one_in_training.model.decoder.layers[1].train()
    assert not torch.equal(one_in_training.generate(**ragged_source()), expected)


ADAPTERS = {
    "LoRA on queries and values": {"target_modules": ["q_proj", "v_proj"]},
    "LoRA on all": {"target_modules": "all-linear"},
    "LoRA on some": {"target_modules": ["fc1", "out_proj"]},
}


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_adapters_translate_before_and_after_they_are_merged(config, steps, adapter):
    settings = LoraConfig(
        task_type=TaskType.SEQ_2_SEQ_LM, r=4, lora_alpha=64, init_lora_weights=False, **ADAPTERS[adapter]
    )
    source = ragged_source()
    before = ending_model(config).generate(**source, max_new_tokens=12)
    adapted = get_peft_model(ending_model(config), settings).eval()
    assert steps
    steps.clear()
    own, expected = both_ways(adapted, source, max_new_tokens=12)
    assert steps and torch.equal(own, expected) and not same(own, before)
    assert adapted.generate(**source, max_new_tokens=4, weight_precision="int8").shape[0] == len(LENGTHS)
    for change in (adapted.merge_adapter, adapted.unmerge_adapter, adapted.merge_and_unload):
        model = change() or adapted  # the first two write into the weights that are packed
        steps.clear()
        own, expected = both_ways(model, source, max_new_tokens=12)
        assert steps and torch.equal(own, expected) and not same(own, before)


@pytest.mark.parametrize("kind", [PrefixTuningConfig, PromptTuningConfig])
def test_tuned_prefixes_and_prompts_translate(config, kind):
    sizes = {"num_virtual_tokens": 3, "num_layers": 3, "token_dim": 32, "num_attention_heads": 4}
    tuned = get_peft_model(ending_model(config), kind(task_type=TaskType.SEQ_2_SEQ_LM, **sizes)).eval()
    nn.init.normal_(tuned.prompt_encoder["default"].embedding.weight, std=2)
    own, expected = both_ways(tuned, ragged_source(), max_new_tokens=6)
    assert torch.equal(own, expected)
    assert not same(own, ending_model(config).generate(**ragged_source(), max_new_tokens=6))


@pytest.mark.slow
@pytest.mark.parametrize("precision", [None, "bfloat16", "int8"])
def test_copies_and_files_translate_the_same(config, precision):
    model, source = ending_model(config), {**ragged_source(), "max_new_tokens": 12}
    expected = model.generate(**source, weight_precision=precision)
    assert precision is not None or torch.equal(expected, plain(model, **source))
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for copied in (copy.deepcopy(model), torch.load(file, weights_only=False)):
        assert torch.equal(copied.generate(**source, weight_precision=precision), expected)
        with torch.no_grad():
            copied.model.decoder.layers[0].fc1.weight.normal_()
        assert not torch.equal(copied.generate(**source, weight_precision=precision), expected)
    assert torch.equal(model.generate(**source, weight_precision=precision), expected)


def test_threads_translate_in_precisions_of_their_own(config):
    model, source = ending_model(config), ragged_source()
    precisions = (None, "bfloat16", "int8", None)
    recorded = {"num_beams": 1, "return_dict_in_generate": True, "output_logits": True, "max_new_tokens": 6}
    expected = {name: model.generate(**source, **recorded, weight_precision=name).logits[0] for name in precisions}
    assert len({round(float(each.sum()), 4) for each in expected.values()}) == 3
    equal = []

    def translate(precision):
        for _ in range(5):
            found = model.generate(**source, **recorded, weight_precision=precision).logits[0]
            equal.append(torch.equal(found, expected[precision]))

    threads = [threading.Thread(target=translate, args=(precision,)) for precision in precisions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert equal == [True] * 20


@pytest.mark.parametrize("beams", [4, 1])
def test_translations_can_be_trained_on(config, beams):
    model = ending_model(config)
    labels = model.generate(**ragged_source(), num_beams=beams)[:, 1:]
    model.train()(**ragged_source(), labels=labels.masked_fill(labels == 1, -100)).loss.backward()


def test_the_search_names_no_layer():
    code = (REPOSITORY / "vanilla_transformer" / "generation_vanilla_transformer.py").read_text(encoding="utf-8")
    assert not re.findall(r"[qkv]_proj|out_proj|fc[12]|encoder_attn|self_attn\b|layer_norm|LayerNorm", code)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("beams", [4, 1])
def test_weights_quantised_by_torch_ao_translate_as_in_the_plain_loop(config, steps, beams):
    model = ending_model(config)
    request = {"num_beams": beams, "max_new_tokens": 12, **RECORDED}
    before = model.generate(**ragged_source(), **request)
    quantised = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    assert sum(type(each).__module__.startswith("torch.ao.") for each in quantised.modules()) >= 2 * 6 + 3 * 10
    steps.clear()
    own, expected = both_ways(quantised, ragged_source(), **request)
    assert torch.equal(own.sequences, expected.sequences) and same(own.scores, expected.scores) and not steps
    assert not torch.equal(own.scores[0], before.scores[0])


def test_positions_that_are_not_there_are_refused_when_they_are_reached(small_config, steps):
    model = ending_model(small_config(position_embedding_type="learned", max_position_embeddings=12))
    with pytest.raises(ValueError, match="`max_position_embeddings` is 12"):
        model.generate(**ragged_source(), max_new_tokens=40, eos_token_id=59)
    assert not steps
    assert model.generate(**ragged_source()).shape[1] <= 12
    assert steps


@pytest.mark.parametrize("vocab_size", [5, 60, 8 * search.VOCABULARY_BLOCK, 20 * search.VOCABULARY_BLOCK + 7])
def test_most_probable_tokens_are_those_of_the_whole_vocabulary(vocab_size):
    torch.manual_seed(0)
    logits = torch.randn(40, vocab_size)
    logits[0, -1] = logits[1, 0] = 9.0  # at either end
    logits[2, : min(vocab_size, 12)] += 9.0  # side by side
    expected = logits.log_softmax(dim=-1).topk(min(8, vocab_size), dim=-1)
    scores, ids = search.most_probable(logits.clone(), 8, torch.empty(0, dtype=torch.long))
    assert torch.equal(ids, expected.indices)
    torch.testing.assert_close(scores, expected.values)


class Opaque(torch.Tensor):
    """A weight of a library: it can be multiplied by, and refuses to be looked at in any other way."""

    @staticmethod
    def __new__(cls, numbers):
        return torch.Tensor._make_wrapper_subclass(cls, numbers.shape, dtype=numbers.dtype, requires_grad=False)

    def __init__(self, numbers):
        self.numbers = numbers.detach()

    @classmethod
    def __torch_dispatch__(cls, function, types, arguments=(), kwargs=None):
        if function not in (torch.ops.aten.detach.default, torch.ops.aten.t.default, torch.ops.aten.mm.default):
            raise NotImplementedError(f"{function} of a weight that is no plain tensor")
        plain = [each.numbers if isinstance(each, cls) else each for each in arguments]
        result = function(*plain, **(kwargs or {}))
        return result if function is torch.ops.aten.mm.default else cls(result)


@pytest.mark.parametrize("which", ["lm_head", "decoder.layers.1.self_attn.k_proj", "all"])
def test_weights_of_other_libraries_multiply_in_their_own_way(small_config, steps, which):
    config = small_config(attention_bias=False, tie_word_embeddings=False)
    expected = [ending_model(config).generate(**ragged_source(), num_beams=beams) for beams in (4, 1)]
    assert steps
    steps.clear()
    model = ending_model(config)
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear) and layer.bias is None and (which == "all" or name.endswith(which)):
            layer.weight = nn.Parameter(Opaque(layer.weight), requires_grad=False)
            assert type(layer.weight.data) is Opaque
    for beams, tokens in zip((4, 1), expected, strict=True):
        assert torch.equal(model.generate(**ragged_source(), num_beams=beams), tokens)
    assert not steps
    assert model.generate(**ragged_source(), weight_precision="int8").shape[0] == len(LENGTHS)  # the others' weights
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            layer.register_forward_hook(lambda module, inputs, output: None)
    with pytest.raises(ValueError, match="`weight_precision` must be None for a model without plain weights"):
        model.generate(**ragged_source(), weight_precision="int8")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("settings", ["Int8WeightOnlyConfig", "Int8DynamicActivationInt8WeightConfig"])
def test_torchao_s_weights_translate(small_config, settings):
    quantization = pytest.importorskip("torchao.quantization")
    model = ending_model(small_config(tie_word_embeddings=False))
    quantization.quantize_(model, getattr(quantization, settings)())
    for beams in (4, 1):
        own, expected = both_ways(model, ragged_source(), num_beams=beams, max_new_tokens=12)
        assert own.shape[0] == len(LENGTHS) and torch.equal(own, expected)


@pytest.mark.parametrize("look", ["attentions", "hidden states", "weights", "tuple"])
def test_a_look_at_a_model_leaves_it_as_it_was(config, steps, look):
    model = ending_model(config)
    expected = model.generate(**ragged_source())
    decoder_ids = expected[:, :4]
    if look == "weights":
        model.set_attn_implementation("eager")
        model(**ragged_source(), decoder_input_ids=decoder_ids, output_attentions=True)
        model.set_attn_implementation("sdpa")
    else:
        asked = {"hidden states": {"output_hidden_states": True}, "tuple": {"return_dict": False}}
        model(**ragged_source(), decoder_input_ids=decoder_ids, **asked.get(look, {"output_attentions": True}))
    steps.clear()
    assert torch.equal(model.generate(**ragged_source()), expected) and steps
    model.generate(**ragged_source(), weight_precision="int8")
    calls = []
    layer = model.model.decoder.layers[1]
    for register in (layer.register_forward_hook, layer.fc1.register_forward_pre_hook):
        handle = register(lambda *arguments: calls.append(None))
        model.generate(**ragged_source(), max_new_tokens=4)
        assert calls  # a hook of a user's own still counts
        handle.remove()
        calls.clear()


def test_a_model_whose_call_is_in_autocast_translates_outside_of_it(model, batch):
    """As after a training in bfloat16, where Accelerate has put autocast around `forward` only."""
    model.forward = torch.autocast("cpu", torch.bfloat16)(model.forward)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    generated = model.generate(**inputs)
    assert generated.shape[0] == len(inputs["input_ids"]) and generated.shape[1] > 1


def test_ids_that_are_never_generated_keep_their_share_unless_it_is_dealt_out():
    torch.manual_seed(0)
    logits, never = torch.randn(3, 1000), torch.tensor([7, 500])
    logits[:, 7] = 9.0
    whole = logits.log_softmax(-1).index_fill(1, never, -torch.inf)
    for renormalizes, expected in ((False, whole), (True, whole.log_softmax(-1))):
        scores, ids = search.most_probable(logits.clone(), 8, never, renormalizes)
        best = expected.topk(8)
        assert torch.equal(ids, best.indices)
        torch.testing.assert_close(scores, best.values)


@torch.no_grad()
@pytest.mark.parametrize("beams", [1, 4])
@pytest.mark.parametrize(
    "settings", [{"suppress_tokens": [5, -1, 1000]}, {"eos_token_id": [2, 1000], "min_new_tokens": 4}]
)
def test_ids_outside_of_the_vocabulary_forbid_nothing(model, batch, settings, beams):
    source = {name: batch[name] for name in ("input_ids", "attention_mask")}
    expected = plain(model, **source, **settings, num_beams=beams)
    assert torch.equal(model.generate(**source, **settings, num_beams=beams), expected)


def test_a_forbidden_id_may_have_all_of_the_probability():
    logits = torch.full((1, 1000), -50.0)
    logits[0, :3] = torch.tensor([120.0, 5.0, 4.0])
    never = torch.tensor([0])
    scores, ids = search.most_probable(logits.clone(), 2, never)
    assert ids.tolist() == [[1, 2]] and scores.tolist() == [[-115.0, -116.0]]
    scores, _ = search.most_probable(logits.clone(), 2, torch.arange(1000))
    assert scores.tolist() == [[-torch.inf, -torch.inf]]


@torch.no_grad()
@pytest.mark.parametrize("beams", [1, 4])
@pytest.mark.parametrize(
    "settings",
    [
        {"suppress_tokens": [5, 9]},
        {"bad_words_ids": [[5], [9]]},
        {"suppress_tokens": [5], "renormalize_logits": True},
        {"min_length": 7},
        {"min_new_tokens": 6, "min_length": 4, "eos_token_id": [2, 9]},
        {"min_new_tokens": 6, "suppress_tokens": [5], "renormalize_logits": True},
    ],
)
def test_forbidden_ids_are_those_of_transformers_processors(model, batch, settings, beams, monkeypatch):
    source = {name: batch[name] for name in ("input_ids", "attention_mask")}
    expected = plain(model, **source, **settings, num_beams=beams)
    monkeypatch.setattr(LogitsProcessorList, "__call__", None)  # the search goes by the ids
    assert torch.equal(model.generate(**source, **settings, num_beams=beams), expected)


@torch.no_grad()
def test_hooks_on_the_sum_of_embeddings_and_positions_act_in_the_search(model):
    """The fast steps do not call these modules at every token."""
    expected = plain(model, **ragged_source(), max_new_tokens=6)
    model.model.decoder.dropout.register_forward_hook(lambda module, inputs, output: torch.zeros_like(output))
    changed = model.generate(**ragged_source(), max_new_tokens=6)
    assert torch.equal(changed, plain(model, **ragged_source(), max_new_tokens=6))
    assert not torch.equal(changed, expected)


class Gated(VanillaTransformerAttention):
    def forward(self, hidden_states, attention_mask=None, key_value_states=None, *args, **kwargs):
        output, *rest = super().forward(hidden_states, attention_mask, key_value_states, *args, **kwargs)
        return output * 2 * key_value_states[:, :1, :1].tanh(), *rest  # by the first token, which is not padding


class WithoutKeys(nn.Module):
    """Attention that neither knows a cache nor that several rows share a source."""

    def __init__(self, replaced):
        super().__init__()
        self.q_proj, self.k_proj = replaced.q_proj, replaced.k_proj

    def forward(self, hidden_states, attention_mask, key_value_states, *args, **kwargs):
        queries, keys = self.q_proj(hidden_states), self.k_proj(key_value_states)
        mask = None if attention_mask is None else attention_mask.squeeze(1)
        return nn.functional.scaled_dot_product_attention(queries, keys, key_value_states, mask), None


class ReadsSource(VanillaTransformerDecoderLayer):
    def forward(self, hidden_states, attention_mask=None, encoder_hidden_states=None, *args, **kwargs):
        states = super().forward(hidden_states, attention_mask, encoder_hidden_states, *args, **kwargs)
        return states + encoder_hidden_states[:, :1]


@torch.no_grad()
@pytest.mark.parametrize("beams", [4, 1])
@pytest.mark.parametrize("kind", [Gated, WithoutKeys, ReadsSource])
def test_code_of_others_that_reads_the_source_gets_a_row_for_each_beam(config, steps, kind, beams):
    model = ending_model(config)
    before = model.generate(**ragged_source(), num_beams=beams)
    for layer in model.model.decoder.layers:
        if kind is ReadsSource:
            layer.__class__ = kind
        elif kind is Gated:
            layer.encoder_attn.__class__ = kind
        else:
            layer.encoder_attn = kind(layer.encoder_attn)
    steps.clear()
    own, expected = both_ways(model, ragged_source(), num_beams=beams)
    assert torch.equal(own, expected) and not same(own, before) and not steps


@torch.no_grad()
def test_a_hook_that_looks_at_the_source_sees_that_of_the_sentences_in_the_batch(model, steps):
    def gate(module, arguments, output):
        return output[0] * 2 * arguments[2][:, :1, :1].tanh(), None

    for layer in model.model.decoder.layers:
        layer.encoder_attn.register_forward_hook(gate)
    source = ragged_source()
    together = model.generate(**source, num_beams=1, source_length_offset=2)
    assert min(steps) < max(steps)
    for row, (ids, mask) in enumerate(zip(source["input_ids"], source["attention_mask"], strict=True)):
        one = model.generate(ids[mask.bool()].unsqueeze(0), num_beams=1, source_length_offset=2)
        assert torch.equal(one[0], together[row, : one.shape[1]])


@torch.no_grad()
@pytest.mark.parametrize("sentences", [2, 8])  # 32 rows and more are attended to in another way
def test_an_attention_of_others_under_a_known_name_is_called_in_each_step(model, steps, monkeypatch, sentences):
    rows = []

    def attend(module, query, *args, **kwargs):
        rows.append(query.shape[0] * query.shape[2])
        return sdpa_attention_forward(module, query, *args, **kwargs)

    expected = model.generate(torch.full((sentences, 5), 9), max_new_tokens=4)
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, "sdpa", attend)
    steps.clear()
    assert torch.equal(model.generate(torch.full((sentences, 5), 9), max_new_tokens=4), expected)
    decoder_layers = len(model.model.decoder.layers)
    assert steps and rows[-2 * decoder_layers * len(steps) :] == [4 * sentences] * 2 * decoder_layers * len(steps)
