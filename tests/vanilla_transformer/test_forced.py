import pytest
import torch

from vanilla_transformer import VanillaTransformerTranslationPipeline
from vanilla_transformer.errors import TextError
from vanilla_transformer.forced import force_decode
from vanilla_transformer.loading import load_model

SOURCES = ["the house is red", "the car", "the red car is new"]
TARGETS = ["la casa es roja", "el coche rojo es nuevo", "</s>"]


def test_scores_are_the_models_loss_token_by_token(model_folder):
    model, tokenizer = load_model(model_folder)
    for source, target, found in zip(
        SOURCES, TARGETS, force_decode(model, tokenizer, SOURCES, TARGETS, tokens_per_batch=16), strict=True
    ):
        inputs = tokenizer(source, text_target=target, return_tensors="pt", split_special_tokens=True)
        with torch.no_grad():
            outputs = model(**inputs)
        losses = torch.nn.functional.cross_entropy(outputs.logits[0], inputs.labels[0], reduction="none")
        assert found.log_probabilities == pytest.approx((-losses).tolist(), abs=1e-4)
        assert found.log_probability == pytest.approx(-float(losses.sum()), abs=1e-3)
        assert "".join(found.tokens).replace("␣", " ") == f"{target}</s>"


def test_the_score_is_that_of_beam_search(model_folder):
    model, tokenizer = load_model(model_folder)
    translator = VanillaTransformerTranslationPipeline(model=model, tokenizer=tokenizer, device="cpu")
    source = tokenizer("the house", return_tensors="pt")
    sequence = model.generate(**source)[0, 1:]
    (scored,) = translator("the house", return_scores=True)
    text = scored["translation_text"]
    if tokenizer(text_target=text).input_ids == sequence.tolist():  # parted as the model has written it
        assert force_decode(model, tokenizer, ["the house"], [text])[0].score == pytest.approx(
            scored["score"], abs=1e-4
        )


def test_as_many_translations_as_sources(model_folder):
    model, tokenizer = load_model(model_folder)
    assert force_decode(model, tokenizer, [], []) == []
    with pytest.raises(TextError, match="a text for each of the 3 sources, but has 1"):
        force_decode(model, tokenizer, SOURCES, TARGETS[:1])


def test_a_model_in_training_stays_so_and_is_scored_without_dropout(model_folder):
    model, tokenizer = load_model(model_folder)
    expected = force_decode(model, tokenizer, SOURCES, TARGETS)
    assert not model.training
    assert force_decode(model.train(), tokenizer, SOURCES, TARGETS) == expected
    assert model.training
