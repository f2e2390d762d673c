"""FSMT's tokenizer, which encodes both languages: against its own decoder, and against FSMT's log-probabilities."""

import pytest
import torch
import transformers
from transformers import AutoTokenizer, FSMTForConditionalGeneration, pipeline

from tests.fsmt import write_fsmt
from vanilla_transformer.conversion.importing import import_folder
from vanilla_transformer.forced import force_decode
from vanilla_transformer.fsmt import FSMTTokenizer
from vanilla_transformer.loading import load_model, load_translator
from vanilla_transformer.plots import attention_weights


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub") / "wmt19-en-de"
    write_fsmt(folder)
    return folder


@pytest.fixture(scope="module")
def imported(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "en-de"
    import_folder(source, folder)
    return folder


def test_each_language_has_its_own_ids(source, tmp_path):
    tokenizer = FSMTTokenizer.from_pretrained(source)
    stock = transformers.FSMTTokenizer.from_pretrained(source)
    assert tokenizer("the house is red.").input_ids == stock("the house is red.").input_ids == [4, 5, 6, 7, 8, 2]
    target = tokenizer(text_target="das ist rot").input_ids
    assert target == [6, 5, 4, 2] and stock.decode(target, skip_special_tokens=True) == "das ist rot"
    assert stock(text_target="das ist rot").input_ids != target  # which is why there is a class of ours
    both = tokenizer("the house", text_target="das ist")
    assert (both["input_ids"], both["labels"]) == ([4, 5, 2], [6, 5, 2])
    assert tokenizer("the house").input_ids == [4, 5, 2]
    tokenizer.save_pretrained(tmp_path)
    assert type(AutoTokenizer.from_pretrained(tmp_path)) is transformers.FSMTTokenizer
    assert FSMTTokenizer.from_pretrained(tmp_path)(text_target="das ist rot").input_ids == target


@torch.no_grad()
def test_an_imported_model_gives_a_translation_the_probability_that_fsmt_gives_it(source, imported):
    model, tokenizer = load_model(imported)
    forced = force_decode(model, tokenizer, ["the house is red."], ["das ist rot"])[0]
    assert forced.tokens == ["das␣", "ist␣", "rot␣", "</s>"]
    theirs = FSMTForConditionalGeneration.from_pretrained(source).eval()
    target = torch.tensor([[6, 5, 4, 2]])
    shifted = torch.cat([torch.tensor([[2]]), target[:, :-1]], dim=1)
    logits = theirs(torch.tensor([[4, 5, 6, 7, 8, 2]]), decoder_input_ids=shifted, use_cache=False).logits
    expected = logits.log_softmax(dim=-1).gather(-1, target.unsqueeze(-1)).flatten()
    torch.testing.assert_close(torch.tensor(forced.log_probabilities), expected, rtol=0, atol=1e-5)


def test_tokens_of_each_language_have_their_own_names(imported):
    _, of_source, of_target = attention_weights(*load_model(imported), "the house", "das ist")
    assert of_source == ["the␣", "house␣", "</s>"] and of_target == ["das␣", "ist␣", "</s>"]


def test_a_prefix_is_of_the_target_language_or_refused(imported):
    assert load_translator(imported)("the house", prefix="das ist")[0]["translation_text"].startswith("das ist")
    stock = pipeline("translation", model=str(imported), trust_remote_code=True)
    with pytest.raises(ValueError, match="`prefix` would be encoded as source text"):
        stock("the house", prefix="das ist")


def test_alignments_are_refused_before_the_work(imported):
    with pytest.raises(ValueError, match=r"`return_alignments`.*FSMTTokenizer"):
        load_translator(imported)("the house", return_alignments=True)
