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


def test_numbers_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="1 summaries and 0 references"):
        rouge(["a"], [])
