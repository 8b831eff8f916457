"""The middleware around a made-up application that behaves like vLLM's routes."""

import asyncio
import json
import logging
from typing import Any

import pytest
from starlette.types import Message, Scope

from steersman.api import progress
from steersman.observe.logs import fields_of
from steersman.scope import CONTROL
from tests.unit.api.application import CHAT, FIRST, Server

pytestmark = pytest.mark.anyio


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


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(400, "refused"), (404, "refused"), (503, "refused"), (500, "error"), (507, "error")],
)
async def test_what_vllm_refuses_is_no_error_of_the_server(status: int, outcome: str) -> None:
    server = Server()
    answer = await server.post({"model": "tiny", "control": FIRST, "fail": status})
    assert answer.status_code == status
    counted = {
        name: await server.metric("steersman_requests_total", outcome=name, method="first_finish")
        for name in ("ok", "refused", "error", "disconnected")
    }
    assert counted == {"ok": 0, "refused": 0, "error": 0, "disconnected": 0} | {outcome: 1}


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


async def test_the_scope_ends_with_the_request() -> None:
    await Server().post({"model": "tiny", "control": FIRST})
    assert CONTROL.get() is None


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
