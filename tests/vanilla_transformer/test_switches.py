"""Switches that transformers has for a model: attention implementations, adapters, int8 weights, recorded outputs."""

import copy

import pytest
import torch
from peft import LoraConfig, PeftModel, PrefixTuningConfig, get_peft_model
from torch import nn
from transformers import DynamicCache, EncoderDecoderCache, StaticCache

from vanilla_transformer import (
    VanillaTransformerEncoderModel,
    VanillaTransformerForCausalLM,
    VanillaTransformerForConditionalGeneration,
    VanillaTransformerForMaskedLM,
    VanillaTransformerForQuestionAnswering,
    VanillaTransformerForSequenceClassification,
    VanillaTransformerForTokenClassification,
    VanillaTransformerModel,
)

HEADS = [
    VanillaTransformerForConditionalGeneration,
    VanillaTransformerForCausalLM,
    VanillaTransformerForMaskedLM,
    VanillaTransformerForSequenceClassification,
]
ALL_HEADS = [
    *HEADS,
    VanillaTransformerEncoderModel,
    VanillaTransformerForQuestionAnswering,
    VanillaTransformerForTokenClassification,
    VanillaTransformerModel,
]


# Where a graph is compiled, which takes as long again for each layer.
ONE_LAYER = {"encoder_layers": 1, "decoder_layers": 1}


@pytest.fixture
def build(small_config):
    def build(head, **changes):
        torch.manual_seed(0)
        return head(small_config(**changes)).eval()

    return build


def inputs_of(model, batch):
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = torch.randint(4, 60, (3, 5), generator=torch.Generator().manual_seed(2))
    return inputs


@pytest.mark.parametrize("head", HEADS)
def test_eager_and_sdpa_agree_and_record_what_is_asked_for(head, build, batch):
    model = build(head)
    inputs = inputs_of(model, batch)
    assert model.config._attn_implementation == "sdpa"
    fused = model(**inputs).logits
    model.set_attn_implementation("eager")
    outputs = model(**inputs, output_attentions=True, output_hidden_states=True)
    real = batch["attention_mask"].bool()
    if fused.dim() == 3 and not model.config.is_encoder_decoder:
        fused, logits = fused[real], outputs.logits[real]
    else:
        logits = outputs.logits
    torch.testing.assert_close(logits, fused, rtol=0, atol=1e-5)
    names = (
        {"encoder": 2, "decoder": 3} if model.config.is_encoder_decoder else {"": 3 if model.config.is_decoder else 2}
    )
    for stack, layers in names.items():
        prefix = f"{stack}_" if stack else ""
        assert len(outputs[f"{prefix}hidden_states"]) == layers + 1
        attentions = outputs[f"{prefix}attentions"]
        assert len(attentions) == layers
        torch.testing.assert_close(attentions[0].sum(-1), torch.ones_like(attentions[0].sum(-1)))


@torch.no_grad()
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_masks_of_four_dimensions(build, batch, attention):
    """True, or 0 where numbers are added, is what a position attends to."""
    model = build(VanillaTransformerForConditionalGeneration)
    model.set_attn_implementation(attention)
    expected = model(**batch).logits
    mask, rest = batch["attention_mask"][:, None, None, :].bool(), {"labels": batch["labels"]}
    lowest = torch.finfo(torch.float32).min
    real = batch["labels"] != -100
    for each in (mask, torch.zeros(mask.shape).masked_fill(~mask, lowest)):
        logits = model(input_ids=batch["input_ids"], attention_mask=each, **rest).logits
        torch.testing.assert_close(logits[real], expected[real], rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match=r"4-D `attention_mask` must be boolean .*, but is torch.int64"):
        model(input_ids=batch["input_ids"], attention_mask=mask.long(), **rest)
    square = mask.expand(3, 1, 9, 9)
    with pytest.raises(ValueError, match="a row for each position of the source"):
        model(input_ids=batch["input_ids"], attention_mask=square, **rest)
    encoded = model.get_encoder()(batch["input_ids"], attention_mask=square)
    logits = model(encoder_outputs=encoded, attention_mask=batch["attention_mask"], **rest).logits
    torch.testing.assert_close(logits[real], expected[real], rtol=0, atol=1e-5)
    causal = torch.ones(7, 7, dtype=torch.bool).tril().expand(3, 1, 7, 7)
    logits = model(**batch, decoder_attention_mask=causal).logits
    torch.testing.assert_close(logits[real], expected[real], rtol=0, atol=1e-5)


@pytest.mark.parametrize("head", HEADS)
def test_tuples_are_a_setting_as_well(head, build, batch):
    model = build(head)
    inputs = inputs_of(model, batch)
    expected = model(**inputs).logits
    model.config.return_dict = False
    for outputs in (model(**inputs), model(**inputs, return_dict=False)):
        assert isinstance(outputs, tuple) and torch.equal(outputs[0], expected)


