"""The middleware around a made-up application that behaves like vLLM's routes."""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from steersman.api import progress
from steersman.api.body import BodyTooLargeError, Controlled
from steersman.api.middleware import ControlMiddleware
from steersman.capabilities import Limits
from steersman.controls.limits import LimitsPart
from steersman.frontend.queue import PLACES, Places
from steersman.keys.key import Key, KeyLimits
from steersman.keys.usage import PASS, Pass, Usage
from steersman.observe.logs import fields_of
from steersman.observe.metrics import Metrics
from steersman.scope import CONTROL, REFUSED, ControlScope
from steersman.trajectory.outcome import Outcome
from steersman.trajectory.trajectory import Piece, Start, Trajectory
from tests.unit.samples import total
from tests.unit.servers import planner

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"
FIRST = {"search": {"method": "first_finish", "n": 2}}


async def endpoint(request: Request) -> Response:
    """Answers with what it got, and runs two branches in the books if there is a control."""
    body = await request.json()
    control = CONTROL.get()
    if REFUSED.get():
        return JSONResponse({"error": {"message": "vLLM's own words"}, "got": body}, 400)
    if control is not None:
        generation = control.ledger.open()
        for branch in range(control.plan.branches(1)):
            trajectory: Trajectory[Any] = Trajectory(Start(branch))
            trajectory.advance(3, "abort" if branch else "stop")
            generation.branches.append(trajectory)
            generation.started.append(trajectory)
        if control.plan.branches(1) > 1:
            generation.outcome = Outcome((generation.branches[0],), "first")
    if body.get("fail"):
        return JSONResponse({"error": {"message": "no"}}, 500)
    if body.get("stream"):
        return StreamingResponse(_events(body), media_type="text/event-stream")
    headers = request.headers
    answer = {"got": body, "length": int(headers["content-length"])}
    # In ASCII, so that it can quote any body.
    content = json.dumps(answer | {"header": headers.get("x-request-id")})
    return Response(content, media_type="application/json")


async def _events(body: dict[str, Any]) -> AsyncIterator[str]:
    control = CONTROL.get()
    if control is not None and body.get("slow"):
        line = control.ledger.generations[0].branches[0]
        line.finish_reason = None
        line.pieces.append(Piece((7,), "seven", None, None))
        await asyncio.sleep(0.05)
        line.finish_reason = "stop"
    yield 'data: {"created":7,"choices":[{"delta":{"content":"a"},"finish_reason":null}]}\n\n'
    if body.get("break"):
        yield 'data: {"error":{"message":"dead"}}\n\ndata: [DONE]\n\n'
        return
    yield 'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
    yield "data: [DONE]\n\n"


