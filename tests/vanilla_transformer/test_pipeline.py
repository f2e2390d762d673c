import json
import random

import pytest
import torch
from tqdm.auto import tqdm
from transformers import GenerationConfig, MarianConfig, MarianMTModel, pipeline
from transformers.pipelines.pt_utils import KeyDataset

from vanilla_transformer import VanillaTransformerForMaskedLM, VanillaTransformerTranslationPipeline
from vanilla_transformer.loading import load_model
from vanilla_transformer.pipeline_vanilla_transformer import into_sentences

TEXTS = ["the house is red", "", "the", "the red car is new", "  ", "the house </s> is red", "red"]


@pytest.fixture
def translator(model_folder):
    model, tokenizer = load_model(model_folder)
    return VanillaTransformerTranslationPipeline(model=model, tokenizer=tokenizer, device="cpu")


def translate_one(translator, text, **settings):
    """Translate one text by `generate`."""
    inputs = translator.tokenizer(text, return_tensors="pt", split_special_tokens=True)
    return translator.tokenizer.batch_decode(translator.model.generate(**inputs, **settings), skip_special_tokens=True)


@pytest.fixture
def calls(translator, monkeypatch):
    """The sizes of the batches that reach the model, rows and columns."""
    shapes, generate = [], translator.model.generate

    def counting(**inputs):
        shapes.append(tuple(inputs["input_ids"].shape))
        return generate(**inputs)

    monkeypatch.setattr(translator.model, "generate", counting)
    return shapes


def test_each_text_is_translated_as_by_itself_and_in_its_place(translator):
    expected = [translate_one(translator, text)[0] if text.strip() else text for text in TEXTS]
    assert [result["translation_text"] for result in translator(TEXTS)] == expected
    assert translator(TEXTS[0]) == [{"translation_text": expected[0]}]
    streamed = translator(text for text in TEXTS)
    assert not isinstance(streamed, list)
    assert [result["translation_text"] for result in streamed] == expected


def test_batches_hold_similar_lengths_within_their_budget(translator, calls):
    translator(TEXTS, tokens_per_batch=16)
    columns = [shape[1] for shape in calls]
    assert columns == sorted(columns, reverse=True)
    assert all(rows * length <= 16 or rows == 1 for rows, length in calls)
    assert sum(rows for rows, _ in calls) == 5 and max(rows for rows, _ in calls) > 1
    calls.clear()
    translator(TEXTS, batch_size=1)
    assert [rows for rows, _ in calls] == [1] * 5


def test_generate_arguments_of_constructor_and_call(translator):
    settings = {"num_beams": 1, "max_new_tokens": 2}
    expected = [{"translation_text": translate_one(translator, TEXTS[0], **settings)[0]}]
    assert translator(TEXTS[0], **settings) == expected != translator(TEXTS[0])
    fixed = VanillaTransformerTranslationPipeline(
        model=translator.model, tokenizer=translator.tokenizer, device="cpu", max_new_tokens=9, num_beams=1
    )
    assert fixed(TEXTS[0], max_new_tokens=2) == expected


@pytest.mark.parametrize(
    "penalty",
    [
        {"length_penalty": 1.3},
        *(pytest.param(p, marks=pytest.mark.slow) for p in ({}, {"length_penalty_type": "power"})),
    ],
)
def test_scores_are_those_of_beam_search(translator, penalty):
    results = translator(TEXTS, num_return_sequences=3, return_scores=True, **penalty)
    for text, result in zip(TEXTS, results, strict=True):
        if not text.strip():
            assert result == [{"translation_text": text, "score": 0.0}] * 3
            continue
        inputs = translator.tokenizer(text, return_tensors="pt", split_special_tokens=True)
        beams = {"num_return_sequences": 3, "return_dict_in_generate": True, "output_scores": True}
        outputs = translator.model.generate(**inputs, **beams, **penalty)
        texts = translator.tokenizer.batch_decode(outputs.sequences, skip_special_tokens=True)
        assert [r["translation_text"] for r in result] == texts
        scores = torch.tensor([r["score"] for r in result])
        torch.testing.assert_close(scores, outputs.sequences_scores, rtol=1e-6, atol=1e-5)
        assert (scores[:-1] >= scores[1:]).all()


