import re

import pytest
from huggingface_hub.errors import StrictDataclassClassValidationError

from vanilla_transformer import (
    VanillaTransformerConfig,
    VanillaTransformerEncoderModel,
    VanillaTransformerForCausalLM,
    VanillaTransformerForConditionalGeneration,
)
from vanilla_transformer.configuration_vanilla_transformer import PRESETS


def test_the_default_is_the_papers_base_model():
    config = VanillaTransformerConfig()
    assert (config.encoder_layers, config.decoder_layers, config.hidden_size, config.intermediate_size) == (
        6,
        6,
        512,
        2048,
    )
    assert (config.num_attention_heads, config.query_key_size, config.value_size) == (8, 64, 64)
    assert (config.dropout, config.label_smoothing, config.attention_dropout, config.norm_first) == (
        0.1,
        0.1,
        0.0,
        False,
    )


# Table 3 of the paper: N, d_model, d_ff, h, d_k, d_v, P_drop, ε_ls.
TABLE_3 = {
    "base": (6, 512, 2048, 8, 64, 64, 0.1, 0.1),
    "A-h1": (6, 512, 2048, 1, 512, 512, 0.1, 0.1),
    "A-h4": (6, 512, 2048, 4, 128, 128, 0.1, 0.1),
    "A-h16": (6, 512, 2048, 16, 32, 32, 0.1, 0.1),
    "A-h32": (6, 512, 2048, 32, 16, 16, 0.1, 0.1),
    "B-dk16": (6, 512, 2048, 8, 16, 64, 0.1, 0.1),
    "B-dk32": (6, 512, 2048, 8, 32, 64, 0.1, 0.1),
    "C-N2": (2, 512, 2048, 8, 64, 64, 0.1, 0.1),
    "C-N4": (4, 512, 2048, 8, 64, 64, 0.1, 0.1),
    "C-N8": (8, 512, 2048, 8, 64, 64, 0.1, 0.1),
    "C-d256": (6, 256, 2048, 8, 32, 32, 0.1, 0.1),
    "C-d1024": (6, 1024, 2048, 8, 128, 128, 0.1, 0.1),
    "C-ff1024": (6, 512, 1024, 8, 64, 64, 0.1, 0.1),
    "C-ff4096": (6, 512, 4096, 8, 64, 64, 0.1, 0.1),
    "D-dropout0.0": (6, 512, 2048, 8, 64, 64, 0.0, 0.1),
    "D-dropout0.2": (6, 512, 2048, 8, 64, 64, 0.2, 0.1),
    "D-smoothing0.0": (6, 512, 2048, 8, 64, 64, 0.1, 0.0),
    "D-smoothing0.2": (6, 512, 2048, 8, 64, 64, 0.1, 0.2),
    "E-learned": (6, 512, 2048, 8, 64, 64, 0.1, 0.1),
    "big": (6, 1024, 4096, 16, 64, 64, 0.3, 0.1),
    "tiny": (4, 128, 256, 4, 32, 32, 0.3, 0.1),
}


def test_every_preset_is_checked_below():
    assert set(TABLE_3) == set(PRESETS)


@pytest.mark.parametrize("name", TABLE_3)
def test_presets_are_the_rows_of_table_3(name):
    config = VanillaTransformerConfig.from_preset(name)
    assert config.encoder_layers == config.decoder_layers
    assert TABLE_3[name] == (
        config.encoder_layers,
        config.hidden_size,
        config.intermediate_size,
        config.num_attention_heads,
        config.query_key_size,
        config.value_size,
        config.dropout,
        config.label_smoothing,
    )
    assert config.position_embedding_type == ("learned" if name == "E-learned" else "sinusoidal")


def test_the_papers_names_are_aliases():
    config = VanillaTransformerConfig(d_model=64, d_ff=96, num_hidden_layers=3)
    assert (config.hidden_size, config.intermediate_size, config.encoder_layers) == (64, 96, 3)
    assert VanillaTransformerConfig.from_preset("big", d_model=512).hidden_size == 512


