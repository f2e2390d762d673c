import evaluate
import pytest
from rouge_score.rouge_scorer import RougeScorer

from training.metrics.summarization import KEYS, Rouge, rouge

PAIRS = [
    ("the cat sat on the mat\nit slept", "a cat was sitting on the mat\nand it slept"),
    ("nothing in common", "entirely different words"),
    ("", "empty"),
]


def test_by_hand():
    results = rouge(["the cat sat"], ["the cat slept here"])
    assert results["rouge1"] == pytest.approx(100 * 2 * (2 / 3) * (2 / 4) / (2 / 3 + 2 / 4))
    assert results["rouge2"] == pytest.approx(100 * 2 * (1 / 2) * (1 / 3) / (1 / 2 + 1 / 3))


def test_it_is_the_mean_of_rouge_scores_of_the_library():
    summaries, references = zip(*PAIRS, strict=True)
    for use_stemmer in (True, False):
        scorer = RougeScorer(KEYS, use_stemmer=use_stemmer)
        expected = [scorer.score(reference, summary) for summary, reference in PAIRS]
        results = rouge(list(summaries), list(references), use_stemmer)
        for key in KEYS:
            assert results[key] == pytest.approx(100 * sum(score[key].fmeasure for score in expected) / len(PAIRS))
        combined = evaluate.combine([Rouge(use_stemmer)]).compute(predictions=summaries, references=references)
        assert combined == results


def test_words_of_any_script():
    assert rouge(["привет мир"], ["привет друг"], language="ru")["rouge1"] == pytest.approx(50)
    assert rouge(["La canción."], ["la canciés"], language="es")["rouge1"] == pytest.approx(50)
    assert rouge(["हिन्दी में"], ["हिन्दी"], language="hi")["rouge1"] == pytest.approx(100 * 2 / 3)
    metric = Rouge(language="ru")
    assert metric.compute(predictions=["привет"], references=["Привет!"])["rougeL"] == pytest.approx(100)
    # The official scorer's words are those of English; its stems are of no use elsewhere.
    assert rouge(["running"], ["run"])["rouge1"] == pytest.approx(100)
    assert rouge(["running"], ["run"], language="de")["rouge1"] == 0


@pytest.mark.filterwarnings("ignore:`language` is")
@pytest.mark.parametrize("language", [None, "en", "de"])
@pytest.mark.parametrize(
    "text", ["你好", "привет", "مرحبا", "हिन्दी", "한국어", "ภาษาไทย", "é", "ÄÖÜ a", "१२", "!?", "😀", "我用Python"]
)
def test_a_text_is_all_of_itself(text, language):
    assert rouge([text], [text], language=language)["rouge1"] == pytest.approx(100)
    assert rouge([f"{text} {text}"], [f"{text} {text}"], language=language)["rouge2"] == pytest.approx(100)


def test_characters_are_counted_where_words_have_no_spaces():
    results = rouge(["我用Python写"], ["他用Python写"], language="zh-CN")  # of 4 each 3, of 3 pairs 2
    assert (results["rouge1"], results["rouge2"]) == (pytest.approx(75), pytest.approx(100 * 2 / 3))
    assert rouge(["我用Python"], ["他爱Python"], language="zh")["rouge1"] == pytest.approx(100 / 3)
    with pytest.warns(UserWarning, match="`language` is None, and most references do not read as English"):
        assert rouge(["我用Python写"], ["他用Python写"]) == results
    assert rouge(["running"], ["run"], language="en-GB")["rouge1"] == pytest.approx(100)


def test_numbers_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="1 summaries and 0 references"):
        rouge(["a"], [])
