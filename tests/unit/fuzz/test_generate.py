"""Requests are repeatable, take in every field of a control, and are mostly sound."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from steersman_client import ControlSpec
from tests.fuzz.generate import Generator
from tests.fuzz.values import FLOATS, INTEGERS
from tests.fuzz.wire import Case
from tests.unit.fuzz.surfaces import SURFACE


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    # One that can do everything, so that no method is rarer than another.
    generator = Generator(replace(SURFACE, methods={}))
    return [case for seed in range(8) for case in generator.batch(seed, 100)]


def controls(cases: list[Case]) -> Iterator[dict[str, Any]]:
    for case in cases:
        control = (case.body or {}).get("control")
        if isinstance(control, dict):
            yield control


def test_a_seed_gives_the_same_requests_each_time() -> None:
    first, again, other = (Generator(SURFACE).batch(seed, 30) for seed in (4, 4, 5))
    assert first == again
    assert first != other


def test_every_field_of_a_control_is_generated(cases: list[Case]) -> None:
    seen: set[str] = set()

    def look(value: Any) -> None:
        if isinstance(value, dict):
            seen.update(value)
        for inner in value.values() if isinstance(value, dict) else value:
            if isinstance(inner, dict | list):
                look(inner)

    for control in controls(cases):
        look(control)
    schemas = [ControlSpec.model_json_schema(), *ControlSpec.model_json_schema()["$defs"].values()]
    fields = {field for schema in schemas for field in schema["properties"]}
    assert fields <= seen


def test_most_controls_are_sound_and_some_are_not(cases: list[Case]) -> None:
    counts: Counter[bool] = Counter()
    for control in controls(cases):
        try:
            ControlSpec.model_validate(control)
            counts[True] += 1
        except ValidationError:
            counts[False] += 1
    assert counts[True] > counts[False] > 20


def test_numbers_at_the_edges_reach_a_request(cases: list[Case]) -> None:
    text = "".join(case.content.decode(errors="replace") for case in cases)
    edges = [json.dumps(edge) for edge in (*INTEGERS, *FLOATS) if not abs(edge) < 2**31]
    assert sum(edge in text for edge in edges) > 5
