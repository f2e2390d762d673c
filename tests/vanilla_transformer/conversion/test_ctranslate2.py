"""The folder of `export --to ctranslate2`: the engine's own scores beside the model's, and refusals."""

import json
import sys

import pytest
import torch
from torch import nn
from transformers import GenerationConfig

from tests.vanilla_transformer.conversion.configurations import CONFIGURATIONS, build_model, renumber
from vanilla_transformer.cli import main
from vanilla_transformer.conversion.folder import check_exportable
from vanilla_transformer.conversion.to_ctranslate2 import (
    GNMT_DIFFERENCE,
    NEAREST_DIFFERENCE,
    build_spec,
    ctranslate2_differences,
    describe_search,
    export_ctranslate2,
    fill_heads,
)
from vanilla_transformer.errors import ConversionError
from vanilla_transformer.loading import load_model

ctranslate2 = pytest.importorskip("ctranslate2", reason='needs pip install "vanilla-transformer[ctranslate2]"')


def name_tokens(count):
    return [f"t{index}" for index in range(count)]


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_the_engine_scores_a_target_as_the_model_does(name, small_config, batch, tmp_path):
    model = build_model(small_config, **CONFIGURATIONS[name])
    config, batch = model.config, renumber(batch, model.config)
    tokens, target_tokens = name_tokens(config.vocab_size), name_tokens(config.target_vocab_size)
    spec = build_spec(model, tokens, max_positions=64, target_tokens=target_tokens)
    spec.validate()
    spec.optimize()
    spec.save(str(tmp_path))
    sources = [[tokens[i] for i in row[row != config.pad_token_id]] for row in batch["input_ids"]]
    labels = batch["labels"]
    targets = [[target_tokens[i] for i in row[(row != -100) & (row != config.eos_token_id)]] for row in labels]
    scored = ctranslate2.Translator(str(tmp_path), intra_threads=1).score_batch(sources, targets)
    with torch.no_grad():
        logits = model(**batch).logits
    ours = logits.log_softmax(-1).gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    for row, label, result in zip(ours, labels, scored, strict=True):
        expected = row[label != -100]
        torch.testing.assert_close(torch.tensor(result.log_probs), expected, rtol=1e-5, atol=1e-5)


def test_zeros_fill_up_the_rows_of_each_head():
    weight = torch.arange(8.0).view(4, 2)
    filled = fill_heads(weight, heads=2, size=2, wanted=3)
    assert filled.tolist() == [[0, 1], [2, 3], [0, 0], [4, 5], [6, 7], [0, 0]]


def test_an_int8_export_leaves_the_model_in_memory_as_it_was(model, tmp_path):
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    spec = build_spec(model, name_tokens(model.config.vocab_size), max_positions=16)
    spec.validate()
    spec.optimize(quantization="int8")
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())


def test_the_folder_has_all_that_the_engine_and_a_reader_need(model_folder, tmp_path, capsys):
    (model_folder / "LICENSE").write_text("a licence")
    output = tmp_path / "ct2"
    arguments = ["export", str(model_folder), str(output), "--to", "ctranslate2", "--max_positions", "77"]
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    card = (output / "README.md").read_text(encoding="utf-8")
    assert "at most 77 tokens" in shown and "at most 77 tokens" in card and "library_name: ctranslate2" in card
    assert "--engine ctranslate2" in card and "MarianMTModel" not in card
    assert (output / "LICENSE").read_text() == "a licence" and (output / "tokenizer.json").is_file()
    facts = json.loads((output / "vanilla_transformer.json").read_text(encoding="utf-8"))
    assert (facts["format"], facts["precision"], facts["max_positions"]) == ("ctranslate2", "float32", 77)
    translator = ctranslate2.Translator(str(output), intra_threads=1)  # as those use it who have no package of ours
    tokenizer = load_model(model_folder)[1]
    source = tokenizer.convert_ids_to_tokens(tokenizer("the house").input_ids)
    assert translator.translate_batch([source], max_decoding_length=5)[0].hypotheses


@pytest.mark.parametrize(
    ("settings", "positions", "limit"),
    [
        ({"source_length_offset": 50}, 4096, "min(len(source) + 50, 562)"),
        ({"source_length_offset": 50, "longest_source": 600}, 4096, "min(len(source) + 50, 650)"),
        ({"source_length_offset": 50, "max_new_tokens": 7}, 24, "min(len(source) + 50, 23)"),
        ({"source_length_offset": None, "max_new_tokens": 7}, 24, "7"),
        ({"source_length_offset": None, "max_length": 30}, 24, "23"),
        ({}, 24, "19"),
    ],
    ids=str,
)
def test_the_cards_limit_is_that_of_the_model(settings, positions, limit):
    said = describe_search(GenerationConfig(**settings), [], positions)
    assert said.endswith(f"max_decoding_length={limit}")


