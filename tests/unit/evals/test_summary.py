"""The numbers that the reasoner is measured by."""

import pytest
from evals.reasoner import summary
from evals.reasoner.summary import Graded

from steersman.puzzles.problems import Problem


def graded(problem: str, answer: str | None, thinking: int, right: bool = False) -> Graded:
    return Graded(Problem(problem, "count", 1, "?", "4"), answer, right, thinking, 0, None, None)


def test_shares() -> None:
    samples = [graded("a", "4", 1, right=True), graded("a", None, 2), graded("b", "5", 3)]
    assert summary.accuracy(samples) == pytest.approx(1 / 3)
    assert summary.closed(samples) == pytest.approx(2 / 3)


def test_variation_is_the_deviation_over_the_mean() -> None:
    assert summary.variation([graded("a", "4", n) for n in (2, 4, 4, 4, 5, 5, 7, 9)]) == 2 / 5


def test_deciles_go_from_the_shortest_to_the_longest() -> None:
    samples = [graded("a", "4", n, right=n >= 50) for n in range(100)]
    assert summary.deciles(samples) == [0.0] * 5 + [1.0] * 5
    assert summary.middle_decile(samples) == 0.5


def test_the_commonest_answer_of_a_problem_votes_and_the_earlier_wins_a_tie() -> None:
    wins = [graded("a", "5", 1), graded("a", "4", 2, right=True), graded("a", "4", 3, right=True)]
    tie = [graded("b", "5", 1), graded("b", "4", 2, right=True)]
    silent = [graded("c", None, 1)]
    assert summary.majority(wins) == 1.0
    assert summary.majority(tie) == 0.0
    assert summary.majority([*wins, *tie, *silent]) == pytest.approx(1 / 3)


def test_the_shortest_sample_of_each_problem() -> None:
    samples = [
        graded("a", "5", 1),
        graded("a", "4", 2, right=True),
        graded("b", "4", 9, right=True),
    ]
    assert summary.shortest(samples) == 0.5


def test_the_interval_resamples_problems() -> None:
    samples = [graded(f"{i}", "4", 1, right=i % 2 == 0) for i in range(100) for _ in range(8)]
    low, high = summary.interval(samples)
    assert 0.38 < low < 0.44
    assert 0.56 < high < 0.62
