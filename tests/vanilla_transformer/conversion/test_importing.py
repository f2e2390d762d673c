"""The folder that `import` writes, from a `MarianMTModel` with SentencePiece files, and what is refused."""

import json
import pickle
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, MarianMTModel, MarianTokenizer, pipeline

from tests.marian import write_marian
from vanilla_transformer import VanillaTransformerConfig
from vanilla_transformer import generation_vanilla_transformer as search
from vanilla_transformer.cli import main
from vanilla_transformer.conversion.from_marian import settings_from
from vanilla_transformer.conversion.importing import find_source, import_folder
from vanilla_transformer.conversion.marian import export_marian
from vanilla_transformer.errors import ConversionError
from vanilla_transformer.loading import load_model
from vanilla_transformer.model_card import ModelCardFacts

SENTENCES = ["The house is red.", "Where is the station?", "I have two cats and a dog, ¡qué bien!"]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub") / "opus-mt-en-es"
    write_marian(folder)
    return folder


@pytest.fixture(scope="module")
def imported(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "en-es"
    import_folder(source, folder)
    return folder


@pytest.fixture
def copied(source, tmp_path):
    """A source to damage."""
    return shutil.copytree(source, tmp_path / "copied")


def change_config(folder, **entries):
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **entries}))


def refuse(folder, output, capsys):
    """The one line that `import` says of a folder that it refuses; nothing is written."""
    assert main(["import", str(folder), str(output)]) == 2
    assert not list(output.parent.glob(f"{output.name}*"))
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1
    return said


def test_its_tokenizer_is_marians_own(source, imported):
    theirs, ours = MarianTokenizer.from_pretrained(source), AutoTokenizer.from_pretrained(imported)
    assert type(ours) is MarianTokenizer
    assert ours(SENTENCES, text_target=SENTENCES) == theirs(SENTENCES, text_target=SENTENCES)
    ids = theirs(text_target=SENTENCES).input_ids
    assert ours.batch_decode(ids, skip_special_tokens=True) == theirs.batch_decode(ids, skip_special_tokens=True)


def test_it_translates_as_marian_does(source, imported):
    theirs, (ours, tokenizer) = MarianMTModel.from_pretrained(source), load_model(imported)
    inputs = tokenizer(SENTENCES, return_tensors="pt", padding=True)
    expected = theirs.generate(**inputs, forced_eos_token_id=None)
    assert torch.equal(ours.generate(**inputs), expected)
    texts = tokenizer.batch_decode(expected, skip_special_tokens=True)
    assert [
        each["translation_text"]
        for each in pipeline("translation", model=str(imported), trust_remote_code=True)(SENTENCES)
    ] == texts


def test_it_is_searched_without_processors(imported, monkeypatch):
    """Ids that are never generated are a list to the fast search, not a change of every row of scores."""
    model, tokenizer = load_model(imported)
    seen = []
    most_probable = search.most_probable
    monkeypatch.setattr(search, "process", None)
    monkeypatch.setattr(search, "most_probable", lambda *args: seen.append(args[2]) or most_probable(*args))
    inputs = tokenizer(SENTENCES, return_tensors="pt", padding=True)
    model.generate(**inputs, max_length=5)
    assert seen[0].tolist() == [model.config.pad_token_id]
    model.generate(**inputs, max_length=5, num_beams=1)


def test_the_command_line_translates_with_it(source, imported, capsys):
    assert main(["translate", "--model", str(imported), *SENTENCES]) == 0
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 3
    assert (
        said[0]
        == pipeline("translation", model=str(imported), trust_remote_code=True)(SENTENCES[0])[0]["translation_text"]
    )


def test_its_card_names_where_it_came_from_and_its_licence(imported, capsys, tmp_path, source):
    facts = ModelCardFacts.load(imported)
    assert (facts.source_lang, facts.target_lang, facts.license) == ("en", "es", "cc-by-4.0")
    card = (imported / "README.md").read_text(encoding="utf-8")
    assert "imported from `opus-mt-en-es`" in card and "license: cc-by-4.0" in card
    assert "SentencePiece" in card and "byte-level" not in card and "differs from the paper's decoding" in card
    assert main(["import", str(source), str(tmp_path / "again")]) == 0
    assert "opus-mt-en-es, en to es, licence cc-by-4.0" in capsys.readouterr().out


