"""Lines through measurements: their slopes, and how sure these are."""

import numpy as np
import pytest

from tests.soak.trend import student, trend

TIMES = np.arange(240) * 5.0
MIB_A_SECOND = 1 / 3600


def wandering(seed: int, last: float = 0.95, size: float = 0.3) -> np.ndarray:
    """Noise in which a measurement is near the one before, as memory is."""
    steps = np.random.default_rng(seed).normal(size=len(TIMES)) * size
    values = [steps[0] / np.sqrt(1 - last**2)]
    for step in steps[1:]:
        values.append(last * values[-1] + step)
    return np.array(values)


def test_a_line_is_found_exactly() -> None:
    line = trend(TIMES, 100 + 0.5 * TIMES)
    assert line.slope == pytest.approx(0.5)
    assert (line.low, line.high) == pytest.approx((0.5, 0.5))
    assert line.value(0.0) == pytest.approx(100)
    assert line.value(2000.0) == pytest.approx(1100)


@pytest.mark.parametrize("leak", [0.0, 40 * MIB_A_SECOND, -40 * MIB_A_SECOND])
def test_the_interval_holds_the_slope_of_what_wanders(leak: float) -> None:
    held = 0
    for seed in range(200):
        line = trend(TIMES, 900 + leak * TIMES + wandering(seed))
        held += line.low <= leak <= line.high
    assert held > 165  # 174 of 200 where neighbours are this close; white noise would have 190


def test_neighbours_that_go_together_make_it_wider() -> None:
    own = wandering(1)
    shuffled = np.random.default_rng(0).permutation(own)
    slow, fast = trend(TIMES, own), trend(TIMES, shuffled)
    assert slow.high - slow.low > 2 * (fast.high - fast.low)


def test_end_points_decide_nothing() -> None:
    """A garbage collector that has just been, or not, is a leak by two points only."""
    sawtooth = 900 + (TIMES % 95)
    line = trend(TIMES, sawtooth)
    by_two_points = (sawtooth[-1] - sawtooth[0]) / (TIMES[-1] - TIMES[0])
    assert by_two_points > 0.04
    assert line.low < 0 < line.high
    spiked = sawtooth.copy()
    spiked[-1] += 300
    assert abs(trend(TIMES, spiked).slope) < by_two_points


def test_a_leak_is_told_from_what_only_wanders() -> None:
    leak = 100 * MIB_A_SECOND
    assert all(trend(TIMES, leak * TIMES + wandering(seed)).low > 0 for seed in range(20))


def test_too_few_have_no_trend() -> None:
    with pytest.raises(ValueError, match="7 measurements have no trend"):
        trend(TIMES[:7], TIMES[:7])


@pytest.mark.parametrize(("degrees", "quantile"), [(4, 2.7764), (6, 2.4469), (10, 2.2281)])
def test_students_quantiles(degrees: int, quantile: float) -> None:
    assert student(degrees) == pytest.approx(quantile, abs=0.02)
