"""The fast search gives the tokens of transformers' own loop, and keeps out of what only that has."""

import pytest
import torch
from torch import nn
from transformers import DynamicCache, EncoderDecoderCache
from transformers.generation import EosTokenCriteria, MaxLengthCriteria, StoppingCriteriaList

from tests.plain import PLAIN
from vanilla_transformer import VanillaTransformerForConditionalGeneration
from vanilla_transformer import search_vanilla_transformer as search
from vanilla_transformer.layers_vanilla_transformer import VanillaTransformerDecoderLayer

LENGTHS = (11, 3, 5, 8, 2, 10, 6)


@pytest.fixture
def steps(monkeypatch):
    """Counts the steps of the fast decoder: the rows of each."""
    rows = []
    plain = search.StepDecoder.__call__

    def counted(self, tokens, *arguments):
        rows.append(len(tokens))
        return plain(self, tokens, *arguments)

    monkeypatch.setattr(search.StepDecoder, "__call__", counted)
    return rows


def ending_model(config, seed=0):
    """A model that ends its sentences at various lengths."""
    torch.manual_seed(seed)
    model = VanillaTransformerForConditionalGeneration(config).eval()
    with torch.no_grad():
        model.lm_head.weight.mul_(3)
        model.lm_head.weight[2] += 2 * model.lm_head.weight.mean(dim=0)
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


@pytest.mark.parametrize("request_name", REQUESTS)
@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_tokens_are_those_of_the_plain_path(small_config, steps, configuration, request_name):
    different = 0
    for seed in (0, 2, 3):
        model = ending_model(small_config(**CONFIGURATIONS[configuration]), seed)
        source, request = ragged_source(), REQUESTS[request_name]
        fast = model.generate(**source, **request)
        taken = len(steps)
        assert taken > 0
        plain = model.generate(**source, **request, logits_processor=PLAIN)
        assert len(steps) == taken
        assert torch.equal(fast, plain)
        different += len({tuple(row) for row in fast.tolist()})
    assert different > 8 or "max_new_tokens" in request  # where those of some models still begin alike


def test_finished_sentences_leave_the_batch(config, steps):
    ending_model(config).generate(**ragged_source())
    assert steps[0] == 4 * len(LENGTHS) and steps[-1] < steps[0] and steps == sorted(steps, reverse=True)


def test_few_beams_and_sentences_move():
    parents = torch.tensor([[2, 0, 2, 2], [0, 1, 2, 3], [1, 1, 1, 1], [3, 0, 1, 0]])
    beam_at, is_parent = search.places_of_beams(parents)
    # Places: the first beam of each parent stays there, the others fill the free ones in order.
    assert beam_at.tolist() == [[1, 2, 0, 3], [0, 1, 2, 3], [1, 0, 2, 3], [1, 2, 3, 0]]
    assert is_parent.int().tolist() == [[1, 0, 1, 0], [1, 1, 1, 1], [0, 1, 0, 0], [1, 1, 0, 1]]
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
    assert torch.equal(after, model.generate(**source, logits_processor=PLAIN))
    # A fused optimizer does not count what it writes as a new version.
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05, fused=True)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    stepped = model.generate(**source)
    assert not torch.equal(stepped, after)
    assert torch.equal(stepped, model.generate(**source, logits_processor=PLAIN))
    model.lm_head.weight.data[5:9] *= 1.5
    assert torch.equal(model.generate(**source), model.generate(**source, logits_processor=PLAIN))
    # Neither do a new order of rows, of which the sums are the same, and a bias that the others have not.
    before = model.generate(**source)
    model.lm_head.weight.data.copy_(model.lm_head.weight.data.flip(0))
    exchanged = model.generate(**source)
    assert not torch.equal(exchanged, before)
    assert torch.equal(exchanged, model.generate(**source, logits_processor=PLAIN))
    model.lm_head.bias = nn.Parameter(torch.zeros(60))
    assert torch.equal(model.generate(**source), exchanged)
    with torch.no_grad():
        model.lm_head.bias[7] = 50.0
    assert (model.generate(**source, max_new_tokens=5)[:, 1:] == 7).all()
    model.lm_head.bias = None
    model.load_state_dict(ending_model(config, seed=5).state_dict())
    found = model.generate(**source)
    steps.clear()
    assert torch.equal(found, ending_model(config, seed=5).generate(**source, logits_processor=PLAIN))
    assert not steps


