"""The installed transformers: how it names the cache, keywords that nothing reads, the range that is tested."""

import copy
import pickle
import tomllib
from pathlib import Path

import pytest
import torch
from peft import PrefixTuningConfig, get_peft_model
from transformers import DynamicCache, EncoderDecoderCache, GenerationMixin

from vanilla_transformer import (
    VanillaTransformerForCausalLM,
    VanillaTransformerForMaskedLM,
)
from vanilla_transformer.configuration_vanilla_transformer import (
    CACHE_NAME,
    CACHE_NAMES,
    TESTED_TRANSFORMERS,
    rename_cache,
)

REPOSITORY = Path(__file__).resolve().parents[2]
PREFIX = {"token_dim": 32, "num_layers": 3, "num_attention_heads": 4, "num_virtual_tokens": 3}


@pytest.fixture
def causal_model(small_config):
    torch.manual_seed(0)
    return VanillaTransformerForCausalLM(small_config()).eval()


@torch.no_grad()
@pytest.mark.parametrize("name", CACHE_NAMES)
def test_forward_takes_the_cache_under_both_names_and_outputs_have_it_under_both(name, model, causal_model, batch):
    """A sequence in two steps gives the logits of one."""
    source = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    target = batch["labels"][:, :3].clamp(min=4)
    encoded = model.get_encoder()(**source).last_hidden_state
    of_decoder = {"encoder_hidden_states": encoded, "encoder_attention_mask": source["attention_mask"]}
    for part, first, second, arguments in (
        (model, {"decoder_input_ids": target[:, :2]}, {"decoder_input_ids": target[:, 2:]}, source),
        (model.model, {"decoder_input_ids": target[:, :2]}, {"decoder_input_ids": target[:, 2:]}, source),
        (model.get_decoder(), {"input_ids": target[:, :2]}, {"input_ids": target[:, 2:]}, of_decoder),
        (causal_model, {"input_ids": target[:, :2]}, {"input_ids": target[:, 2:]}, {}),
        (causal_model.model, {"input_ids": target[:, :2]}, {"input_ids": target[:, 2:]}, {}),
    ):
        whole = {key: torch.cat([value, second[key]], dim=1) for key, value in first.items()}
        expected = part(**whole, **arguments)[0][:, -1:]
        outputs = part(**first, **arguments, use_cache=True)
        cache = outputs[name]
        assert cache.get_seq_length() == 2
        assert all(getattr(outputs, each) is cache and outputs[each] is cache for each in CACHE_NAMES)
        found = part(**second, **arguments, use_cache=True, **{name: cache})
        torch.testing.assert_close(found[0], expected, rtol=0, atol=1e-5)
        assert pickle.loads(pickle.dumps(found)).cache.get_seq_length() == 3
        assert copy.deepcopy(found).past_key_values.get_seq_length() == 3


@torch.no_grad()
@pytest.mark.parametrize("name", CACHE_NAMES)
@pytest.mark.parametrize("settings", [{"num_beams": 1}, {"num_beams": 2}, {"do_sample": True, "num_beams": 1}])
def test_generation_goes_on_from_a_cache_under_both_names(name, settings, causal_model, batch):
    ids = batch["input_ids"][:, :2]

    def generate(**arguments):
        torch.manual_seed(0)
        return causal_model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=5, **arguments, **settings
        )

    assert torch.equal(generate(**{name: DynamicCache()}), generate())
    if settings == {"num_beams": 1}:
        cache = causal_model(ids[:, :1], use_cache=True)[name]
        assert torch.equal(generate(**{name: cache}), generate())
        assert cache.get_seq_length() == 6  # it was used: all but the last token


@torch.no_grad()
def test_layers_take_the_cache_under_both_names(model):
    layer, states, source = model.get_decoder().layers[0], torch.randn(2, 3, 32), torch.randn(2, 4, 32)
    expected = layer(states[:, 2:], None, source, **{CACHE_NAMES[0]: filled_cache(layer, states, source)})
    found = layer(states[:, 2:], None, source, **{CACHE_NAMES[1]: filled_cache(layer, states, source)})
    assert torch.equal(found, expected)
    assert not torch.allclose(found, layer(states[:, 2:], None, source))
    for part in (layer, layer.self_attn):
        with pytest.raises(ValueError, match=r"`kv_cache` is a cache .* Name it `cache` or `past_key_values`\."):
            part(states, kv_cache=DynamicCache())


