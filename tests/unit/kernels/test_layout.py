"""Each fact of the layout stands once: what has to repeat it says the same."""

import subprocess
import sys
from typing import Any, get_args

import pytest

from steersman.steering.configuration import Phase, Place
from steersman_client import AppliedThinking, Balance, EntropyExit, Live, Steer
from steersman_kernels import layout as at
from steersman_kernels.layout import Value


def between(first: str, last: str) -> list[int]:
    """Values of the module's names from one on, up to another one, in the order they stand in."""
    names = list(vars(at))
    return [getattr(at, name) for name in names[names.index(first) : names.index(last)]]


def said(model: Any, field: str) -> tuple[Any, ...]:
    """Values that a field of the wire allows, without null."""
    allowed = get_args(model.model_fields[field].annotation)
    return next((values for one in allowed if (values := get_args(one))), allowed)


@pytest.mark.parametrize(
    ("model", "field", "values"),
    [
        (AppliedThinking, "closed_by", at.REASONS[1:]),
        (Balance, "law", at.LAWS[1:]),
        (Live, "phase", at.PARTS[1:]),
        (Steer, "phase", get_args(Phase)),
        (Steer, "at", get_args(Place)),
    ],
)
def test_the_wire_has_the_same_names(model: Any, field: str, values: tuple[str, ...]) -> None:
    assert said(model, field) == values


def test_a_window_of_the_wire_fits_into_the_ring() -> None:
    most = EntropyExit.model_json_schema()["properties"]["window"]["maximum"]
    assert most == at.WINDOW_TOKENS


def test_phases_are_the_parts_of_a_response() -> None:
    assert get_args(Phase) == ("all", *at.PARTS[1:])
    assert (at.THINKING, at.ANSWER) == (at.IN_THINKING, at.IN_ANSWER) == (1, 2)


@pytest.mark.parametrize(
    ("prefix", "names"),
    [("BY_", at.REASONS[1:]), ("IN_", at.PARTS), ("T_", Value._fields)],
)
def test_codes_and_columns_are_the_places_of_their_names(
    prefix: str, names: tuple[str, ...]
) -> None:
    found = {name: value for name, value in vars(at).items() if name.startswith(prefix)}
    first = 1 if prefix == "BY_" else 0
    assert found == {f"{prefix}{name.upper()}": code for code, name in enumerate(names, first)}


def test_laws_are_the_places_of_their_names() -> None:
    assert at.LAWS[at.PROPORTIONAL] == "proportional"
    assert at.LAWS[at.CONFIDENCE_LAW] == "confidence"


@pytest.mark.parametrize(("first", "last"), [("KNOWN", "INTS"), ("EXIT_BELOW", "FLOATS")])
def test_no_two_columns_are_the_same(first: str, last: str) -> None:
    assert between(first, last) == list(range(getattr(at, last)))


def test_columns_of_steered_requests_do_not_overlap() -> None:
    classes = len(at.CLASSES)
    assert at.CLASSES[2 * at.IN_ANSWER + 1] == ("answer", True)
    single = [at.ORIGIN, at.OPENED, at.CLOSED, at.EDITED]
    wide = [(at.ROWS, classes), (at.COUNTS, classes), (at.RECENT, at.MARKER_TOKENS)]
    columns = [*single, *(first + i for first, count in wide for i in range(count))]
    assert len(set(columns)) == len(columns)
    assert max(columns) + 1 == at.WIDTH
    assert at.STEERED_COUNTS.size == 4 * (at.EDITED + 1 - at.COUNTS)


@pytest.mark.parametrize("ring", [at.MARKER_TOKENS, at.HISTORY, at.WINDOW_TOKENS, at.SEGMENT_ENDS])
def test_rings_are_powers_of_two(ring: int) -> None:
    assert ring & (ring - 1) == 0


def test_a_packed_value_is_the_value() -> None:
    value = Value(0.5, -1.5, 0.25, 0.75, -0.5, -7.0, 2.0, at.BY_LOOP, 1)
    assert Value.of(value.packed()) == value
    assert len(value.packed()) == 4 * at.TRACK


def test_the_front_end_gets_it_without_torch() -> None:
    program = "import sys, steersman_kernels.layout; print(*{'torch', 'triton'} & {*sys.modules})"
    command = [sys.executable, "-c", program]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "\n"
