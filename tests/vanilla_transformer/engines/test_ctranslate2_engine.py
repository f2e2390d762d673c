"""CTranslate2 as a translator: the same lines as the model's own search, and what is refused."""

import json
import re
from pathlib import Path

import pytest
import torch
from transformers import GenerationConfig, tokenization_utils_base

from training.data.phrasebook import phrasebook
from vanilla_transformer import (
    VanillaTransformerForConditionalGeneration,
    VanillaTransformerTranslationPipeline,
    load_translator,
)
from vanilla_transformer.cli import main
from vanilla_transformer.conversion.to_ctranslate2 import (
    STOP_DIFFERENCE,
    SUPPRESSED_DIFFERENCE,
    export_ctranslate2,
)
from vanilla_transformer.engines import load_engine
from vanilla_transformer.engines.ctranslate2_engine import NEUTRAL
from vanilla_transformer.errors import ConversionError, ModelFolderError, SettingsError
from vanilla_transformer.generation_vanilla_transformer import length_penalty
from vanilla_transformer.loading import load_model

ctranslate2 = pytest.importorskip("ctranslate2", reason='needs pip install "vanilla-transformer[ctranslate2]"')

TEXTS = ["the house is red", "", "the", "the red car is new", "  ", "the house </s> is <pad> red", "¿Cómo estás?"]


@pytest.fixture
def folder(model_folder, tmp_path):
    export_ctranslate2(model_folder, tmp_path / "ct2", max_positions=200)
    return tmp_path / "ct2"


@pytest.fixture
def learned_folder(small_config, tokenizer, tmp_path):
    """A model with 24 learned positions."""
    torch.manual_seed(0)
    positions = {"position_embedding_type": "learned", "max_position_embeddings": 24}
    model = VanillaTransformerForConditionalGeneration(small_config(vocab_size=len(tokenizer), **positions))
    model.save_pretrained(tmp_path / "learned-original")
    tokenizer.save_pretrained(tmp_path / "learned-original")
    return tmp_path / "learned-original"


@pytest.fixture
def theirs(folder):
    return load_engine(folder, "ctranslate2")


@pytest.fixture
def ours(model_folder):
    model, tokenizer = load_model(model_folder)
    return VanillaTransformerTranslationPipeline(model=model, tokenizer=tokenizer, device="cpu")


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_beams": 1},
        {"num_beams": 2, "length_penalty": 1.5},
        {"length_penalty_type": "power", "length_penalty": 0.4},
        {"length_penalty": 0.0},
        {"max_new_tokens": 5},
        {"max_length": 4},
        {"source_length_offset": None},
        {"length_penalty_type": None},
        {"num_return_sequences": 3},
        {"num_return_sequences": 2, "suppress_tokens": [1, 300, 5], "renormalize_logits": True},
    ],
    ids=str,
)
def test_it_translates_as_the_model_does(settings, ours, theirs):
    expected = ours.translate(TEXTS, dict(settings), return_scores=True)
    found = theirs.translate(TEXTS, dict(settings), return_scores=True)
    assert [[each["translation_text"] for each in row] for row in found] == [
        [each["translation_text"] for each in row] for row in expected
    ]
    scores = [torch.tensor([[each["score"] for each in row] for row in rows]) for rows in (found, expected)]
    torch.testing.assert_close(*scores, rtol=1e-5, atol=1e-5)


def test_each_sentence_has_a_limit_of_its_own(ours, theirs):
    for translator in (ours, theirs):
        translator.model.generation_config.source_length_offset = 1
    texts = ["the", "the house is red the house is red the house is red"]
    assert theirs.translate(texts, {}) == ours.translate(texts, {})


def test_a_long_source_is_not_cut(model_folder, tmp_path, ours):
    export_ctranslate2(model_folder, tmp_path / "long")
    theirs = load_engine(tmp_path / "long", "ctranslate2")
    ids = torch.randint(4, 300, (1, 1500), generator=torch.Generator().manual_seed(0))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    sequences = torch.tensor([[0, 5, 6, 7, 2]])
    found, expected = (each._score_tokens(inputs, sequences) for each in (theirs, ours))
    torch.testing.assert_close(found, expected.detach(), rtol=1e-5, atol=1e-5)
    inputs["input_ids"] = torch.cat([ids[:, :1499], ids[:, :1]], dim=1)  # the last token is read
    assert not torch.equal(theirs._score_tokens(inputs, sequences), found)