def test_bfloat16_and_double_work(config, steps):
    for dtype in (torch.bfloat16, torch.float64):
        model = ending_model(config).to(dtype)
        with torch.inference_mode():
            found = model.generate(**ragged_source())
        assert found.shape[0] == len(LENGTHS)
    assert steps
    assert torch.equal(found, model.generate(**ragged_source(), logits_processor=PLAIN))  # in double


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_weights_of_another_precision_are_near_and_are_not_kept(small_config, steps, precision):
    model = ending_model(small_config(attention_bias=True, norm_first=True))
    source = ragged_source()
    encoded = model.model.encoder(**source).last_hidden_state
    logits = {}
    for name in (None, precision):
        decoder = search.step_decoder(model, name)
        state = search.SearchState(decoder, encoded, source["attention_mask"], 1)
        (logits[name],) = decoder(torch.full((len(LENGTHS),), 5), decoder.positions(1)[0], state)
    error = (logits[precision] - logits[None]).norm() / logits[None].norm()
    assert 1e-4 < error < 3e-2
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
    with pytest.raises(ValueError, match="`weight_precision` is 'int8', which only greedy and beam search have"):
        model.generate(**ragged_source(), weight_precision="int8", do_sample=True, num_beams=1)
    with pytest.raises(ValueError, match="`weight_precision` is 'int8' on meta"):
        model.to("meta").generate(**ragged_source(), weight_precision="int8")


def test_the_precision_of_the_model_s_settings_holds_unless_the_call_has_one(config, monkeypatch):
    seen = []
    plain = search.StepDecoder.__init__
    monkeypatch.setattr(
        search.StepDecoder,
        "__init__",
        lambda self, model, precision: seen.append(precision) or plain(self, model, precision),
    )
    model = ending_model(config)
    model.generation_config.weight_precision = "int8"
    for arguments in ({}, {"weight_precision": "bfloat16"}):
        model.generate(**ragged_source(), **arguments)
    assert seen == ["int8", "bfloat16"]
    model.generation_config.weight_precision = "int4"
    with pytest.raises(ValueError, match=r"`weight_precision` is 'int4'\. Choose one of"):
        model.generate(**ragged_source())


@pytest.mark.parametrize(
    "request_",
    [
        {"do_sample": True},
        {"repetition_penalty": 1.2},
        {"min_new_tokens": 3},
        {"return_dict_in_generate": True, "output_scores": True},
        {"stopping_criteria": StoppingCriteriaList([type("Own", (MaxLengthCriteria,), {})(20)])},
        {"stopping_criteria": StoppingCriteriaList([MaxLengthCriteria(4)])},
        {"stopping_criteria": StoppingCriteriaList([EosTokenCriteria(7)])},
        {"decoder_input_ids": torch.tensor([[0, 5]] * len(LENGTHS))},
        {"use_cache": False},
        {"cache_implementation": "static"},
        {"past_key_values": EncoderDecoderCache(DynamicCache(), DynamicCache())},
    ],
    ids=lambda request: " ".join(f"{name} {type(value).__name__}" for name, value in request.items()),
)
def test_what_only_the_plain_path_has_stays_there(config, steps, request_):
    ending_model(config).generate(**ragged_source(), max_new_tokens=8, **request_)
    assert not steps


