"""Beginning of an answer, found while its tokens come."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steersman.trajectory.answer_start import AnswerStart
from steersman.trajectory.phases import Markers, thinking_span

ONE = Markers(start=(1,), end=(2,), start_text="<think>", end_text="</think>", implicit=(3,))
LONG = Markers(start=(1, 4), end=(2, 4), start_text="<think>", end_text="</think>")


def found(tokens: Sequence[int], markers: Markers | None, opened: bool, step: int = 1) -> int:
    """Index of the first step with a token of the answer; -1 if none has one."""
    start = AnswerStart(markers, opened)
    steps = [tokens[at : at + step] for at in range(0, len(tokens), step)]
    return next((index for index, new in enumerate(steps) if start.begun(new)), -1)


@pytest.mark.parametrize(
    ("tokens", "opened", "index"),
    [
        ((7, 7, 2, 8), True, 3),
        ((7, 7, 2), True, -1),
        ((1, 7, 2, 8), True, 3),
        ((7, 3, 8), True, 1),
        ((1, 7, 2, 8), False, 3),
        ((8, 1, 7), False, 0),
        ((2, 8), False, 0),
        ((), False, -1),
    ],
)
def test_the_first_token_of_the_answer(tokens: tuple[int, ...], opened: bool, index: int) -> None:
    assert found(tokens, ONE, opened) == index


def test_a_model_without_thinking_answers_at_once() -> None:
    assert found((), None, False) == -1
    assert found((5,), None, False) == 0


def test_a_long_marker_is_waited_for() -> None:
    assert found((1, 4, 7, 2, 4, 8), LONG, False) == 5
    assert found((1, 7), LONG, False) == 1


@given(st.lists(st.sampled_from([1, 2, 3, 7]), max_size=8), st.booleans(), st.integers(1, 3))
def test_it_is_the_first_token_outside_of_the_thinking(
    tokens: list[int], opened: bool, step: int
) -> None:
    span = thinking_span(tokens, ONE, opened=opened)
    if span is None or span.opening.start:
        first = 0
    else:
        first = len(tokens) if span.closing is None else span.closing.stop
    assert found(tokens, ONE, opened, step) == (first // step if first < len(tokens) else -1)