def filled_cache(layer, states, source):
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    layer(states[:, :2], None, source, **{CACHE_NAME: cache})
    return cache


@torch.no_grad()
def test_of_two_caches_the_one_that_begins_with_the_other_is_gone_on_from(causal_model, batch):
    ids = batch["input_ids"][:, :4]
    empty, start, whole, other = (
        causal_model(each, use_cache=True)[CACHE_NAME] if each.shape[1] else DynamicCache()
        for each in (ids[:, :0], ids[:, :2], ids, ids.flip(1)[:, :3])
    )
    for shorter, longer in ((empty, start), (empty, whole), (start, whole)):
        for first, second in ((shorter, longer), (longer, shorter)):
            assert rename_cache({"cache": first, "past_key_values": second, "labels": 1}, "cache") == {
                "labels": 1,
                "cache": longer,
            }
    assert rename_cache({"cache": whole, "past_key_values": whole}, CACHE_NAME) == {CACHE_NAME: whole}
    assert rename_cache({"cache": None, "past_key_values": None}, "cache") == {}
    for first, second in ((start, other), (other, whole), (DynamicCache(), DynamicCache())):
        with pytest.raises(ValueError, match="`cache` and `past_key_values` are names of one argument"):
            causal_model(ids[:, :1], cache=first, past_key_values=second)


def test_outputs_before_and_after_the_new_name_are_used_alike(model, causal_model, batch):
    source = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    outputs = model(**batch, use_cache=True)
    for each in (
        outputs,
        *(
            part.generate(**source, max_new_tokens=3, return_dict_in_generate=True, **settings)
            for part in (model, causal_model)
            for settings in ({}, {"num_beams": 1}, {"no_repeat_ngram_size": 2}, {"num_beams": 2})
        ),
    ):
        assert each.cache is each[CACHE_NAME] is each.get("cache") is each["cache"] and "cache" in each
        assert type(pickle.loads(pickle.dumps(each))) is type(each)
    outputs.cache = filled = DynamicCache()
    assert outputs.cache is outputs.past_key_values is outputs[CACHE_NAME] is filled
    outputs["cache"] = None
    assert outputs.cache is None and outputs.past_key_values is None


@pytest.mark.skipif(CACHE_NAME != "cache", reason="transformers before 5.24 has only the older name")
def test_the_older_name_is_deprecated_at_the_line_of_the_caller_and_not_of_a_library(causal_model, batch, recwarn):
    causal_model(batch["input_ids"], past_key_values=DynamicCache())
    causal_model.generate(batch["input_ids"][:1, :2], past_key_values=DynamicCache(), max_new_tokens=2)
    assert [(each.category, each.filename) for each in recwarn] == [(FutureWarning, __file__)] * 2
    recwarn.clear()
    tuned = get_peft_model(causal_model, PrefixTuningConfig(task_type="CAUSAL_LM", **PREFIX))
    tuned(input_ids=batch["input_ids"])
    tuned.generate(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], max_new_tokens=2)
    assert not [each for each in recwarn if "past_key_values" in str(each.message)]


def test_prefix_tuning_is_in_the_text_of_a_language_model(causal_model, batch):
    """PEFT passes its cache by the older name, at every step."""
    tuned = get_peft_model(causal_model, PrefixTuningConfig(task_type="CAUSAL_LM", **PREFIX)).eval()
    torch.nn.init.normal_(tuned.prompt_encoder["default"].embedding.weight, std=2)
    ids = batch["input_ids"][:, :2]
    found = tuned.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, eos_token_id=None)
    logits = tuned(input_ids=found[:, :-1], attention_mask=torch.ones_like(found[:, :-1])).logits
    assert torch.equal(found[:, 2:], logits[:, 1:].argmax(dim=-1))


@pytest.fixture
def later_transformers(monkeypatch):
    """A stand-in for a later transformers, which passes the cache under a name of its own."""
    prepare = GenerationMixin._prepare_cache_for_generation

    def prepare_and_rename(self, generation_config, model_kwargs, *args, **kwargs):
        prepare(self, generation_config, model_kwargs, *args, **kwargs)
        model_kwargs["key_value_cache"] = model_kwargs.pop(CACHE_NAME)

    monkeypatch.setattr(GenerationMixin, "_prepare_cache_for_generation", prepare_and_rename)


