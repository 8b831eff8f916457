"""Places in the queue, limits of a key and deadlines of a header, around a request."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from steersman.controls.limits import LimitsPart
from steersman.frontend.queue import PLACES, Places
from steersman.keys.key import Key, KeyLimits
from steersman.keys.usage import PASS, Pass, Usage
from steersman.scope import CONTROL, ControlScope
from tests.unit.api.application import CHAT, FIRST, Server

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("content", [b'{"model": "tiny"}', b'{"model": "tiny", "control": {}}'])
@pytest.mark.parametrize("fails", [False, True])
async def test_places_in_the_queue_are_kept_until_the_request_ends(
    content: bytes, fails: bool
) -> None:
    seen: list[Places] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        own = PLACES.get()
        assert own is not None
        seen.append(own)
        own.kept += 3
        assert not own.over
        if fails:
            raise RuntimeError("down")
        await JSONResponse({})(scope, receive, send)

    server = Server()
    server.app._app = app
    with pytest.raises(RuntimeError) if fails else contextlib.nullcontext():
        await server.post(content)
    assert [(one.kept, one.over) for one in seen] == [(0, True)]
    assert PLACES.get() is None


async def test_the_parts_of_a_form_are_admitted_one_by_one() -> None:
    seen: list[Places | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(PLACES.get())
        await JSONResponse({})(scope, receive, send)

    server = Server()
    server.app._app = app
    await server.post(b"", headers={"content-type": "multipart/form-data; boundary=x"})
    assert seen == [None]


@contextlib.contextmanager
def passed(**limits: int) -> Iterator[Pass]:
    """A request with a key that has these limits."""
    admitted = Pass(Usage(Key("alice", b"", limits=KeyLimits(**limits))))
    token = PASS.set(admitted)
    yield admitted
    PASS.reset(token)


@pytest.mark.parametrize(
    ("path", "fields", "branches"),
    [
        (CHAT, {"control": FIRST}, 2),
        (CHAT, {"n": 4, "control": {"profile": "plain"}}, 4),
        ("/v1/completions", {"prompt": ["a", "b", "c"], "control": FIRST}, 6),
    ],
)
async def test_branches_of_all_prompts_are_held_to_the_limit_of_the_key(
    path: str, fields: dict[str, Any], branches: int
) -> None:
    server = Server()
    with passed(fan_out=branches):
        assert (await server.post({"model": "tiny", **fields}, path)).status_code == 200
    with passed(fan_out=branches - 1):
        refused = await server.post({"model": "tiny", **fields}, path)
    assert refused.status_code == 429
    assert f"asks for {branches} branches" in refused.json()["error"]["message"]
    assert refused.headers["retry-after"] == "1"
    assert await server.metric("steersman_refused_total") == 1


@pytest.mark.parametrize(("fan_out", "room"), [(None, 64), (3, 3), (100, 64)])
async def test_forks_wait_where_the_key_has_no_room_for_them(
    fan_out: int | None, room: int
) -> None:
    seen: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        control = CONTROL.get()
        assert control is not None
        seen.append(control.room._value)
        await Response("{}")(scope, receive, send)

    server = Server()
    server.app._app = app
    limits = {} if fan_out is None else {"fan_out": fan_out}
    with passed(**limits):
        await server.post({"model": "tiny", "control": FIRST})
    assert seen == [room]


@pytest.mark.parametrize(
    ("control", "header", "seconds"),
    [
        (None, "2.5", 2.5),
        (None, None, None),
        ({"profile": "plain"}, "2", 2.0),
        ({**FIRST, "limits": {"max_sampled_tokens": 9}}, "2", 2.0),
        ({"limits": {"max_seconds": 1}}, "2", 1.0),
        ({"limits": {"max_seconds": 3}}, "2", 2.0),
    ],
)
@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/responses"])
async def test_the_deadline_of_a_header(
    path: str, control: Any, header: str | None, seconds: float | None
) -> None:
    seen: list[ControlScope | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(CONTROL.get())
        await Response("{}")(scope, receive, send)

    server = Server()
    server.app._app = app
    headers = {} if header is None else {"x-steersman-timeout": header}
    body = {"model": "tiny"} | ({} if control is None else {"control": control})
    assert (await server.post(body, path, headers=headers)).status_code == 200
    [scope] = seen
    if seconds is None:
        assert scope is None
        return
    assert scope is not None
    limits = scope.plan.part(LimitsPart)
    assert limits is not None
    assert limits.limits.max_seconds == seconds


@pytest.mark.parametrize("header", ["", "0", "-1", "nan", "inf", "soon", "2s"])
async def test_a_deadline_that_is_none(header: str) -> None:
    server = Server()
    refused = await server.post({"model": "tiny"}, headers={"X-Steersman-Timeout": header})
    assert refused.status_code == 400
    assert "X-Steersman-Timeout must be seconds" in refused.json()["error"]["message"]


async def test_a_deadline_where_none_can_be_kept() -> None:
    server = Server()
    headers = {"X-Steersman-Timeout": "2"}
    refused = await server.post({"model": "tiny"}, "/v1/messages", headers=headers)
    assert refused.status_code == 400
    assert "does not take X-Steersman-Timeout" in refused.json()["error"]["message"]
    assert refused.json()["error"]["param"] is None
    stainless = {"x-stainless-read-timeout": "2"}
    assert (await server.post({"model": "tiny"}, "/v1/messages", headers=stainless)).is_success