def test_a_generation_config_counts_as_it_does_in_generate(translator):
    """A setting that it leaves open is the model's; the number of translations of either holds too."""
    settings = GenerationConfig(max_new_tokens=7, num_beams=4, num_return_sequences=2)
    results = translator(TEXTS, generation_config=settings, return_scores=True)
    inputs = translator.tokenizer(TEXTS[0], return_tensors="pt")
    outputs = translator.model.generate(
        **inputs, generation_config=settings, return_dict_in_generate=True, output_scores=True
    )
    texts = translator.tokenizer.batch_decode(outputs.sequences, skip_special_tokens=True)
    assert [r["translation_text"] for r in results[0]] == texts
    scores = torch.tensor([r["score"] for r in results[0]])
    torch.testing.assert_close(scores, outputs.sequences_scores, rtol=1e-6, atol=1e-5)
    assert [len(result) for result in results] == [2] * len(TEXTS)
    translator.model.generation_config.num_return_sequences = 2
    assert [len(result) for result in translator(TEXTS)] == [2] * len(TEXTS)


def test_an_end_that_pads_as_well_counts_once(translator):
    """Some configurations have one token for both: a source keeps it, and a score ends with it."""
    model, tokenizer = translator.model, translator.tokenizer
    settings = {"return_scores": True, "num_return_sequences": 3}
    expected = translator(TEXTS[0], **settings)
    model.config.pad_token_id = model.generation_config.pad_token_id = model.config.eos_token_id
    assert translator(TEXTS[0], **settings) == expected
    ids = tokenizer(TEXTS[0], return_tensors="pt").input_ids
    assert torch.equal(model.generate(ids), model.generate(ids, attention_mask=torch.ones_like(ids)))


def test_a_column_of_a_data_set_is_streamed(translator):
    column = KeyDataset([{"text": text} for text in TEXTS], "text")
    assert list(translator(column)) == translator(TEXTS)


def test_a_stream_gives_its_first_results_early_and_names_positions_in_it(translator):
    read = []

    def stream():
        for position in range(3000):
            read.append(position)
            yield "red" if position < 40 else None

    results = translator(stream(), num_beams=1, max_new_tokens=1)
    next(results)
    assert len(read) < 100
    with pytest.raises(ValueError, match="`inputs` has None at position 40"):
        list(results)


def test_the_bar_of_a_stream_counts_all_of_it_and_moves_with_each_batch(translator, monkeypatch):
    seen = []
    monkeypatch.setattr(tqdm, "update", lambda bar, number: seen.append((id(bar), bar.total, number)))
    column = KeyDataset([{"text": text} for text in TEXTS * 10], "text")
    list(translator(column, num_beams=1, max_new_tokens=1, batch_size=4, progress=True))
    assert len({bar for bar, _, _ in seen}) == 1 and {total for _, total, _ in seen} == {70}
    assert sum(number for _, _, number in seen) == 70 and max(number for _, _, number in seen) < 30


def test_any_iterable_of_sentences_is_translated(translator):
    settings = {"num_beams": 1}
    assert translator.translate(iter(TEXTS), settings) == translator.translate(TEXTS, settings)


def test_a_sentence_past_the_last_position_of_any_model_is_named(translator):
    translator.model.config.max_position_embeddings = 8  # of no effect beside sinusoids
    assert translator(["the house " * 5])
    translator.model.config = MarianConfig(max_position_embeddings=8)
    with pytest.raises(ValueError, match=r"The sentence 'the house the house.* has \d+ tokens, and the model has 8 "):
        translator(["the house", "the house " * 5])


