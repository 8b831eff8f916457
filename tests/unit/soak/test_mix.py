"""Requests of a soak: every control is among them, and every one is sound."""

import json
import random
from collections import Counter
from typing import Any

import pytest

from steersman.search.registry import policies
from steersman_client import ControlSpec, Thinking
from tests.fuzz.bodies import CHAT, COMPLETIONS, RESPONSES
from tests.soak import mix

SPECS = {
    kind: ControlSpec.model_validate(mix.control_of(kind, mix._asked()[0]) or {})
    for kind in mix.CONTROLS
}


def test_every_control_is_there() -> None:
    asked = {name for spec in SPECS.values() for name in spec.model_fields_set}
    assert asked == set(ControlSpec.model_fields)
    thinking = [spec.thinking for spec in SPECS.values() if spec.thinking is not None]
    assert {name for one in thinking for name in one.model_fields_set} == set(Thinking.model_fields)
    laws = {one.balance.law for one in thinking if one.balance is not None}
    assert laws == {"proportional", "confidence"}


def test_every_search_and_both_targets_are_there() -> None:
    searches = [spec.search for spec in SPECS.values() if spec.search is not None]
    assert {one.method for one in searches} == set(policies())
    targets = [one.target for one in searches if one.method == "align"]
    names = {term.name for target in targets for term in target.reward or ()}
    assert names == {"likelihood", "verify"}
    assert any(target.power for target in targets)


@pytest.fixture(scope="module")
def drawn() -> list[tuple[str, str, dict[str, Any]]]:
    source = random.Random(5)
    made = [mix.drawn(source) for _ in range(1500)]
    return [(kind, case.path, json.loads(case.content)) for kind, case in made]


def test_every_kind_comes_on_every_endpoint_streamed_and_whole(
    drawn: list[tuple[str, str, dict[str, Any]]],
) -> None:
    counts = Counter((kind, path, body["stream"]) for kind, path, body in drawn)
    assert len(counts) == len(mix.CONTROLS) * len((CHAT, COMPLETIONS, RESPONSES)) * 2


def test_each_is_a_request_of_its_endpoint(drawn: list[tuple[str, str, dict[str, Any]]]) -> None:
    asked = {CHAT: "messages", COMPLETIONS: "prompt", RESPONSES: "input"}
    for kind, path, body in drawn:
        assert body[asked[path]]
        assert ("control" in body) == (kind != mix.PLAIN)
        control = ControlSpec.model_validate(body.get("control", {}))
        assert body["stream"] or not control.events
        assert body.get("n", 1) == 1 or (control.search is None and path != RESPONSES)


def test_a_seed_repeats_them() -> None:
    once, again = ([mix.drawn(random.Random(3)) for _ in range(5)] for _ in range(2))
    assert once == again
    assert mix.CONTROLS["majority"] == {
        "search": {"method": "majority", "n": 6},
        "events": ["progress", "branches"],
    }
