import json
import unicodedata

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, DataCollatorForLanguageModeling, pipeline
from transformers.tokenization_utils_tokenizers import TokenizersBackend

from tests.conftest import REPOSITORY
from vanilla_transformer import VanillaTransformerForTokenClassification, VanillaTransformerTokenizer

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


# A machine with other work to do is not a reason to fail.
PATIENT = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}


@given(text=st.text())
@settings(max_examples=300, **PATIENT)
def test_decoding_gives_back_any_nfc_text(tokenizer, text):
    text = unicodedata.normalize("NFC", text)
    assert tokenizer.decode(tokenizer.encode(text, split_special_tokens=True), skip_special_tokens=True) == text


TOKENIZED = ["a man &apos;s t-shirt , no. 5 &amp; a dog .", "ein mann in einem t-shirt von &quot; 23-4 &quot; ."]


@pytest.fixture(scope="module")
def at_spaces():
    """A tokenizer whose words end at spaces only."""
    return VanillaTransformerTokenizer.train(TOKENIZED * 4, vocab_size=400, split_at_spaces=True)


@given(text=st.one_of(st.text(), st.text(alphabet=" \t\na-'&;.1é")))
@settings(max_examples=300, deadline=None)
def test_decoding_gives_back_any_nfc_text_where_words_end_at_spaces(at_spaces, text):
    text = unicodedata.normalize("NFC", text)
    assert at_spaces.decode(at_spaces.encode(text, split_special_tokens=True), skip_special_tokens=True) == text


@pytest.mark.parametrize("text", ["  a  man &apos;s ", " ", "   ", "a\tman\n a", "", *TOKENIZED, *SAMPLES])
def test_words_end_at_spaces_only_in_every_class_that_reads_the_files(at_spaces, tmp_path, text):
    at_spaces.save_pretrained(tmp_path)
    stock = TokenizersBackend.from_pretrained(tmp_path)
    automatic = AutoTokenizer.from_pretrained(tmp_path, trust_remote_code=False)
    again = VanillaTransformerTokenizer.from_pretrained(tmp_path)
    for other in (stock, automatic, again):
        assert other(text).input_ids == at_spaces(text).input_ids
    normal = unicodedata.normalize("NFC", text)
    encoded = again.encode(text, split_special_tokens=True)
    assert again.decode(encoded, skip_special_tokens=True) == normal
    assert again.train_new_from_iterator(TOKENIZED, 300)("t-shirt a").word_ids() == [
        *[0] * (len(again.train_new_from_iterator(TOKENIZED, 300)("t-shirt").input_ids) - 1),
        1,
        None,
    ]


def test_tokenized_words_stay_whole_where_words_end_at_spaces(at_spaces, tokenizer):
    text = "a man &apos;s t-shirt"
    spaced = text.split(" ")
    assert words(at_spaces(text), text) == spaced
    assert len(words(tokenizer(text), text)) > len(spaced)
    assert at_spaces(spaced, is_split_into_words=True).input_ids == at_spaces(text).input_ids
    assert at_spaces.tokenize("a t-shirt") == ["a", "Ġt-shirt"]


def test_a_saved_tokenizer_says_where_words_end(tokenizer, at_spaces, tmp_path):
    for name, some in (("default", tokenizer), ("spaces", at_spaces)):
        some.save_pretrained(tmp_path / name)
        saved = json.loads((tmp_path / name / "tokenizer_config.json").read_text(encoding="utf-8"))
        assert saved["split_at_spaces"] == (name == "spaces")


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