def test_greedy_translations_are_scored_the_same_way(translator):
    greedy = translator(TEXTS[0], num_beams=1, return_scores=True)[0]["score"]
    best = translator(TEXTS[0], num_beams=8, return_scores=True)[0]["score"]
    assert greedy <= best + 1e-6 < 0


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Hello there. How are you? Fine!", ["Hello there.", "How are you?", "Fine!"]),
        ("Mr. Smith saw J. R. Tolkien, e.g. in 1950.\n\nThen  he left.", None),
        ("¿Qué tal? “Yes.” He left... and so.", ["¿Qué tal?", "“Yes.”", "He left... and so."]),
        ("Pi is 3.14 today. 12 men.", ["Pi is 3.14 today.", "12 men."]),
        ("你好。再见！", ["你好。", "再见！"]),
        ("Это так. Нет.", ["Это так.", "Нет."]),
        ("The U.S. Army came. Yes.", ["The U.S. Army came.", "Yes."]),
        (" lead. Trail \n", [" lead.", "Trail"]),
        ("Er stieg auf 5 Mio. Euro. Gut.", ["Er stieg auf 5 Mio. Euro.", "Gut."]),
        (
            "Gov. Smith met Rep. Lee and Sen. Jones. Lt. Col. Ray came.",
            ["Gov. Smith met Rep. Lee and Sen. Jones.", "Lt. Col. Ray came."],
        ),
        ("Los EE. UU. son grandes. Sí.", ["Los EE. UU. son grandes.", "Sí."]),
        (
            "Il Sig. Rossi e Dhr. Jansen. Smith et al. 2004 found it.",
            ["Il Sig. Rossi e Dhr. Jansen.", "Smith et al. 2004 found it."],
        ),
        ("", []),
        ("\n\n", [""]),
    ],
)
def test_sentences(text, sentences):
    parts = into_sentences(text)
    assert "".join(sentence + space for sentence, space in parts) == text
    if sentences is None:
        sentences = ["Mr. Smith saw J. R. Tolkien, e.g. in 1950.", "Then  he left."]
    assert [sentence for sentence, _ in parts] == sentences


@pytest.mark.parametrize(
    "sentences",
    [
        ["هل أنت هنا؟", "نعم.", "أنا هنا!"],
        ["آپ کیسے ہیں؟", "میں ٹھیک ہوں۔", "شکریہ۔"],
        ["यह मेरा घर है।", "वह आया।", "क्यों?"],
        ["मैं आया॥ १ ॥", "वह गया॥ २ ॥"],
        ["এটা বই।", "ভালো।"],
        ["Սա տուն է։", "Դա շուն է:", "Այո։"],
        ["ይህ ቤት ነው።", "ያ ውሻ ነው፡፡", "አዎ።"],
        ["ဒါက အိမ်ပါ။", "အဲဒါ ခွေးပါ။"],
        ["នេះជាផ្ទះ និងឆ្មា។ល។", "នោះជាឆ្កែ។"],
        ["བོད་ཡིག །", "དེ་རིང་། །", "ཁོང་།"],
        ["Τι κάνεις;", "Καλά.", "Εσύ;"],
        ["ეს სახლია.", "ის ძაღლია."],
        ["wow!؟", "نعم"],
        ["»Ja.«", "„So.“", "Nein."],
        ["「はい！？」", "ええ。"],
    ],
)
def test_marks_of_every_script_end_sentences(sentences):
    text = " ".join(sentences)
    assert into_sentences(text) == [*((sentence, " ") for sentence in sentences[:-1]), (sentences[-1], "")]


@pytest.mark.parametrize("mark", "۔।။។。")
def test_no_space_has_to_follow_a_mark_that_only_ends_sentences(mark):
    assert into_sentences(f"ab{mark}cd{mark}") == [(f"ab{mark}", ""), (f"cd{mark}", "")]
    assert into_sentences(f"ab{mark}“cd{mark}”ef") == [(f"ab{mark}", ""), (f"“cd{mark}”", ""), ("ef", "")]


@pytest.mark.parametrize(
    "sentences",
    [
        ["Der 3. Oktober ist frei.", "Am 3. und 4. Mai auch.", "Vom 1.–3. Jan. nicht."],
        ["Sie kam am 3. 10. 1990.", "Er nicht."],
        ["Im 19. Jahrhundert und im II. Weltkrieg.", "Er wohnt im 2. Stock.", "Sie nicht."],
        ["Sie belegte den 3. Platz in der 3./4. Klasse.", "Gut."],
        ["He is in room No. 5 of Zimmer-Nr. 7.", "She is not."],
        ["See p. 12, Fig. 3, Vol. II and (Art. 5).", "Then Sect. 4."],
        ["On Oct. 5 and Sept. 11 he came.", "Then he left."],
        ["Это стр. 5 и рис. 3.", "Да."],
        ["डॉ. राम आए।", "वे गए।"],
        ["Это руб. и коп.", "Да."],
        ["1. First item.", "2. Second item."],
        # And these are ends.
        ["He was born in 1990.", "Then he left."],
        ["I am 30.", "Then I left in 1990.", "1991 was better."],
        ["He said no.", "Then he read World War II.", "Then Art.", "Then Fig. 3."],
        ["Platz 3.", "Dann kam die Nummer 4.", "Er ging."],
        ["Pi is 3.14.", "Version 3.10.", "There are 12.", "Others left."],
    ],
)
def test_dots_of_numbers_and_abbreviations_end_no_sentence(sentences):
    assert [sentence for sentence, _ in into_sentences(" ".join(sentences))] == sentences


