"""Taking the control out of a request body."""

import json
from collections.abc import Sequence

import pytest
from starlette.types import Message

from steersman.api.body import BodyTooLargeError, Controlled, read, replay, take_control
from steersman.errors import ControlError

NAMES = ("tiny", "org/tiny:v2")


def take(body: object) -> Controlled | None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return take_control(content, NAMES, ["fast"])


class Client:
    def __init__(self, messages: Sequence[Message]) -> None:
        self.messages = list(messages)

    async def receive(self) -> Message:
        return self.messages.pop(0)


def test_the_control_leaves_the_body() -> None:
    controlled = take({"model": "tiny", "control": {"search": {}}, "n": 2})
    assert controlled == Controlled({"search": {}}, None, {"model": "tiny", "n": 2})


@pytest.mark.parametrize(
    "body",
    [
        {"model": "tiny", "messages": [{"role": "user", "content": 'say "control"'}]},
        {"model": "tiny", "messages": [{"control": 1}]},
        {"model": "tiny", "control": None},
        {"model": "org/tiny:v2"},
        {"model": "other:fast"},
        {"model": 3, "x": "\u0063"},
        ["control"],
        b'{"control": ',
        b"",
        b'"control"',
        b'{"control": ' + b"[" * 100_000,
    ],
)
def test_nothing_to_take(body: object) -> None:
    assert take(body) is None


@pytest.mark.parametrize(
    "body",
    [
        rb'{"c\u006fntrol": {}}',
        b'{"model" : "tiny:fast"}',
        rb'{"model": "tiny\u003Afast"}',
        b'{"model": "org/tiny:v2:fast"}',
        '{"control": {}}'.encode("utf-16"),
        '{"control": {}}'.encode("utf-32-be"),
    ],
)
def test_no_spelling_is_missed(body: bytes) -> None:
    controlled = take(body)
    assert controlled is not None
    assert controlled.control == {} or controlled.profile_suffix == "fast"


def test_the_suffix_leaves_the_model_name() -> None:
    controlled = take({"model": "org/tiny:v2:fast", "control": {"profile": "fast"}})
    assert controlled == Controlled({"profile": "fast"}, "fast", {"model": "org/tiny:v2"})


def test_a_served_model_with_an_unknown_suffix_is_refused() -> None:
    with pytest.raises(ControlError, match="tiny:fast") as caught:
        take({"model": "tiny:slow"})
    assert caught.value.param == "model"


@pytest.mark.anyio
async def test_a_body_is_read_to_its_end_and_replayed_once() -> None:
    client = Client(
        [
            {"type": "http.request", "body": b"ab", "more_body": True},
            {"type": "http.request", "body": b"c"},
            {"type": "http.disconnect"},
        ]
    )
    assert await read(client.receive, 3) == b"abc"
    again = replay(b"abc", client.receive)
    assert (await again())["body"] == b"abc"
    assert (await again())["type"] == "http.disconnect"


@pytest.mark.anyio
async def test_a_client_that_hangs_up_and_a_body_that_is_too_large() -> None:
    hung_up = Client(
        [{"type": "http.request", "body": b"ab", "more_body": True}, {"type": "http.disconnect"}]
    )
    assert await read(hung_up.receive, 9) is None
    endless = Client([{"type": "http.request", "body": b"abcd", "more_body": True}])
    with pytest.raises(BodyTooLargeError) as caught:
        await read(endless.receive, 3)
    assert caught.value.status == 413
