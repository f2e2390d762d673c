import numpy as np
import pytest

from training.data import batching
from training.data.batching import Draw, LengthSort, StepPlan, TokenBudgetBatchSampler, cut_steps, longest_sentence
from training.recipe.fields import TrainingFields


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

    for batches_per_step in (2, 3, 4, 16):
        assert steps(batches_per_step) == steps(1)


def padded_positions(lengths, budget, **settings):
    """Of each step, the shortest sentences first, and how many sentences it has."""
    sampler = TokenBudgetBatchSampler(lengths, lengths, budget, shuffle=False, **settings)
    steps = list(sampler)[::-1]
    assert sorted(index for step in steps for index in step) == list(range(len(lengths)))
    return [len(step) * lengths[step].max() for step in steps], [len(step) for step in steps]


@pytest.mark.parametrize(
    ("count", "sizes"),
    [(11, [5, 6]), (21, [7, 7, 7]), (91, [9] * 9 + [10]), (10, [10]), (1, [1])],
)
def test_a_remainder_of_one_sentence_is_spread(count, sizes):
    assert sorted(padded_positions(np.full(count, 10), 100)[1]) == sizes


def test_very_many_short_sentences_are_cut_in_blocks():
    """Sentence by sentence this takes half a minute."""
    positions, _ = padded_positions(np.full(12_500 * 16 + 1, 2), 25_000)
    assert len(positions) == 17 and min(positions) >= 0.9 * 25_000