def test_numbers_of_items_stay_with_them():
    items = ["1. First item", "  IV. Kapitel", "* 1.2. Scope of it", "(3. Third)", "a. Letter", "۱۔ پہلا"]
    assert into_sentences("\n".join(items)) == [*((item, "\n") for item in items[:-1]), (items[-1], "")]


def test_parts_of_a_text_give_it_back():
    draw, pieces = random.Random(0), [*'aA13.!?…।؟。)"«\n\t॥ត។;', "Mai", "No", "am", "und", "་།", *" " * 12]
    for _ in range(2000):
        text = "".join(draw.choices(pieces, k=draw.randrange(30)))
        assert "".join(sentence + space for sentence, space in into_sentences(text)) == text


def test_long_text_is_translated_sentence_by_sentence_on_request(translator):
    text = "The house. The red car?\n\n\nThe car is new!  Red."
    result = translator([text, "", "Red"], split_sentences=True)
    first, second, third, fourth = (
        translate_one(translator, part)[0] for part in ("The house.", "The red car?", "The car is new!", "Red.")
    )
    assert result[0] == {"translation_text": f"{first} {second}\n\n\n{third}  {fourth}"}
    assert result[1:] == [{"translation_text": ""}, {"translation_text": translate_one(translator, "Red")[0]}]
    assert translator(text) != [result[0]]


@pytest.mark.parametrize(
    ("longest", "words", "known"), [(None, 300, "few sentences"), (12, 30, "has 12"), (200, 500, "200")]
)
def test_a_text_far_longer_than_any_of_the_training_is_warned_of_once_a_call(
    translator, caplog, longest, words, known
):
    if longest is not None:
        translator.model.generation_config.longest_source = longest
    long = "red " * words
    settings = {"num_beams": 1, "max_new_tokens": 1}
    calls = (
        lambda: translator(long, **settings),
        lambda: translator(["red", long, long], **settings),
        lambda: list(translator((text for text in [long] * 40), **settings)),
    )
    for call in calls:
        caplog.clear()
        call()
        (record,) = caplog.records
        assert "The text 'red red red" in record.getMessage() and "`split_sentences`" in record.getMessage()
        assert known in record.getMessage()
    caplog.clear()
    translator(["Red. " * words, "red " * (longest or 100)], split_sentences=True, **settings)
    translator("red " * 5, **settings)
    assert not caplog.records


@pytest.mark.parametrize(
    ("inputs", "settings", "named"),
    [
        (["a", None], {}, "`inputs` has None at position 1"),
        ("a", {"tokens_per_batch": 0}, "`tokens_per_batch` is 0"),
        ("a", {"batch_size": 0}, "`batch_size` is 0"),
        ("a", {"return_dict_in_generate": True}, "`return_dict_in_generate`"),
        ("a", {"split_sentences": True, "return_scores": True}, "no list of translations and no score"),
        ("a", {"split_sentences": True, "num_return_sequences": 2}, "no list of translations and no score"),
        ("a", {"return_scores": True, "decoder_input_ids": [[0, 5]]}, "given with `decoder_input_ids`"),
        ("a", {"num_return_sequences": 0}, "`num_return_sequences` is 0"),
        ("a", {"nonsense": 2}, "nonsense"),
        (None, {}, "`inputs` is None"),
        (5, {}, "`inputs` is 5"),
        ({"a": "b"}, {}, "`inputs` is {'a': 'b'}"),
    ],
)
def test_calls_that_do_not_work_are_refused(translator, inputs, settings, named):
    with pytest.raises(ValueError, match=named):
        translator(inputs, **settings)


