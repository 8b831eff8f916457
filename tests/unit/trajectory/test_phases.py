"""Splitting a response at the end of its thinking phase."""

import pytest

from steersman.trajectory.phases import (
    Markers,
    Turn,
    find,
    find_last,
    opens_thinking,
    split,
    thinking_span,
)

ONE = Markers(start=(1,), end=(2,), start_text="<think>", end_text="</think>")
TWO = Markers(start=(1, 5), end=(2, 5), start_text="[[think", end_text="[[done")
CALLING = TWO.model_copy(update={"implicit": (4,), "implicit_text": ("<call>",)})


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
        ([1, 5, 7, 2, 5], True, range(2, 3), range(3, 5)),
        ([1, 7, 2, 5], True, range(2), range(2, 4)),
        ([7, 7, 4, 2, 5], True, range(2), range(2, 2)),
        ([1, 5, 7, 4], False, range(2, 3), range(3, 3)),
        ([1, 5, 2, 5], False, range(2, 2), range(2, 4)),
        ([1, 5, 2], False, range(2, 3), None),
    ],
)
def test_where_a_response_thinks(
    ids: list[int], opened: bool, thinking: range, closing: range | None
) -> None:
    span = thinking_span(ids, CALLING, opened=opened)
    assert span is not None
    assert (span.thinking, span.closing) == (thinking, closing)


def test_where_nothing_is_thought() -> None:
    assert thinking_span([7, 1, 7], TWO) is None
    # An end before a beginning ends what there was not.
    assert thinking_span([7, 2, 5, 1, 5, 8], TWO) is None
    assert thinking_span([4, 1, 5, 8], CALLING) is None


def test_a_tool_call_is_the_answer() -> None:
    phases = split([1, 5, 7, 4, 8], "[[think x <call>{}", CALLING)
    assert (phases.thinking_tokens, phases.answer) == (1, "<call>{}")


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


HEADER = (6, 3)
CHAT = Turn(frozenset({6, 9}), HEADER)


@pytest.mark.parametrize(
    ("prompt", "assumed", "opened"),
    [
        ([6, 7, 1, 9, 6, 3], False, False),  # the marker is a user's text
        ([6, 7, 1, 9, 6, 3], True, True),
        ([6, 7, 9, 6, 3, 1], False, True),
        ([6, 7, 9, 6, 3, 1, 8, 2], True, False),
        ([6, 7, 1, 9, 6, 3, 8], True, False),  # an answer that is to be continued
        ([6, 7, 9, 6, 3, 1, 8], False, True),  # a thought that is to be continued
        ([6, 7, 9, 6, 3, 1, 8, 4], True, False),  # up to a tool call
        ([7, 8], True, False),  # no chat
        ([7, 1, 8], False, True),
    ],
)
def test_earlier_turns_open_nothing(prompt: list[int], assumed: bool, opened: bool) -> None:
    markers = ONE.model_copy(update={"implicit": (4,), "implicit_text": ("<call>",)})
    assert opens_thinking(prompt, markers, CHAT, assumed=assumed) == opened


def test_find() -> None:
    assert find([1, 2, 1, 2], (1, 2)) == 0
    assert find_last([1, 2, 1, 2], (1, 2)) == 2
    assert find([1], (1, 2)) is None
    assert find_last([], (1,)) is None
