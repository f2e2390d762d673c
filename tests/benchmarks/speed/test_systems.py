"""The systems that are compared learn the same batches and give the same translations."""

import importlib.util

import pytest
import torch

from benchmarks.speed.generation_systems import GENERATION_SYSTEMS
from benchmarks.speed.systems import TRAINING_SYSTEMS, Shape, count_operations, our_config
from benchmarks.text import Batch
from vanilla_transformer import VanillaTransformerForConditionalGeneration

SHAPE = Shape(vocab_size=50, layers=2, width=16, inner=32, heads=2, dropout=0.0)


@pytest.fixture
def batch():
    torch.manual_seed(0)
    source, target = torch.randint(4, 50, (2, 3, 7))
    source[:, -1] = target[:, -1] = 2
    source[1, 5:], target[2, 4:] = 1, 1
    return Batch(source, target)


@pytest.mark.parametrize("name", TRAINING_SYSTEMS)
def test_systems_learn_the_same_batch(name, batch, monkeypatch):
    monkeypatch.setattr(
        "benchmarks.speed.systems.keep_freed_memory", lambda: None
    )  # it would hold for all other tests
    module = {"x-transformers": "x_transformers", "opennmt-py": "onmt"}.get(name)
    if module is not None and importlib.util.find_spec(module) is None:
        pytest.skip(f"{name} is not installed")
    torch.manual_seed(0)
    step = TRAINING_SYSTEMS[name](SHAPE, "float32")
    losses = [step(batch) for _ in range(60)]
    assert 3 < losses[0] < 6  # ln 50 = 3.9
    assert losses[-1] < losses[0]


def test_operations_of_a_step_are_those_of_its_products(batch):
    rows, width, inner = batch.source.numel(), SHAPE.width, SHAPE.inner
    scores = 2 * len(batch.source) * batch.source.shape[1] ** 2 * width * 2  # queries with keys, weights with values
    encoder = 2 * rows * (4 * width**2 + 2 * width * inner) + scores
    decoder = 2 * rows * (8 * width**2 + 2 * width * inner) + 2 * scores
    forward = SHAPE.layers * (encoder + decoder)
    real = int((batch.target != 1).sum())  # only of these are there logits
    backward = 2 * (forward + 2 * real * width * SHAPE.vocab_size)
    expected = forward + 2 * real * width * SHAPE.vocab_size + backward
    assert count_operations(SHAPE, batch) * batch.tokens == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("name", ["ours", "marian"])
def test_systems_translate_alike(name, batch):
    torch.manual_seed(0)
    model = VanillaTransformerForConditionalGeneration(our_config(SHAPE)).eval()
    with torch.no_grad():
        model.lm_head.weight.mul_(3)
        model.lm_head.weight[2] = 0
    expected = GENERATION_SYSTEMS["ours-plain"](model)(batch.source, 4, 6)
    assert len(expected[0]) == 6
    assert GENERATION_SYSTEMS[name](model)(batch.source, 4, 6) == expected
