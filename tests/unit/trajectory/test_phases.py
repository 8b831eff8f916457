"""Splitting a response at the end of its thinking phase."""

import pytest

from steersman.trajectory.phases import (
    Markers,
    find,
    find_last,
    opens_thinking,
    split,
    thinking_span,
)

ONE = Markers(start=(1,), end=(2,), start_text="<think>", end_text="</think>")
TWO = Markers(start=(1, 5), end=(2, 5), start_text="[[think", end_text="[[done")


def test_without_markers_everything_is_the_answer() -> None:
    phases = split([7, 8], "a b", None)
    assert (phases.thinking_tokens, phases.answer) == (0, "a b")


@pytest.mark.parametrize(
    ("ids", "text", "opened", "thinking", "answer"),
    [
        ([1, 7, 7, 2, 8], "<think>a b</think>c", False, 2, "c"),
        ([7, 7, 2, 8], "a b</think>c", True, 2, "c"),
        ([1, 7, 7], "<think>a b", False, 2, None),
        ([7, 7], "a b", True, 2, None),
        ([7, 7], "a b", False, 0, "a b"),
        ([1, 2], "<think></think>", False, 0, ""),
        ([1, 7, 2, 8], "a c", False, 1, "a c"),
    ],
)
def test_split(ids: list[int], text: str, opened: bool, thinking: int, answer: str | None) -> None:
    phases = split(ids, text, ONE, opened=opened)
    assert (phases.thinking_tokens, phases.answer) == (thinking, answer)


def test_markers_of_several_tokens() -> None:
    phases = split([1, 5, 9, 2, 9, 2, 5, 8], "[[think x [ x[[done y", TWO)
    assert (phases.thinking_tokens, phases.answer) == (3, " y")


@pytest.mark.parametrize(
    ("ids", "opened", "thinking", "closing"),
    [
        ([9, 1, 5, 7, 7, 2, 5, 8], False, range(3, 5), range(5, 7)),
        ([7, 2, 5, 8], True, range(1), range(1, 3)),
        ([7, 1, 5, 7], True, range(4), None),
        ([7, 2, 5, 1, 5, 8], False, range(1), range(1, 3)),
        ([1, 5, 2, 5], False, range(2, 2), range(2, 4)),
        ([1, 5, 2], False, range(2, 3), None),
    ],
)
def test_where_a_response_thinks(
    ids: list[int], opened: bool, thinking: range, closing: range | None
) -> None:
    span = thinking_span(ids, TWO, opened=opened)
    assert span is not None
    assert (span.thinking, span.closing) == (thinking, closing)


def test_where_nothing_is_thought() -> None:
    assert thinking_span([7, 1, 7], TWO) is None


def test_only_a_non_blank_answer_is_one() -> None:
    assert split([1, 2, 8], "<think></think> x", ONE).has_answer
    assert not split([1, 2, 8], "<think></think> \n", ONE).has_answer
    assert not split([1, 8], "<think> x", ONE).has_answer


def test_a_prompt_may_leave_the_thinking_open() -> None:
    assert opens_thinking([3, 1], ONE)
    assert not opens_thinking([3, 1, 2], ONE)
    assert opens_thinking([1, 2, 3, 1, 4], ONE)
    assert not opens_thinking([3, 4], ONE)
    assert not opens_thinking([3, 1], None)


def test_find() -> None:
    assert find([1, 2, 1, 2], (1, 2)) == 0
    assert find_last([1, 2, 1, 2], (1, 2)) == 2
    assert find([1], (1, 2)) is None
    assert find_last([], (1,)) is None
