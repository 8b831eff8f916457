"""A response on its way out, with events of ours between those of vLLM."""

import json
from typing import Any

import pytest
from starlette.types import Message

from steersman.api.answer import Answer
from steersman.ledger import Failure, Ledger
from steersman.plan import Plan
from steersman.request import Endpoint, Request
from steersman.scope import ControlScope

pytestmark = pytest.mark.anyio

EVENT = b'data: {"control":{}}\n\n'
LAST = b'data: {"choices":[{"index":0,"finish_reason":"stop"}]}\n\n'
ENDS = {
    Endpoint.CHAT: LAST + b"data: [DONE]\n\n",
    Endpoint.RESPONSES: b'event: response.completed\ndata: {"response":{}}\n\n',
}


@pytest.mark.parametrize("endpoint", ENDS)
async def test_no_event_follows_the_end_of_a_stream(endpoint: Endpoint) -> None:
    sent: list[bytes] = []

    async def send(message: Message) -> None:
        sent.append(message.get("body", b""))

    receive: Any = None
    scope = ControlScope.of(Plan(Request(endpoint, stream=True), 100), max_forks=1)
    answer = Answer(scope, receive, send)
    await answer.interject(lambda: pytest.fail("there is no stream yet"))
    headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
    await answer.send({"type": "http.response.start", "status": 200, "headers": headers})
    await answer.interject(lambda: EVENT)
    await answer.send({"type": "http.response.body", "body": ENDS[endpoint], "more_body": True})
    await answer.interject(lambda: EVENT)  # while vLLM has yet to close the body
    await answer.send({"type": "http.response.body", "body": b"", "more_body": False})
    assert b"".join(sent).count(EVENT) == 1
    assert answer.answered


CREATED = b'event: response.created\ndata: {"type":"response.created"}\n\n'


async def begun(endpoint: Endpoint, sent: list[bytes]) -> tuple[Answer, Ledger]:
    """A stream with one event so far."""

    async def send(message: Message) -> None:
        sent.append(message.get("body", b""))

    receive: Any = None
    scope = ControlScope.of(Plan(Request(endpoint, stream=True), 100), max_forks=1)
    answer = Answer(scope, receive, send)
    headers = [(b"content-type", b"text/event-stream")]
    await answer.send({"type": "http.response.start", "status": 200, "headers": headers})
    await answer.send({"type": "http.response.body", "body": CREATED, "more_body": True})
    return answer, scope.ledger


@pytest.mark.parametrize(
    ("failure", "code", "message"),
    [(Failure(502, "a fault"), "502", "a fault"), (None, "500", "Internal server error")],
)
async def test_a_responses_stream_that_breaks_off_ends_in_an_error(
    failure: Failure | None, code: str, message: str
) -> None:
    sent: list[bytes] = []
    answer, ledger = await begun(Endpoint.RESPONSES, sent)
    ledger.failure = failure
    assert await answer.break_off()
    assert (answer.complete, answer.answered) == (True, False)
    head, _, data = sent[-1].partition(b"data: ")
    assert head == b"event: error\n"
    assert json.loads(data) == {
        "type": "error",
        "sequence_number": 1,
        "code": code,
        "message": message,
        "param": None,
    }
    assert not await answer.break_off()


async def test_the_streams_of_other_endpoints_are_ended_by_vllm() -> None:
    answer, _ = await begun(Endpoint.CHAT, [])
    assert not await answer.break_off()
