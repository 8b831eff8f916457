"""One request in many ways of writing it."""

import json
import shlex
from typing import Any

import hypothesis
from hypothesis import strategies as st

from tests.fuzz.bodies import CHAT
from tests.fuzz.spelling import canonical
from tests.fuzz.values import deep, raw
from tests.fuzz.wire import Case, plainly
from tests.unit.fuzz.surfaces import SURFACE


def test_literals_and_nesting_are_written_out() -> None:
    body = {"a": raw("1e999"), "b": [raw("-0"), deep(3)], "c": deep(2, "a")}
    assert plainly(body) == b'{"a": 1e999, "b": [-0, [[[]]]], "c": {"a":{"a":0}}}'


@hypothesis.given(st.binary(max_size=50))
def test_a_request_survives_its_file(content: bytes) -> None:
    case = Case(CHAT, content, "text/json")
    assert Case.of_json(json.loads(json.dumps(case.as_json()))) == case


def test_the_command_asks_the_same_request() -> None:
    content = b'{"control": {"a": "it\'s"}}'
    words = shlex.split(Case(CHAT, content).curl("http://127.0.0.1:1"))
    assert words[-1].encode() == content
    assert f"http://127.0.0.1:1{CHAT}" in words


def test_without_its_control_a_request_is_the_same_otherwise() -> None:
    def stripped(body: dict[str, Any]) -> Any:
        return Case(CHAT, plainly(body)).without_control(["m"], ["fast"]).body

    assert stripped({"model": "m:fast", "n": 2, "control": {"steer": []}}) == {"model": "m", "n": 2}
    assert stripped({"model": "m:slow"}) == {"model": "m:slow"}


def test_lax_values_in_the_types_of_the_schema() -> None:
    lax = {"n": "2", "stream": 1, "temperature": "0.5", "seed": 7.0, "user": "1", "stop": "1"}
    assert canonical(lax, SURFACE.properties("CompletionRequest")) == {
        **{"n": 2, "stream": True, "temperature": 0.5, "seed": 7},
        **{"user": "1", "stop": "1"},
    }
    strange = {"n": "two", "stream": "maybe", "seed": 7.5, "temperature": []}
    assert canonical(strange, SURFACE.properties("CompletionRequest")) == strange
