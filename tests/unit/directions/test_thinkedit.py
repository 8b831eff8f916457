"""Long traces against short ones: which traces, and what is said when there are too few."""

import json
import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from steersman.directions.contrast import Contrast
from steersman.directions.error import DirectionError
from steersman.directions.sample import Sample
from steersman.directions.thinkedit import Bounds, by_percentiles, contrast
from tests.unit.directions.made_up import sample, samples


def lengths(made: Contrast) -> tuple[list[int], list[int]]:
    return (
        [one.sample.thinking_tokens for one in made.plus],
        [one.sample.thinking_tokens for one in made.minus],
    )


def test_the_authors_thresholds() -> None:
    made = contrast(samples(1001, 99, 1000, 100, None, 2000, 0, 5), least=2)
    assert lengths(made) == ([1001, 2000], [99, 5])
    assert {key: made.facts[key] for key in ("by", "long_from", "short_to", "closed")} == {
        "by": "tokens",
        "long_from": 1001,
        "short_to": 99,
        "closed": 6,
    }
    assert made.facts["plus"]["mean_thinking_tokens"] == 1500.5
    assert json.loads(json.dumps(made.facts)) == made.facts


def test_all_thinking_tokens_are_averaged_and_no_others() -> None:
    made = contrast(samples(3, 9), long_tokens=5, short_tokens=5, least=1)
    for one in (*made.plus, *made.minus):
        begin = len(one.sample.prompt) + 1
        assert one.positions == tuple(range(begin, begin + one.sample.thinking_tokens))


def test_right_and_wrong_traces_count_alike() -> None:
    given_samples = [sample(9, correct=False), sample(2, correct=None)]
    made = contrast(given_samples, long_tokens=5, short_tokens=5, least=1)
    assert lengths(made) == ([9], [2])


def test_percentiles_take_the_ends_of_any_lengths() -> None:
    made = contrast(samples(*range(1, 101)), by="percentiles")
    assert lengths(made) == (list(range(91, 101)), list(range(1, 11)))
    assert (made.facts["long_from"], made.facts["short_to"]) == (91, 10)


def test_percentiles_take_all_that_are_as_long() -> None:
    made = contrast(samples(1, 1, 1, 1, 5, 9, 9, 9), by="percentiles", least=3)
    assert lengths(made) == ([9, 9, 9], [1, 1, 1, 1])


percentile = st.integers(1, 99)


@given(
    found=st.lists(st.integers(1, 30), min_size=1, max_size=60).map(sorted),
    percentiles=st.sets(percentile, min_size=2, max_size=2).map(sorted),
)
def test_percentiles_against_a_slow_reference(found: list[int], percentiles: list[int]) -> None:
    short, long = percentiles
    short_to = min(x for x in found if sum(y <= x for y in found) * 100 >= short * len(found))
    top = (100 - long) * len(found)
    long_from = max(x for x in found if sum(y >= x for y in found) * 100 >= top)
    assert short_to <= long_from
    if short_to == long_from:
        with pytest.raises(DirectionError, match=f"both {short_to} thinking tokens"):
            by_percentiles(found, long, short)
    else:
        assert by_percentiles(found, long, short) == Bounds(long_from, short_to)


@given(
    found=st.lists(st.integers(0, 40) | st.none(), min_size=1, max_size=40),
    long_tokens=st.integers(0, 50),
    short_tokens=st.integers(1, 50),
    least=st.integers(1, 6),
)
def test_a_contrast_or_thresholds_that_give_one(
    found: list[int | None], long_tokens: int, short_tokens: int, least: int
) -> None:
    given_samples = samples(*found)
    assume(any(found) and short_tokens <= long_tokens)
    options = {"long_tokens": long_tokens, "short_tokens": short_tokens, "least": least}
    long = sum(length > long_tokens for length in found if length)
    short = sum(length < short_tokens for length in found if length)
    if min(long, short) >= least:
        made = contrast(given_samples, **options)
        plus, minus = lengths(made)
        assert all(length > long_tokens for length in plus)
        assert all(length < short_tokens for length in minus)
        assert (len(plus), len(minus)) == (long, short)
        return
    error = refusal(*found, **options)
    assert error.field == ("long_tokens" if long < least else "short_tokens")
    assert f"{long} are long" in error.message
    assert f"{short} short" in error.message
    suggested = re.search(
        r"long_tokens=(\d+) and short_tokens=(\d+) would give (\d+) and (\d+)$", error.message
    )
    if suggested is None:
        assert "no thresholds" in error.message
        assert not can_give(given_samples, least)
    else:
        long, short, *counts = map(int, suggested.groups())
        made = contrast(given_samples, long_tokens=long, short_tokens=short, least=least)
        assert [len(side) for side in lengths(made)] == counts


