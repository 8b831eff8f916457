"""Limits of keys: what counts for them, how long, and what is told of a refusal."""

import asyncio
import logging

import httpx
import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from steersman.api.download import attachment
from steersman.api.guard import Guard
from steersman.keys.usage import PASS, LimitError, Pass
from steersman.observe.logs import fields_of
from tests.unit.api.guarded import KEYS, answer, client

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Endpoint:
    """An application that waits in each request, or ends it some other way."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        admitted = PASS.get()
        assert admitted is not None
        match scope["path"]:
            case "/fail":
                raise RuntimeError("no")
            case "/many":
                try:
                    admitted.check_fan_out(8)
                except LimitError:
                    await answer(scope, receive, send, 500)
                    return
            case "/charge":
                admitted.usage.charge(100_000)
            case "/wait":
                self.entered.set()
                await self.go_on.wait()
        await answer(scope, receive, send)


def alice(endpoint: ASGIApp, counted: list[tuple[str, str]]) -> httpx.AsyncClient:
    app = Guard(endpoint, keys=KEYS, limited=lambda *labels: counted.append(labels))
    return client(app, "sk-alice")


def of_alice(method: str, path: str) -> Scope:
    """A request with her key, as a server hands it on."""
    headers = [(b"authorization", b"Bearer sk-alice")]
    return {"type": "http", "method": method, "path": path, "headers": headers}


def over(answer: httpx.Response, limit: str) -> None:
    """Check that a request was refused by a limit of alice's."""
    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (429, "rate_limit_error")
    assert error["code"] == "rate_limit_exceeded"
    assert error["message"].startswith(f"key 'alice' is over its limit {limit} = ")
    assert int(answer.headers["retry-after"]) >= 1
    assert "sk-alice" not in answer.text


async def test_requests_at_once() -> None:
    endpoint, counted = Endpoint(), list[tuple[str, str]]()
    async with alice(endpoint, counted) as http, asyncio.TaskGroup() as group:
        first = group.create_task(http.post("/wait"))
        await endpoint.entered.wait()
        over(await http.post("/wait"), "concurrency")
        assert (await http.get("/v1/models")).status_code == 200
        endpoint.go_on.set()
        assert (await first).status_code == 200
        assert (await http.post("/wait")).status_code == 200
    assert counted == [("concurrency", "alice")]


async def test_memory_counts_as_well_as_work_does() -> None:
    """Bodies are kept while they come, and files while they are sent."""
    endpoint, counted = Endpoint(), list[tuple[str, str]]()
    async with alice(endpoint, counted) as http, asyncio.TaskGroup() as group:
        first = group.create_task(http.post("/wait"))
        await endpoint.entered.wait()
        over(await http.post("/v1/control/plan"), "concurrency")
        over(await http.get("/v1/control/vectors/one"), "concurrency")
        for method, path in (
            ("GET", "/v1/control/capabilities"),
            ("POST", "/v1/responses/resp_1/cancel"),
        ):
            assert (await http.request(method, path)).status_code == 200
        endpoint.go_on.set()
        assert (await first).status_code == 200
    assert counted == [("concurrency", "alice")] * 2


async def test_a_key_without_tokens_may_still_plan() -> None:
    async with alice(Endpoint(), []) as http:
        assert (await http.post("/charge")).status_code == 200
        assert (await http.post("/ok")).status_code == 429
        assert (await http.post("/v1/control/plan")).status_code == 200


async def test_refusals_are_counted_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    counted: list[int] = []
    app = Guard(Endpoint(), keys=KEYS, unauthorized=counted.append)
    caplog.set_level(logging.INFO, "steersman.observe.requests")
    for key, path in (
        (None, "/ok"),
        ("sk-wrong", "/ok"),
        ("sk-prometheus", "/ok"),
        ("sk-alice", "/charge"),
        ("sk-alice", "/ok"),
    ):
        async with client(app, key) as http:
            await http.post(path, headers={"x-request-id": "mine"})
    assert counted == [401, 401, 403]
    refused = {"request_id": "mine", "outcome": "refused"}
    assert [dict(fields_of(one)) for one in caplog.records] == [
        {**refused, "status": 401},
        {**refused, "status": 401},
        {**refused, "status": 403, "key": "prometheus"},
        {**refused, "status": 429, "key": "alice"},
    ]
    assert "sk-" not in caplog.text


async def test_a_client_that_hangs_up_or_a_route_that_fails_leaves_nothing_behind() -> None:
    endpoint, counted = Endpoint(), list[tuple[str, str]]()
    async with alice(endpoint, counted) as http:
        gone = asyncio.create_task(http.post("/wait"))
        await endpoint.entered.wait()
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        assert (await http.post("/fail")).status_code == 500
        assert (await http.post("/ok")).status_code == 200
    assert counted == []


async def test_tokens_of_a_minute() -> None:
    counted: list[tuple[str, str]] = []
    async with alice(Endpoint(), counted) as http:
        assert (await http.post("/charge")).status_code == 200
        refused = await http.post("/ok")
    over(refused, "tokens_per_minute")
    assert int(refused.headers["retry-after"]) > 9000  # ten a second come back
    assert counted == [("tokens_per_minute", "alice")]


async def test_a_fan_out_that_is_refused_inside_its_route(
    caplog: pytest.LogCaptureFixture,
) -> None:
    counted: list[tuple[str, str]] = []
    caplog.set_level(logging.INFO, "steersman.observe.requests")
    async with alice(Endpoint(), counted) as http:
        refused = await http.post("/many")
    (logged,) = (fields_of(one) for one in caplog.records)
    assert (logged["status"], logged["key"]) == (429, "alice")
    over(refused, "fan_out")
    assert refused.headers["x-should-retry"] == "false"
    assert counted == [("fan_out", "alice")]


@pytest.mark.parametrize(("path", "running"), [("/ok", [1, 0]), ("/many", [0, 0])])
async def test_a_request_is_over_before_its_client_knows(path: str, running: list[int]) -> None:
    """Its client may ask again as soon as it has the answer, whatever the route still does."""
    passes: list[Pass] = []
    seen: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        admitted = PASS.get()
        assert admitted is not None
        passes.append(admitted)
        await Endpoint()(scope, receive, send)

    async def send(message: Message) -> None:
        seen.append(passes[0].usage.running)

    async def receive() -> Message:
        return {"type": "http.request"}

    await Guard(app, keys=KEYS)(of_alice("POST", path), receive, send)
    assert seen == running
    assert passes[0].usage.running == 0


async def test_a_file_counts_while_its_client_takes_it() -> None:
    sizes: list[int] = []
    passes: list[Pass] = []
    running: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        admitted = PASS.get()
        assert admitted is not None
        passes.append(admitted)
        await attachment(b"x" * 200_000, "one.gguf")(scope, receive, send)

    async def send(message: Message) -> None:
        if body := message.get("body"):
            sizes.append(len(body))
            running.append(passes[0].usage.running)

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    await Guard(app, keys=KEYS)(of_alice("GET", "/v1/control/vectors/one"), receive, send)
    assert sizes == [65_536] * 3 + [3_392]
    assert running == [1] * 4
    assert passes[0].usage.running == 0


async def test_no_key_has_a_pass_of_another() -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        admitted = PASS.get()
        seen.append(admitted.key.name if admitted else "")
        await answer(scope, receive, send)

    guarded = Guard(app, keys=KEYS)
    for key in ("sk-alice", "sk-use"):
        async with client(guarded, key) as http:
            await http.post("/ok")
            await http.get("/health")
    assert seen == ["alice", "", "api-key", ""]
    assert PASS.get() is None
