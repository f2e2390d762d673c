"""The public entry: a folder in, a translator out."""

import json

import pytest
import torch
from transformers import AutoTokenizer

from vanilla_transformer import VanillaTransformerTranslationPipeline, load_translator
from vanilla_transformer.errors import ModelFolderError, SettingsError
from vanilla_transformer.loading import ORIGIN, choose_device, load_model


def test_a_translator_gives_what_the_pipeline_gives(model_folder):
    model, tokenizer = load_model(model_folder)
    pipeline = VanillaTransformerTranslationPipeline(model=model, tokenizer=tokenizer, device="cpu")
    translate = load_translator(model_folder, engine="torch", device="cpu")
    texts = ["the house is red", "the red car is new"]
    assert translate(texts) == pipeline(texts)
    assert translate(texts[0], num_return_sequences=2) == pipeline(texts[0], num_return_sequences=2)


def test_a_tokenizer_that_was_loaded_is_saved_without_where_it_was(model_folder, tmp_path):
    AutoTokenizer.from_pretrained(model_folder).save_pretrained(tmp_path)
    assert "is_local" in json.loads((tmp_path / "tokenizer_config.json").read_text())  # transformers' own way
    (model_folder / "tokenizer_config.json").write_text((tmp_path / "tokenizer_config.json").read_text())
    load_model(model_folder)[1].save_pretrained(tmp_path)
    assert not {*ORIGIN} & {*json.loads((tmp_path / "tokenizer_config.json").read_text())}
    assert type(AutoTokenizer.from_pretrained(tmp_path)) is type(AutoTokenizer.from_pretrained(model_folder))


def test_a_device_is_the_best_that_is_found_unless_one_is_named(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device() == choose_device("cpu") == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device() == "cuda" and choose_device("cuda:1") == "cuda:1" and choose_device("cpu") == "cpu"


def test_unknown_engines_devices_and_folders_are_named(model_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(SettingsError, match=r'`engine` must be one of torch.*, but is "tensorflow"'):
        load_translator(model_folder, engine="tensorflow")
    with pytest.raises(SettingsError, match=r'`device` must be .* but is "mps"'):
        load_translator(model_folder, device="mps")
    with pytest.raises(ModelFolderError, match="has no config"):
        load_translator(tmp_path)


def test_a_library_that_a_tokenizer_needs_is_named(model_folder, monkeypatch):
    def fail(*args, **kwargs):
        raise ImportError("MarianTokenizer requires the SentencePiece library\nbut it was not found.")

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", fail)
    with pytest.raises(SettingsError, match=r"not installed: MarianTokenizer requires .*transformer\[marian\]"):
        load_model(model_folder)
