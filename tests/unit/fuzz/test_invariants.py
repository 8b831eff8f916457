"""Each rule sees the answer that breaks it, and lets the sound one pass."""

import json
from typing import Any

import pytest

from tests.fuzz.answer import Answer
from tests.fuzz.bodies import CHAT
from tests.fuzz.invariants import Invariants
from tests.fuzz.wire import Case
from tests.unit.fuzz.surfaces import SURFACE

INVARIANTS = Invariants(SURFACE)
COMPUTE = {"sampled_tokens": 5, "returned_tokens": 5, "wall_ms": 1.0}


def case(**control: Any) -> Case:
    return Case(CHAT, json.dumps({"model": "reasoner", "control": control}).encode())


def whole(compute: dict[str, Any] = COMPUTE, **fields: Any) -> Answer:
    body = {
        "choices": [{}],
        "usage": {"completion_tokens": 5},
        "control": {"applied": {}, "compute": compute},
        **fields,
    }
    return Answer(200, "application/json", json.dumps(body).encode())


def stream(*events: dict[str, Any], done: bool = True) -> Answer:
    lines = [f"data: {json.dumps(event)}\n\n" for event in events] + ["data: [DONE]\n\n"] * done
    return Answer(200, "text/event-stream", "".join(lines).encode())


def refusal(status: int = 400, **fields: Any) -> Answer:
    error = {
        "message": "no",
        "type": "invalid_request_error",
        "param": "control.steer",
        "code": status,
        **fields,
    }
    return Answer(status, "application/json", json.dumps({"error": error}).encode())


def broken(asked: Case, answer: Answer) -> list[str]:
    found = [*INVARIANTS.of_any(answer), *INVARIANTS.of_controlled(asked, answer)]
    return [violation.rule for violation in found]


LIVE = {"choices": [{"delta": {"content": "a"}}], "control": {"live": {"entropy": 0.5}}}
LAST = {"choices": [], "control": {"applied": {}, "compute": COMPUTE}}
CAUTIOUS = {"method": "cautious"}


def sampled(lost: int, **fields: Any) -> Answer:
    """An answer that lost 3 tokens."""
    compute = {**COMPUTE, "sampled_tokens": 8, "lost_tokens": 3}
    sampler = {**CAUTIOUS, "branch_points": 1, "trials": 2, "lost_tokens": lost, **fields}
    return whole(control={"applied": {"sampler": sampler}, "compute": compute})


WATCHED = {"applied": {}, "compute": COMPUTE, "entropy": {"pear": 0.0}}


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        (case(), whole()),
        (case(), refusal()),
        (case(), stream(LIVE, LAST)),
        (case(sampler=CAUTIOUS), sampled(3)),
        (case(monitor={}), stream(LIVE, {**LAST, "control": WATCHED})),
    ],
)
def test_a_sound_answer_passes(asked: Case, answer: Answer) -> None:
    assert broken(asked, answer) == []


@pytest.mark.parametrize(
    ("asked", "answer", "rule"),
    [
        (case(), Answer(broken="ReadError"), "broken"),
        (case(), refusal(500), "5xx"),
        (case(), refusal(message=""), "error object"),
        (case(), refusal(param="nobody"), "param"),
        (case(), refusal(param=None), "param"),
        (case(), Answer(200, "application/json", b'{"a": NaN}'), "no JSON"),
        (case(), Answer(200, "application/json", b'{"control": {}, "control": {}}'), "no JSON"),
        (case(), whole(control=None), "no receipt"),
        (case(), stream(LIVE), "no receipt"),
        (case(), whole(control={"compute": {"sampled_tokens": "many"}}), "receipt"),
        (case(), whole({**COMPUTE, "sampled_tokens": 4}), "books"),
        (case(), whole(usage={"completion_tokens": 6}), "books"),
        (case(thinking={}), whole(), "books"),
        (case(sampler=CAUTIOUS), whole(), "books"),
        (case(sampler=CAUTIOUS), sampled(4), "books"),
        (case(sampler=CAUTIOUS), sampled(2), "books"),
        (case(sampler=CAUTIOUS), sampled(3, trials=0), "books"),
        (case(sampler=CAUTIOUS), sampled(3, degraded=2), "books"),
        (case(sampler=CAUTIOUS), sampled(3, mean_entropy=-1.0), "books"),
        (case(), whole(choices=[{}] * 17), "limit"),
        (case(), whole({**COMPUTE, "sampled_tokens": 1001}), "limit"),
        (case(), stream(LIVE, LAST, done=False), "no end"),
        (case(), stream({**LIVE, "x": float("nan")}, LAST), "no JSON"),
        (case(), stream({"error": {"message": "no"}}, LAST), "error in a stream"),
        (
            case(monitor={}),
            stream({**LIVE, "control": None}, {**LAST, "control": WATCHED}),
            "ignored",
        ),
    ],
)
def test_a_broken_rule_is_seen(asked: Case, answer: Answer, rule: str) -> None:
    assert rule in broken(asked, answer)
