import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from vanilla_transformer import VanillaTransformerTokenizer

SAMPLES = [
    "the house is red",
    " leading and trailing ",
    "a\nb\tc  d",
    "¿Cómo estás?",
    "</s> as text, <pad> and <mask> too",
    "日本語 और हिन्दी 🙂",
    "e\u0301",  # not NFC
    "",
]


@given(text=st.text())
@settings(max_examples=300, deadline=None)
def test_decoding_gives_back_any_nfc_text(tokenizer, text):
    text = unicodedata.normalize("NFC", text)
    assert tokenizer.decode(tokenizer.encode(text, split_special_tokens=True), skip_special_tokens=True) == text


def test_special_ids_are_the_same_in_every_vocabulary(tokenizer):
    for some in (tokenizer, VanillaTransformerTokenizer(), VanillaTransformerTokenizer.train(["x"], 261)):
        ids = (some.bos_token_id, some.pad_token_id, some.eos_token_id, some.mask_token_id)
        assert ids == (0, 1, 2, 3)
    assert tokenizer.unk_token is None


def test_both_sides_end_with_the_end_of_sentence(tokenizer):
    encoded = tokenizer(["the house"], text_target=["la casa"])
    assert encoded["input_ids"][0][-1] == 2
    assert encoded["labels"][0][-1] == 2
    assert 2 not in encoded["input_ids"][0][:-1]


def test_special_tokens_in_a_text_are_text_when_asked(tokenizer):
    assert tokenizer("a</s>b").input_ids.count(2) == 2
    assert tokenizer("a</s>b", split_special_tokens=True).input_ids.count(2) == 1
    assert tokenizer("a</s>b").input_ids.count(2) == 2, "the request stuck"


def test_a_mask_stands_for_a_word_with_the_space_before_it(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    for some in (tokenizer, AutoTokenizer.from_pretrained(tmp_path)):
        expected = some("the red car").input_ids
        assert len(expected) == 4
        expected[1] = some.mask_token_id
        assert some("the <mask> car").input_ids == some("the<mask> car").input_ids == expected


def test_padding_is_masked(tokenizer):
    encoded = tokenizer(["the house is red", "the"], return_tensors="pt", padding=True)
    assert (encoded.input_ids == 1).equal(encoded.attention_mask == 0)
    assert encoded.attention_mask[1].sum() == len(tokenizer("the").input_ids)


def test_a_larger_vocabulary_than_the_text_holds_is_smaller():
    assert len(VanillaTransformerTokenizer.train(["ab ab ab"], vocab_size=5000)) < 300


def test_a_vocabulary_without_room_for_bytes_is_refused():
    with pytest.raises(ValueError, match="`vocab_size` is 100, and special tokens and bytes take 260"):
        VanillaTransformerTokenizer.train(["ab"], vocab_size=100)


def test_a_saved_folder_gives_the_same_ids_with_and_without_the_package(model_folder, tokenizer, fresh_python):
    expected = [tokenizer(text, split_special_tokens=split).input_ids for text in SAMPLES for split in (False, True)]
    loaded = AutoTokenizer.from_pretrained(model_folder)
    assert isinstance(loaded, VanillaTransformerTokenizer)
    code = f"""
{{imports}}
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained({str(model_folder)!r}, trust_remote_code=False)
print(type(tokenizer).__name__)
print([tokenizer(text, split_special_tokens=split).input_ids for text in {SAMPLES!r} for split in (False, True)])
print([tokenizer.decode(tokenizer(text).input_ids) for text in {SAMPLES!r}])
"""
    here = fresh_python(code.format(imports="import vanilla_transformer")).splitlines()
    elsewhere = fresh_python(code.format(imports=""), installed=False).splitlines()
    assert here[0] == "VanillaTransformerTokenizer"
    assert elsewhere[0] == "TokenizersBackend"
    assert here[1] == elsewhere[1] == str(expected)
    assert here[2] == elsewhere[2]