def test_a_model_of_one_stack_does_not_translate(model_folder, tokenizer):
    model = VanillaTransformerForMaskedLM.from_pretrained(model_folder)
    with pytest.raises(ValueError, match="VanillaTransformerForMaskedLM, which does not translate"):
        VanillaTransformerTranslationPipeline(model=model, tokenizer=tokenizer, device="cpu")


@pytest.mark.slow
def test_transformers_finds_it_in_a_folder(model_folder, translator, fresh_python):
    """By the task's name and without one, where the package cannot be imported; what is saved there works again."""
    again = model_folder.parent / "again"
    code = f"""
import json
from transformers import pipeline
for folder, task in (({str(model_folder)!r}, "translation"), ({str(again)!r}, None)):
    translator = pipeline(task, model=folder, trust_remote_code=True, device="cpu")
    assert type(translator).__module__.startswith("transformers_modules")
    print(json.dumps(translator({TEXTS!r}, num_return_sequences=2)))
    translator.save_pretrained({str(again)!r})
try:
    pipeline("translation", model={str(again)!r}, trust_remote_code=False)
except ValueError as error:
    print(error)
"""
    first, second, *refusal = fresh_python(code, installed=False).splitlines()
    assert json.loads(first) == json.loads(second) == translator(TEXTS, num_return_sequences=2)
    assert "trust_remote_code=True" in "".join(refusal)
    saved = json.loads((again / "config.json").read_text())
    assert saved["custom_pipelines"]["translation"]["pt"] == ["AutoModelForSeq2SeqLM"]


@pytest.mark.parametrize(
    ("task", "key"),
    [
        ("translation", "translation_text"),
        ("summarization", "summary_text"),
        ("text2text-generation", "generated_text"),
    ],
)
def test_transformers_finds_it_by_the_name_of_a_task_for_a_model_in_memory(translator, tmp_path, task, key):
    found = pipeline(task, model=translator.model, tokenizer=translator.tokenizer, device="cpu")
    expected = [{key: result["translation_text"]} for result in translator(TEXTS)]
    assert found(TEXTS) == expected and isinstance(found, VanillaTransformerTranslationPipeline)
    assert found("The house. Red.", split_sentences=True, num_beams=1)[0].keys() == {key}
    found.save_pretrained(tmp_path / "saved")
    again = pipeline(model=str(tmp_path / "saved"), trust_remote_code=True, device="cpu")
    assert (again.task, again(TEXTS)) == (task, expected)


def test_models_of_other_types_translate_under_the_name_as_well(translator):
    config = MarianConfig(
        vocab_size=len(translator.tokenizer),
        **dict.fromkeys(("d_model", "encoder_ffn_dim", "decoder_ffn_dim"), 16),
        **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 2),
        **dict.fromkeys(("encoder_layers", "decoder_layers"), 1),
        **{name: translator.model.config.to_dict()[name] for name in ("pad_token_id", "eos_token_id")},
        decoder_start_token_id=0,
        max_position_embeddings=64,
    )
    found = pipeline("translation", model=MarianMTModel(config), tokenizer=translator.tokenizer, device="cpu")
    assert [len(result) for result in found(TEXTS, num_beams=2, max_new_tokens=3, num_return_sequences=2)] == [2] * 7


@pytest.mark.slow
def test_importing_the_package_leaves_other_pipelines_as_they_are(fresh_python):
    """Those of other tasks, and one that somebody has registered under the name of a task of ours."""
    code = """
from transformers import Pipeline, pipelines
class Other(Pipeline):
    pass
pipelines.PIPELINE_REGISTRY.register_pipeline("summarization", Other)
before = dict(pipelines.PIPELINE_REGISTRY.supported_tasks)
removed = set(getattr(pipelines, "REMOVED_TASKS", ()))
import vanilla_transformer
after = pipelines.PIPELINE_REGISTRY.supported_tasks
assert {name: after[name] for name in before} == before
assert after.keys() - before.keys() == {"translation", "text2text-generation"}
assert set(getattr(pipelines, "REMOVED_TASKS", ())) == removed - {"translation", "text2text-generation"}
"""
    fresh_python(code)


def test_a_head_of_one_stack_offers_no_translation(model_folder, tmp_path):
    VanillaTransformerForMaskedLM.from_pretrained(model_folder).save_pretrained(tmp_path / "mlm")
    assert "custom_pipelines" not in json.loads((tmp_path / "mlm" / "config.json").read_text())
