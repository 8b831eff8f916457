"""Intervals and tests against known values and simulated truth."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steersman.evaluate.inference import (
    Bootstrap,
    Estimate,
    difference,
    holm,
    interval,
    mcnemar,
    mean,
    proportion,
    quantile,
    quantile_ratio,
    ratio,
    share,
    unseen,
)

SIMULATIONS = 250


def correct_answers(rng: np.random.Generator, ability: np.ndarray, samples: int = 2) -> np.ndarray:
    return (rng.random((len(ability), samples)) < ability[:, None]).astype(float)


def coverage(found: list[Estimate], truth: float) -> float:
    return float(np.mean([one.low <= truth <= one.high for one in found]))


def test_the_interval_of_an_accuracy_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    found = [
        proportion(Bootstrap(80, i, 300), correct_answers(rng, rng.beta(2, 1, 80)))
        for i in range(SIMULATIONS)
    ]
    assert 0.92 <= coverage(found, 2 / 3) <= 0.98


def test_treating_samples_of_a_problem_as_independent_would_not_cover() -> None:
    # The reason for resampling problems: with hard and easy ones, samples agree with each other.
    rng = np.random.default_rng(0)
    found, naive = [], []
    for i in range(SIMULATIONS):
        right = correct_answers(rng, rng.choice([0.02, 0.98], 60), samples=8)
        found.append(proportion(Bootstrap(60, i, 300), right))
        naive.append(proportion(Bootstrap(480, i, 300), right.reshape(-1, 1)))
    assert coverage(found, 0.5) >= 0.92
    assert coverage(naive, 0.5) <= 0.7


def test_the_interval_of_a_paired_difference_covers_the_truth() -> None:
    rng = np.random.default_rng(0)
    found = []
    for i in range(SIMULATIONS):
        ability = rng.uniform(0.2, 0.8, 80)
        ours, theirs = correct_answers(rng, ability + 0.1), correct_answers(rng, ability)
        found.append(difference(Bootstrap(80, i, 300), ours, theirs))
    assert 0.92 <= coverage(found, 0.1) <= 0.98


def test_the_intervals_of_a_ratio_and_of_a_quantile_cover_the_truth() -> None:
    rng = np.random.default_rng(0)
    ratios, medians, tails, speeds = [], [], [], []
    for i in range(SIMULATIONS):
        bootstrap = Bootstrap(150, i, 300)
        ours, theirs = rng.exponential(3.0, (2, 150, 1))
        ratios.append(ratio(bootstrap, 2 * ours, theirs))
        medians.append(quantile(bootstrap, ours, 0.5))
        tails.append(quantile(bootstrap, ours, 0.95))
        speeds.append(quantile_ratio(bootstrap, 2 * ours, theirs, 0.5))
    assert 0.92 <= coverage(ratios, 2.0) <= 0.98
    assert 0.92 <= coverage(medians, 3 * np.log(2)) <= 0.98
    assert 0.88 <= coverage(tails, 3 * np.log(20)) <= 0.99
    assert 0.92 <= coverage(speeds, 2.0) <= 0.99


def test_pairing_narrows_the_interval_of_a_difference() -> None:
    rng = np.random.default_rng(0)
    ability = rng.choice([0.0, 1.0], 200)
    theirs = correct_answers(rng, ability, 1)
    ours = np.where(rng.random((200, 1)) < 0.05, 1 - theirs, theirs)
    bootstrap = Bootstrap(200)
    paired = difference(bootstrap, ours, theirs)
    shuffled = difference(bootstrap, ours, rng.permutation(theirs))
    assert paired.high - paired.low < 0.5 * (shuffled.high - shuffled.low)


def test_resampled_quantiles_are_those_of_the_resamples() -> None:
    rng = np.random.default_rng(1)
    values = rng.exponential(size=(7, 3))
    bootstrap = Bootstrap(7, seed=5, resamples=150)
    counts = np.random.default_rng(5).multinomial(7, np.full(7, 1 / 7), size=150)
    for at in (0.5, 0.95):
        expected = [
            np.quantile(np.repeat(values, count, axis=0), at, method="inverted_cdf")
            for count in counts
        ]
        np.testing.assert_allclose(bootstrap.quantiles(values, at), expected)


def test_resampled_ratios_are_those_of_the_resamples() -> None:
    counts = np.random.default_rng(5).multinomial(4, np.full(4, 1 / 4), size=50)
    hits, of = np.array([1.0, 0, 2, 0]), np.array([2.0, 0, 2, 0])
    with np.errstate(invalid="ignore"):
        expected = counts @ hits / (counts @ of)
    assert np.isnan(expected).any()
    np.testing.assert_allclose(Bootstrap(4, 5, 50).ratios(hits, of), expected)


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.arange(12.0).reshape(6, 2)
    assert mean(Bootstrap(6, 1), values) == mean(Bootstrap(6, 1), values)
    assert mean(Bootstrap(6, 1), values) != mean(Bootstrap(6, 2), values)


def test_all_or_none_right_is_not_certain() -> None:
    # Clopper and Pearson's interval for 10 of 10 begins at 69.15 %.
    assert ends(proportion(Bootstrap(10), np.ones((10, 3)))) == pytest.approx(
        (0.69150, 1), abs=1e-5
    )
    assert ends(proportion(Bootstrap(10), np.zeros((10, 3)))) == pytest.approx(
        (0, 0.3085), abs=1e-5
    )
    half = np.repeat([1.0, 0.0], 5)
    assert ends(share(Bootstrap(10), half, half)) == pytest.approx((1 - unseen(5), 1))


def test_no_difference_seen_is_not_no_difference() -> None:
    same = np.array([[1.0], [0.0]] * 5)
    found = difference(Bootstrap(10), same, same)
    assert (found.value, *ends(found)) == pytest.approx((0, -0.3085, 0.3085), abs=1e-5)
    assert not found.excludes_zero


def ends(estimate: Estimate) -> tuple[float, float]:
    return estimate.low, estimate.high


def test_an_interval_leaves_out_what_could_not_be_computed() -> None:
    found = interval(1.0, np.array([np.nan, 1.0, 1.0, np.nan]))
    assert found == Estimate(1.0, 1.0, 1.0)
    assert found.excludes_zero


@pytest.mark.parametrize(
    ("better", "worse", "p_value"),
    [
        (0, 0, 1.0),
        (5, 5, 1.0),
        (0, 5, 0.0625),
        (1, 9, 22 / 1024),
        # R: binom.test(121, 121 + 59)$p.value
        (121, 59, 4.434e-06),
    ],
)
def test_mcnemar_agrees_with_known_values(better: int, worse: int, p_value: float) -> None:
    assert mcnemar(better, worse) == pytest.approx(p_value, rel=1e-3)
    assert mcnemar(worse, better) == mcnemar(better, worse)


def test_mcnemar_takes_many_pairs() -> None:
    assert mcnemar(10_000, 10_000) == 1.0
    assert mcnemar(9_000, 11_000) < 1e-40


def test_mcnemar_rejects_a_true_hypothesis_no_more_often_than_it_says() -> None:
    rng = np.random.default_rng(0)
    rejected = [
        mcnemar(better, 40 - better) < 0.05 for better in rng.binomial(40, 0.5, 2000).tolist()
    ]
    assert 0.01 <= np.mean(rejected) <= 0.05


def test_holm_agrees_with_a_known_value() -> None:
    # R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.03]) == [0.03]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_never_lowers_a_p_value_nor_changes_their_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(p <= a <= 1 for p, a in zip(p_values, adjusted, strict=True))
    in_order = [a for _, a in sorted(zip(p_values, adjusted, strict=True))]
    assert all(a <= b for a, b in pairwise(in_order))
