import math

import evaluate
import pytest

from training.metrics.language_modeling import Perplexity, perplexity


def test_perplexity_is_the_exponential_and_never_overflows():
    assert perplexity(math.log(7)) == pytest.approx(7)
    assert perplexity(1e6) == math.inf


def test_it_weighs_texts_by_their_tokens():
    results = Perplexity().compute(predictions=[3 * math.log(2), math.log(4)], references=[3, 1])
    assert results["loss"] == pytest.approx(5 * math.log(2) / 4)
    assert results["perplexity"] == pytest.approx(2**1.25)
    combined = evaluate.combine([Perplexity()]).compute(predictions=[1.0], references=[2])
    assert combined["loss"] == 0.5
    with pytest.raises(ValueError, match="no tokens"):
        Perplexity().compute(predictions=[0.0], references=[0])
