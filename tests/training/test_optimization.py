import pytest
import torch

from training.engine.optimization import noam_learning_rate, noam_schedule


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