@pytest.mark.parametrize("head", HEADS)
def test_hooks_on_the_input_embeddings_are_called(head, build, batch):
    """NEFTune adds its noise by one."""
    model, calls = build(head), []
    model.get_input_embeddings().register_forward_hook(lambda *arguments: calls.append(None))
    model(**inputs_of(model, batch))
    assert len(calls) == 1


def test_caches_of_other_kinds(build, batch):
    model = build(VanillaTransformerForConditionalGeneration)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    expected = model.generate(**inputs, max_new_tokens=6)
    assert torch.equal(model.generate(**inputs, max_new_tokens=6, past_key_values=DynamicCache()), expected)
    static = StaticCache(config=model.config.get_text_config(decoder=True), max_cache_len=8)
    with pytest.raises(ValueError, match="must be transformers' `EncoderDecoderCache`, but is a StaticCache"):
        model(**inputs, decoder_input_ids=batch["input_ids"], past_key_values=static)
    with pytest.raises(ValueError, match="`EncoderDecoderCache`, but is a tuple"):
        model(**batch, past_key_values=((torch.zeros(3, 4, 1, 8),) * 2,) * 3)


def test_a_prefix_is_in_translations(build, batch):
    """Prefix tuning comes in by `prepare_inputs_for_generation`."""
    sizes = {"token_dim": 32, "num_layers": 3, "num_attention_heads": 4, "num_virtual_tokens": 3}
    tuned = get_peft_model(
        build(VanillaTransformerForConditionalGeneration), PrefixTuningConfig(task_type="SEQ_2_SEQ_LM", **sizes)
    ).eval()
    torch.nn.init.normal_(tuned.prompt_encoder["default"].embedding.weight, std=2)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    found = tuned.generate(**inputs, max_new_tokens=6, num_beams=1)
    logits = tuned(**inputs, decoder_input_ids=found[:, :-1]).logits
    assert torch.equal(found[:, 1:], logits.argmax(dim=-1))
    plain = build(VanillaTransformerForConditionalGeneration).generate(**inputs, max_new_tokens=6, num_beams=1)
    assert not torch.equal(found, plain)


def test_unknown_attention_is_refused_by_name(build):
    model = build(VanillaTransformerForConditionalGeneration)
    with pytest.raises(ValueError, match="fast_attention"):
        model.set_attn_implementation("fast_attention")


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what is missing without a GPU")
def test_flash_attention_says_what_it_lacks(build, tmp_path):
    build(VanillaTransformerForConditionalGeneration).save_pretrained(tmp_path)
    with pytest.raises((ImportError, ValueError), match=r"(?i)flash"):
        VanillaTransformerForConditionalGeneration.from_pretrained(tmp_path, attn_implementation="flash_attention_2")


def test_static_cache_equals_dynamic_in_translation(build, batch):
    model = build(VanillaTransformerForConditionalGeneration)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    expected = model.generate(**inputs, num_beams=1, max_new_tokens=9)
    got = model.generate(**inputs, num_beams=1, max_new_tokens=9, cache_implementation="static")
    assert torch.equal(got, expected)


