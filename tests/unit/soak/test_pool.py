"""Clients of a soak: what they find in an answer, and their process, which can be killed."""

import json
import random
from multiprocessing import connection
from typing import Any

import pytest

from tests.fuzz.answer import Answer
from tests.fuzz.ask import Cut
from tests.fuzz.bodies import CHAT
from tests.fuzz.invariants import Invariants
from tests.fuzz.wire import Case
from tests.soak.pool import Clients, Pool, faults
from tests.unit.fuzz.surfaces import SURFACE

CONTROLLED = Case(CHAT, json.dumps({"model": "m", "control": {"monitor": {}}}).encode())
PLAIN = Case(CHAT, json.dumps({"model": "m"}).encode())


def answered(value: Any, status: int = 200) -> Answer:
    return Answer(status, "application/json", json.dumps(value).encode())


@pytest.mark.parametrize(
    ("case", "answer", "fault"),
    [
        (CONTROLLED, answered({"choices": []}), "no receipt: a 200 without a receipt"),
        (CONTROLLED, Answer(broken="no answer within 120 s"), "broken: no answer within 120 s"),
        (PLAIN, answered({"detail": "no"}, 500), "5xx: 500"),
        (CONTROLLED, answered({"error": {"message": "unknown vector"}}, 400), "400: "),
        (PLAIN, Answer(200, "text/event-stream", b"data: {}\n\n"), "no end: "),
    ],
)
def test_a_bad_answer_is_found(case: Case, answer: Answer, fault: str) -> None:
    found = faults(Invariants(SURFACE), case, answer)
    assert any(one.startswith(fault) for one in found), found


def test_a_good_one_and_one_that_nobody_waited_for_are_not() -> None:
    invariants = Invariants(SURFACE)
    assert faults(invariants, PLAIN, answered({"choices": []})) == ()
    assert faults(invariants, CONTROLLED, Answer(cut=True)) == ()


def test_most_clients_stay() -> None:
    source = random.Random(1)
    cuts = [Cut.drawn(source, 0.8) for _ in range(2000)]
    assert 1500 < cuts.count(None) < 1700
    assert {cut.where for cut in cuts if cut} == {"sending", "waiting", "reading"}


def test_a_pool_tells_of_its_requests_until_it_is_killed() -> None:
    """Nobody listens at this address: every request ends at once, broken."""
    pool = Pool(Clients("http://127.0.0.1:9", SURFACE, seed=1, count=2))
    try:
        told = []
        while len(told) < 2:
            assert connection.wait([pool.reports], 60)
            told += [*pool.told()]
        assert pool.running
    finally:
        pool.kill()
    assert not pool.running
    left = [*pool.told()]
    assert [*pool.told()] == []
    assert all("broken: ConnectError" in one.faults[0] for one in (*told, *left) if not one.cut)