class Server:
    def __init__(self, limits: Limits | None = None, *, measuring: bool = False) -> None:
        paths = [CHAT, "/v1/completions", "/v1/responses", "/v1/messages"]
        inner = Starlette(routes=[Route(path, endpoint, methods=["POST"]) for path in paths])
        self.registry = CollectorRegistry()
        self.app = ControlMiddleware(
            inner,
            planner=planner(limits=limits, measuring=measuring),
            metrics=Metrics(self.registry),
        )

    async def post(self, body: object, path: str = CHAT, **kwargs: Any) -> httpx.Response:
        transport = httpx.ASGITransport(app=self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            if isinstance(body, bytes):
                headers = {"content-type": "application/json", **kwargs.pop("headers", {})}
                return await client.post(path, content=body, headers=headers, **kwargs)
            return await client.post(path, json=body, **kwargs)

    async def metric(self, name: str, **labels: str) -> float:
        await asyncio.sleep(0)  # what has ended is counted in the loop's next round
        return total(self.registry, name, **labels)


async def test_a_request_without_control_passes_untouched() -> None:
    server = Server()
    body = b'{ "model": "tiny",  "x": "\\u00e9" }'
    answer = (await server.post(body)).json()
    assert answer == {"got": json.loads(body), "length": len(body), "header": None}
    assert await server.metric("steersman_requests_total", method="plain", outcome="ok") == 0


async def test_the_control_is_taken_out_and_the_receipt_put_in() -> None:
    server = Server()
    response = await server.post({"model": "tiny:fast", "x": "é", "control": FIRST})
    answer = response.json()
    assert answer["got"] == {"model": "tiny", "x": "é"}
    assert answer["control"]["applied"]["profile"] == "fast"
    assert answer["control"]["applied"]["search"]["launched"] == 2
    assert answer["control"]["compute"]["sampled_tokens"] == 6
    assert answer["control"]["compute"]["cancelled_tokens"] == 3
    assert int(response.headers["content-length"]) == len(response.content)


async def test_what_happened_is_counted() -> None:
    server = Server()
    await server.post({"model": "tiny", "control": FIRST})
    await server.post({"model": "tiny", "control": FIRST, "fail": True})
    await server.post({"model": "tiny", "control": 3})
    label = {"method": "first_finish"}
    assert await server.metric("steersman_requests_total", outcome="ok", **label) == 1
    assert await server.metric("steersman_requests_total", outcome="error", **label) == 1
    assert await server.metric("steersman_refused_total") == 1
    assert await server.metric("steersman_branches_total", event="launched", **label) == 4
    assert await server.metric("steersman_branches_total", event="cancelled", **label) == 2
    assert await server.metric("steersman_tokens_total", kind="sampled", **label) == 12
    assert await server.metric("steersman_request_seconds_count", **label) == 2


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        (CHAT, {"presence_penalty": "0.5"}, "presence_penalty"),
        ("/v1/completions", {"bad_words": ["x"]}, "bad_words"),
        ("/v1/responses", {"text": {"format": {"type": "json_object"}}}, "text.format"),
    ],
)
async def test_what_a_sampler_cannot_stand_is_refused_before_anything_runs(
    path: str, fields: dict[str, Any], param: str, stream: bool
) -> None:
    server = Server(measuring=True)
    control = {"sampler": {"method": "cautious"}}
    response = await server.post({"control": control, "stream": stream, **fields}, path)
    error = response.json()["error"]
    assert response.status_code == error["code"] == 400
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert param in error["message"]
    assert await server.metric("steersman_refused_total") == 1
    assert await server.metric("steersman_requests_total", method="plain", outcome="ok") == 0


async def test_a_profile_is_counted_by_its_name_in_the_servers_file() -> None:
    server = Server()
    await server.post({"model": "tiny:fast"})
    await server.post({"control": {"profile": "fast"}})
    await server.post({"control": {}})
    await server.post({"control": {"profile": "made up"}})
    for profile, requests in (("fast", 2), ("none", 1)):
        assert await server.metric("steersman_requests_total", profile=profile) == requests
    assert await server.metric("steersman_requests_total") == 3


async def test_a_stream_ends_in_its_receipt() -> None:
    response = await Server().post({"model": "tiny", "control": FIRST, "stream": True})
    *_, last, done = response.text.strip().split("\n\n")
    assert done == "data: [DONE]"
    assert json.loads(last.removeprefix("data: "))["control"]["applied"]["search"]["finished"] == 1


@pytest.mark.parametrize(("breaks", "outcome"), [(False, "ok"), (True, "error")])
async def test_a_stream_that_breaks_off_is_no_success(breaks: bool, outcome: str) -> None:
    server = Server()
    await server.post({"model": "tiny", "control": FIRST, "stream": True, "break": breaks})
    labels = {"method": "first_finish", "outcome": outcome}
    assert await server.metric("steersman_requests_total", **labels) == 1


async def test_a_waiting_stream_gets_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "COMMENT_SECONDS", 0.01)
    body = {"model": "tiny", "control": FIRST, "stream": True, "slow": True}
    comment = (await Server().post(body)).text.split("\n\n")[0]
    assert comment.startswith(": steersman ")
    assert json.loads(comment.removeprefix(": steersman ")) == {
        "finished": 0,
        "running": 1,
        "tokens": 6,
    }


