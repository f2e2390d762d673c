import numpy as np
import pytest

from training.batching import TokenBudgetBatchSampler


@pytest.fixture
def sentence_lengths():
    generator = np.random.default_rng(0)
    source = generator.integers(1, 40, 999)
    return source, np.clip(source + generator.integers(-5, 6, 999), 1, None)


@pytest.mark.parametrize("batches_per_step", [1, 2, 4])
def test_every_sentence_once_within_the_budget_in_whole_steps(sentence_lengths, batches_per_step):
    source, target = sentence_lengths
    sampler = TokenBudgetBatchSampler(source, target, 300, batches_per_step=batches_per_step)
    batches = list(sampler)
    assert sorted(index for batch in batches for index in batch) == list(range(999))
    for step in range(0, len(batches), batches_per_step):
        sizes = [len(batch) for batch in batches[step : step + batches_per_step]]
        assert max(sizes) - min(sizes) <= 1 and min(sizes) > 0
        longest = max(
            max(source[batch].max(), target[batch].max()) for batch in batches[step : step + batches_per_step]
        )
        assert sum(sizes) * longest <= 300
    assert len(batches) == len(sampler)
    assert len(batches) % batches_per_step == 0


def test_a_step_is_the_same_however_it_is_shared(sentence_lengths):
    def steps(batches_per_step):
        batches = list(TokenBudgetBatchSampler(*sentence_lengths, 300, batches_per_step=batches_per_step))
        parts = [batches[i : i + batches_per_step] for i in range(0, len(batches), batches_per_step)]
        return [sorted(index for batch in step for index in batch) for step in parts]

    for batches_per_step in (2, 3, 4):
        pairs = zip(steps(1), steps(batches_per_step), strict=True)
        # The remainder of an epoch may have to be filled up from its neighbour.
        assert sum(one != other for one, other in pairs) in (0, 2)


def test_batches_are_nearly_full(sentence_lengths):
    source, target = sentence_lengths
    batches = list(TokenBudgetBatchSampler(source, target, 300))
    padded = sum(len(batch) * (source[batch].max() + target[batch].max()) for batch in batches)
    assert (source.sum() + target.sum()) / padded > 0.8


def test_processes_of_a_step_get_batches_of_similar_length(sentence_lengths):
    source, target = sentence_lengths
    batches = list(TokenBudgetBatchSampler(source, target, 300, batches_per_step=2))
    gaps = [abs(target[a].max() - target[b].max()) for a, b in zip(batches[::2], batches[1::2], strict=True)]
    assert np.mean(gaps) < 2


def test_order_is_a_function_of_seed_and_epoch(sentence_lengths):
    def batches(seed, epoch):
        sampler = TokenBudgetBatchSampler(*sentence_lengths, 300, seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert batches(1, 0) == batches(1, 0)
    assert batches(1, 0) != batches(1, 1)
    assert batches(1, 0) != batches(2, 0)
    assert len(batches(1, 0)) == len(batches(1, 5))
    assert {tuple(sorted(b)) for b in batches(1, 0)} != {tuple(sorted(b)) for b in batches(1, 1)}


def test_without_shuffling_the_longest_come_first(sentence_lengths):
    source, target = sentence_lengths
    longest = [target[batch].max() for batch in TokenBudgetBatchSampler(source, target, 300, shuffle=False)]
    assert longest == sorted(longest, reverse=True)


def test_a_sentence_longer_than_the_budget_is_refused(sentence_lengths):
    with pytest.raises(ValueError, match="`tokens_per_step` is 30 for 1 batches and the longest sentence has"):
        TokenBudgetBatchSampler(*sentence_lengths, 30)


def test_accelerate_hands_out_whole_batches_only_without_this_attribute(sentence_lengths):
    assert not hasattr(TokenBudgetBatchSampler(*sentence_lengths, 300), "batch_size")


def test_more_batches_a_step_than_sentences_are_refused():
    with pytest.raises(ValueError, match="3 pairs do not make 4 batches for each step"):
        TokenBudgetBatchSampler(np.ones(3), np.ones(3), 300, batches_per_step=4)