def test_settings_that_it_lacks_are_refused_by_name(theirs, folder):
    for settings in ({"do_sample": True}, {"weight_precision": "int8"}, {"repetition_penalty": 1.2}):
        with pytest.raises(SettingsError, match=f"`{next(iter(settings))}` must be left out"):
            theirs.translate(["the"], settings)
    with pytest.raises(SettingsError, match=r"`early_stopping` must be 'never'"):
        theirs.translate(["the"], {"early_stopping": True})
    with pytest.raises(SettingsError, match=r"`early_stopping` must be 'never'.* is None"):
        theirs.translate(["the"], {"early_stopping": None})  # torch searches by its heuristic then
    with pytest.raises(SettingsError, match="`num_return_sequences` must be at most `num_beams`, 4, but is 5"):
        theirs.translate(["the"], {"num_return_sequences": 5})
    with pytest.raises(SettingsError, match="`length_penalty_type` must be one of"):
        theirs.translate(["the"], {"length_penalty_type": "other"})
    with pytest.raises(SettingsError, match=r"`length_penalty` must be at most 2 .* but is 3\. Use `--engine torch`"):
        theirs.translate(["the"], {"length_penalty": 3.0})
    for name, own, value in (("eos_token_id", 2, [2, 9]), ("eos_token_id", 2, 9), ("decoder_start_token_id", 0, 7)):
        with pytest.raises(SettingsError, match=rf"`{name}` must be {own} with .* but is {re.escape(str(value))}\."):
            theirs.translate(["the"], {name: value})
    with pytest.raises(SettingsError, match="`renormalize_logits` must be True"):
        theirs.translate(["the"], {"suppress_tokens": [1]})
    with pytest.raises(SettingsError, match="`return_alignments` must be left out"):
        theirs.translate(["the"], {}, return_alignments=True)
    with pytest.raises(SettingsError, match="`prefix` must be left out"):
        theirs.translate(["the"], {}, prefix="la")
    with pytest.raises(SettingsError, match=r"`decoder_input_ids` must be left out .* but is tensor\(\[\[0, 5\], \[0"):
        theirs.translate(["the"], {"decoder_input_ids": torch.tensor([[0, 5], [0, 6]])})
    with pytest.raises(SettingsError, match=r"\A`generation_config` must be left out .* arguments\.\Z"):
        theirs.translate(["the"], {"generation_config": GenerationConfig(num_beams=2)})
    with pytest.raises(SettingsError, match=r"`weight_precision` .* Use `--engine torch`\.\Z"):
        theirs.translate(["the"], {"weight_precision": "int8"})
    with pytest.raises(ValueError, match="`num_beams` must be at least 1, but is 0"):
        theirs.translate(["the"], {"num_beams": 0})
    for name, value in (("max_new_tokens", 0), ("max_length", 1), ("source_length_offset", -1)):
        with pytest.raises(SettingsError, match=f"`{name}` must be at least {value + 1}, but is {value}"):
            theirs.translate(["the"], {name: value})
    facts = json.loads((folder / "vanilla_transformer.json").read_text())
    facts["generation_config"]["no_repeat_ngram_size"] = 3
    (folder / "vanilla_transformer.json").write_text(json.dumps(facts))
    with pytest.raises(SettingsError, match="`no_repeat_ngram_size` must be left out"):
        load_engine(folder, "ctranslate2")


def test_settings_by_which_generate_does_nothing_are_taken(ours, theirs):
    expected = ours.translate(["the red car"], {"max_new_tokens": 5})
    assert theirs.translate(["the red car"], {"max_new_tokens": 5, **NEUTRAL}) == expected
    assert ours.translate(["the red car"], {"max_new_tokens": 5, **NEUTRAL}) == expected