async def test_the_leaders_chunks_begin_as_the_others_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "EVENT_SECONDS", 0.01)
    search = {"search": {**FIRST["search"], "stream_leader": True}}
    body = {"control": search, "stream": True, "slow": True, "request_id": "mine"}
    for named, shown in (
        ({}, "tiny"),
        ({"model": "org/tiny:v2"}, "tiny"),
        ({"model": "lora"}, "lora"),
    ):
        events = (await Server().post({**body, **named})).text.strip().split("\n\n")
        leader, first, *_ = (json.loads(event.removeprefix("data: ")) for event in events[:-1])
        assert leader["control"]["leader"]["text"] == "seven"
        assert leader["choices"][0]["delta"] == {}
        assert (leader["model"], leader["id"]) == (shown, "chatcmpl-mine")
        assert first["created"] == leader["created"] != 7
    without_leader = await Server().post({**body, "control": FIRST})
    assert '"created":7' in without_leader.text


async def test_a_client_may_name_the_request_in_the_body_or_in_a_header() -> None:
    server = Server()
    assert (await server.post({"control": FIRST, "request_id": "mine"})).json()["header"] is None
    named = await server.post({"control": FIRST}, headers={"X-Request-Id": "theirs"})
    assert named.json()["header"] == named.json()["control"]["request_id"] == "theirs"


async def test_a_log_line_for_each_controlled_request(caplog: pytest.LogCaptureFixture) -> None:
    server, named = Server(), {"X-Request-Id": "theirs"}
    with caplog.at_level(logging.INFO, "steersman.observe.requests"):
        await server.post({"model": "tiny:fast", "x": "secret"}, headers=named)
        await server.post({"control": FIRST, "fail": True}, headers=named)
        await server.post({"control": {"secret": 1}}, headers=named)
        await server.post({"model": "tiny"})
        await asyncio.sleep(0)
    told = {fields_of(record)["outcome"]: fields_of(record) for record in caplog.records}
    assert len(told) == len(caplog.records)
    ended, failed, refused = (told[outcome] for outcome in ("ok", "error", "refused"))
    assert {one["request_id"] for one in (ended, failed, refused)} == {"theirs"}
    assert [ended[name] for name in ("method", "profile", "outcome", "status")] == [
        "first_finish",
        "fast",
        "ok",
        200,
    ]
    assert (ended["branches"], ended["sampled_tokens"], ended["returned_tokens"]) == (3, 9, 3)
    assert (failed["outcome"], failed["status"], failed["returned_tokens"]) == ("error", 500, 0)
    assert dict(refused) == {
        "request_id": "theirs",
        "outcome": "refused",
        "status": 400,
        "param": "control.secret",
    }
    assert "secret" not in json.dumps([dict(ended), dict(failed)])


