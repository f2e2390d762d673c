import math

import pytest

from training.metrics import corpus_bleu, perplexity


def test_bleu_is_sacrebleus_with_its_signature():
    bleu = corpus_bleu(["the cat sat on the mat ."], ["the cat sat on a mat ."])
    # precisions 6/7, 4/6, 2/5, 1/4, no brevity penalty
    assert bleu.score == pytest.approx(100 * (6 / 7 * 4 / 6 * 2 / 5 * 1 / 4) ** 0.25, abs=1e-6)
    assert "tok:13a" in bleu.signature and "version:" in bleu.signature


def test_tokenized_text_is_left_as_it_is():
    bleu = corpus_bleu(["a cat 's tail"] * 2, ["a cat 's tail"] * 2, tokenize="none")
    assert bleu.score == pytest.approx(100)
    assert "tok:none" in bleu.signature


def test_degenerate_sets_score_without_a_crash():
    assert corpus_bleu([""], ["a b c d"]).score == 0


def test_perplexity_is_the_exponential_and_never_overflows():
    assert perplexity(math.log(7)) == pytest.approx(7)
    assert perplexity(1e6) == math.inf