def test_a_mask_is_a_word_with_the_space_before_it(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    for some in (tokenizer, AutoTokenizer.from_pretrained(tmp_path)):
        expected = some("the red car").input_ids
        assert len(expected) == 4
        expected[1] = some.mask_token_id
        assert some("the <mask> car").input_ids == some("the<mask> car").input_ids == expected


def words(encoded, text, row=0):
    """The part of a text that each word's tokens cover."""
    found = {}
    for word, (low, high) in zip(encoded.word_ids(row), encoded.encodings[row].offsets, strict=True):
        if word is not None:
            first, last = found.get(word, (low, high))
            found[word] = (min(first, low), max(last, high))
    return [text[low:high] for low, high in found.values()]


def test_offsets_leave_out_the_space_before_a_word(tokenizer):
    text = "The house is red."
    encoded = tokenizer(text, return_offsets_mapping=True)
    assert words(encoded, text) == ["The", "house", "is", "red", "."]
    assert encoded.char_to_token(3) is None
    assert encoded.token_to_chars(encoded.char_to_token(4)) == (4, 9)
    assert encoded.offset_mapping[-1] == (0, 0)
    assert words(tokenizer("  the  car", add_special_tokens=False), "  the  car") == ["", "the", "", "car"]
    assert words(tokenizer("the <mask> car"), "the <mask> car") == ["the", "<mask>", "car"]
    both = tokenizer(text, " house", return_offsets_mapping=True)
    assert both.offset_mapping[-2:] == [(1, 6), (0, 0)] and both.sequence_ids()[-2:] == [1, None]


def test_offsets_of_overlapping_windows_leave_out_the_space_too(tokenizer):
    text = "the house is red car new"
    windows = tokenizer(text, max_length=5, truncation=True, stride=2, return_overflowing_tokens=True)
    assert [words(windows, text, row) for row in range(len(windows.input_ids))] == [
        ["the", "house", "is", "red"],
        ["is", "red", "car", "new"],
    ]


def test_tokens_of_one_character_share_its_offsets(tokenizer):
    encoded = tokenizer("a 日b", return_offsets_mapping=True)
    assert encoded.offset_mapping[-6:-1] == [(2, 2), (2, 3), (2, 3), (2, 3), (3, 4)]


def test_a_folder_without_trimmed_offsets_gives_the_same_ids_and_trims_them(model_folder, tokenizer):
    path = model_folder / "tokenizer.json"
    saved = json.loads(path.read_text(encoding="utf-8"))
    (saved["post_processor"],) = [
        each for each in saved["post_processor"]["processors"] if each["type"] == "TemplateProcessing"
    ]
    path.write_text(json.dumps(saved), encoding="utf-8")
    older = VanillaTransformerTokenizer.from_pretrained(model_folder)
    for text in SAMPLES:
        assert older(text).input_ids == TokenizersBackend.from_pretrained(model_folder)(text).input_ids
        assert older(text, text).input_ids == tokenizer(text, text).input_ids
    assert older("the house").token_to_chars(1) == (4, 9)


def test_the_bundled_tokenizer_trims_offsets_without_the_package():
    stock = TokenizersBackend.from_pretrained(REPOSITORY / "checkpoints" / "tiny-en-es")
    assert stock("The house is red.", return_offsets_mapping=True).offset_mapping[1] == (4, 9)


UNCOMPOSED = {
    "accents": "Estás aquí, ¿no? Él está",
    "two marks": "Tiếng Việt",
    "marks in another order": "te\u0302\u0323n",
    "jamo": "한국어 문장",
    "singletons": "\u212bngström \u2126",
    "ligatures": "o\ufb03ce ba\ufb01o",
    "starters that compose": "\u09c7\u09be",
}


@pytest.mark.parametrize("text", UNCOMPOSED.values(), ids=UNCOMPOSED)
def test_offsets_cover_all_characters_that_nfc_composes(tokenizer, text):
    composed = unicodedata.normalize("NFC", text)
    expected = tokenizer(composed)
    for form in (text, unicodedata.normalize("NFD", text)):
        encoded = tokenizer(form)
        assert encoded.input_ids == expected.input_ids
        assert [unicodedata.normalize("NFC", word) for word in words(encoded, form)] == words(expected, composed)
        assert None not in [encoded.char_to_token(i) for i, character in enumerate(form) if character != " "]
        split = tokenizer(form.split(), is_split_into_words=True)
        assert split.input_ids == expected.input_ids
        covered = [
            [split.encodings[0].offsets[i] for i, word in enumerate(split.word_ids()) if word == each]
            for each in range(len(form.split()))
        ]
        assert [offsets[-1][1] for offsets in covered] == [len(word) for word in form.split()]


@given(
    text=st.text("aeo \u0300\u0302\u0323\u0327\u031b\u1100\u1161\u11a8\uac00\u0915\u093c\u0958\u212bé\u1ea1日\ufb01")
)
@settings(max_examples=300, **PATIENT)
def test_offsets_cover_a_text_in_any_form(tokenizer, text):
    encoded = tokenizer(text, return_offsets_mapping=True)
    assert encoded.input_ids == tokenizer(unicodedata.normalize("NFC", text)).input_ids
    covered = {position for low, high in encoded.offset_mapping for position in range(low, high)}
    assert covered >= {position for position, character in enumerate(text) if character != " "}


def test_offsets_follow_each_row_of_a_batch_whatever_its_form(tokenizer):
    composed, apart = "está roja", unicodedata.normalize("NFD", "está roja")
    settings = {"padding": True, "return_tensors": "np", "return_offsets_mapping": True}
    rows = tokenizer(["a", apart, composed], **settings)
    single = tokenizer(apart, return_offsets_mapping=True)
    assert rows.offset_mapping[1].tolist() == [list(pair) for pair in single.offset_mapping]
    assert [single.token_to_chars(single.char_to_token(position)).end for position in (4, 6)] == [5, 10]
    assert rows.encodings[2].offsets == tokenizer(composed).encodings[0].offsets
    pair = tokenizer("a", apart)
    assert pair.encodings[0].offsets[2:] == single.offset_mapping
    windows = tokenizer(
        [composed, apart], max_length=3, truncation=True, return_overflowing_tokens=True, return_offsets_mapping=True
    )
    tokens = [pair for window in windows.offset_mapping for pair in window[:-1]]
    assert tokens == [*tokenizer(composed).encodings[0].offsets[:-1], *single.offset_mapping[:-1]]


def test_whole_words_are_masked(tokenizer):
    collator = DataCollatorForLanguageModeling(
        tokenizer, whole_word_mask=True, mask_replace_prob=1, random_replace_prob=0
    )
    features = tokenizer("the unseen house is olden", return_offsets_mapping=True, return_special_tokens_mask=True)
    word_ids = features.word_ids()
    assert len(word_ids) > 8
    counts = set()
    for seed in range(30):
        collator.generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)
        masked = (collator([dict(features)])["labels"][0] != -100).tolist()
        chosen = {word for word, is_masked in zip(word_ids, masked, strict=True) if is_masked}
        assert masked == [word in chosen for word in word_ids]
        counts.add(len(chosen))
    assert counts >= {0, 1, 2}