def test_none_is_the_models_own_setting_or_none_as_in_torch(ours, theirs):
    nothing_given = dict.fromkeys(("num_beams", "num_return_sequences", "length_penalty", "source_length_offset"))
    source = ours.tokenizer(TEXTS[:1], return_tensors="pt")
    expected = theirs.model.generate(**source)
    assert torch.equal(theirs.model.generate(**source, **nothing_given), expected)
    for translator in (ours, theirs):
        translator.model.generation_config.update(suppress_tokens=expected[0, 1:4].tolist(), renormalize_logits=True)
    found = theirs.model.generate(**source, suppress_tokens=[99_999])  # an id that no token has
    assert torch.equal(found, ours.model.generate(**source, suppress_tokens=[99_999]))
    found = theirs.model.generate(**source, suppress_tokens=None)
    assert torch.equal(found, ours.model.generate(**source, suppress_tokens=None))
    assert not torch.equal(theirs.model.generate(**source), found)


def test_nothing_is_cut_without_a_word_where_positions_end(theirs, ours, monkeypatch):
    said = []
    monkeypatch.setattr(tokenization_utils_base.logger, "warning", said.append)  # which would come before the error
    with pytest.raises(SettingsError, match="at most 200 tokens for this exported model, but has"):
        theirs.translate(["the red house " * 100], {})
    assert not said
    for settings in ({"max_new_tokens": 300}, {"max_length": 300}, {"source_length_offset": 300}):
        theirs.model.generation_config.source_length_offset = settings.get("source_length_offset", 50)
        with pytest.raises(SettingsError, match=r"at most 199 tokens .* one is longer\. .* larger `--max_positions`"):
            theirs.translate(["the"], {key: value for key, value in settings.items() if key.startswith("max")})
    assert theirs.translate(["the"], {"max_new_tokens": 199}) == ours.translate(["the"], {"max_new_tokens": 199})
    end, other = (theirs.model.target_tokens[index] for index in (theirs.model.config.eos_token_id, 5))
    penalty = length_penalty(1.0, False)
    theirs.model.check_ends([([other] * 198 + [end], -1.0), ([other, end], -2.0)], 2, (199, 300), penalty)  # both end
    cut = ([other] * 199, -30.0)
    for log_probability, is_refused in ((-0.3, True), (-0.1, False)):  # -30 / 300 is what the cut one could reach
        ranked = [([other, end], log_probability), cut]
        for returned in (1, 2):
            if is_refused or returned == 2:
                with pytest.raises(SettingsError, match="one is longer"):
                    theirs.model.check_ends(ranked, returned, (199, 300), penalty)
            else:
                theirs.model.check_ends(ranked, returned, (199, 300), penalty)


def test_learned_positions_end_where_the_originals_do(learned_folder, tmp_path, capsys):
    arguments = ["export", str(learned_folder), str(tmp_path / "learned"), "--to", "ctranslate2"]
    assert main([*arguments, "--max_positions", "8"]) == 2
    assert "must be left out for a model with 24 learned positions, but is 8" in capsys.readouterr().err
    assert main(arguments) == 0
    ours, theirs = (load_translator(learned_folder, device="cpu"), load_engine(tmp_path / "learned", "ctranslate2"))
    texts = ["the", "the house is red"]
    assert theirs.translate(texts, {}) == ours.translate(texts, {})  # cut by the model itself, at 23
    for translator, said in ((ours, "has 25 positions"), (theirs, r"at most 23 tokens .* cuts it there\.\Z")):
        with pytest.raises(ValueError, match=said):
            translator.translate(texts, {"max_new_tokens": 40})


def test_devices_are_those_of_the_engine(folder, monkeypatch):
    assert load_engine(folder, "ctranslate2", "auto").translate(["the"], {"max_new_tokens": 2})
    monkeypatch.setattr(ctranslate2, "get_cuda_device_count", lambda: 0)
    with pytest.raises(SettingsError, match="`device` must be cpu on this machine, where CTranslate2 finds no CUDA"):
        load_engine(folder, "ctranslate2", "cuda")
    with pytest.raises(SettingsError, match="`device` must be cpu or cuda for CTranslate2, but is mps"):
        load_engine(folder, "ctranslate2", "mps")
    with pytest.raises(SettingsError, match="`engine` must be one of ctranslate2, onnxruntime for an exported model"):
        load_engine(folder, "torch")


