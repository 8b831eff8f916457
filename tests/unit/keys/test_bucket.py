"""The token bucket, on a clock of its own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steersman.keys.bucket import Bucket


class Clock:
    """Seconds, as the test says."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_was_used_is_charged_and_comes_back() -> None:
    clock = Clock()
    bucket = Bucket(60, clock)
    bucket.take(59)
    assert bucket.wait() == 0.0
    bucket.take(11)  # one token a second
    assert bucket.wait() == 11.0
    clock.now = 10.5
    assert bucket.wait() == 0.0


def test_it_holds_no_more_than_a_minute_brings() -> None:
    clock = Clock()
    bucket = Bucket(60, clock)
    clock.now = 1e6
    bucket.take(60)
    assert bucket.wait() > 0


@given(
    st.integers(1, 10**6),
    st.lists(st.tuples(st.floats(0, 1e3), st.integers(0, 10**5)), min_size=1, max_size=20),
)
def test_after_the_wait_there_is_something_in_it(rate: int, steps: list[tuple[float, int]]) -> None:
    clock = Clock()
    bucket = Bucket(rate, clock)
    for seconds, tokens in steps:
        clock.now += seconds
        bucket.take(tokens)
    clock.now += bucket.wait() * (1 + 1e-9)
    assert bucket.wait() == pytest.approx(0.0, abs=1e-3)
