import pytest

from training.data.languages import SCRIPTS, compare_languages, guess_language, language_shares
from training.data.parallel import ParallelText
from training.data.phrasebook import phrasebook
from vanilla_transformer.errors import RecipeError

ENGLISH, SPANISH = ([*side] for side in zip(*phrasebook()["train"][-400:], strict=True))
GERMAN = ["Ich bin mit dem Hund in den Wald gegangen, und es war nicht so kalt wie am Abend davor."] * 20
SWAHILI = ["Mtoto alikwenda sokoni pamoja na rafiki yake akanunua mkate kwa ajili ya chakula cha jioni."] * 20
SAMPLES = {
    "cs": "Chlapec šel na trh s kamarádkou, ale není jistý, že je to dobrý nápad, když by se to dalo zkusit už tak.",
    "de": GERMAN[0],
    "fi": "En ole varma, että se on hyvä ajatus, mutta hän oli siellä kun minä tulin, ja sitä voi myös kokeilla.",
    "fr": "Je ne suis pas sûr que ce soit une bonne idée, mais on peut aussi aller dans la ville avec elle.",
    "hu": "Nem vagyok biztos benne, hogy ez jó ötlet, de ezt is meg lehet próbálni, ha az nem volt már kész.",
    "it": "Non sono sicuro che sia una buona idea, ma si può andare anche al mercato con la mia amica.",
    "nl": "Ik ben er niet zeker van dat het een goed idee is, maar je kan ook met hem naar de markt gaan.",
    "pl": "Nie jestem pewien, czy to jest dobry pomysł, ale można też iść z nim na rynek, jak już się da.",
    "pt": "Não estou certo de que seja uma boa ideia, mas também se pode ir ao mercado com a minha amiga.",
    "ro": "Nu sunt sigur că este o idee bună, dar se poate încerca și asta în piață cu prietena lui.",
    "ru": "Я не уверен, что это хорошая идея, но мы можем пойти на рынок и с ней, если ты так хочешь.",
    "sv": "Jag är inte säker på att det är en bra idé, men man kan också gå till torget med sin vän.",
    "tr": "Bu çok iyi bir fikir mi emin değilim ama ne olursa olsun onun için bunu da denemek mümkün.",
    "uk": "Я не впевнений, що це добра ідея, але ми можемо піти на ринок з нею, якщо ти так хочеш.",
    "el": "Δεν είμαι σίγουρος ότι είναι καλή ιδέα, αλλά μπορούμε να το δοκιμάσουμε.",
    "he": "הילד הלך לשוק עם חברתו וקנה קצת לחם לארוחת הערב, אבל היא לא באה.",
    "ja": "男の子は友達と市場に行って、夕食のパンを買いました。これが良い考えかどうかはわかりません。",
    "ko": "소년은 친구와 시장에 가서 저녁으로 먹을 빵을 샀다. 좋은 생각인지는 모르겠다.",
    "th": "เด็กชายไปตลาดกับเพื่อนและซื้อขนมปังสำหรับมื้อเย็น",
    "zh": "男孩和他的朋友去了市场，买了一些晚餐用的面包。我不确定这是个好主意。",
}


def pair_up(sources, targets):
    return ParallelText.from_pairs(zip(sources, targets, strict=False))


@pytest.mark.parametrize("language", SAMPLES)
def test_a_language_is_told_by_its_frequent_words_or_its_script(language):
    repeats = 60 if language in SCRIPTS else 15
    assert guess_language(language_shares([SAMPLES[language]] * repeats)) == language


def test_near_relatives_and_unknown_languages_are_not_guessed():
    danish = "Jeg er ikke sikker på at det er en god idé, men man kan også gå med hende, hvis du vil det."
    for line in (danish, SWAHILI[0]):
        assert guess_language(language_shares([line] * 20)) is None


@pytest.mark.parametrize(
    ("sources", "targets", "source_lang", "target_lang"),
    [
        (SPANISH, ENGLISH, "en", "es"),
        (SPANISH[:200], ENGLISH[:200], "en", "es"),  # greetings, most of them
        (SPANISH, ENGLISH, "eng", "spa"),
        (GERMAN, [SAMPLES["nl"]] * 20, "nl", "de"),
        ([SAMPLES["pt"]] * 400, SPANISH, "es", "pt"),
        ([SAMPLES["zh"]] * 60, ENGLISH, "en", "zh"),
        (ENGLISH, SWAHILI * 20, "sw", "en"),
        (SWAHILI * 20, ENGLISH, "en", "sw"),
    ],
)
def test_swapped_languages_are_refused(sources, targets, source_lang, target_lang):
    with pytest.raises(
        RecipeError, match=f"`source_lang` must be .* but is {source_lang} .* reads like {target_lang},"
    ):
        compare_languages(pair_up(sources, targets), source_lang, target_lang)
    assert compare_languages(pair_up(targets, sources), source_lang, target_lang) == []


def test_a_side_in_another_language_is_told_of():
    note = "`target_lang` is es, but the target of the train text reads like de"
    assert compare_languages(pair_up(ENGLISH, GERMAN), "en", "es") == [note]
    note = "`target_lang` is es, but the target of the train text reads like en"
    assert compare_languages(pair_up(ENGLISH, ENGLISH[::-1]), "en", "es") == [note]


@pytest.mark.parametrize(
    ("sources", "targets"),
    [
        (SPANISH[:20], ENGLISH[:20]),  # too short
        (["alpha beta gamma delta"] * 100, ["uno dos tres cuatro"] * 100),  # no grammar
        ([str(i) for i in range(400)], [str(i + 1) for i in range(400)]),
        (ENGLISH[:200] + SPANISH[:200], SPANISH[:200] + ENGLISH[:200]),  # both ways
        (ENGLISH, SPANISH),
        ([""], [""]),
    ],
)
def test_where_words_do_not_tell_nothing_is_said(sources, targets):
    assert compare_languages(pair_up(sources, targets), "en", "es") == []


def test_languages_that_the_recipe_does_not_name_are_not_compared():
    for source_lang, target_lang in ((None, None), ("en", None), (None, "es")):
        notes = compare_languages(pair_up(SPANISH, ENGLISH), source_lang, target_lang)
        assert len(notes) == (source_lang is not None) + (target_lang is not None)
