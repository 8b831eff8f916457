"""A response on its way out, with events of ours between those of vLLM."""

from typing import Any

import pytest
from starlette.types import Message

from steersman.api.answer import Answer
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
