import warnings

import evaluate
import pytest
from sacrebleu.metrics import BLEU, CHRF, TER

from tests.conftest import corpus
from training.metrics import translation
from training.metrics.translation import (
    Bleu,
    Chrf,
    CompoundBleu,
    Meteor,
    Ter,
    bleu,
    chrf,
    compound_bleu,
    default_tokenizer,
    meteor,
    score_translations,
    score_with_sacrebleu,
    ter,
)
from vanilla_transformer.scores import write_score


def test_bleu_is_sacrebleus_with_its_signature():
    score = bleu(["the cat sat on the mat ."], ["the cat sat on a mat ."])
    # precisions 6/7, 4/6, 2/5, 1/4, no brevity penalty
    assert score.value == pytest.approx(100 * (6 / 7 * 4 / 6 * 2 / 5 * 1 / 4) ** 0.25, abs=1e-6)
    assert score.name == "BLEU" and "tok:13a" in score.signature and "version:" in score.signature


def test_tokenized_text_is_left_as_it_is():
    score = bleu(["a cat 's tail"] * 2, ["a cat 's tail"] * 2, tokenize="none")
    assert score.value == pytest.approx(100)
    assert "tok:none" in score.signature


@pytest.mark.slow
@pytest.mark.parametrize(
    ("system", "expected_bleu", "expected_chrf"),
    [
        ("transformer.tensor2tensor", 26.34, 55.73),
        ("transformer.marian", 27.40, 56.75),
        ("transformer.sockeye", 27.50, 56.87),
        ("cnn.sockeye", 24.59, 54.03),
        ("cnn.fairseq", 23.37, 52.60),
    ],
)
def test_published_systems_have_their_published_scores(system, expected_bleu, expected_chrf):
    folder = corpus("oracles", "newstest2017_en_de")
    lines = [
        (folder / name).read_text(encoding="utf-8").removesuffix("\n").split("\n")
        for name in (f"{system}.en-de.detok", "reference.de")
    ]
    assert round(bleu(*lines).value, 2) == expected_bleu
    assert round(chrf(*lines).value, 2) == expected_chrf
    if system == "transformer.tensor2tensor":
        assert round(ter(*lines).value, 2) == 63.57


# A line of each language, with another word at its end.
NEAR = {
    "zh": ("今天天气很好，我们去公园散步。", "今天天气很好，我们去公园走走。"),
    "ja": ("今日は天気がいいので公園へ行きます。", "今日は天気がいいので公園へ行った。"),
    "th": ("วันนี้อากาศดีมากเราไปเดินเล่น", "วันนี้อากาศดีมากเราไปเดิน"),
    "km": ("ខ្ញុំស្រឡាញ់ភាសាខ្មែរ", "ខ្ញុំស្រឡាញ់ភាសាថៃ"),
}


@pytest.fixture
def without_mecab(monkeypatch):
    """sacreBLEU's tokenizers, without those that need a package of their own."""

    class WithoutMecab(BLEU):
        def __init__(self, tokenize, **options):
            if tokenize.endswith("-mecab"):
                raise RuntimeError("Please install it.")
            super().__init__(tokenize=tokenize, **options)

    monkeypatch.setattr(translation, "BLEU", WithoutMecab)


@pytest.mark.parametrize(
    ("codes", "tokenizer"),
    [
        ("zh zh-CN zh_Hans zho cmn yue_Hant", "zh"),
        ("th tha_Thai lo km khm my bo dz", "char"),
        ("en de deu_Latn es es-MX hi ar ru vi zh-Latn ja-Latn ko_Latn", "13a"),
    ],
)
def test_each_language_has_its_tokenizer(codes, tokenizer):
    assert {default_tokenizer(code) for code in (*codes.split(), None)} - {"13a"} == {tokenizer} - {"13a"}
    for code in codes.split():
        assert f"|tok:{tokenizer}|" in bleu(["a b c d"], ["a b c d"], target_lang=code).signature