@pytest.mark.parametrize("kind", ["uniform", "skewed", "equal", "two lengths"])
def test_no_step_has_less_than_half_of_the_tokens_of_the_others(kind):
    generator = np.random.default_rng(0)
    draw = {
        "uniform": lambda count: generator.integers(1, 40, count),
        "skewed": lambda count: np.clip(np.exp(generator.normal(2.2, 0.5, count)).round(), 2, 75).astype(int),
        "equal": lambda count: np.full(count, 10),
        "two lengths": lambda count: np.repeat([5, 80], [count // 2, count - count // 2]),
    }[kind]
    small = 0
    for count in range(200, 260):
        lengths = draw(count)
        positions, _ = padded_positions(lengths, 300)
        assert max(positions) <= 300 and min(positions) >= np.median(positions) / 2
        small += min(padded_positions(lengths, 300, spread=False)[0]) < np.median(positions) / 2
    assert small > 10  # without it


def test_a_remainder_that_nothing_can_fill_keeps_no_other_from_being_spread():
    """Three short sentences are a step: one of 40 tokens beside them would leave no room."""
    positions, sizes = padded_positions(np.array([1, 2, 3, *[40] * 16, 50]), 130)
    assert sizes[0] <= 3 and min(positions[1:]) >= 80


def test_evaluation_is_cut_as_it_fits():
    assert padded_positions(np.full(11, 10), 100, spread=False)[1] == [10, 1]


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


@pytest.mark.parametrize("block", [1, 7, 999, 5000])
def test_sorting_in_blocks_gives_the_order_of_a_stable_sort(sentence_lengths, monkeypatch, block):
    monkeypatch.setattr(batching, "BLOCK", block)
    source, target = (lengths.astype(np.int32) for lengths in sentence_lengths)
    sort = LengthSort(source, target)
    shuffled = np.random.default_rng(1).permutation(999).astype(np.int32)
    assert np.array_equal(sort(shuffled), shuffled[np.lexsort((source[shuffled], target[shuffled]))])
    assert np.array_equal(sort.longer_sides(), np.maximum(source, target)[np.lexsort((source, target))])


def former_batches(lengths, sampler, epoch):
    """The batches as they were made at once, by all lengths and positions."""
    generator = np.random.default_rng((sampler.seed, epoch))
    source, target = lengths
    shuffled = generator.permutation(len(source)) if sampler.shuffle else np.arange(len(source))
    order = shuffled[np.lexsort((source[shuffled], target[shuffled]))]
    order = order if sampler.draw is None else sampler.draw(epoch)[order]
    steps = np.split(order, np.cumsum(sampler.sizes)[:-1])
    turn = generator.permutation(len(steps)) if sampler.shuffle else range(len(steps) - 1, -1, -1)
    return [batch.tolist() for i in turn for batch in np.array_split(steps[i], sampler.batches_per_step)]


@pytest.mark.parametrize("block", [7, 500, 5000])
@pytest.mark.parametrize("kind", ["plain", "longest first", "long", "measured", "drawn"])
def test_batches_are_those_of_arrays_of_everything(sentence_lengths, monkeypatch, kind, block):
    """A training that goes on from a checkpoint takes the batches that it would have taken."""
    lengths = tuple(9 * side if kind == "long" else side for side in sentence_lengths)

    def measure(epoch):
        return tuple(np.roll(side, epoch) for side in lengths)

    draw = Draw(np.float32([0.5, 1, 1.5] * 333), *lengths, seed=1)

    def build():
        if kind == "drawn":
            return draw.make_sampler(400, 2)
        settings = {"measure": measure} if kind == "measured" else {"shuffle": kind != "longest first"}
        return TokenBudgetBatchSampler(*lengths, 400, seed=3, batches_per_step=2, **settings)

    sizes = build().sizes
    monkeypatch.setattr(batching, "BLOCK", block)
    sampler = build()
    assert sampler.sizes == sizes
    if kind == "drawn":
        lengths = draw.source_lengths, draw.target_lengths
    for epoch in range(3):
        sampler.set_epoch(epoch)
        found = list(sampler)
        assert found == former_batches(measure(epoch) if kind == "measured" else lengths, sampler, epoch)


def test_without_shuffling_the_longest_come_first(sentence_lengths):
    source, target = sentence_lengths
    longest = [target[batch].max() for batch in TokenBudgetBatchSampler(source, target, 300, shuffle=False)]
    assert longest == sorted(longest, reverse=True)


def test_a_sentence_longer_than_the_budget_is_refused(sentence_lengths):
    longest = np.max(sentence_lengths)
    with pytest.raises(ValueError, match=f"`tokens_per_step` must be at least {longest}, .* but is 30. Raise it"):
        TokenBudgetBatchSampler(*sentence_lengths, 30)


def test_accelerate_hands_out_whole_batches_only_without_this_attribute(sentence_lengths):
    assert not hasattr(TokenBudgetBatchSampler(*sentence_lengths, 300), "batch_size")


def test_a_step_of_fewer_sentences_than_batches_has_empty_ones():
    lengths = np.full(5, 10)
    batches = list(TokenBudgetBatchSampler(lengths, lengths, 40, batches_per_step=4))
    assert sorted(len(batch) for batch in batches) == [0, 0, 0, 1, 1, 1, 1, 1]


def test_more_batches_a_step_than_sentences_are_refused():
    with pytest.raises(ValueError, match="3 pairs are too few for 4 batches in each step"):
        TokenBudgetBatchSampler(np.ones(3), np.ones(3), 300, batches_per_step=4)


@pytest.mark.parametrize(("tokens_per_device", "longest"), [(None, 404), (101, 101), (1000, 404)])
def test_the_longest_sentence_does_not_depend_on_the_number_of_processes(tokens_per_device, longest):
    training = TrainingFields(tokens_per_step=404, tokens_per_device=tokens_per_device)
    assert longest_sentence(training) == longest


@pytest.mark.parametrize(
    ("per_device", "processes", "accumulation", "batch"), [(None, 2, 1, 202), (101, 2, 2, 101), (100, 1, 5, 80)]
)
def test_a_plan_deals_the_tokens_of_a_step_out(per_device, processes, accumulation, batch):
    plan = StepPlan.make(404, per_device, processes)
    assert plan == StepPlan(404, processes, accumulation)
    assert (plan.batches, plan.batch_tokens) == (processes * accumulation, batch)


def test_more_processes_than_tokens_are_refused():
    with pytest.raises(
        ValueError, match=r"`tokens_per_step` must be at least 1 for each of 4 processes, but is 3\. Raise it"
    ):
        StepPlan.make(3, None, 4)


def changing_lengths(count, share=0.3):
    """Lengths of an epoch in which some sentences have become long."""

    def measure(epoch):
        generator = np.random.default_rng(epoch + 1)
        lengths = np.random.default_rng(0).integers(3, 12, count)
        grown = lengths + generator.integers(5, 30, count) * (generator.random(count) < share)
        return grown, grown

    return measure


@pytest.mark.parametrize("count", [40, 300, 5_000])
def test_epochs_that_show_other_text_are_cut_by_the_lengths_of_that(count):
    measure = changing_lengths(count)
    sampler = TokenBudgetBatchSampler(*measure(0), 300, measure=measure)
    for epoch in (0, 1, 2, 1):
        sampler.set_epoch(epoch)
        steps, lengths = list(sampler), measure(epoch)[0]
        assert len(steps) == len(sampler) == sampler.steps
        assert sorted(row for step in steps for row in step) == list(range(count))
        padded = [len(step) * lengths[step].max() for step in steps]
        assert max(padded) <= (300 if epoch == 0 else 1.25 * 300)
        if count == 5_000:
            assert max(padded) <= 303 and sum(padded) < 1.03 * lengths.sum()


def test_an_epoch_of_other_text_is_the_same_when_it_is_begun_again():
    measure = changing_lengths(500)
    first, again = (TokenBudgetBatchSampler(*measure(0), 300, seed=3, measure=measure) for _ in range(2))
    first.set_epoch(1)
    list(first)
    for sampler in (first, again):
        sampler.set_epoch(2)
    assert list(first) == list(again)


def test_a_step_of_one_long_sentence_is_not_halved():
    """It has the most tokens; where an epoch lacks steps another one gives some of its sentences away."""
    lengths = np.array([*[10] * 20, 300])
    assert cut_steps(lengths, 300) == [20, 1]
    assert cut_steps(lengths, 300, count=4) == [5, 5, 10, 1]
