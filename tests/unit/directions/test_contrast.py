"""Weights of tokens, and what a contrast tells of itself."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steersman.directions.contrast import Contrast, Weighted, check_least, paired
from steersman.directions.error import DirectionError
from tests.unit.directions.made_up import sample


def test_the_thinking_tokens_have_all_the_weight() -> None:
    one = Weighted.over_thinking(sample(5))
    assert one.positions == (3, 4, 5, 6, 7)
    assert one.tokens == (5, 6, 1, 7, 7, 7, 7, 7)
    assert one.weights.tolist() == [0, 0, 0, *[np.float32(0.2)] * 5]


@given(thinking=st.integers(1, 3000), data=st.data())
def test_weights_are_at_the_positions_and_sum_to_one(thinking: int, data: st.DataObject) -> None:
    made = sample(thinking)
    inside = st.integers(1, thinking)
    positions = sorted(data.draw(st.sets(inside, min_size=1, max_size=20)))
    one = Weighted.at(made, positions)
    sequence = made.prompt + made.response
    assert one.tokens == sequence[: len(one.tokens)]
    assert one.weights.shape == (len(one.tokens),)
    assert one.weights.dtype == np.float32
    assert np.flatnonzero(one.weights).tolist() == [len(made.prompt) + p for p in positions]
    assert set(one.weights[list(one.positions)].tolist()) == {float(np.float32(one.weight))}
    assert one.weights.sum(dtype=np.float64) == pytest.approx(1)


def test_weighted_sums_are_the_means_of_means() -> None:
    values = np.random.default_rng(0).standard_normal((2, 20, 4))
    side = [Weighted.over_thinking(sample(2)), Weighted.over_thinking(sample(9))]
    sums = [one.weights @ rows[: len(one.tokens)] for one, rows in zip(side, values, strict=True)]
    expected = (values[0, 3:5].mean(axis=0) + values[1, 3:12].mean(axis=0)) / 2
    assert sum(sums) / len(side) == pytest.approx(expected, rel=1e-5)


def test_paired_sides_are_the_mean_of_the_differences_within_problems() -> None:
    random = np.random.default_rng(0)
    values: dict[int, float] = {}

    def side(*problems: str) -> list[Weighted]:
        found = [Weighted.over_thinking(sample(3, problem=problem)) for problem in problems]
        values.update({id(one.sample): random.normal() for one in found})
        return found

    def mean(weighted: list[Weighted], problem: str | None = None) -> float:
        """Of the values of a side; of one problem, as if there were no shares."""
        if problem is None:
            return sum(values[id(w.sample)] * w.share for w in weighted) / len(weighted)
        own = [values[id(w.sample)] for w in weighted if w.sample.problem == problem]
        return sum(own) / len(own)

    plus, minus = side("a", "b", "a", "c"), side("b", "a", "b", "b", "d")

    first, second = paired(plus, minus)

    assert [one.sample.problem for one in first] == ["a", "b", "a"]
    assert [one.sample.problem for one in second] == ["b", "a", "b", "b"]
    wanted = sum(mean(plus, name) - mean(minus, name) for name in "ab") / 2
    assert mean(first) - mean(second) == pytest.approx(wanted)
    assert first[0].weights.sum() == pytest.approx(first[0].share)


def test_facts_are_json_and_count_both_sides() -> None:
    plus = [Weighted.over_thinking(sample(4)), Weighted.at(sample(7, problem="q"), [2])]
    made = Contrast.of(plus, [Weighted.over_thinking(sample(1))], by="hand")
    assert (made.plus, len(made.minus)) == (tuple(plus), 1)
    assert json.loads(json.dumps(made.facts)) == {
        "by": "hand",
        "plus": {"samples": 2, "problems": 2, "positions": 5, "mean_thinking_tokens": 5.5},
        "minus": {"samples": 1, "problems": 1, "positions": 1, "mean_thinking_tokens": 1.0},
    }


@pytest.mark.parametrize("least", [0, -3])
def test_a_side_needs_a_sample(least: int) -> None:
    with pytest.raises(DirectionError, match="at least 1") as caught:
        check_least(least)
    assert caught.value.field == "least"
    check_least(1)