def test_words_are_found_by_mecab_where_it_is_installed(monkeypatch, without_mecab):
    for language, codes in {"ja": ("ja", "ja-JP", "jpn"), "ko": ("ko", "kor_Hang")}.items():
        for code in codes:
            with pytest.warns(UserWarning, match=f'BLEU of {code} counts characters.*"sacrebleu.{language}.'):
                assert default_tokenizer(code) == "char"
    monkeypatch.setattr(translation, "BLEU", lambda tokenize, **_: None)
    assert [default_tokenizer(code) for code in ("ja_Jpan", "ko-KR")] == ["ja-mecab", "ko-mecab"]


@pytest.mark.filterwarnings("ignore:BLEU of ja counts characters")
@pytest.mark.parametrize("language", sorted(NEAR))
def test_languages_without_spaces_are_scored_by_characters(language, without_mecab):
    hypothesis, reference = NEAR[language]
    with pytest.warns(UserWarning, match=f"TER is left out: .* {language} is written without spaces"):
        scores = score_translations([hypothesis], [reference], language)
        same = score_translations([reference], [reference], language)
    assert list(scores) == ["bleu", "chrf", "meteor"]
    tokenizer = default_tokenizer(language)
    assert scores["bleu"].value == BLEU(tokenize=tokenizer).corpus_score([hypothesis], [[reference]]).score > 50
    assert f"|tok:{tokenizer}|" in scores["bleu"].signature and f"|tok:{tokenizer}|" in scores["meteor"].signature
    assert scores["meteor"].name == "METEOR (exact, characters)" and 70 < scores["meteor"].value < 99
    assert [same[key].value for key in ("bleu", "chrf")] == pytest.approx([100, 100])
    assert same["meteor"].value == pytest.approx(100, abs=0.1)


def test_text_that_is_split_into_words_keeps_its_words():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = score_translations(["我 喜欢 红色 的 猫"], ["我 喜欢 黑色 的 猫"], "zh", tokenize="none")
    assert scores["ter"].value == pytest.approx(20)
    assert scores["meteor"].name == "METEOR (exact)" and "tok:none" in scores["bleu"].signature