def test_the_export_of_an_import_is_the_same_folder_to_transformers(source, imported, tmp_path):
    export_marian(imported, tmp_path / "back")
    theirs, ours = MarianMTModel.from_pretrained(source), AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "back")
    assert type(ours) is MarianMTModel
    assert all(torch.equal(ours.state_dict()[name], tensor) for name, tensor in theirs.state_dict().items())
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "back")
    assert type(tokenizer) is MarianTokenizer
    inputs = tokenizer(SENTENCES, return_tensors="pt", padding=True)
    assert torch.equal(ours.generate(**inputs), theirs.generate(**inputs))


@pytest.mark.parametrize(
    ("entries", "named"),
    [
        ({"normalize_before": True}, "`normalize_before`"),
        ({"add_final_layer_norm": True}, "`add_final_layer_norm`"),
        ({"static_position_embeddings": False}, "`static_position_embeddings`"),
        ({"decoder_attention_heads": 2}, "`encoder_attention_heads`"),
        ({"decoder_ffn_dim": 64}, "`encoder_ffn_dim`"),
        ({"decoder_vocab_size": 77}, "`decoder_vocab_size`"),
        ({"decoder_layers": 1}, "model.decoder.layers.1"),
        ({"model_type": "mbart"}, "`model_type` 'mbart'"),
    ],
)
def test_another_architecture_is_refused_by_name(copied, tmp_path, capsys, entries, named):
    change_config(copied, **entries)
    assert named in refuse(copied, tmp_path / "out", capsys)


def test_damaged_files_are_named(copied, tmp_path, capsys):
    weights = copied / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    assert "model.safetensors is damaged" in refuse(copied, tmp_path / "out", capsys)
    weights.write_bytes(whole)
    tensors = load_file(weights)
    save_file({**tensors, "model.encoder.extra.weight": torch.ones(2)}, weights)
    assert "model.encoder.extra.weight" in refuse(copied, tmp_path / "out", capsys)
    lacking = dict(tensors)
    del lacking["model.encoder.layers.0.fc1.weight"]
    save_file(lacking, weights)
    assert "lack model.encoder.layers.0.fc1.weight" in refuse(copied, tmp_path / "out", capsys)
    save_file({**tensors, "model.encoder.embed_positions.weight": torch.zeros(512, 64)}, weights)
    assert "not the table of sinusoids" in refuse(copied, tmp_path / "out", capsys)
    save_file(tensors, weights)
    (copied / "target.spm").unlink()
    assert "has no target.spm" in refuse(copied, tmp_path / "out", capsys)


class Harmful:
    def __reduce__(self):
        return print, ("this ran",)


def test_a_pickle_with_code_is_refused_and_not_run(copied, tmp_path, capsys):
    tensors = load_file(copied / "model.safetensors")
    (copied / "model.safetensors").unlink()
    torch.save(tensors, copied / "pytorch_model.bin")
    import_folder(copied, tmp_path / "from_pickle")
    torch.save({**tensors, "extra": Harmful()}, copied / "pytorch_model.bin")
    said = refuse(copied, tmp_path / "out", capsys)
    assert "more than weights" in said and "this ran" not in said
    with (copied / "pytorch_model.bin").open("wb") as file:
        pickle.dump(Harmful(), file)
    assert "pytorch_model.bin" in refuse(copied, tmp_path / "out", capsys)


def test_a_place_that_is_taken_or_full_is_refused(source, tmp_path, full_disk, capsys):
    (tmp_path / "taken").mkdir()
    assert main(["import", str(source), str(tmp_path / "taken")]) == 2
    assert "taken exists already" in capsys.readouterr().err
    with full_disk(), pytest.raises(ConversionError, match="cannot be written"):
        import_folder(source, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_only_foreign_models_are_sources(source, imported, tmp_path):
    assert find_source(source).kind == "marian"
    assert find_source(imported) is None and find_source(tmp_path) is None


def test_settings_of_the_search_come_along():
    entries = {"num_beams": 4, "no_repeat_ngram_size": 3, "d_model": 64, "forced_eos_token_id": 0}
    settings = {"num_beams": 6, "repetition_penalty": 1.2, "max_new_tokens": 9, "early_stopping": "never"}
    kept = settings_from(entries, settings, VanillaTransformerConfig())
    assert (kept.num_beams, kept.no_repeat_ngram_size, kept.repetition_penalty) == (6, 3, 1.2)
    assert (kept.max_new_tokens, kept.early_stopping, kept.forced_eos_token_id) == (9, "never", None)
    assert not hasattr(kept, "d_model") and kept.length_penalty_type == "power"
    greedy = {"num_beams": 1, "early_stopping": True, "temperature": 0.7, "num_return_sequences": 3}
    settings_from({}, greedy, VanillaTransformerConfig()).validate(strict=True)  # as they are written
