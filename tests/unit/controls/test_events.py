"""Events that a stream may tell of."""

from typing import Any

import pytest

from steersman.api.progress import Events
from steersman.controls.events import EventsPart
from steersman.errors import ControlError
from steersman.ledger import Ledger
from steersman.request import Endpoint, Request
from steersman.trajectory.trajectory import Piece, Start, Trajectory
from tests.unit.servers import planner

STREAM = Request(Endpoint.CHAT, stream=True, temperature=1.0)
LEADER = {"search": {"method": "first_finish", "n": 2, "stream_leader": True}}


def kinds(control: dict[str, Any], request: Request = STREAM) -> set[str]:
    part = planner().plan(control, request).part(EventsPart)
    return set() if part is None else {*part.kinds}


def test_stream_leader_means_the_event_leader() -> None:
    assert kinds({}) == set()
    assert kinds({"events": ["progress", "branches"]}) == {"progress", "branches"}
    assert kinds(LEADER) == {"leader"}
    assert kinds({**LEADER, "events": ["progress"]}) == {"leader", "progress"}
    assert kinds(LEADER, Request(Endpoint.CHAT, temperature=1.0)) == set()


@pytest.mark.parametrize(
    "request_",
    [Request(Endpoint.CHAT), Request(Endpoint.COMPLETIONS, stream=True, prompts=2)],
)
def test_without_a_stream_of_one_prompt_there_are_none(request_: Request) -> None:
    with pytest.raises(ControlError) as caught:
        planner().plan({"events": ["progress"]}, request_)
    assert caught.value.param == "control.events"


def test_each_branch_tells_what_is_new() -> None:
    ledger = Ledger()
    generation = ledger.open()
    first, second = (Trajectory[Any](Start(branch)) for branch in range(2))
    generation.branches.extend((first, second))
    generation.started.extend((first, second))
    events = Events(ledger, frozenset({"branches", "progress", "leader"}))
    first.add(Piece((1,), "a", None, None))
    told = events.take()
    assert told["progress"] == {"finished": 0, "running": 2, "tokens": 1}
    assert told["leader"] == {"branch": 0, "tokens": 1, "text": "a"}
    assert told["branches"] == [
        {"branch": 0, "tokens": 1, "text": "a", "state": "running"},
        {"branch": 1, "tokens": 0, "text": "", "state": "running"},
    ]
    first.add(Piece((2,), "b", "stop", None))
    second.add(Piece((), "", "abort", None))
    told = events.take()
    assert told["branches"] == [
        {"branch": 0, "tokens": 2, "text": "b", "state": "finished"},
        {"branch": 1, "tokens": 0, "text": "", "state": "cancelled"},
    ]
    assert "leader" not in told
    assert events.take() == {"progress": {"finished": 1, "running": 0, "tokens": 2}}