@pytest.mark.parametrize("language", [None, "de"])
@pytest.mark.parametrize("name", sorted(NEAR))
def test_words_that_cannot_be_counted_are_named(name, language):
    hypothesis, reference = NEAR[name]
    for score in (bleu, ter, meteor):
        options = {} if score is ter else {"target_lang": language}
        with pytest.warns(UserWarning, match="no spaces between words.*`target_lang`, such as zh, ja or th"):
            score([hypothesis], [reference], **options)
    with pytest.warns(UserWarning, match="`target_lang`"):
        bleu([hypothesis], [reference], tokenize="none", target_lang=name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        score_translations(["Guten Tag"], ["Guten Abend, 元朝"], language)


def test_ter_counts_edits_and_shifts():
    assert ter(["the cat sat on the mat"], ["the cat sat on a mat"]).value == pytest.approx(100 / 6)
    assert ter(["on the mat sat the cat"], ["the cat sat on the mat"]).value == pytest.approx(200 / 6)  # two shifts


def test_compounds_are_taken_apart():
    """The published figure counts "Rad-Weg" as three tokens: one of seven is wrong here, not one of five."""
    hypotheses, references = ["Der Rad-Weg ist neu ."], ["Der Rad-Pfad ist neu ."]
    score = compound_bleu(hypotheses, references, "de")
    # Der Rad ##AT##-##AT## Weg ist neu . against ... Pfad ...: 6/7, 4/6, 2/5, 0/4 and no smoothing
    assert score.value == 0
    score = compound_bleu([*hypotheses, "Das ist ein Rad-Weg ."], [*references, "Das ist ein Rad-Weg ."], "de")
    # with a whole sentence of 7 tokens besides
    assert score.value == pytest.approx(100 * (13 / 14 * 10 / 12 * 7 / 10 * 4 / 8) ** 0.25, abs=1e-6)
    assert "tok:moses-de+compounds" in score.signature and "smooth:none" in score.signature
    for language in ("de", "deu", "de-AT"):
        score = compound_bleu(["“Ja”, sagte er."], ['"Ja", sagte er.'], language)
        assert score.value == pytest.approx(100) and "tok:moses-de+compounds" in score.signature


def test_meteor_by_hand(monkeypatch):
    monkeypatch.setattr(translation, "has_wordnet", lambda: False)
    # exact: the, on, mat; by stem: cats-cat, sitting-sit. 5 of 5 match, in one chunk: penalty 0.5 * (1/5)^3.
    score = meteor(["the cats sitting on mat"], ["the cat sits on mat"], "en")
    assert score.value == pytest.approx(100 * (1 - 0.5 * (1 / 5) ** 3))
    assert score.name == "METEOR (exact+stem)" and "stem:porter-en" in score.signature
    # Without a stemmer 3 of 5 match, in 2 chunks: precision = recall = 3/5.
    score = meteor(["the cats sitting on mat"], ["the cat sits on mat"], None)
    assert score.value == pytest.approx(100 * 3 / 5 * (1 - 0.5 * (2 / 3) ** 3))
    assert score.name == "METEOR (exact)"
    for language in ("es", "spa", "es-MX"):
        score = meteor(["las casas rojas"], ["la casa roja"], language)
        assert score.value == pytest.approx(100 * 2 / 3 * (1 - 0.5 * (1 / 2) ** 3))  # "las" stays as it is
    assert score.name == "METEOR (exact+stem)" and "stem:snowball-es" in score.signature


def test_meteor_uses_synonyms_where_they_are(monkeypatch):
    class Lemma:
        def __init__(self, name):
            self.name = lambda: name

    class Synset:
        def lemmas(self):
            return [Lemma("car"), Lemma("auto")]

    class WordNet:
        def synsets(self, word):
            return [Synset()] if word in ("car", "auto") else []

    monkeypatch.setattr(translation, "has_wordnet", lambda: True)
    monkeypatch.setattr(translation, "wordnet", WordNet())
    score = meteor(["a red auto"], ["a red car"], "en")
    assert score.value == pytest.approx(100 * (1 - 0.5 * (1 / 3) ** 3))
    assert score.name == "METEOR"
    assert meteor(["a red auto"], ["a red car"], "es").value < 70


@pytest.mark.parametrize("lines", [1, 3])
@pytest.mark.parametrize("hypothesis", ["", "a b"])
@pytest.mark.parametrize("reference", ["", "a b"])
def test_degenerate_sets_score_without_a_crash(hypothesis, reference, lines):
    scores = score_translations([hypothesis] * lines, [reference] * lines, "de", compounds=True, samples=40)
    assert all(0 <= score.value <= 100 and score.margin == 0 for score in scores.values())


def test_a_margin_is_half_of_an_interval_of_resampled_texts():
    # A mix of samples with and without any match.
    assert chrf(["xyz", "xyz", "red"], ["abc", "abc", "red"], samples=50).margin > 0
    references = [f"the {word} is red and the house is blue" for word in ("cat", "dog", "car", "sun", "sea")] * 8
    hypotheses = [line if i % 2 else line.replace("red", "green") for i, line in enumerate(references)]
    for key, score in score_translations(hypotheses, references, "en", samples=200).items():
        assert 0.5 < score.margin < 20, key
        assert "bs:200|seed:12345" in score.signature
        assert write_score("bleu", score).startswith(f"{score.value:.2f} ± {score.margin:.2f}")


@pytest.mark.parametrize("samples", [0, 40])
def test_bleu_tells_its_brevity_penalty_and_length_ratio_as_sacrebleu_does(samples):
    references = ["the red cat sat on the mat", "a house is a house"]
    hypotheses = ["the red cat sat", "a house is a house"]
    expected = BLEU().corpus_score(hypotheses, [references])
    scores = score_translations(hypotheses, references, "en", compounds=True, samples=samples)
    for key in ("bleu", "compound_bleu"):
        assert scores[key].lengths == {"brevity_penalty": expected.bp, "length_ratio": 9 / 12}
    assert 0 < expected.bp < 1
    assert not any(score.lengths for key, score in scores.items() if "bleu" not in key)
    results = Bleu().compute(predictions=hypotheses, references=references)
    assert (results["bleu_brevity_penalty"], results["bleu_length_ratio"]) == (expected.bp, 0.75)


@pytest.mark.parametrize("metric", [BLEU(), CHRF(), TER()], ids=lambda metric: type(metric).__name__)
def test_margins_are_sacrebleus(metric):
    words = ["the", "red", "cat", "sat", "on", "a", "mat", "house"]
    references = [" ".join(words[(i * j) % 8] for j in range(1, 8)) for i in range(1, 32)]
    hypotheses = [line.replace("cat", "dog") if i % 3 else line for i, line in enumerate(references)]
    expected = metric.corpus_score(hypotheses, [references], n_bootstrap=101)
    score = score_with_sacrebleu(type(metric)(), "name", hypotheses, references, samples=101)
    assert (score.value, score.margin) == (expected.score, pytest.approx(expected._ci))
    assert score.signature == f"name|{metric.get_signature()}"


def test_lines_that_do_not_match_are_refused():
    for score in (bleu, chrf, ter, meteor):
        with pytest.raises(ValueError, match="2 hypotheses and 1 references"):
            score(["a", "b"], ["a"])
        with pytest.raises(ValueError, match="0 hypotheses"):
            score([], [])


def test_settings_that_cannot_be_are_refused(monkeypatch):
    for language in (None, "ja", "jpn", "zh", "zh-CN", "yue"):
        with pytest.raises(
            ValueError, match=f"`target_lang` must be a language .*, but is {language!r}. Choose one of: as, "
        ):
            compound_bleu(["a"], ["a"], language)
    with pytest.raises(ValueError, match=r"`target_lang` must be .*, but is None"):
        CompoundBleu().compute(predictions=["a"], references=["a"])
    for score in (bleu, chrf, ter, meteor):
        for samples in (-1, 39):
            with pytest.raises(ValueError, match=f"`samples` must be at least 40 .*, but is {samples}"):
                score(["a"], ["a"], samples=samples)
    with pytest.raises(ValueError, match=r"`tokenize` must be one of 13a, .*, but is '14a'\. Choose"):
        bleu(["a"], ["a"], tokenize="14a")

    def missing(**_):
        raise RuntimeError("Please install it.")

    monkeypatch.setattr(translation, "BLEU", missing)
    with pytest.raises(
        ValueError, match=r"`tokenize` must be .* sacreBLEU can load, but is 'ja-mecab': Please install it"
    ):
        meteor(["a"], ["a"], tokenize="ja-mecab")


def test_they_combine_as_metrics_of_evaluate():
    pair = ["The cats sat on the mat."], ["The cat sat on a mat."]
    combined = evaluate.combine(
        [Bleu(), Chrf(), Ter(), Meteor(target_lang="en", samples=40), CompoundBleu(target_lang="en")]
    )
    results = combined.compute(predictions=pair[0], references=pair[1])
    assert results["bleu"] == bleu(*pair).value
    assert results["chrf"] == chrf(*pair).value
    assert results["ter"] == ter(*pair).value
    assert results["meteor"] == meteor(*pair, "en").value and results["meteor_margin"] == 0
    assert results["compound_bleu"] == compound_bleu(*pair, "en").value
    assert results["bleu_signature"] == bleu(*pair).signature
