"""Imported models in the engines: the tokens and the scores that they have in torch, and what their folders say."""

import re

import pytest
import torch
from transformers import MarianTokenizer

from tests import fairseq, marian
from vanilla_transformer import load_translator
from vanilla_transformer.cli import main
from vanilla_transformer.conversion.folder import describe_export
from vanilla_transformer.conversion.from_fairseq import model_from_fsmt
from vanilla_transformer.conversion.from_marian import model_from_marian
from vanilla_transformer.conversion.importing import import_folder
from vanilla_transformer.conversion.onnx_graphs import DecoderGraph, EncoderGraph
from vanilla_transformer.conversion.to_ctranslate2 import (
    GNMT_DIFFERENCE,
    STOP_DIFFERENCE,
    SUPPRESSED_DIFFERENCE,
    adapt_settings,
    build_spec,
)
from vanilla_transformer.conversion.to_onnx import export_onnx
from vanilla_transformer.engines import ctranslate2_engine, load_tokenizer
from vanilla_transformer.engines.ctranslate2_engine import CTranslate2Model
from vanilla_transformer.errors import SettingsError
from vanilla_transformer.fsmt import FSMTTokenizer

SENTENCES = ["The house is red.", "Where is the station?", "", "I have two cats, ¡qué bien!", "the </s> house"]
# Of each: what makes the original of random weights, and what imports it.
MODELS = {
    **{f"Marian, {name}": (marian.random_marian, model_from_marian, each) for name, each in marian.CASES.items()},
    **{f"FSMT, {name}": (fairseq.random_fsmt, model_from_fsmt, each) for name, each in fairseq.CASES.items()},
}
NEEDS_CTRANSLATE2 = 'needs pip install "vanilla-transformer[ctranslate2]"'


@pytest.fixture(scope="module", params=MODELS)
def model(request, tmp_path_factory):
    """A model as it is imported."""
    build, convert, changes = MODELS[request.param]
    folder, theirs = tmp_path_factory.mktemp("source"), build(**changes)
    theirs.save_pretrained(folder)
    return convert(folder, theirs.config.to_dict(), theirs.generation_config.to_dict())


def make_source(config):
    """Eight sources of 12 to 5 tokens."""
    ids = torch.randint(4, 80, (8, 12), generator=torch.Generator().manual_seed(3))
    mask = torch.ones_like(ids)
    for row in range(8):
        ids[row, 11 - row] = config.eos_token_id
        mask[row, 12 - row :] = 0
    return {"input_ids": ids.masked_fill(mask == 0, config.pad_token_id), "attention_mask": mask}