def test_a_changed_model_stays_on_the_plain_path(config, steps):
    class Doubled(nn.Linear):
        def forward(self, states):
            return super().forward(states) * 2

    hooked = ending_model(config)
    hooked.model.decoder.layers[1].fc2.register_forward_hook(lambda module, inputs, output: output * 2)
    adapted = ending_model(config)
    layer = adapted.model.decoder.layers[1]
    doubled = Doubled(layer.fc2.in_features, layer.fc2.out_features)
    doubled.load_state_dict(layer.fc2.state_dict())
    layer.fc2 = doubled
    assert torch.equal(hooked.generate(**ragged_source()), adapted.generate(**ragged_source()))
    in_training = ending_model(config).train()
    in_training.generate(**ragged_source(), max_new_tokens=5)
    one_in_training = ending_model(config)
    one_in_training.model.decoder.layers[1].train()
    one_in_training.generate(**ragged_source(), max_new_tokens=5)
    watched, calls = ending_model(config), []
    watched.register_forward_hook(lambda module, inputs, output: calls.append(output))
    watched.generate(**ragged_source(), max_new_tokens=5)
    assert calls and not steps
    replaced = ending_model(config)
    plain_forward = replaced.model.decoder.forward
    replaced.model.decoder.forward = lambda *arguments, **kwargs: (
        calls.append(None) or plain_forward(*arguments, **kwargs)
    )
    replaced.generate(**ragged_source(), max_new_tokens=5)

    class Own(VanillaTransformerForConditionalGeneration):
        def forward(self, *arguments, **kwargs):
            return super().forward(*arguments, **kwargs)

    Own(config).eval().generate(**ragged_source(), max_new_tokens=5)
    assert calls[-1] is None and not steps


def test_methods_of_others_are_called(config, steps):
    class OwnPreparation(VanillaTransformerForConditionalGeneration):
        def prepare_inputs_for_generation(self, *arguments, **kwargs):
            return super().prepare_inputs_for_generation(*arguments, **kwargs)

    class OwnFeedForward(VanillaTransformerDecoderLayer):
        def feed_forward(self, states):
            return 2 * super().feed_forward(states)

    expected = ending_model(config).generate(**ragged_source())
    assert steps
    steps.clear()
    own = OwnPreparation(config).eval()
    own.load_state_dict(ending_model(config).state_dict())
    assert torch.equal(own.generate(**ragged_source()), expected)
    prepared = ending_model(config)
    prepared.prepare_inputs_for_generation = prepared.prepare_inputs_for_generation
    assert torch.equal(prepared.generate(**ragged_source()), expected)
    doubled = ending_model(config)
    for layer in doubled.model.decoder.layers:
        layer.__class__ = OwnFeedForward
    assert not torch.equal(doubled.generate(**ragged_source()), expected)
    handle = nn.modules.module.register_module_forward_hook(lambda module, inputs, output: None)
    assert torch.equal(ending_model(config).generate(**ragged_source()), expected)
    handle.remove()
    assert not steps
    ending_model(config).generate(**ragged_source())
    assert steps


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
    scores, ids = search.most_probable(logits.clone(), 8)
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
    with pytest.raises(ValueError, match="`weight_precision` is 'int8', which only"):
        model.generate(**ragged_source(), weight_precision="int8")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("settings", ["Int8WeightOnlyConfig", "Int8DynamicActivationInt8WeightConfig"])
def test_torchao_s_weights_translate(small_config, settings):
    quantization = pytest.importorskip("torchao.quantization")
    model = ending_model(small_config(tie_word_embeddings=False))
    plain = model.generate(**ragged_source())
    quantization.quantize_(model, getattr(quantization, settings)())
    for beams in (4, 1):
        outputs = model.generate(**ragged_source(), num_beams=beams)
        assert outputs.shape[0] == len(LENGTHS) and (outputs[:, 0] == plain[:, 0]).all()


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
        steps.clear()
        model.generate(**ragged_source(), max_new_tokens=4)
        assert calls and not steps  # a hook of a user's own still counts
        handle.remove()
        calls.clear()