@pytest.mark.parametrize(
    "settings",
    [{"num_beams": 1}, {"num_beams": 4}, {"num_beams": 1, "do_sample": True}, {"no_repeat_ngram_size": 2}],
    ids=["fast greedy", "fast beams", "sampling", "plain beams"],
)
def test_a_cache_under_a_name_that_nothing_reads_is_an_error(settings, later_transformers, model, causal_model, batch):
    message = "`key_value_cache` is a cache .*transformers>=5.17,<5.25"
    with pytest.raises(ValueError, match=message):
        model.generate(batch["input_ids"], attention_mask=batch["attention_mask"], **settings)
    with pytest.raises(ValueError, match=message):
        causal_model.generate(batch["input_ids"][:, :2], max_new_tokens=3, **settings)


def test_an_encoder_refuses_a_cache(small_config, batch):
    model = VanillaTransformerForMaskedLM(small_config())
    for name in CACHE_NAMES:
        with pytest.raises(ValueError, match="without a decoder, but is a DynamicCache"):
            model(batch["input_ids"], **{name: DynamicCache()})


def test_a_keyword_that_nothing_reads_is_named_once_with_the_nearest_argument(model, batch, messages):
    for _ in range(2):
        model(
            **batch, atention_mask=batch["attention_mask"], token_type_ids=torch.zeros(3, 9), output_attentions=False
        )
    assert len(messages) == 2
    assert "`atention_mask` has no effect: `VanillaTransformerForConditionalGeneration.forward`" in messages[0]
    assert messages[0].endswith("Its nearest argument is `attention_mask`.")
    assert "`token_type_ids` has no effect" in messages[1]
    messages.clear()
    model(**batch, use_cache=True, return_dict=True, output_hidden_states=True, num_items_in_batch=12)
    source = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    model.generate(**source, no_repeat_ngram_size=2)
    model.generate(**source, labels=batch["labels"])  # as Trainer does to evaluate
    one = {name: tensor[:1] for name, tensor in source.items()}
    model.generate(**one, num_beams=1, max_new_tokens=5, assistant_model=copy.deepcopy(model))
    assert messages == []


@pytest.mark.slow
def test_nothing_is_said_of_deprecated_names(fresh_python):
    folder = REPOSITORY / "checkpoints" / "tiny-en-es"
    said = fresh_python(f"""
import os
os.dup2(1, 2)
import transformers
transformers.utils.logging.disable_progress_bar()
import vanilla_transformer
from vanilla_transformer.loading import load_model
model, tokenizer = load_model({str(folder)!r})
inputs = tokenizer(["The house is red."], return_tensors="pt")
for settings in ({{}}, {{"num_beams": 1}}, {{"no_repeat_ngram_size": 2}}, {{"cache_implementation": "static"}}):
    model.generate(**inputs, **settings)
outputs = model(**inputs, labels=inputs.input_ids, use_cache=True)
model(**inputs, decoder_input_ids=inputs.input_ids, cache=outputs.cache)
""")
    assert said == ""


@pytest.mark.slow
def test_a_newer_transformers_is_said_once_even_by_remote_code(model_folder, fresh_python):
    said = fresh_python(
        f"""
import os
os.dup2(1, 2)  # what goes to the screen as a warning counts too
import transformers
transformers.utils.logging.disable_progress_bar()
transformers.__version__ = "5.25.0.dev0"
from transformers import AutoModelForSeq2SeqLM
AutoModelForSeq2SeqLM.from_pretrained({str(model_folder)!r}, trust_remote_code=True)
""",
        installed=False,
    )
    assert said.count("tested with transformers>=5.17,<5.25, but transformers 5.25.0.dev0 is newer") == 1


def test_one_range_is_named_everywhere():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert TESTED_TRANSFORMERS in project["dependencies"]
    assert TESTED_TRANSFORMERS in (REPOSITORY / "README.md").read_text(encoding="utf-8")
    for file, series in (("constraints-oldest.txt", "5.17."), ("constraints.txt", "5.24.")):
        assert f"\ntransformers=={series}" in (REPOSITORY / file).read_text(encoding="utf-8")