@torch.no_grad()
def test_ctranslate2_gives_the_tokens_and_scores_of_torch(model, tmp_path):
    pytest.importorskip("ctranslate2", reason=NEEDS_CTRANSLATE2)
    config = model.config
    names = [[f"{side}{index}" for index in range(size)]
             for side, size in (("s", config.vocab_size), ("t", config.target_vocab_size))]  # fmt: skip
    settings = model.generation_config
    adapt_settings(settings)  # in both: what it says of them is that they differ
    spec = build_spec(model, names[0], 128, names[1])
    spec.validate()
    spec.optimize()
    spec.save(str(tmp_path))
    theirs = CTranslate2Model(tmp_path, describe_export(model, "ctranslate2", "float32", 128))
    source = make_source(config)
    for beams, returned in ((4, 3), (1, 1)):
        asked = {"num_beams": beams, "num_return_sequences": returned, "max_length": 30}
        expected, found = (each.generate(**source, **asked) for each in (model, theirs))
        assert torch.equal(found, expected)
    logits = model(**source, decoder_input_ids=expected[:, :-1]).logits
    scores = logits.log_softmax(-1).gather(-1, expected[:, 1:].unsqueeze(-1)).squeeze(-1)
    real = expected[:, 1:] != config.pad_token_id
    torch.testing.assert_close(theirs.score(source, expected)[real], scores[real], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_the_graphs_of_onnx_compute_what_torch_does(model):
    source = make_source(model.config)
    target = torch.randint(4, 80, (8, 7), generator=torch.Generator().manual_seed(4))
    encoded = EncoderGraph(model)(**source)
    heads, sizes = model.config.num_attention_heads, (model.config.query_key_size, model.config.value_size)
    past = [torch.zeros(8, heads, 0, size) for _ in range(2 * model.config.decoder_layers) for size in sizes]
    logits = DecoderGraph(model)(source["attention_mask"], target, encoded, past)[0]
    expected = model(**source, decoder_input_ids=target).logits
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module", params=["marian", "fairseq"])
def imported(request, tmp_path_factory):
    """The folder of an imported model, with its own tokenizer."""
    root = tmp_path_factory.mktemp("imported")
    if request.param == "marian":
        marian.write_marian(root / "source", encoder_layers=1, decoder_layers=1)
    else:
        tensors = fairseq.make_tensors()
        tensors["decoder.output_projection.weight"][[0, 3]] = 0.0  # it writes words, not special tokens
        fairseq.write_fairseq(root / "source", tensors, target_words=list("abcdef"))
    import_folder(root / "source", root / request.param)
    return root / request.param


def test_a_folder_for_ctranslate2_has_the_tokenizer_and_gives_the_lines(imported, tmp_path, capsys, monkeypatch):
    ctranslate2 = pytest.importorskip("ctranslate2", reason=NEEDS_CTRANSLATE2)
    output = tmp_path / "ct2"
    assert main(["export", str(imported), str(output), "--to", "ctranslate2"]) == 0
    card, said = (output / "README.md").read_text(encoding="utf-8"), capsys.readouterr().out
    assert STOP_DIFFERENCE in said and STOP_DIFFERENCE in card
    is_fairseq = imported.name == "fairseq"  # Marian's settings renormalize by themselves
    assert (SUPPRESSED_DIFFERENCE in said) == (SUPPRESSED_DIFFERENCE in card) == is_fairseq
    assert GNMT_DIFFERENCE not in said  # the original has the penalty that CTranslate2 has
    theirs = load_translator(output, engine="ctranslate2")
    assert type(theirs.tokenizer) is (FSMTTokenizer if is_fairseq else MarianTokenizer)
    code = re.search(r"```python\n(import ctranslate2\n.*?)```", card, re.DOTALL)[1]
    exec(code, {"ctranslate2": ctranslate2})  # as the card says it: without this package
    printed = capsys.readouterr().out
    if is_fairseq:  # whose translations end nowhere
        assert printed.strip() and set(printed.split()) <= set("abcdef")
    else:
        assert printed == theirs("How are you?")[0]["translation_text"] + "\n"

    monkeypatch.setattr(ctranslate2_engine, "PATIENCE", 8.0)  # random weights go on where trained ones end
    ours = load_translator(imported, device="cpu")
    ours.model.generation_config.update(early_stopping="never", renormalize_logits=True)
    settings = {"num_return_sequences": 3, "max_length": 30}
    expected, found = (each.translate(SENTENCES, settings, return_scores=True) for each in (ours, theirs))
    texts = [[[each["translation_text"] for each in row] for row in rows] for rows in (expected, found)]
    assert texts[0] == texts[1] and all(map(any, texts[0][:2]))
    scores = [torch.tensor([[each["score"] for each in row] for row in rows]) for rows in (found, expected)]
    torch.testing.assert_close(*scores, rtol=1e-5, atol=1e-5)


@pytest.mark.slow  # an export takes some seconds
def test_a_folder_for_onnxruntime_gives_the_lines(imported, tmp_path):
    pytest.importorskip("onnxruntime", reason='needs pip install "vanilla-transformer[onnx]"')
    pytest.importorskip("onnxscript", reason='needs pip install "vanilla-transformer[onnx]"')
    differences = export_onnx(imported, tmp_path / "onnx")
    assert "transformers.js does not load it" in differences[0]
    card = (tmp_path / "onnx" / "README.md").read_text(encoding="utf-8")
    assert "library_name: onnx\n" in card and "javascript" not in card
    ours = load_translator(imported, device="cpu")
    theirs = load_translator(tmp_path / "onnx", engine="onnxruntime")
    settings = {"num_return_sequences": 3, "max_length": 30}
    assert theirs.translate(SENTENCES, settings) == ours.translate(SENTENCES, settings)


def test_without_its_library_the_tokenizer_says_what_to_install(imported, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise ImportError("the library is not installed")

    for tokenizer in (MarianTokenizer, FSMTTokenizer):
        monkeypatch.setattr(tokenizer, "from_pretrained", fail)
    with pytest.raises(SettingsError, match=r'Install it: pip install "vanilla-transformer\[marian\]"'):
        load_tokenizer(imported)