def test_the_layers_of_a_model_without_an_encoder_have_the_common_name():
    alone = {"is_encoder_decoder": False, "is_decoder": True, "encoder_layers": 2}
    for config in (
        VanillaTransformerConfig(**alone, num_hidden_layers=3),
        VanillaTransformerConfig.from_preset("tiny", **alone, num_hidden_layers=3),
        VanillaTransformerConfig.from_dict(VanillaTransformerConfig(**alone).to_dict(), num_hidden_layers=3),
    ):
        assert (config.num_hidden_layers, config.decoder_layers, config.encoder_layers) == (3, 3, 2)
        config.num_hidden_layers = 5
        assert (config.num_hidden_layers, config.decoder_layers, config.encoder_layers) == (5, 5, 2)


def test_caches_are_sized_by_the_decoder_whatever_the_head():
    for is_encoder_decoder in (True, False):
        config = VanillaTransformerConfig(encoder_layers=2, decoder_layers=5, is_encoder_decoder=is_encoder_decoder)
        assert config.get_text_config(decoder=True).num_hidden_layers == 5
        assert config.get_text_config().num_hidden_layers == 2
        assert config.encoder_layers == 2


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"num_attention_heads": 7}, ["`num_attention_heads` is 7", "`hidden_size` 512", "Choose a divisor"]),
        ({"hidden_size": 0}, ["`hidden_size` is 0"]),
        ({"pad_token_id": -1}, ["`pad_token_id` is -1", "or None"]),
        ({"pad_token_id": 9, "vocab_size": 9}, ["`pad_token_id` is 9", "`vocab_size` of 9"]),
        ({"attention_init_gain": 0}, ["`attention_init_gain` is 0", "positive, finite"]),
        ({"dropout": 1.5}, ["`dropout` is 1.5", "below 1"]),
        ({"position_embedding_type": "rotary"}, ["'rotary'", "'sinusoidal' or 'learned'"]),
        ({"position_embedding_type": "learned"}, ["`max_position_embeddings` is None"]),
        (
            {"position_embedding_type": "learned", "max_position_embeddings": 2**31 - 1},
            ["is 2147483647", "the length"],
        ),
        ({"hidden_size": 33, "num_attention_heads": 3}, ["`hidden_size` is 33", "even"]),
        ({"hidden_act": "relu9"}, ["`hidden_act` is 'relu9'"]),
    ],
)
def test_sizes_that_do_not_fit_are_refused_by_name(fields, named):
    with pytest.raises(StrictDataclassClassValidationError) as error:
        VanillaTransformerConfig(**fields)
    message = str(error.value)
    assert all(part in message for part in named), message


def test_an_unknown_preset_is_refused_with_the_list():
    with pytest.raises(ValueError, match=r"'huge', which is not a preset.*tiny, base, big"):
        VanillaTransformerConfig.from_preset("huge")


@pytest.mark.parametrize(
    ("alias", "field", "value"),
    [
        ("activation_function", "hidden_act", "gelu"),
        ("hidden_dropout_prob", "dropout", 0.25),
        ("attention_probs_dropout_prob", "attention_dropout", 0.25),
        ("layer_norm_epsilon", "layer_norm_eps", 1e-3),
        ("num_heads", "num_attention_heads", 2),
    ],
)
def test_names_of_other_models_are_aliases(alias, field, value):
    saved = VanillaTransformerConfig.from_preset("tiny").to_dict()
    for config in (
        VanillaTransformerConfig(**{alias: value}),
        VanillaTransformerConfig.from_preset("tiny", **{alias: value}),
        VanillaTransformerConfig.from_dict(saved, **{alias: value}),
    ):
        assert getattr(config, field) == getattr(config, alias) == value
        assert field in config.to_dict() and alias not in config.to_dict()


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("N", " Use `encoder_layers` and `decoder_layers`."),
        ("num_layers", " Use `encoder_layers` and `decoder_layers`."),
        ("d_k", " Use `qk_head_dim`."),
        ("hiden_size", " Did you mean `hidden_size`?"),
        ("dropot", " Did you mean `dropout`?"),
        ("init_std", ""),
        ("zzz", ""),
    ],
)
def test_unknown_fields_are_named_with_what_may_be_meant(name, remedy, messages):
    expected = f"`{name}` is not a field of VanillaTransformerConfig.{remedy}"
    with pytest.raises(ValueError, match=re.escape(expected)):
        VanillaTransformerConfig.from_preset("tiny", **{name: 3})
    assert getattr(VanillaTransformerConfig(**{name: 3}), name) == 3  # as in all of transformers
    VanillaTransformerConfig(**{name: 3})
    assert messages == [expected]


