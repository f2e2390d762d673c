"""The folder that `export` writes: what plain transformers makes of it, and what is refused."""

import json
import os

import pytest
import torch
from transformers import GenerationConfig, MarianMTModel

from tests.conftest import DATA
from vanilla_transformer import VanillaTransformerForMaskedLM
from vanilla_transformer.cli import main
from vanilla_transformer.conversion.marian import carried_settings, export_marian, marian_differences
from vanilla_transformer.errors import ConversionError
from vanilla_transformer.loading import load_model
from vanilla_transformer.model_card import ModelCardFacts
from vanilla_transformer.scores import Results, Score, SplitScores
from vanilla_transformer.text import read_lines


def pairs(number):
    """Real sentences and their translations."""
    lines = read_lines(DATA / "tatoeba_en_es.tsv")[:number]
    return [list(side) for side in zip(*(line.split("\t") for line in lines), strict=True)]


@pytest.mark.slow
def test_plain_transformers_translates_the_same(model_folder, tmp_path, fresh_python, capsys):
    output = tmp_path / "native"
    assert main(["export", str(model_folder), str(output), "--to", "marian"]) == 0
    shown = capsys.readouterr().out
    assert "log P / |Y|^α" in shown and "|X| + 50" in shown
    sources, targets = pairs(100)
    (tmp_path / "pairs.json").write_text(json.dumps([sources, targets]))
    fresh_python(
        f"""
import json, torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained({str(output)!r}, trust_remote_code=False)
model = AutoModelForSeq2SeqLM.from_pretrained({str(output)!r}, trust_remote_code=False)
assert type(model).__name__ == "MarianMTModel" and model.dtype == torch.float32
sources, targets = json.load(open({str(tmp_path / "pairs.json")!r}))
batch = tokenizer(sources, text_target=targets, return_tensors="pt", padding=True)
with torch.no_grad():
    logits = model(**batch).logits
tokens = model.generate(batch.input_ids, attention_mask=batch.attention_mask, num_beams=1, max_length=30)
torch.save([dict(batch), logits, tokens], {str(tmp_path / "out.pt")!r})
assert model.generate(batch.input_ids[:2], attention_mask=batch.attention_mask[:2]).shape[0] == 2  # with 4 beams
assert (model.generation_config.num_beams, model.generation_config.length_penalty) == (4, 0.6)
""",
        installed=False,
    )
    theirs, their_logits, their_tokens = torch.load(tmp_path / "out.pt")
    model, tokenizer = load_model(model_folder)
    batch = tokenizer(sources, text_target=targets, return_tensors="pt", padding=True)
    for name in ("input_ids", "attention_mask", "labels"):
        assert torch.equal(batch[name], theirs[name])
    with torch.no_grad():
        logits = model(**batch).logits
    real = batch.labels != tokenizer.pad_token_id
    torch.testing.assert_close(logits[real], their_logits[real], rtol=0, atol=1e-5)
    tokens = model.generate(batch.input_ids, attention_mask=batch.attention_mask, num_beams=1, max_length=30)
    assert torch.equal(tokens, their_tokens)


def test_its_card_links_to_the_original_and_says_what_is_lost(model_folder, tmp_path):
    ModelCardFacts(
        source_lang="en", target_lang="es", results=Results({"test": SplitScores(1.0, {"perplexity": Score(2.7)})})
    ).save(model_folder)
    (model_folder / "curves.png").write_bytes(b"a picture")
    export_marian(model_folder, tmp_path / "native")
    card = (tmp_path / "native" / "README.md").read_text(encoding="utf-8")
    assert "The original is\n`model`" in card and "|X| + 50" in card and "2.70" in card
    assert str(tmp_path) not in card.replace(str(tmp_path / "native"), "") and "https://huggingface.co/" not in card
    assert (tmp_path / "native" / "curves.png").read_bytes() == b"a picture"
    assert not list((tmp_path / "native").glob("*.py"))


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_all_files_have_the_permissions_of_the_umask(model_folder, tmp_path, umask):
    before = os.umask(umask)
    try:
        export_marian(model_folder, tmp_path / "native")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "native").iterdir()}
    assert "model.safetensors" in modes and set(modes.values()) == {0o666 & ~umask}


def test_the_penalty_that_marian_has_is_not_a_difference(model_folder, tmp_path):
    gnmt = "instead of the paper's log P"
    assert gnmt in " ".join(export_marian(model_folder, tmp_path / "gnmt"))
    settings = GenerationConfig.from_pretrained(model_folder)
    settings.length_penalty_type = "power"
    settings.save_pretrained(model_folder)
    differences = export_marian(model_folder, tmp_path / "power")
    card = (tmp_path / "power" / "README.md").read_text(encoding="utf-8")
    assert gnmt not in card and all(difference in card for difference in differences)


def test_only_differences_that_hold_for_the_settings_are_said():
    paper = {"num_beams": 4, "early_stopping": "never", "length_penalty_type": "gnmt", "source_length_offset": 30}
    every = marian_differences(GenerationConfig(**paper))
    assert len(every) == 5 and "|X| + 30." in " ".join(every)
    for changes, lost in (
        ({"source_length_offset": None}, "whatever the length of its source"),
        ({"early_stopping": True}, "transformers' heuristic"),
        ({"length_penalty_type": "power"}, "the paper's log P"),
        ({"num_beams": 1, "early_stopping": None}, "Beam search"),
    ):
        said = marian_differences(GenerationConfig(**{**paper, **changes}))
        assert said == tuple(each for each in every if lost not in each) != every
    of_imported = {"length_penalty_type": "power", "source_length_offset": None}
    for hints, number in (({}, 0), ({"forced_eos_token_id": 2}, 1)):
        assert len(marian_differences(GenerationConfig(**of_imported, imported=hints))) == number


