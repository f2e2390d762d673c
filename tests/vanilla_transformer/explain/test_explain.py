"""Every shown number is recomputed by hand from the weights, with plain torch."""

import math

import pytest
import torch
import torch.nn.functional as F

from vanilla_transformer import VanillaTransformerConfig, VanillaTransformerForConditionalGeneration
from vanilla_transformer.errors import SettingsError, TextError
from vanilla_transformer.explain import explain

TEXT = "the red house"


def make_model(tokenizer, **changes):
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "encoder_layers": 2, "decoder_layers": 3, "num_attention_heads": 4}
    config = VanillaTransformerConfig(vocab_size=len(tokenizer), intermediate_size=48, **{**sizes, **changes})
    return VanillaTransformerForConditionalGeneration(config).eval()


@pytest.fixture
def model(tokenizer):
    return make_model(tokenizer)


def close(actual, expected):
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


def check_attention(sublayer, weights, x, y, is_causal):
    """Recompute §3.2 for one attention module: queries of x (T, D), keys and values of y (S, D)."""
    attention, heads = sublayer.attention, 4
    queries, keys, values = (
        (each @ projection.weight.T).view(len(each), heads, -1).transpose(0, 1)
        for each, projection in ((x, weights.q_proj), (y, weights.k_proj), (y, weights.v_proj))
    )
    close(attention.queries, queries)
    close(attention.keys, keys)
    close(attention.values, values)
    products = torch.einsum("htk,hsk->hts", queries, keys)
    close(attention.products, products)
    scores = products / math.sqrt(queries.shape[-1])
    close(attention.scores, scores)
    allowed = torch.ones(len(x), len(y)).tril().bool() if is_causal else torch.ones(len(x), len(y)).bool()
    assert torch.equal(attention.allowed, allowed)
    exponents = scores.exp() * allowed
    expected = exponents / exponents.sum(dim=-1, keepdim=True)
    close(attention.weights, expected)
    close(attention.weights.sum(dim=-1), torch.ones(heads, len(x)))
    assert (attention.weights[:, ~allowed] == 0).all()
    close(attention.heads, expected @ values)
    joined = torch.cat(list(expected @ values), dim=-1)
    close(attention.output, joined @ weights.out_proj.weight.T)
    close(sublayer.output, attention.output)


def check_norm(sublayer, norm, x, norm_first):
    close(sublayer.input, x)
    close(sublayer.residual, x + sublayer.output)
    normed = x if norm_first else sublayer.residual
    centred = normed - normed.mean(dim=-1, keepdim=True)
    variance = centred.pow(2).mean(dim=-1, keepdim=True)
    close(sublayer.norm, centred / (variance + norm.eps).sqrt() * norm.weight + norm.bias)


def check_layer(layer, weights, x, encoded, is_causal, norm_first):
    """Recompute one layer; return its output."""
    sublayers = [(layer.self_attention, weights.self_attn, weights.self_attn_layer_norm)]
    if encoded is not None:
        sublayers.append((layer.cross_attention, weights.encoder_attn, weights.encoder_attn_layer_norm))
    for number, (sublayer, attention, norm) in enumerate(sublayers):
        inside = norm(x) if norm_first else x
        check_attention(sublayer, attention, inside, inside if number == 0 else encoded, is_causal and number == 0)
        check_norm(sublayer, norm, x, norm_first)
        x = sublayer.residual if norm_first else sublayer.norm
    inside = weights.final_layer_norm(x) if norm_first else x
    inner = (inside @ weights.fc1.weight.T + weights.fc1.bias).clamp(min=0)
    close(layer.feed_forward.inner, inner)
    close(layer.feed_forward.output, inner @ weights.fc2.weight.T + weights.fc2.bias)
    check_norm(layer.feed_forward, weights.final_layer_norm, x, norm_first)
    x = layer.feed_forward.residual if norm_first else layer.feed_forward.norm
    close(layer.output, x)
    return x