@pytest.mark.parametrize("is_split_into_words", [False, True])
@pytest.mark.parametrize("strategy", ["simple", "max"])
@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
def test_classified_tokens_are_words_of_the_text(tokenizer, small_config, strategy, is_split_into_words):
    config = small_config(vocab_size=len(tokenizer), num_labels=2)
    model = VanillaTransformerForTokenClassification(config).eval()
    text = "the house is red"
    classes = torch.tensor([0, 1, 1, 0, 0])  # "house is"
    model.forward = lambda **inputs: {"logits": torch.nn.functional.one_hot(classes, 2)[None].float()}
    classify = pipeline("token-classification", model=model, tokenizer=tokenizer, aggregation_strategy=strategy)
    entities = classify([text.split()], is_split_into_words=True)[0] if is_split_into_words else classify(text)
    assert [text[entity["start"] : entity["end"]] for entity in entities] == ["the", "house is", "red"]
    assert [entity["word"].strip() for entity in entities] == ["the", "house is", "red"]


WORDS = ["The", "house", "is", "unseen", "¿", "no", "<mask>", "New York", "日本", ".", "x"]


def test_words_have_the_ids_of_their_text(tokenizer):
    encoded = tokenizer(WORDS, is_split_into_words=True, return_offsets_mapping=True)
    assert encoded.input_ids == tokenizer(" ".join(WORDS)).input_ids
    covered = [set() for _ in WORDS]
    for word, (low, high) in zip(encoded.word_ids(), encoded.offset_mapping, strict=True):
        if word is not None:
            covered[word] |= set(range(low, high))
    assert covered == [{position for position, character in enumerate(word) if character != " "} for word in WORDS]
    assert encoded.offset_mapping == encoded.encodings[0].offsets
    assert encoded.word_to_chars(1) == (0, 5)
    assert tokenizer.encode(WORDS, is_split_into_words=True) == encoded.input_ids
    assert tokenizer.tokenize(tuple(WORDS), is_split_into_words=True) == encoded.tokens()[:-1]
    labels = tokenizer(["a"], text_target=WORDS, is_split_into_words=True)["labels"]
    assert labels == encoded.input_ids
    assert tokenizer(["", "a"], is_split_into_words=True).input_ids == tokenizer(" a").input_ids
    assert tokenizer([], is_split_into_words=True).input_ids == [2]