def test_settings_without_effect_are_left_out(model_folder, tmp_path):
    """transformers refuses to write them."""
    settings = GenerationConfig.from_pretrained(model_folder)
    settings.update(num_beams=1, length_penalty=None, early_stopping=True, source_length_offset=None)
    settings.update(temperature=0.7, top_k=5, output_scores=True, repetition_penalty=1.3)
    (model_folder / "generation_config.json").write_text(settings.to_json_string(use_diff=False))
    export_marian(model_folder, tmp_path / "native")
    written = json.loads((tmp_path / "native" / "generation_config.json").read_text())
    assert not {"temperature", "top_k", "early_stopping", "output_scores", "max_length"} & written.keys()
    assert written["repetition_penalty"] == 1.3
    _, tokenizer = load_model(model_folder)
    source = tokenizer(["the house is red", "the"], return_tensors="pt", padding=True)
    (ours, _), (theirs, _) = load_model(model_folder), load_model(tmp_path / "native")
    assert torch.equal(theirs.generate(**source), ours.generate(**source))  # to transformers' own limit


@pytest.mark.parametrize(
    ("settings", "carried"),
    [
        ({"num_return_sequences": 3}, ()),
        ({"num_return_sequences": 3, "num_beams": 2}, ("num_beams",)),
        ({"num_return_sequences": 3, "num_beams": 4}, ("num_return_sequences", "num_beams")),
        ({"num_return_sequences": 3, "do_sample": True, "top_k": 5}, ("num_return_sequences", "do_sample", "top_k")),
        ({"num_beams": 4, "early_stopping": True, "top_k": 5}, ("num_beams", "early_stopping")),
    ],
    ids=str,
)
def test_carried_settings_are_valid(settings, carried):
    assert carried_settings(settings).keys() == set(carried)
    GenerationConfig(**carried_settings(settings)).validate(strict=True)


def test_settings_that_marian_has_too_travel(model_folder, tmp_path):
    settings = GenerationConfig.from_pretrained(model_folder)
    settings.update(num_beams=1, length_penalty=None, early_stopping=None)
    settings.update(no_repeat_ngram_size=2, repetition_penalty=1.3, max_new_tokens=7)
    settings.save_pretrained(model_folder)
    export_marian(model_folder, tmp_path / "native")
    (ours, tokenizer), (theirs, _) = load_model(model_folder), load_model(tmp_path / "native")
    kept = theirs.generation_config
    assert (kept.no_repeat_ngram_size, kept.repetition_penalty) == (2, 1.3)
    assert (kept.max_length, kept.max_new_tokens) == (512, None)  # which counts in neither where the source limits
    source = tokenizer(["the house is red", "the"], return_tensors="pt", padding=True)
    expected = ours.generate(**source, max_new_tokens=30)
    assert torch.equal(theirs.generate(**source, max_new_tokens=30), expected)
    settings = {"repetition_penalty": 1.0, "no_repeat_ngram_size": 0}
    assert not torch.equal(ours.generate(**source, max_new_tokens=30, **settings), expected)


def test_a_model_that_cannot_be_written_is_refused(model_folder, tmp_path, capsys):
    (tmp_path / "taken").mkdir()
    for output in (tmp_path / "taken", tmp_path / "absent" / "deep" / "native"):
        if output.name == "native":
            output.parent.parent.touch()  # a file where a folder is needed
        assert main(["export", str(model_folder), str(output), "--to", "marian"]) == 2
        assert f"error: {output}" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "nowhere"), str(tmp_path / "out"), "--to", "marian"]) == 2
    assert "nowhere has no config.json" in capsys.readouterr().err
    VanillaTransformerForMaskedLM.from_pretrained(model_folder).save_pretrained(tmp_path / "mlm")
    load_model(model_folder)[1].save_pretrained(tmp_path / "mlm")
    assert main(["export", str(tmp_path / "mlm"), str(tmp_path / "out"), "--to", "marian"]) == 2
    assert "holds a VanillaTransformerForMaskedLM, which lacks" in capsys.readouterr().err


def test_a_full_disk_leaves_nothing_behind(model_folder, tmp_path, full_disk):
    before = {path.name: path.read_bytes() for path in model_folder.iterdir()}
    with full_disk(), pytest.raises(ConversionError, match="native cannot be written"):
        export_marian(model_folder, tmp_path / "native")
    assert {path.name: path.read_bytes() for path in model_folder.iterdir()} == before
    assert not [path.name for path in tmp_path.iterdir() if "native" in path.name]


def test_ctrl_c_leaves_no_folder_and_says_so(model_folder, tmp_path, capsys, monkeypatch):
    def interrupt(*arguments, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(MarianMTModel, "save_pretrained", interrupt)
    assert main(["export", str(model_folder), str(tmp_path / "native"), "--to", "marian"]) == 130
    assert capsys.readouterr().err == "interrupted: nothing was written\n"
    assert not list(tmp_path.glob("native*"))