def test_an_export_refuses_settings_that_the_engine_does_not_have(model_folder, tmp_path):
    settings = GenerationConfig.from_pretrained(model_folder)
    settings.no_repeat_ngram_size = 3
    settings.save_pretrained(model_folder)
    with pytest.raises(ConversionError, match="`no_repeat_ngram_size` must be left out of "):
        export_ctranslate2(model_folder, tmp_path / "refused")
    assert not (tmp_path / "refused").exists()


def test_its_replacement_of_a_setting_is_said(model_folder, tmp_path, ours):
    settings = GenerationConfig.from_pretrained(model_folder)
    settings.update(early_stopping=True, suppress_tokens=[1, 5])
    settings.save_pretrained(model_folder)
    differences = export_ctranslate2(model_folder, tmp_path / "adapted")
    assert STOP_DIFFERENCE in differences and SUPPRESSED_DIFFERENCE in differences
    theirs = load_engine(tmp_path / "adapted", "ctranslate2")
    expected = ours.translate(TEXTS, {"suppress_tokens": [1, 5], "renormalize_logits": True})
    assert theirs.translate(TEXTS, {}) == expected
    assert theirs.translate(TEXTS, {"num_beams": 1, "renormalize_logits": False}) == ours.translate(
        TEXTS, {"num_beams": 1, "suppress_tokens": [1, 5]}
    )


def test_a_greedy_model_is_adapted_too(model_folder, tmp_path, ours):
    settings = GenerationConfig.from_pretrained(model_folder)
    settings.update(num_beams=1, early_stopping=True, suppress_tokens=[1, 5])
    (model_folder / "generation_config.json").write_text(settings.to_json_string(use_diff=False))
    assert {STOP_DIFFERENCE, SUPPRESSED_DIFFERENCE} <= set(export_ctranslate2(model_folder, tmp_path / "adapted"))
    theirs = load_engine(tmp_path / "adapted", "ctranslate2")
    expected = ours.translate(TEXTS, {"suppress_tokens": [1, 5], "renormalize_logits": True})
    assert theirs.translate(TEXTS, {"num_beams": 4}) == expected


def test_the_command_gives_the_same_lines(model_folder, folder, capsys):
    assert main(["translate", "--model", str(model_folder), *TEXTS]) == 0
    expected = capsys.readouterr().out
    assert main(["translate", "--model", str(folder), "--engine", "ctranslate2", *TEXTS]) == 0
    assert capsys.readouterr().out == expected


def test_a_folder_of_another_engine_is_refused_with_the_line_that_works(model_folder, folder, tmp_path, capsys):
    assert main(["translate", "--model", str(folder), "the"]) == 2
    assert f"translate --model {folder} --engine ctranslate2" in capsys.readouterr().err
    assert main(["translate", "--model", str(model_folder), "--engine", "ctranslate2", "the"]) == 2
    shown = capsys.readouterr().err
    assert "--engine torch" in shown and f"export {model_folder} {model_folder}-ctranslate2" in shown
    assert main(["translate", "--model", str(tmp_path / "nowhere"), "--engine", "ctranslate2", "the"]) == 2
    assert "nowhere is not a folder here, and ctranslate2 runs only folders that" in capsys.readouterr().err
    for verb in (
        ["export", str(folder), str(tmp_path / "again"), "--to", "onnx"],
        ["explain", "--model", str(folder), "the"],
    ):
        assert main(verb) == 2
        assert "for everything else, name the folder that it was exported from" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelFolderError, match=r"empty has no vanilla_transformer\.json"):
        load_engine(tmp_path / "empty", "ctranslate2")


def test_the_folder_of_a_marian_model_is_refused_with_what_works(model_folder, tmp_path, capsys):
    assert main(["export", str(model_folder), str(tmp_path / "marian"), "--to", "marian"]) == 0
    capsys.readouterr()
    assert main(["translate", "--model", str(tmp_path / "marian"), "--engine", "ctranslate2", "the"]) == 2
    shown = capsys.readouterr().err
    assert f"translate --model {tmp_path / 'marian'} --engine torch" in shown
    assert (
        "from the original, or from what `vanilla-transformer import` writes: vanilla-transformer export ORI" in shown
    )


