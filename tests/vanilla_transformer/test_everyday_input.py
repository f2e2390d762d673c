"""The pipeline on text as people type it: white space, letter case, and things that a translation copies."""

import pytest

from vanilla_transformer import VanillaTransformerTranslationPipeline
from vanilla_transformer.pipeline_vanilla_transformer import Shown, find_items, letter_case


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("Write to jo.doe+x@mail.example.co.uk, please.", ["jo.doe+x@mail.example.co.uk"]),
        ("See https://a.b/c?d=e-1 (or www.x.org/y).", ["https://a.b/c?d=e-1", "www.x.org/y"]),
        ("Go to example.com.", ["example.com"]),
        ("It ends.Then it begins.and goes on e.g. here, Dr. No.", []),
        ("Hello {name}, ${y} {0} %s %d!", ["{name}", "${y}", "{0}", "%s", "%d"]),
        ("{{ x }} %(n)s %1$s %.2f", ["{{ x }}", "%(n)s", "%1$s", "%.2f"]),
        ("<b>Big</b> <br/> news <é/>", ["<b>", "</b>", "<br/>", "<é/>"]),
        ("Open /usr/local/bin or C:\\Users\\me\\a.txt.", ["/usr/local/bin", "C:\\Users\\me\\a.txt"]),
        ("Open my_notes.v2.pdf and a.py.", ["my_notes.v2.pdf", "a.py"]),
        ("He and/or she left 50% of it.", ["50%"]),
        ("@ana likes #sun and #NewYear", ["@ana", "#sun", "#NewYear"]),
        ("Well done 👍🏽 🎉❤️!", ["👍🏽", "🎉", "❤️"]),
        ("On 2024-05-03 at 17:30 it cost $1,234.50, 3,5 or 42.", ["2024-05-03", "17:30", "$1,234.50", "3,5", "42"]),
        ("The A4 paper, B12 and x2", []),
        ("100% sure, and 3 < 4 > 2", ["100%", "3", "4", "2"]),
    ],
)
def test_things_that_are_copied(text, items):
    assert [item.text for item in find_items(text)] == items
    assert all(text[item.start : item.end] == item.text for item in find_items(text))


@pytest.mark.parametrize(
    ("text", "case"),
    [
        ("HOW ARE YOU?", "upper"),
        ("HELLO", "upper"),
        ("OK", None),
        ("I", None),
        ("NASA is big", None),
        ("How Are You Today", "title"),
        ("Tom Smith", None),
        ("Good Morning Tom", "title"),
        ("¿CÓMO ESTÁS?", "upper"),
        ("①②③ 12", None),
    ],
)
def test_letter_case(text, case):
    assert letter_case(text) == case


def shown(sentence, restore_case=False):
    return Shown(sentence, [item for item in find_items(sentence) if item.kind != "number"], restore_case)


def test_white_space_symbols_and_case_come_back():
    sentence = shown("  WRITE TO Me@X.org, {NAME}!\t", restore_case=True)
    assert sentence.text == "write to ①, ②!"
    assert sentence.restore("¡escribe a ①, ②!") == "  ¡ESCRIBE A Me@X.org, {NAME}!\t"


@pytest.mark.parametrize(
    ("source", "translation", "restored"),
    [
        ("Good Morning Tom", "buenos días, tom", "Buenos días, tom"),
        ("Where Are You Now", "¿dónde estás ahora?", "¿Dónde estás ahora?"),
        ("{Name} Is Not Here", "① no está aquí", "{Name} no está aquí"),
        ("good morning", "buenos días", "buenos días"),
    ],
)
def test_a_translation_of_a_title_begins_with_a_capital(source, translation, restored):
    assert shown(source, restore_case=True).restore(translation) == restored


@pytest.mark.parametrize(
    ("source", "translation", "restored"),
    [
        ("Hi {a} and {b}.", "Hola ② y ①.", "Hola {b} y {a}."),
        ("Hi {a} and {b}.", "Hola ① y ① ②.", "Hola {a} y {b}."),
        ("Write to a@b.org.", "Escribe a.", "Escribe a a@b.org."),
        ("{a} is here.", "Está aquí.", "{a} Está aquí."),
        ("Send {a} to me now.", "Envía a mí ahora.", "Envía {a} a mí ahora."),
        ("a@b.org", "", "a@b.org"),
    ],
)
def test_each_thing_comes_out_once(source, translation, restored):
    assert shown(source).restore(translation) == restored


def test_symbols_of_the_text_itself_stay():
    sentence = shown("① is {a}, ② is {b}.")
    assert sentence.text == "① is ③, ② is ④."
    assert sentence.restore("① es ③, ② es ④.") == "① es {a}, ② es {b}."