async def test_errors_of_the_application_are_left_as_they_are() -> None:
    response = await Server().post({"model": "tiny", "control": FIRST, "fail": True})
    assert (response.status_code, response.json()) == (500, {"error": {"message": "no"}})


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"model": "tiny", "control": {"search": {"method": "first_finish", "n": 0}}}, "n"),
        ({"model": "tiny:slow"}, "model"),
        ({"model": "tiny", "control": "fast"}, "control"),
    ],
)
async def test_a_refusal_is_an_openai_error(body: dict[str, Any], param: str) -> None:
    response = await Server().post(body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"].endswith(param)
    assert error["type"] == "invalid_request_error"
    assert error["code"] == 400


async def test_an_endpoint_without_controls_refuses_them() -> None:
    server = Server()
    for body, param in (({"control": FIRST}, "control"), ({"model": "tiny:fast"}, "model")):
        response = await server.post(body, path="/v1/messages")
        assert response.status_code == 400
        assert response.json()["error"]["param"] == param
    assert (await server.post({"model": "tiny"}, path="/v1/messages")).status_code == 200


CONTENT_TYPES = [
    "application/json",
    "Application/JSON",
    "APPLICATION/JSON; Charset=UTF-8",
    "application/json;charset=utf-8",
    "application/json ;x=y",
    " application/json",
    "application/problem+json",
    "text/plain",
    "application/octet-stream",
    "",
    None,
]


@pytest.mark.parametrize("content_type", CONTENT_TYPES)
@pytest.mark.parametrize("header", ["content-type", "Content-Type", "CONTENT-TYPE"])
async def test_no_content_type_hides_a_control(header: str, content_type: str | None) -> None:
    headers = {} if content_type is None else {header: content_type}
    server = Server()
    for path in (CHAT, "/v1/completions", "/v1/messages"):
        for body in (b'{"control":{"nonsense":1}}', b'{"model":"tiny:slow"}'):
            assert (await bare_post(server, path, body, headers)) == 400, path
    assert await server.metric("steersman_refused_total") == 6


async def bare_post(server: Server, path: str, body: bytes, headers: dict[str, str]) -> int:
    """Post with no header but these; the status."""
    transport = httpx.ASGITransport(app=server.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        request = client.build_request("POST", path, content=body)
        for name in ("content-type", *headers):
            request.headers.pop(name, None)
        request.headers.update(headers)
        return (await client.send(request)).status_code


async def test_forms_are_not_read() -> None:
    sent: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        sent.append(await receive())

    async def receive() -> Message:
        return {"type": "http.request", "body": b'{"control": 1}', "more_body": True}

    async def send(message: Message) -> None:
        raise AssertionError(message)

    middleware = ControlMiddleware(app, planner=planner(), metrics=Metrics(CollectorRegistry()))
    headers = [(b"content-type", b"Multipart/form-data; boundary=x")]
    scope = {"type": "http", "method": "POST", "path": CHAT, "headers": headers}
    await middleware(scope, receive, send)
    assert sent == [{"type": "http.request", "body": b'{"control": 1}', "more_body": True}]


async def test_a_path_below_a_root_path() -> None:
    server = Server()
    transport = httpx.ASGITransport(app=server.app, root_path="/v1")
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        # Not the path that the routes see: nothing is taken off a name that only begins like it.
        mounted = await client.post("/v1" + CHAT, json={"control": FIRST})
        assert mounted.json()["control"]["applied"]["search"]["launched"] == 2
        other = await client.post("/v1" + CHAT[3:], json={"control": FIRST})
    assert other.json()["error"]["param"] == "control"


async def test_a_trailing_slash_is_the_applications_to_answer() -> None:
    server = Server()
    for path in (f"{CHAT}/", f"{CHAT}//", "/v1/messages/"):
        for body in ({}, {"control": FIRST}, {"control": {"nonsense": 1}}, {"model": "tiny:fast"}):
            response = await server.post(body, path=path)
            assert (response.status_code, response.headers["location"]) == (
                307,
                f"http://test{path.rstrip('/')}",
            )


@pytest.mark.parametrize("field", [{"n": 2.5}, {"stream": "maybe"}, {"temperature": "hot"}])
async def test_a_body_that_cannot_be_read_is_the_applications_to_refuse(
    field: dict[str, Any],
) -> None:
    server = Server()
    body = {"model": "tiny:fast", "control": FIRST, **field}
    response = await server.post(body)
    assert response.status_code == 400
    assert response.json()["got"] == {"model": "tiny", **field}
    assert not REFUSED.get()
    assert (await server.post({"model": "tiny"})).status_code == 200


async def test_a_body_nested_too_deeply_is_the_applications_to_refuse(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def written(_: Controlled) -> bytes:
        raise RecursionError

    body = {"model": "tiny", "control": {}, "x": [[[]]]}
    assert (await Server().post(body)).json()["got"] == {"model": "tiny", "x": [[[]]]}
    # How deep is too deep depends on the interpreter.
    monkeypatch.setattr(Controlled, "written", written)
    response = await Server().post(body)
    assert (response.status_code, response.json()["got"]) == (400, body)


@pytest.mark.parametrize(
    "control",
    [{"\ud800": 1}, {"profile": "\ud800"}, {"steer": [{"vector": "\ud800"}]}, "\ud800"],
)
async def test_a_refusal_can_quote_what_cannot_be_encoded(control: object) -> None:
    content = json.dumps({"model": "tiny", "control": control}).encode()
    response = await Server().post(content)
    assert response.status_code == 400
    assert response.json()["error"]["param"].startswith("control")


async def test_a_lone_surrogate_passes_as_it_came() -> None:
    for control in (b"", b', "control": {}'):
        response = await Server().post(rb'{"model": "tiny", "user": "\ud800"' + control + b"}")
        assert response.json()["got"] == {"model": "tiny", "user": "\ud800"}


async def test_a_body_over_the_limit_is_refused() -> None:
    server = Server(Limits(max_body_bytes=64))
    assert (await server.post({"model": "tiny", "x": "a" * 64})).status_code == 413
    assert (await server.post({"model": "tiny"})).status_code == 200


async def test_the_scope_ends_with_the_request() -> None:
    await Server().post({"model": "tiny", "control": FIRST})
    assert CONTROL.get() is None


@pytest.mark.parametrize(
    "content", [b'{"model": "tiny"}', b'{"model": "tiny", "control": {}}', None]
)
@pytest.mark.parametrize("fails", [False, True])
async def test_places_in_the_queue_are_kept_until_the_request_ends(
    content: bytes | None, fails: bool
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
        if content is None:  # a form
            await server.post(b"", headers={"content-type": "multipart/form-data; boundary=x"})
        else:
            await server.post(content)
    assert [(one.kept, one.over) for one in seen] == [(0, True)]
    assert PLACES.get() is None


async def test_a_client_that_hangs_up_is_counted_as_such() -> None:
    server = Server()
    content = json.dumps({"model": "tiny", "control": FIRST, "stream": True, "slow": True}).encode()
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "path": CHAT,
        "raw_path": CHAT.encode(),
        "query_string": b"",
        "headers": [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(content)).encode()),
        ],
    }
    messages: list[Message] = [
        {"type": "http.request", "body": content},
        {"type": "http.disconnect"},
    ]
    sent: list[Message] = []

    async def receive() -> Message:
        return messages.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    await server.app(scope, receive, send)
    assert not any(b"[DONE]" in message.get("body", b"") for message in sent)
    tokens = {
        kind: await server.metric("steersman_tokens_total", method="first_finish", kind=kind)
        for kind in ("sampled", "returned", "cancelled")
    }
    assert tokens == {"sampled": 6, "returned": 0, "cancelled": 6}
    labels = {"method": "first_finish", "outcome": "disconnected"}
    assert await server.metric("steersman_requests_total", **labels) == 1


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


@pytest.mark.parametrize("declared", [True, False])
async def test_a_form_is_bounded_like_every_body(declared: bool) -> None:
    """Forms are not read here: they come to their route as they are."""
    read: list[bytes] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            while True:
                message = await receive()
                read.append(message["body"])
                if not message.get("more_body"):
                    break
        except BodyTooLargeError:
            await Response(status_code=400)(scope, receive, send)
            return
        await Response(status_code=200)(scope, receive, send)

    async def pieces(number: int) -> AsyncIterator[bytes]:
        for _ in range(number):
            yield b"a" * 16

    server = Server(Limits(max_body_bytes=64))
    server.app._app = app
    headers = {"content-type": "Multipart/Form-Data; boundary=a"}
    transport = httpx.ASGITransport(app=server.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:

        async def post(number: int) -> int:
            content: Any = b"a" * 16 * number if declared else pieces(number)
            path = "/v1/audio/transcriptions"
            return (await client.post(path, content=content, headers=headers)).status_code

        assert await post(4) == 200
        assert sum(map(len, read)) == 64
        read.clear()
        assert await post(5) == (413 if declared else 400)
        assert sum(map(len, read)) == (0 if declared else 64)


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