def test_a_static_cache_and_its_mask_may_be_longer_than_learned_positions(small_config, batch):
    config = small_config(position_embedding_type="learned", max_position_embeddings=12)
    model = VanillaTransformerForConditionalGeneration(config).eval()
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    target = batch["input_ids"][:, :5]
    mask = torch.zeros(len(target), 20, dtype=torch.long)
    mask[:, :5] = 1
    cache = EncoderDecoderCache(StaticCache(config=config, max_cache_len=20), DynamicCache())
    with torch.no_grad():
        expected = model(**inputs, decoder_input_ids=target).logits
        got = model(**inputs, decoder_input_ids=target, decoder_attention_mask=mask, past_key_values=cache).logits
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("head", HEADS)
def test_lora_trains_saves_loads_and_merges(head, build, batch, tmp_path):
    model = build(head, dropout=0.0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    adapted = get_peft_model(model, LoraConfig(target_modules=["q_proj", "v_proj"], r=4, lora_dropout=0.0))
    ids, mask = batch["input_ids"], batch["attention_mask"]
    if head is VanillaTransformerForSequenceClassification:
        labels = torch.tensor([0, 1, 0])
    else:
        labels = ids.masked_fill(mask == 0, -100)
    optimizer = torch.optim.Adam([p for p in adapted.parameters() if p.requires_grad], lr=3e-2)
    losses = []
    for _ in range(20):
        loss = adapted.train()(input_ids=ids, attention_mask=mask, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.05
    adapted.eval()
    inputs = inputs_of(model, batch)
    expected = adapted(**inputs).logits
    adapted.save_pretrained(tmp_path)

    fresh = build(head, dropout=0.0)
    loaded = PeftModel.from_pretrained(fresh, tmp_path).eval()
    torch.testing.assert_close(loaded(**inputs).logits, expected, rtol=0, atol=1e-6)
    merged = loaded.merge_and_unload()
    torch.testing.assert_close(merged(**inputs).logits, expected, rtol=0, atol=1e-5)
    assert type(merged) is head and set(merged.state_dict()) == set(before)
    changed = {name for name, tensor in merged.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed and all("q_proj" in name or "v_proj" in name for name in changed)


ON_EMBEDDINGS = {
    "trainable tokens": (
        {"tie_word_embeddings": True},
        {"target_modules": ["q_proj", "v_proj"], "trainable_token_indices": [10, 11]},
    ),
    "trainable tokens, untied": (
        {"tie_word_embeddings": False},
        {"target_modules": ["q_proj"], "trainable_token_indices": {"embed_tokens": [10, 11]}},
    ),
    "lora": ({"tie_word_embeddings": False}, {"target_modules": ["embed_tokens"]}),
    "dora": ({"tie_word_embeddings": False}, {"target_modules": ["embed_tokens"], "use_dora": True}),
}


@pytest.mark.parametrize("kind", ON_EMBEDDINGS)
@pytest.mark.parametrize("head", [*HEADS, VanillaTransformerForQuestionAnswering, VanillaTransformerEncoderModel])
def test_adapters_of_embeddings_multiply_by_their_scale(head, kind, build, batch):
    """A fresh adapter changes nothing, and merging a trained one changes nothing either."""
    changes, settings = ON_EMBEDDINGS[kind]
    model = build(head, **changes)
    inputs, ids = inputs_of(model, batch), batch["input_ids"].clone()
    ids[:, 0], ids[:, 1] = 10, 11
    inputs["input_ids"] = ids
    expected = model(**inputs)[0]
    adapted = get_peft_model(model, LoraConfig(r=4, **settings)).eval()
    torch.testing.assert_close(adapted(**inputs)[0], expected, rtol=0, atol=1e-5)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if parameter.requires_grad and ("embedding" in name or "token" in name):
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
    changed = adapted(**inputs)[0]
    assert (changed - expected).abs().max() > 1e-2
    torch.testing.assert_close(adapted.merge_and_unload()(**inputs)[0], changed, rtol=0, atol=1e-4)


def test_the_scale_of_embeddings_is_not_part_of_their_state(build):
    model = build(VanillaTransformerForConditionalGeneration)
    assert not [name for name in model.state_dict() if "scale" in name]
    for each in (model, copy.deepcopy(model).half(), model.to("meta")):
        assert each.get_input_embeddings().embed_scale == pytest.approx(32**0.5)
    with pytest.raises(AttributeError):
        model.get_input_embeddings().embed_scale = 1.0


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("head", HEADS)
def test_int8_weights_stay_close(head, build, batch):
    model = build(head)
    inputs = inputs_of(model, batch)
    expected = model(**inputs).logits
    quantized = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    assert type(
        quantized.model.get_submodule("encoder" if model.config.has_encoder else "decoder").layers[0].fc1
    ) is not (nn.Linear)
    logits = quantized(**inputs).logits
    assert not torch.equal(logits, expected)
    assert (logits - expected).norm() / expected.norm() < 0.05
    if model.can_generate():
        assert (
            quantized.generate(batch["input_ids"], attention_mask=batch["attention_mask"], max_new_tokens=4).dim() == 2
        )


@pytest.mark.parametrize(
    "head", [ALL_HEADS[0], *(pytest.param(head, marks=pytest.mark.slow) for head in ALL_HEADS[1:])]
)
def test_forward_is_one_graph_for_every_head(head, build, batch):
    model = build(head, **({} if head is ALL_HEADS[0] else ONE_LAYER))
    inputs = inputs_of(model, batch)
    expected = model(**inputs)[0]
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(**inputs)[0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("head", ALL_HEADS)
def test_every_product_is_of_torch_s_own_class(head, build):
    """Libraries that quantise, shard or adapt products look for that class and for no other."""
    model = build(head)
    products = [each for each in model.modules() if isinstance(each, nn.Linear)]
    layers = len(model.get_encoder().layers) if model.config.has_encoder else 0
    decoder_layers = 3 if model.config.has_decoder else 0
    assert len(products) >= 6 * layers + (10 if layers else 6) * decoder_layers
    assert all(type(each) is nn.Linear for each in products)
    matrices = {id(each.weight) for each in model.modules() if isinstance(each, (nn.Linear, nn.Embedding))}
    assert all(id(each) in matrices for each in model.parameters() if each.dim() == 2)


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS[:2])
def test_generation_runs_on_a_compiled_forward(head, build, batch):
    """With a static cache, whose shapes do not change from step to step."""
    model = build(head, **ONE_LAYER)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    settings = {"num_beams": 1, "max_new_tokens": 6, "cache_implementation": "static"}
    expected = model.generate(**inputs, **settings)
    torch._dynamo.reset()
    model.forward = torch.compile(model.forward, backend="eager")
    assert torch.equal(model.generate(**inputs, **settings), expected)
