"""benchmarks/quality/encoder_variance.py."""

import pytest
import torch

from benchmarks.quality.encoder_variance import share_within


def test_words_that_are_all_alike_have_no_variance_within_their_sentence():
    torch.manual_seed(0)
    alike = torch.randn(5, 1, 8).expand(5, 7, 8)
    assert share_within(alike, torch.ones(5, 7)) == pytest.approx(0, abs=1e-6)


def test_sentences_with_the_same_mean_have_all_of_it():
    states = torch.randn(5, 7, 8)
    assert share_within(states - states.mean(dim=1, keepdim=True), torch.ones(5, 7)) == pytest.approx(1)


def test_it_is_the_share_of_numpys_variance_and_padding_does_not_count():
    torch.manual_seed(0)
    states, mask = torch.randn(2, 4, 3, dtype=torch.float64), torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]])
    words = [states[0, :3].numpy(), states[1, :2].numpy()]
    within = sum(len(each) * each.var(axis=0).sum() for each in words)
    total = 5 * torch.cat([states[0, :3], states[1, :2]]).numpy().var(axis=0).sum()
    assert share_within(states, mask) == pytest.approx(within / total)
    states[0, 3] = 1e6
    assert share_within(states, mask) == pytest.approx(within / total)