@pytest.fixture
def translator(model, tokenizer, config):
    """A pipeline whose model gives what the test says, for each of the sentences that it is shown."""
    translator = VanillaTransformerTranslationPipeline(model=model, tokenizer=tokenizer, device="cpu")
    translator.calls = []

    def answer(shown, generate_arguments, return_scores, bar, **batching):
        count = generate_arguments.get("num_return_sequences", 1)
        texts = [each.text for each in shown.values()]
        translator.calls.append((texts, count))
        found = {index: translator.answers[each.text] for index, each in shown.items()}
        assert all(len(each) >= count for each in found.values())
        return {index: [{"translation_text": text} for text in each[:count]] for index, each in found.items()}

    translator._run = answer
    return translator


def test_numbers_are_tried_first_and_hidden_where_they_are_lost(translator):
    translator.answers = {
        "I have 42 cats.": ["Tengo 42 gatos."],
        "I have 43 cats.": ["Tengo cuatro gatos."],
        "I have 1,234 cats.": ["Tengo 1.234 gatos."],
        "I have ① cats.": ["Tengo gatos.", "Tengo ① gatos.", "①", "①"],
    }
    texts = ["I have 42 cats.", "I have 43 cats.", "I have 1,234 cats."]
    found = translator(texts, protect_copies=True)
    assert [each["translation_text"] for each in found] == ["Tengo 42 gatos.", "Tengo 43 gatos.", "Tengo 1.234 gatos."]
    assert translator.calls == [(texts, 1), (["I have ① cats."], 4)]


def test_addresses_are_hidden_at_once_and_only_where_it_is_asked_for(translator):
    translator.answers = {
        "Write to a@b.org.": ["Escribe a a@c.org."],
        "Write to ①.": ["Escribe a ①."],
    }
    assert translator("Write to a@b.org.")[0]["translation_text"] == "Escribe a a@c.org."
    assert translator("Write to a@b.org.", protect_copies=True)[0]["translation_text"] == "Escribe a a@b.org."
    translator.model.generation_config.protect_copies = True
    assert translator("Write to a@b.org.")[0]["translation_text"] == "Escribe a a@b.org."
    assert translator("Write to a@b.org.", protect_copies=False)[0]["translation_text"] == "Escribe a a@c.org."


def test_several_translations_each_keep_what_is_copied(translator):
    translator.answers = {"See ①.": ["Ve ①.", "Ve.", "Mira ①.", "Mira."]}
    found = translator("See {x}.", protect_copies=True, num_return_sequences=3)
    assert [each["translation_text"] for each in found] == ["Ve {x}.", "Mira {x}.", "Ve {x}."]


def test_unknown_names_are_hidden_where_they_are_lost(translator):
    translator.answers = {
        "the house of Zyxwvu is red": ["la casa de Zyx es roja"],
        "the house of ① is red": ["la casa de ① es roja"] * 4,
    }
    found = translator("the house of Zyxwvu is red", protect_copies=True)
    assert found[0]["translation_text"] == "la casa de Zyxwvu es roja"
    translator.model.generation_config.protect_names = False  # of German, say
    found = translator("the house of Zyxwvu is red", protect_copies=True)
    assert found[0]["translation_text"] == "la casa de Zyx es roja"


def test_the_first_word_is_a_name_only_before_another(translator):
    translator.answers = {
        "Zyxwvu is red": ["Zyx es roja"],
        "Zyxwvu Vwxyz is red": ["Zyx Vwxyz es roja"],
        "① Vwxyz is red": ["① Vwxyz es roja"] * 4,
    }
    found = translator(["Zyxwvu is red", "Zyxwvu Vwxyz is red"], protect_copies=True)
    assert [each["translation_text"] for each in found] == ["Zyx es roja", "Zyxwvu Vwxyz es roja"]


def test_a_text_without_a_letter_and_white_space_stay(translator):
    translator.answers = {"the house": ["la casa"]}
    texts = ["  the house\t", "", "   ", "123.", "🎉", "-- 4 --"]
    found = [each["translation_text"] for each in translator(texts)]
    assert found == ["  la casa\t", *texts[1:]]
    assert translator("{x} <b>", protect_copies=True)[0]["translation_text"] == "{x} <b>"


def test_capitals_are_translated_in_small_letters_where_the_model_learned_them(translator):
    translator.answers = {"THE HOUSE": ["x"], "the house": ["la casa"], "the house is red": ["La casa es roja"]}
    assert translator("THE HOUSE")[0]["translation_text"] == "x"
    assert translator("THE HOUSE", restore_case=True)[0]["translation_text"] == "LA CASA"
    translator.model.generation_config.restore_case = True
    assert translator("The House Is Red")[0]["translation_text"] == "La casa es roja"


def test_sentences_are_translated_one_by_one_where_the_model_knows_only_those(translator):
    translator.answers = {"Hi.": ["Hola."], "It is me.": ["Soy yo."], "Hi.  It is me.": ["Hola yo."]}
    assert translator("Hi.  It is me.")[0]["translation_text"] == "Hola yo."
    translator.model.generation_config.split_sentences = True
    assert translator(" Hi.  It is me.\n")[0]["translation_text"] == " Hola.  Soy yo.\n"
    assert translator("Hi.  It is me.", split_sentences=False)[0]["translation_text"] == "Hola yo."