def test_nothing_is_said_of_what_transformers_keeps_in_a_configuration(tmp_path, messages):
    config = VanillaTransformerConfig(num_labels=3, id2label={0: "a", 1: "b", 2: "c"}, torch_dtype="float32")
    VanillaTransformerForConditionalGeneration(
        VanillaTransformerConfig.from_preset("tiny", vocab_size=60)
    ).save_pretrained(tmp_path)
    VanillaTransformerForConditionalGeneration.from_pretrained(tmp_path, attn_implementation="eager")
    VanillaTransformerConfig.from_pretrained(tmp_path, num_labels=3, output_attentions=True)
    VanillaTransformerConfig.from_dict(config.to_dict())
    assert messages == []


def test_the_longest_sequence_is_a_number_that_limits_nothing():
    for config in (
        VanillaTransformerConfig(),
        VanillaTransformerConfig(max_position_embeddings=None),
        VanillaTransformerConfig.from_dict({**VanillaTransformerConfig().to_dict(), "max_position_embeddings": None}),
    ):
        assert min(config.max_position_embeddings, 10**9) == 10**9
        assert config.position_limit is None
    assert VanillaTransformerConfig.from_preset("E-learned").position_limit == 1024


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"sinusoid_type": "t2t"}, "`sinusoid_type` is 't2t'"),
        ({"position_offset": -1}, "`position_offset` is -1"),
        ({"decoder_vocab_size": 0}, "`decoder_vocab_size` is 0"),
        ({"decoder_vocab_size": 1}, "`pad_token_id` is 1 with a `decoder_vocab_size` of 1"),
        (
            {"position_offset": 2, "position_embedding_type": "learned", "max_position_embeddings": 9},
            "`position_offset` is 2 with `position_embedding_type` 'learned'",
        ),
        (
            {"sinusoid_type": "tensor2tensor", "hidden_size": 2, "num_attention_heads": 1},
            "`hidden_size` is 2 with `sinusoid_type` 'tensor2tensor'",
        ),
    ],
)
def test_fields_of_other_implementations_are_checked(changes, named):
    with pytest.raises(StrictDataclassClassValidationError, match=re.escape(named)):
        VanillaTransformerConfig(**changes)


def test_fields_of_other_implementations_are_off_by_default(config):
    model = VanillaTransformerForConditionalGeneration(config)
    assert model.lm_head.bias is None and model.model.shared.weight is model.lm_head.weight
    assert config.target_vocab_size == config.vocab_size
    assert model.model.encoder.embed_tokens.embed_scale == config.hidden_size**0.5


def test_two_vocabularies_share_nothing_and_cannot_be_resized_by_one_number(small_config, tmp_path):
    model = VanillaTransformerForConditionalGeneration(small_config(decoder_vocab_size=40))
    assert model.model.encoder.embed_tokens.weight.shape == (60, 32)
    assert model.lm_head.weight is model.model.decoder.embed_tokens.weight and model.lm_head.weight.shape == (40, 32)
    with pytest.raises(ValueError, match="`decoder_vocab_size` must be None"):
        model.resize_token_embeddings(70)
    model.save_pretrained(tmp_path)
    alone = {"causal": VanillaTransformerForCausalLM, "encoder": VanillaTransformerEncoderModel}
    sizes = {name: each.from_pretrained(tmp_path).config.vocab_size for name, each in alone.items()}
    assert sizes == {"causal": 40, "encoder": 60}


def test_the_names_of_labels_are_in_the_order_of_their_numbers():
    assert VanillaTransformerConfig(id2label={10: "k", 2: "c"}).label_names == ["c", "k"]
    assert VanillaTransformerConfig(num_labels=2).label_names == ["LABEL_0", "LABEL_1"]