def test_the_cards_penalty_is_said_where_it_holds(model):
    settings = model.generation_config
    nearest = {True: NEAREST_DIFFERENCE, False: GNMT_DIFFERENCE}
    for alpha, beams, penalty in ((0.6, 4, 0.4), (1.0, 4, 0.67), (0.6, 1, None)):
        settings.update(num_beams=beams, length_penalty=alpha, length_penalty_type="gnmt")
        said = ctranslate2_differences(model, "float32", 64)
        for is_nearest, sentence in nearest.items():
            assert (sentence in said) == (beams > 1 and (alpha == 0.6) == is_nearest)
        assert (f"length_penalty={penalty}," in describe_search(settings, [], 64)) == (beams > 1)


def test_an_int8_folder_is_smaller(model_folder, tmp_path):
    sizes = {}
    for precision in ("float32", "int8"):
        export_ctranslate2(model_folder, tmp_path / precision, precision, max_positions=8)
        sizes[precision] = (tmp_path / precision / "model.bin").stat().st_size
    assert sizes["int8"] < 0.6 * sizes["float32"]


def test_fields_that_ctranslate2_lacks_are_refused_by_name(small_config, model, model_folder, tmp_path):
    tokens = name_tokens(60)
    with pytest.raises(ConversionError, match=r"`hidden_act` must be one of .*, but is 'mish'"):
        build_spec(build_model(small_config, hidden_act="mish"), tokens)
    with pytest.raises(ConversionError, match="`eos_token_id` must be one id"):
        build_spec(build_model(small_config, eos_token_id=[2, 3]), tokens)
    model.model.encoder.layers[0].fc1 = type("Adapter", (nn.Linear,), {"__module__": "peft"})(32, 48)
    with pytest.raises(
        ConversionError,
        match=r"`model\.encoder\.layers\.0\.fc1` must be a plain module for CTranslate2, but is a peft\.Adapter",
    ):
        check_exportable(model, "CTranslate2")
    with pytest.raises(ConversionError, match=r"`precision` must be one of float32, int8"):
        export_ctranslate2(model_folder, tmp_path / "out", "int4")
    with pytest.raises(ConversionError, match="`max_positions` must be at least 2, but is 1"):
        export_ctranslate2(model_folder, tmp_path / "out", max_positions=1)
    assert not (tmp_path / "out").exists()


def test_a_field_that_no_export_knows_is_refused(model, monkeypatch):
    from vanilla_transformer.conversion import folder

    monkeypatch.setattr(folder, "KNOWN_FIELDS", folder.KNOWN_FIELDS - {"norm_first"})
    check_exportable(model, "CTranslate2")  # as it is by default
    model.config.norm_first = True
    with pytest.raises(ConversionError, match=r"`norm_first` must be False .*, but is True"):
        check_exportable(model, "CTranslate2")


def test_a_model_with_more_ids_than_its_tokenizer_gets_names_for_them(model_folder, tmp_path):
    model, tokenizer = load_model(model_folder)
    model.resize_token_embeddings(len(tokenizer) + 3)
    model.save_pretrained(model_folder)
    export_ctranslate2(model_folder, tmp_path / "ct2", max_positions=8)
    names = json.loads((tmp_path / "ct2" / "shared_vocabulary.json").read_text(encoding="utf-8"))
    assert len(names) == len(set(names)) == len(tokenizer) + 3


def test_the_command_refuses_options_of_other_targets(model_folder, tmp_path, capsys):
    base = ["export", str(model_folder), str(tmp_path / "out"), "--to"]
    for options in (["marian", "--precision", "int8"], ["marian", "--max_positions", "9"]):
        with pytest.raises(SystemExit):
            main([*base, *options])
        assert "leave it out" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*base, "ctranslate2", "--max_positions", "1"])
    assert "give at least 2" in capsys.readouterr().err


def test_without_the_library_the_command_says_what_to_install(model_folder, tmp_path, capsys, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "ctranslate2"]:
        monkeypatch.setitem(sys.modules, name, None)
    assert main(["export", str(model_folder), str(tmp_path / "out"), "--to", "ctranslate2"]) == 2
    assert 'pip install "vanilla-transformer[ctranslate2]"' in capsys.readouterr().err
    assert not list(tmp_path.glob("out*"))
