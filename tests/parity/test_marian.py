"""
Logits and translations against `MarianMTModel` with the same weights, as `export` writes them.

Marian keeps the paper's sinusoids as [sines | cosines], so that its channels are ours in another order.
"""

import pytest
import torch
from transformers import MarianMTModel

from tests.vanilla_transformer.conversion.configurations import CONFIGURATIONS, build_model, renumber
from vanilla_transformer import VanillaTransformerForConditionalGeneration
from vanilla_transformer.conversion.marian import to_marian
from vanilla_transformer.errors import ConversionError


def logits(model, batch, ours):
    return model(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        decoder_input_ids=ours.prepare_decoder_input_ids_from_labels(batch["labels"]),
    ).logits[batch["labels"] != -100]


@torch.no_grad()
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"encoder_layers": 1, "decoder_layers": 1},
        {"attention_bias": True, "hidden_act": "gelu"},
        {"tie_word_embeddings": False},
        {"layer_norm_eps": 1e-5},
    ],
    ids=["paper", "one layer", "biases and gelu", "untied", "another epsilon"],
)
def test_logits_equal_marian(small_config, batch, changes):
    torch.manual_seed(0)
    model = VanillaTransformerForConditionalGeneration(small_config(**changes)).eval()
    for parameter in model.parameters():  # norms and biases too, or nothing would show where they went
        parameter.add_(0.1 * torch.randn_like(parameter))
    marian = to_marian(model)
    assert type(marian) is MarianMTModel
    ours, theirs = logits(model, batch, model), logits(marian, batch, model)
    assert ours.std() > 0.5  # else anything is close
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    # Without the rounding of float32: what is left is the epsilon of the first norm of each stack.
    ours, theirs = logits(model.double(), batch, model), logits(marian.double(), batch, model)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@torch.no_grad()
def test_greedy_translations_equal_marians(model, batch):
    source = {name: batch[name] for name in ("input_ids", "attention_mask")}
    settings = {"num_beams": 1, "max_length": 40}
    assert torch.equal(model.generate(**source, **settings), to_marian(model).generate(**source, **settings))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"norm_first": True}, "`norm_first` must be .*, but is True"),
        ({"qk_head_dim": 4}, "`qk_head_dim` must be .*, but is 4"),
        ({"v_head_dim": 16}, "`v_head_dim` must be .*, but is 16"),
        (
            {"position_embedding_type": "learned", "max_position_embeddings": 64},
            "`position_embedding_type` must be .*, but is 'learned'",
        ),
    ],
)
def test_fields_that_marian_cannot_hold_are_refused_by_name(small_config, changes, named):
    model = VanillaTransformerForConditionalGeneration(small_config(**changes))
    with pytest.raises(ConversionError, match=named):
        to_marian(model)


@torch.no_grad()
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_each_configuration_is_carried_or_refused_by_name(name, small_config, batch):
    model = build_model(small_config, **CONFIGURATIONS[name])
    batch = renumber(batch, model.config)
    try:
        marian = to_marian(model)
    except ConversionError as error:
        assert any(f"`{field}` must be" in str(error) for field in CONFIGURATIONS[name])
    else:
        torch.testing.assert_close(logits(model, batch, model), logits(marian, batch, model), rtol=0, atol=2e-5)
