"""Bounds of thinking in a response, and samples as lines of a file."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steersman.directions.error import DirectionError
from steersman.directions.sample import Sample, closed, thinking_span
from steersman.trajectory.phases import Markers
from tests.unit.directions.made_up import MARKERS, all_samples, sample, samples

TWO = Markers(start=(1, 5), end=(2, 5), start_text="[[think", end_text="[[done")


def bounds(span: range | None) -> tuple[int, int] | None:
    # Empty ranges are equal wherever they are.
    return None if span is None else (span.start, span.stop)


@pytest.mark.parametrize(
    ("response", "opened", "expected"),
    [
        ([1, 7, 7, 2, 8], False, (1, 3)),
        ([9, 1, 7, 2, 8], False, (2, 3)),
        ([7, 7, 2, 8], True, (0, 2)),
        ([1, 7, 2, 8], True, (1, 2)),
        ([7, 2, 8, 1], True, (0, 1)),
        ([7, 2, 1, 8, 2], True, (0, 1)),
        ([2, 1, 7, 2], False, None),
        ([1, 2, 8], False, (1, 1)),
        ([2, 8], True, (0, 0)),
        ([1, 7, 7], False, None),
        ([7, 7], True, None),
        ([2, 7, 1, 7], False, None),
        ([7, 2, 8], False, None),
        ([7, 8], False, None),
        ([], True, None),
    ],
)
def test_thinking_lies_between_the_markers(
    response: list[int], opened: bool, expected: tuple[int, int] | None
) -> None:
    assert bounds(thinking_span(response, MARKERS, opened=opened)) == expected


def test_markers_of_several_tokens() -> None:
    assert bounds(thinking_span([1, 5, 9, 2, 9, 2, 5, 8], TWO, opened=False)) == (2, 5)
    assert thinking_span([1, 5, 9, 2, 9], TWO, opened=False) is None


@given(response=st.lists(st.integers(1, 4)), opened=st.booleans())
def test_thinking_ends_at_the_first_marker_after_its_start(
    response: list[int], opened: bool
) -> None:
    span = thinking_span(response, MARKERS, opened=opened)
    if span is not None:
        assert response[span.stop] == 2
        assert 2 not in response[span.start : span.stop]
        assert response[: span.start].count(1) <= 1


def test_a_model_without_a_thinking_phase_has_no_thinking() -> None:
    made = Sample.of("p", [5], [1, 7, 2], correct=None, markers=None, opened=False)
    assert made == Sample("p", (5,), (1, 7, 2), None, None)
    assert (made.thinking_tokens, made.thinking_token_ids) == (0, ())


def test_a_sample_knows_its_thinking_tokens() -> None:
    made = Sample.of("p", [5], [1, 7, 9, 2, 8], correct=True, markers=MARKERS, opened=False)
    assert (made.thinking_tokens, made.thinking_token_ids) == (2, (7, 9))


token_ids = st.lists(st.integers(0, 1 << 20), max_size=6)


@given(
    problem=st.text(),
    prompt=token_ids,
    response=token_ids,
    correct=st.none() | st.booleans(),
    data=st.data(),
)
def test_a_line_gives_back_the_sample(
    problem: str, prompt: list[int], response: list[int], correct: bool | None, data: st.DataObject
) -> None:
    ends = st.lists(st.integers(0, len(response)), min_size=2, max_size=2).map(sorted)
    thinking = data.draw(st.none() | ends.map(lambda span: range(*span)))
    made = Sample(problem, tuple(prompt), tuple(response), correct, thinking)
    line = made.to_json()
    assert line.splitlines() == [line]
    read = Sample.from_json(line)
    assert (read, bounds(read.thinking)) == (made, bounds(thinking))
    assert Sample.from_json(line.encode()) == made


LINE = {"problem": "p", "prompt": [5], "response": [1, 7, 2], "correct": True, "thinking": [1, 2]}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"problem": 3}, "problem"),
        ({"prompt": "5"}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"response": [1.5]}, "response"),
        ({"response": None}, "response"),
        ({"correct": "yes"}, "correct"),
        ({"thinking": [1]}, "thinking"),
        ({"thinking": [2, 1]}, "thinking"),
        ({"thinking": [-1, 2]}, "thinking"),
        ({"thinking": [1, 4]}, "thinking"),
        ({"length": 3}, "length"),
    ],
)
def test_what_is_no_sample_is_refused(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(DirectionError, match="not a sample") as caught:
        Sample.from_json(json.dumps({**LINE, **changes}))
    assert caught.value.field == field
    assert caught.value.message == str(caught.value)


@pytest.mark.parametrize("field", list(LINE))
def test_a_line_lacks_nothing(field: str) -> None:
    with pytest.raises(DirectionError, match="required") as caught:
        Sample.from_json(json.dumps({key: LINE[key] for key in LINE if key != field}))
    assert caught.value.field == field


@pytest.mark.parametrize("line", ["", "{", "[]", "null"])
def test_what_is_no_object_is_refused(line: str) -> None:
    with pytest.raises(DirectionError, match="not a sample") as caught:
        Sample.from_json(line)
    assert caught.value.field is None


@given(st.lists(all_samples(), max_size=6))
def test_closed_samples_have_thinking_tokens(given_samples: list[Sample]) -> None:
    expected = [one for one in given_samples if one.thinking is not None and len(one.thinking)]
    if expected:
        assert closed(iter(given_samples)) == expected
    else:
        with pytest.raises(DirectionError, match=f"none of {len(given_samples)} samples"):
            closed(given_samples)


def test_without_a_closed_sample_there_is_no_direction() -> None:
    with pytest.raises(DirectionError, match="none of 3 samples has a thinking phase") as caught:
        closed([*samples(None, 0), sample(None, correct=False)])
    assert caught.value.field == "samples"
