import pytest
import torch

from training.engine.optimization import count_decay_steps, noam_learning_rate, noam_schedule


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (1, 512**-0.5 * 4000**-1.5),
        (4000, 512**-0.5 * 4000**-0.5),
        (4001, 512**-0.5 * 4001**-0.5),
        (10_000, 512**-0.5 * 10_000**-0.5),
    ],
)
def test_learning_rates_are_the_formulas(step, expected):
    assert noam_learning_rate(step, 512, 4000) == pytest.approx(expected, rel=1e-12)
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = noam_schedule(optimizer, 512, 4000)
    for _ in range(step - 1):
        optimizer.step()
        schedule.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(expected, rel=1e-12)


def test_the_peak_of_the_base_model():
    assert noam_learning_rate(4000, 512, 4000) == pytest.approx(6.99e-4, rel=1e-3)
    assert noam_learning_rate(4000, 512, 4000, scale=2.0) == pytest.approx(1.398e-3, rel=1e-3)


def test_the_last_steps_have_falling_parts_of_the_formula():
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = noam_schedule(optimizer, 512, 4, total=10, decay_steps=4)
    rates = []
    for _ in range(11):  # the last one is set after the last step, and not used
        rates.append(optimizer.param_groups[0]["lr"] / noam_learning_rate(len(rates) + 1, 512, 4))
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([1, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2, 0])


@pytest.mark.parametrize(("decay_steps", "counted"), [(0, 0), (0.25, 25), (30, 30), (500, 100)])
def test_the_end_is_a_number_of_steps_or_a_share(decay_steps, counted):
    assert count_decay_steps(decay_steps, 100) == counted