@pytest.mark.parametrize("norm_first", [False, True])
@torch.no_grad()
def test_every_matrix_is_what_the_weights_give_by_hand(tokenizer, norm_first):
    model = make_model(tokenizer, norm_first=norm_first)
    explanation = explain(model, tokenizer, TEXT)
    encoded = None
    for stack, ids, weights in (
        (explanation.encoder, explanation.source_ids, model.model.encoder),
        (explanation.decoder, [0, *explanation.target_ids[:-1]], model.model.decoder),
    ):
        close(stack.embeddings, model.model.shared.weight[ids] * math.sqrt(32))
        angles = torch.arange(len(ids)).double().unsqueeze(1) / 10000 ** (torch.arange(0, 32, 2).double() / 32)
        close(stack.positions[:, 0::2], angles.sin().float())
        close(stack.positions[:, 1::2], angles.cos().float())
        x = stack.embeddings + stack.positions
        close(stack.input, x)
        for layer, of_layer in zip(stack.layers, weights.layers, strict=True):
            x = check_layer(layer, of_layer, x, encoded, encoded is not None, norm_first)
        x = weights.layer_norm(x) if norm_first else x
        close(stack.output, x)
        encoded = stack.output
    close(explanation.logits, explanation.decoder.output @ model.lm_head.weight.T)


def test_candidates_are_the_most_probable_tokens(model, tokenizer):
    explanation = explain(model, tokenizer, TEXT)
    probabilities = F.softmax(explanation.logits, dim=-1)
    for row, candidates in zip(probabilities, explanation.candidates, strict=True):
        best = sorted(enumerate(row.tolist()), key=lambda each: -each[1])[:10]
        assert [each.probability for each in candidates] == pytest.approx([value for _, value in best])


@pytest.mark.parametrize("num_beams", [2, 4])
def test_the_beams_are_those_of_the_search(model, tokenizer, num_beams):
    explanation = explain(model, tokenizer, TEXT, num_beams=num_beams)
    inputs = tokenizer(TEXT, return_tensors="pt")
    found = model.generate(
        **inputs,
        num_beams=num_beams,
        num_return_sequences=num_beams,
        return_dict_in_generate=True,
        output_scores=True,
    )
    assert explanation.target_ids == found.sequences[0, 1 : 1 + len(explanation.target_ids)].tolist()
    assert model.generate(**inputs, num_beams=num_beams)[0, 1:].tolist() == explanation.target_ids
    finished = sorted(
        (each for step in explanation.beams for each in step if each.is_finished and each.is_kept),
        key=lambda each: -each.score,
    )
    for hypothesis, sequence, score in zip(finished, found.sequences, found.sequences_scores, strict=False):
        assert hypothesis.ids == [each for each in sequence[1:].tolist() if each != 1]
        assert hypothesis.score == pytest.approx(float(score), abs=1e-5)
    for before, step in zip(explanation.beams, explanation.beams[1:], strict=False):
        parents = [each for each in before if each.is_kept and not each.is_finished]
        for hypothesis in step:
            assert hypothesis.ids[:-1] == parents[hypothesis.parent].ids


@pytest.mark.parametrize("num_beams", [2, 4])
def test_as_many_beams_go_on_when_one_ends(tokenizer, num_beams):
    model = make_model(tokenizer, output_bias=True)
    with torch.no_grad():
        model.lm_head.bias[2] = 5.0  # `</s>` is one of the likeliest tokens at once
    steps = explain(model, tokenizer, TEXT, num_beams=num_beams).beams
    assert any(each.is_finished for each in steps[0][:num_beams])
    for step in steps[:-1]:
        assert sum(each.is_kept and not each.is_finished for each in step) == num_beams


def test_a_given_translation_is_followed(model, tokenizer):
    explanation = explain(model, tokenizer, TEXT, translation="la casa roja")
    assert explanation.translation == "la casa roja" and not explanation.beams
    labels = tokenizer(text_target="la casa roja", return_tensors="pt").input_ids
    with torch.no_grad():
        logits = model(**tokenizer(TEXT, return_tensors="pt"), labels=labels).logits[0]
    close(explanation.logits, logits)


def test_the_model_is_as_before(model, tokenizer):
    model.train()
    explain(model, tokenizer, TEXT)
    assert model.training and model.config._attn_implementation == "sdpa"
    assert not any(module._forward_hooks for module in model.model.encoder.layers.modules())


@pytest.mark.parametrize("text", ["", "  \n", "a " * 500])
def test_an_empty_or_a_long_text_is_refused(model, tokenizer, text):
    with pytest.raises(TextError, match="The text must"):
        explain(model, tokenizer, text)


def test_one_beam_is_refused(model, tokenizer):
    with pytest.raises(SettingsError, match="`num_beams` must be at least 2, but is 1"):
        explain(model, tokenizer, TEXT, num_beams=1)
