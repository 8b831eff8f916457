"""Accuracy by length, from responses whose truth is known."""

import numpy as np
import pytest

from steersman.evaluate.inference import Array, Bootstrap
from steersman.evaluate.lengths import Lengths, by_length, shortest_tenth
from steersman.evaluate.table import Table


def table_of(right: Array, length: Array, thinking: bool = True) -> Table:
    return Table(
        right=right.astype(float),
        thinking=length if thinking else None,
        completion=length,
        sampled=length,
        seconds=length,
        cut_off=np.zeros_like(length),
    )


def lengths_of(right: Array, length: Array, thinking: bool = True) -> Lengths | None:
    return by_length(table_of(right, length, thinking), Bootstrap(len(right), resamples=500))


def test_each_decile_is_a_tenth_in_order_of_length() -> None:
    length = np.random.default_rng(0).permutation(np.arange(200.0)).reshape(100, 2)
    found = lengths_of(length % 20 < 5, length)
    assert found is not None
    assert [(one.shortest, one.longest) for one in found.deciles] == [
        (20 * i, 20 * i + 19) for i in range(10)
    ]
    assert (found.median.shortest, found.median.longest) == (90, 109)
    assert [one.accuracy.value for one in found.deciles] == [0.25] * 10
    assert found.measure == "thinking"


@pytest.mark.parametrize(("worst", "sign"), [("short", -1), ("long", 0)])
def test_short_responses_that_are_worse_are_found(worst: str, sign: int) -> None:
    rng = np.random.default_rng(1)
    length = rng.integers(1, 1000, (300, 4)).astype(float)
    chance = np.where(length < 150, 0.3, 0.8) if worst == "short" else np.full(length.shape, 0.8)
    found = lengths_of(rng.random(length.shape) < chance, length)
    assert found is not None
    assert (
        np.sign(found.shortest_minus_median.value) * found.shortest_minus_median.excludes_zero
        == sign
    )
    assert found.shortest_of_problem is not None
    assert (
        np.sign(found.shortest_of_problem.value) * found.shortest_of_problem.excludes_zero == sign
    )


def test_easy_problems_with_short_responses_do_not_hide_a_loss_within_problems() -> None:
    rng = np.random.default_rng(2)
    easy = np.repeat([True, False], 200)[:, None]
    hasty = rng.random((400, 4)) < 0.5
    length = np.where(easy, 10, 100) + np.where(hasty, 0, 5) + rng.integers(0, 3, (400, 4))
    chance = np.where(easy, 0.95, 0.6) - np.where(hasty, 0.3, 0)
    found = lengths_of(rng.random((400, 4)) < chance, length.astype(float))
    assert found is not None
    assert found.shortest_minus_median.low > -0.15
    assert found.shortest_of_problem is not None
    assert found.shortest_of_problem.high < -0.05


def test_the_shortest_of_a_problem_is_what_a_search_would_return() -> None:
    length = np.tile([[1.0, 2.0, 3.0, 3.0], [5.0, 2.0, 2.0, 9.0]], (50, 1))
    right = np.tile([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]], (50, 1))
    found = lengths_of(right, length)
    assert found is not None
    assert found.shortest_of_problem is not None
    # 1 and 1/2 (a tie) where any sample is right in 1/4 of the cases.
    assert found.shortest_of_problem.value == pytest.approx(0.75 - 0.25)


def test_ties_fall_at_random_not_in_the_order_of_the_problems() -> None:
    right = np.repeat([1.0, 0.0], 500).reshape(500, 2)
    found = lengths_of(right, np.full((500, 2), 7.0))
    assert found is not None
    assert all(0.3 < one.accuracy.value < 0.7 for one in found.deciles)


def test_without_counted_thinking_the_whole_response_is_measured() -> None:
    length = np.arange(100.0).reshape(100, 1)
    found = lengths_of(np.ones((100, 1)), length, thinking=False)
    assert found is not None
    assert found.measure == "response"
    assert found.shortest_of_problem is None


def test_few_responses_have_no_deciles() -> None:
    assert lengths_of(np.ones((49, 2)), np.ones((49, 2))) is None


def test_the_shortest_tenth_of_each_control_is_its_own() -> None:
    length = np.arange(1000.0).reshape(500, 2)
    # The baseline's shortest are wrong; the other's shortest are other questions, and right.
    baseline = table_of(length >= 100, length)
    ours = table_of(length >= 100, 1000 - length)
    found = shortest_tenth(ours, baseline, Bootstrap(500, resamples=500))
    assert found is not None
    assert found.value == 1.0
    same = shortest_tenth(baseline, baseline, Bootstrap(500, resamples=500))
    assert same is not None
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)


def test_a_shortest_tenth_of_few_responses_says_nothing() -> None:
    few = table_of(np.ones((20, 2)), np.ones((20, 2)))
    assert shortest_tenth(few, few, Bootstrap(20)) is None