@given(words=st.lists(st.text(st.characters(exclude_categories=("Z", "C")), min_size=1)))
@settings(max_examples=200, **PATIENT)
def test_words_of_any_script_have_the_ids_of_their_text(tokenizer, words):
    assert tokenizer(words, is_split_into_words=True).input_ids == tokenizer(" ".join(words)).input_ids


def test_batches_and_pairs_of_words_have_the_ids_of_their_texts(tokenizer):
    first, second = ["the", "house"], ["the", "unseen", "car"]
    texts = [" ".join(words) for words in (first, second)]
    settings = {"padding": True, "padding_side": "left", "return_offsets_mapping": True, "return_tensors": "pt"}
    encoded, expected = tokenizer([first, second], is_split_into_words=True, **settings), tokenizer(texts, **settings)
    assert encoded.input_ids.equal(expected.input_ids) and encoded.attention_mask.equal(expected.attention_mask)
    assert encoded.offset_mapping.tolist() == [list(map(list, each.offsets)) for each in encoded.encodings]
    assert encoded.encodings[0].offsets[-3:] == [(0, 3), (0, 5), (0, 0)]
    pair = tokenizer(*texts).input_ids
    assert tokenizer(first, second, is_split_into_words=True).input_ids == pair
    assert tokenizer([first], [second], is_split_into_words=True).input_ids == [pair]
    assert tokenizer([(first, second)], is_split_into_words=True).input_ids == [pair]
    assert tokenizer(first, second, is_split_into_words=True).word_ids()[-3:] == [1, 2, None]


def test_windows_of_words_keep_word_ids_and_offsets(tokenizer):
    windows = tokenizer(
        ["the", "house", "is", "red"],
        is_split_into_words=True,
        max_length=3,
        truncation=True,
        stride=1,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    assert [windows.word_ids(row) for row in range(3)] == [[0, 1, None], [1, 2, None], [2, 3, None]]
    assert windows.offset_mapping == [
        [(0, 3), (0, 5), (0, 0)],
        [(0, 5), (0, 2), (0, 0)],
        [(0, 2), (0, 3), (0, 0)],
    ]


@pytest.mark.parametrize("words", ["the house", ["the", 3], [["the"], "house"]])
def test_no_words_are_made_of_other_input(tokenizer, words):
    with pytest.raises(TypeError, match="PreTokenized"):
        tokenizer(words, is_split_into_words=True)


def test_padding_is_masked(tokenizer):
    encoded = tokenizer(["the house is red", "the"], return_tensors="pt", padding=True)
    assert (encoded.input_ids == 1).equal(encoded.attention_mask == 0)
    assert encoded.attention_mask[1].sum() == len(tokenizer("the").input_ids)


def test_a_larger_vocabulary_than_the_text_holds_is_smaller():
    assert len(VanillaTransformerTokenizer.train(["ab ab ab"], vocab_size=5000)) < 300


def test_a_vocabulary_without_room_for_bytes_is_refused():
    with pytest.raises(ValueError, match=r"`vocab_size` must be at least 260 .*, but is 100"):
        VanillaTransformerTokenizer.train(["ab"], vocab_size=100)


@pytest.mark.slow
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
