import re

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from vanilla_transformer import VanillaTransformerTokenizer
from vanilla_transformer.loading import load_model
from vanilla_transformer.visualization import attention_weights, plot_attention, tokens_of


def test_weights_are_those_of_the_model(model_folder):
    model, tokenizer = load_model(model_folder)
    weights, source, target = attention_weights(model, tokenizer, "the house", "la casa es roja")
    assert "".join(source).replace("␣", " ") == "the house</s>"
    assert "".join(target).replace("␣", " ") == "la casa es roja</s>"
    s, t = len(source), len(target)
    shapes = {kind: tuple(tensor.shape) for kind, tensor in weights.items()}
    assert shapes == {"encoder": (2, 4, s, s), "decoder": (3, 4, t, t), "cross": (3, 4, t, s)}
    for tensor in weights.values():
        torch.testing.assert_close(tensor.sum(dim=-1), torch.ones(tensor.shape[:-1]))
    assert (weights["decoder"].triu(diagonal=1) == 0).all()
    layer = model.model.decoder.layers[2].encoder_attn
    seen = {}
    layer.register_forward_hook(lambda module, args, output: seen.update(weights=output[1]))
    assert model.config._attn_implementation == "sdpa"  # as before
    model.set_attn_implementation("eager")
    inputs = tokenizer("the house", text_target="la casa es roja", return_tensors="pt")
    with torch.no_grad():
        model(**inputs)
    torch.testing.assert_close(weights["cross"][2], seen["weights"][0])


def test_without_a_translation_it_is_the_models_own(model_folder):
    model, tokenizer = load_model(model_folder)
    model.train()
    _, _, target = attention_weights(model, tokenizer, "the house")
    assert model.training
    own = model.eval().generate(**tokenizer("the house", return_tensors="pt"))[0, 1:]
    assert target == tokens_of(tokenizer, own)


@pytest.mark.parametrize("kind", ["cross", "encoder", "decoder"])
def test_a_picture_with_a_cell_for_every_weight(model_folder, tmp_path, kind, monkeypatch):
    model, tokenizer = load_model(model_folder)
    path, figures, save = tmp_path / "attention.png", [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda figure, *a, **k: figures.append(figure) or save(figure, *a, **k))
    plot_attention(model, tokenizer, "the house is red", path, target="la casa", kind=kind, head=1)
    weights, _, _ = attention_weights(model, tokenizer, "the house is red", "la casa")
    (axes, *_), (width, height) = figures[0].axes, Image.open(path).size
    np.testing.assert_allclose(axes.images[0].get_array(), weights[kind][-1, 1], rtol=1e-5)
    assert min(width, height) > 100


def test_dollar_signs_are_no_formula(model_folder, tmp_path):
    model, _ = load_model(model_folder)
    tokenizer = VanillaTransformerTokenizer.train(["a $$ b", "$x^2$ $$ $_$"] * 8, vocab_size=280)
    plot_attention(model, tokenizer, "a $$ b", tmp_path / "attention.png", target="a $$ b")
    assert "␣$$" in tokens_of(tokenizer, torch.tensor(tokenizer("a $$ b").input_ids))


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"kind": "both"}, "`kind` is 'both'"), ({"layer": 3}, "`layer` is 3"), ({"head": 4}, "`head` is 4")],
)
def test_what_the_model_has_not_is_refused(model_folder, tmp_path, settings, named):
    model, tokenizer = load_model(model_folder)
    with pytest.raises(ValueError, match=named):
        plot_attention(model, tokenizer, "the house", tmp_path / "attention.png", **settings)


def test_bytes_are_joined_to_characters():
    tokenizer = VanillaTransformerTokenizer.train(["the house"] * 4, vocab_size=270)

    def tokens(text):
        return tokens_of(tokenizer, torch.tensor(tokenizer(text).input_ids))

    assert tokens("t é") == ["t", "␣", "é 1/2", "é 2/2", "</s>"]
    assert tokens("世🙂") == [f"世 {part}/3" for part in (1, 2, 3)] + [f"🙂 {part}/4" for part in (1, 2, 3, 4)] + [
        "</s>"
    ]
    broken = tokenizer("世").input_ids[:2] + tokenizer("to").input_ids
    assert tokens_of(tokenizer, torch.tensor(broken)) == ["\ufffd", "\ufffd", "t", "o", "</s>"]
    assert tokens_of(tokenizer, torch.tensor(broken[:1])) == ["\ufffd"]


@pytest.mark.parametrize(
    ("layer", "head", "title"), [(0, 0, "layer 0 of 0 to 2, head 0"), (-1, -1, "layer 2 .* head 3")]
)
def test_layers_and_heads_have_the_numbers_of_the_call(model_folder, tmp_path, layer, head, title, monkeypatch):
    model, tokenizer = load_model(model_folder)
    titles, save = [], Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda figure, *a, **k: titles.append(figure.axes[0].get_title()) or save(figure, *a, **k)
    )
    plot_attention(model, tokenizer, "the house", tmp_path / "attention.png", target="la", layer=layer, head=head)
    assert re.search(title, titles[0])