def can_give(given_samples: list[Sample], least: int) -> bool:
    """True if some length divides the traces into enough longer ones and enough others."""
    found = [one.thinking_tokens for one in given_samples if one.thinking_tokens]
    return any(
        min(sum(x > limit for x in found), sum(x <= limit for x in found)) >= least
        for limit in found
    )


def refusal(*found: int | None, **options: float | str) -> DirectionError:
    with pytest.raises(DirectionError) as caught:
        contrast(samples(*found), **options)  # type: ignore[arg-type]
    return caught.value


def test_too_few_long_traces() -> None:
    error = refusal(1, 2, 3, 400, 500, 2000, least=2)
    assert error.field == "long_tokens"
    assert error.message == (
        "of 6 closed traces 1 are long (1001 thinking tokens or more) and 3 short (99 or fewer), 2 "
        "of each are needed: long_tokens=499 and short_tokens=100 would give 2 and 3"
    )


def test_too_few_short_traces() -> None:
    error = refusal(1, 200, 300, 1400, 1500, 2000, least=3)
    assert error.field == "short_tokens"
    assert error.message.endswith("long_tokens=1000 and short_tokens=301 would give 3 and 3")


@pytest.mark.parametrize("short_tokens", [31, 100])
def test_a_threshold_that_has_enough_gives_way_where_the_other_needs_it(short_tokens: int) -> None:
    error = refusal(10, 20, 30, 40, long_tokens=500, short_tokens=short_tokens, least=2)
    assert error.field == "long_tokens"
    assert error.message.endswith("long_tokens=29 and short_tokens=21 would give 2 and 2")


def test_too_few_traces_at_either_percentile() -> None:
    error = refusal(*range(1, 51), by="percentiles")
    assert error.field == "long_percentile"
    assert "5 are long (46 thinking tokens or more)" in error.message
    assert error.message.endswith("long_tokens=40 and short_tokens=11 would give 10 and 10")
    error = refusal(*[1] * 5, *[9] * 40, by="percentiles")
    assert error.field == "short_percentile"


@pytest.mark.parametrize("found", [[5], [5, 5, 5, 5], [1, 5, 5, 5]])
def test_lengths_that_no_threshold_divides(found: list[int]) -> None:
    assert "no thresholds give them" in refusal(*found, least=2).message


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"least": 0}, "least"),
        ({"short_tokens": 0}, "short_tokens"),
        ({"long_tokens": 100, "short_tokens": 102}, "long_tokens"),
        ({"long_tokens": 5, "short_tokens": 600}, "long_tokens"),
        ({"by": "percentiles", "long_percentile": 100.0}, "long_percentile"),
        ({"by": "percentiles", "long_percentile": float("nan")}, "long_percentile"),
        ({"by": "percentiles", "short_percentile": 0.0}, "short_percentile"),
        ({"by": "percentiles", "short_percentile": 101.0}, "short_percentile"),
        ({"by": "percentiles", "long_percentile": 5.0}, "long_percentile"),
        (
            {"by": "percentiles", "long_percentile": 50.0, "short_percentile": 50.0},
            "long_percentile",
        ),
    ],
)
def test_thresholds_that_cannot_be_meant(options: dict[str, float | str], field: str) -> None:
    error = refusal(1, 2000, **options)
    assert error.field == field
    assert error.message.startswith(field)


def test_lengths_that_do_not_differ_have_no_percentiles() -> None:
    error = refusal(*[7] * 50, by="percentiles")
    assert error.field == "long_percentile"
    assert "50 closed traces are both 7 thinking tokens" in error.message


def test_the_thresholds_that_do_not_count_are_not_looked_at() -> None:
    made = contrast(samples(1, 2000), short_percentile=99, least=1)
    assert lengths(made) == ([2000], [1])
    made = contrast(samples(1, 2000), by="percentiles", long_tokens=0, short_tokens=9, least=1)
    assert lengths(made) == ([2000], [1])


def test_without_closed_traces() -> None:
    assert refusal(None, None, 0).field == "samples"
