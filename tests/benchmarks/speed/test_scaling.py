"""The expected curve is fitted to the measured points, but for the last one."""

import pytest

from benchmarks.speed.scaling import fit


def test_the_last_point_is_foretold():
    values = (1, 2, 4, 8, 16)
    measured = [3 + 2 * n + 0.5 * n**2 for n in values]
    assert fit(values, [*measured[:-1], 1e9], (0, 1, 2)) == pytest.approx(measured)


def test_a_term_that_is_missing_shows():
    values = (16, 32, 64, 128, 256, 512)
    measured = [float(n**2) for n in values]
    assert fit(values, measured, (0, 1))[-1] < measured[-1] / 1.5
