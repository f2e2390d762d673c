import re

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from vanilla_transformer import VanillaTransformerTokenizer
from vanilla_transformer.loading import load_model
from vanilla_transformer.plots import (
    attention_weights,
    find_neighbours,
    plot_alignment,
    plot_attention,
    plot_attention_grid,
    plot_learning_rates,
    plot_neighbours,
    plot_positions,
    plot_smoothed_targets,
    token_texts,
)


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
    assert target == token_texts(tokenizer, own)


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


def test_dollar_signs_are_not_a_formula(model_folder, tmp_path):
    model, _ = load_model(model_folder)
    tokenizer = VanillaTransformerTokenizer.train(["a $$ b", "$x^2$ $$ $_$"] * 8, vocab_size=280)
    plot_attention(model, tokenizer, "a $$ b", tmp_path / "attention.png", target="a $$ b")
    assert "␣$$" in token_texts(tokenizer, torch.tensor(tokenizer("a $$ b").input_ids))


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"kind": "both"}, "`kind` must be .* is 'both'"),
        ({"layer": 3}, "`layer` must be .* is 3"),
        ({"head": 4}, "`head` must be .* is 4"),
    ],
)
def test_layers_and_heads_that_the_model_lacks_are_refused(model_folder, tmp_path, settings, named):
    model, tokenizer = load_model(model_folder)
    with pytest.raises(ValueError, match=named):
        plot_attention(model, tokenizer, "the house", tmp_path / "attention.png", **settings)


def test_bytes_are_joined_to_characters():
    tokenizer = VanillaTransformerTokenizer.train(["the house"] * 4, vocab_size=270)

    def tokens(text):
        return token_texts(tokenizer, torch.tensor(tokenizer(text).input_ids))

    assert tokens("t é") == ["t", "␣", "é 1/2", "é 2/2", "</s>"]
    assert tokens("世🙂") == [f"世 {part}/3" for part in (1, 2, 3)] + [f"🙂 {part}/4" for part in (1, 2, 3, 4)] + [
        "</s>"
    ]
    assert tokens("t\n") == ["t", "\\n", "</s>"]
    broken = tokenizer("世").input_ids[:2] + tokenizer("to").input_ids
    assert token_texts(tokenizer, torch.tensor(broken)) == ["\ufffd", "\ufffd", "t", "o", "</s>"]
    assert token_texts(tokenizer, torch.tensor(broken[:1])) == ["\ufffd"]


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


def test_a_grid_has_a_map_for_each_layer_and_head(model_folder, tmp_path):
    model, tokenizer = load_model(model_folder)
    figure = plot_attention_grid(model, tokenizer, "the house is red", tmp_path / "grid.png", target="la casa")
    weights, _, _ = attention_weights(model, tokenizer, "the house is red", "la casa")
    assert len(figure.axes) == 3 * 4
    for number, axes in enumerate(figure.axes):
        np.testing.assert_allclose(axes.images[0].get_array(), weights["cross"][divmod(number, 4)], rtol=1e-5)
    assert (tmp_path / "grid.png").stat().st_size > 1000


def test_positions_are_the_papers():
    picture = plot_positions(length=7, hidden_size=6).axes[0].images[0].get_array()
    assert picture.shape == (7, 6)
    assert picture[3, 2] == pytest.approx(np.sin(3 / 10000 ** (2 / 6)), abs=1e-6)
    assert picture[3, 5] == pytest.approx(np.cos(3 / 10000 ** (4 / 6)), abs=1e-6)


def test_learning_rates_rise_to_the_end_of_the_warm_up_and_fall():
    (line,) = plot_learning_rates([(512, 4000)], steps=8000).axes[0].lines
    steps, rates = line.get_data()
    assert steps[np.argmax(rates)] == 4000
    assert max(rates) == pytest.approx(512**-0.5 * 4000**-0.5)


def test_smoothed_targets_are_distributions():
    picture = np.asarray(plot_smoothed_targets([1, 0], vocab_size=4, smoothing=0.2).axes[0].images[0].get_array())
    np.testing.assert_allclose(picture, [[0.05, 0.85, 0.05, 0.05], [0.85, 0.05, 0.05, 0.05]], rtol=1e-6)


def test_neighbours_are_the_nearest_embeddings(model_folder, tmp_path):
    model, tokenizer = load_model(model_folder)
    plot_neighbours(model, tokenizer, ["house", "red"], count=3, path=tmp_path / "neighbours.png")
    ((token, neighbours),) = find_neighbours(model, tokenizer, ["house"], count=3)
    weight = model.get_input_embeddings().weight.detach()
    house = tokenizer(" house", add_special_tokens=False).input_ids[0]
    cosines = torch.nn.functional.cosine_similarity(weight, weight[house], dim=-1)
    cosines[house] = -1
    assert token.startswith("␣h")
    assert [value for _, value in neighbours] == pytest.approx(sorted(cosines.tolist())[:-4:-1], abs=1e-5)


def test_an_alignment_has_a_square_for_each_link():
    figure = plot_alignment(["the", "red", "house"], ["la", "casa", "roja"], [(0, 0), (2, 1), (1, 2)], gold=[(0, 0)])
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), [[1, 0, 0], [0, 0, 1], [0, 1, 0]])
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["the", "red", "house"]


def test_tokens_of_other_tokenizers_keep_their_spaces_visible():
    class Backend:
        decoder = None

    class Tokenizer:
        backend_tokenizer = Backend()

        def convert_ids_to_tokens(self, ids):
            return ["▁how", "ever"][: len(ids)]

    assert token_texts(Tokenizer(), torch.tensor([1, 2])) == ["␣how", "ever"]