def test_damaged_folders_are_refused_by_name(folder):
    weights = folder / "model.bin"
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelFolderError, match=r"The model in .*ct2 is damaged"):
        load_engine(folder, "ctranslate2")
    weights.write_bytes(content)
    tokenizer = (folder / "tokenizer.json").read_bytes()
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(ModelFolderError, match=r"The tokenizer in .*ct2 is damaged"):
        load_engine(folder, "ctranslate2")
    for name in ("tokenizer.json", "model.bin", "config.json"):
        kept = (folder / name).read_bytes()
        (folder / name).unlink()
        with pytest.raises(ModelFolderError, match=rf"ct2 has no {name}\. Copy the folder"):
            load_engine(folder, "ctranslate2")
        (folder / name).write_bytes(tokenizer if name == "tokenizer.json" else kept)
    settings = (folder / "tokenizer_config.json").read_bytes()
    (folder / "tokenizer_config.json").unlink()
    with pytest.raises(ModelFolderError, match=r"The tokenizer in .*ct2 has no padding token"):
        load_engine(folder, "ctranslate2")
    (folder / "tokenizer_config.json").write_bytes(settings)
    tokens = folder / "shared_vocabulary.json"
    words = tokens.read_bytes()
    tokens.write_text(json.dumps(json.loads(words)[:-10]))
    with pytest.raises(ModelFolderError, match=r"its vocabulary has \d+ tokens instead of"):
        load_engine(folder, "ctranslate2")
    tokens.write_bytes(words)
    facts = folder / "vanilla_transformer.json"
    whole = json.loads(facts.read_text())
    for entries, said in (
        ({**whole, "max_positions": -1}, "`max_positions` must be at least 2, but is -1"),
        ({**whole, "precision": "int4"}, "`precision` must be one of float32, int8, but is 'int4'"),
        ({**whole, "generation_config": {"num_beams": 4}}, "`generation_config` must have `decoder_start_token_id`"),
        ([], "argument after"),
        ({**whole, "format": ["ctranslate2"]}, "`format` must be a string, but is"),
        ({**whole, "max_positions": "many"}, "`max_positions` must be a number, but is 'many'"),
        ({**whole, "config": 3}, "`config` must be an object, but is 3"),
        ({**whole, "config": {**whole["config"], "hidden_size": "wide"}}, "hidden_size"),
        ({**whole, "generation_config": None}, "`generation_config` must be an object, but is None"),
    ):
        facts.write_text(json.dumps(entries))
        with pytest.raises(
            ModelFolderError, match=rf"vanilla_transformer\.json is damaged: .*{said}.*Copy the folder"
        ):
            load_engine(folder, "ctranslate2")
    facts.write_text(json.dumps(whole))
    facts.write_text(facts.read_text().replace('"ctranslate2"', '"gguf"'))
    with pytest.raises(ModelFolderError, match=r"`format` in .* must be one of ctranslate2, onnx, but is 'gguf'"):
        load_engine(folder, "ctranslate2")
    facts.write_text("{")
    with pytest.raises(ModelFolderError, match=r"vanilla_transformer\.json is damaged"):
        load_engine(folder, "ctranslate2")


@pytest.mark.slow
def test_the_bundled_model_gives_the_same_lines_and_int8_nearly(tmp_path):
    bundled = Path(__file__).resolve().parents[3] / "checkpoints" / "tiny-en-es"
    texts = [pair[0] for pair in phrasebook()["test"][:200]]
    # CTranslate2 knows no other way to stop; the export says so.
    expected = load_translator(bundled, device="cpu")(texts, early_stopping="never")
    for precision, least in (("float32", 200), ("int8", 160)):
        export_ctranslate2(bundled, tmp_path / precision, precision)
        found = load_translator(tmp_path / precision, engine="ctranslate2")(texts)
        assert sum(a == b for a, b in zip(found, expected, strict=True)) >= least
