"""Asking: what is sent, what is recorded, what stops it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from steersman.evaluate.driver import ask_all, served_model
from steersman.evaluate.error import EvaluationError
from steersman.evaluate.records import Record, ResponseLog
from steersman.evaluate.schedule import questions
from steersman.evaluate.spec import RunSpec
from steersman_client import AsyncSteersman
from tests.unit.evaluate.made_up import SEARCH, problems, spec
from tests.unit.evaluate.server import MODEL, MadeUpServer, completion, refusal

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def server() -> MadeUpServer:
    return MadeUpServer()


@pytest.fixture
def handler(server: MadeUpServer) -> Callable[[httpx2.Request], Any]:
    async def handle(request: httpx2.Request) -> httpx2.Response:
        await asyncio.sleep(0)
        status, body = server.answer(request.url.path, request.content)
        return httpx2.Response(status, json=body)

    return handle


@pytest.fixture
async def client(handler: Callable[[httpx2.Request], Any]) -> AsyncIterator[AsyncSteersman]:
    http_client = httpx2.AsyncClient(transport=httpx2.MockTransport(handler))
    async with AsyncSteersman(http_client=http_client, max_retries=0) as client:
        yield client


async def answered(
    client: AsyncSteersman, path: Path, run: RunSpec, count: int = 4
) -> list[Record]:
    advanced = 0

    def advance() -> None:
        nonlocal advanced
        advanced += 1

    with ResponseLog(path) as log:
        await ask_all(client, MODEL, run, questions(run, problems(count)), log, advance)
        assert advanced == len(log.records)
        return list(log.records.values())


async def test_a_request_carries_what_the_run_says(
    client: AsyncSteersman, server: MadeUpServer, tmp_path: Path
) -> None:
    run = spec(
        instruction="Think.", temperature=0.5, max_tokens=7, request={"top_p": 0.9}, concurrency=1
    )
    await answered(client, tmp_path / "log", run, count=1)
    plain, controlled = server.bodies
    assert plain == {
        "model": MODEL,
        "messages": [{"role": "user", "content": "What is 0?\nThink."}],
        "seed": plain["seed"],
        "temperature": 0.5,
        "max_tokens": 7,
        "top_p": 0.9,
    }
    assert controlled == {**plain, "control": SEARCH}


async def test_a_control_has_the_answer_of_the_problem_that_is_asked(
    client: AsyncSteersman, server: MadeUpServer, tmp_path: Path
) -> None:
    control = {"search": {"method": "align", "reference": "{answer}"}}
    run = spec(controls={"single": None, "search": control}, concurrency=1)
    await answered(client, tmp_path / "log", run, count=3)
    asked = {
        body["messages"][0]["content"]: body["control"]["search"]["reference"]
        for body in server.bodies
        if "control" in body
    }
    assert asked == {f"What is {number}?": str(number) for number in range(3)}


async def test_a_response_is_recorded_with_what_it_cost(
    client: AsyncSteersman, server: MadeUpServer, tmp_path: Path
) -> None:
    records = await answered(client, tmp_path / "log", spec())
    assert len(records) == 8
    for record in records:
        tokens = 10 + record.seed % 50
        assert record.right == (record.seed % 2 == 0)
        assert (record.completion_tokens, record.thinking_tokens) == (tokens, tokens - 2)
        assert record.sampled_tokens == (4 * tokens if record.control == "search" else tokens)
        assert (record.receipt is None) == (record.control == "single")
        assert (record.finish_reason, record.reasoning) == ("stop", "hm")
        assert record.latency_seconds > 0
    assert {record.right for record in records} == {True, False}


async def test_thinking_that_the_server_leaves_in_the_text_is_no_answer(
    client: AsyncSteersman, server: MadeUpServer, tmp_path: Path
) -> None:
    def unparsed(body: dict[str, Any], before: int) -> tuple[int, dict[str, Any]]:
        reply = completion({**body, "seed": 0})
        del reply["usage"]["completion_tokens_details"]
        message = reply["choices"][0]["message"]
        message["content"] = f"<think>9</think>{message['content']}" if before % 2 else "<think>0"
        return 200, reply

    server.script = unparsed
    records = await answered(client, tmp_path / "log", spec(controls={"single": None}))
    assert [record.right for record in records] == [False, True] * 2
    assert {record.thinking_tokens for record in records} == {None}


@pytest.mark.parametrize("concurrency", [1, 3, 100])
async def test_no_more_requests_are_in_flight_than_allowed(
    server: MadeUpServer, tmp_path: Path, concurrency: int
) -> None:
    running = most = 0
    allowed = min(concurrency, 20)
    full = asyncio.Event()

    async def handle(request: httpx2.Request) -> httpx2.Response:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == allowed:
            full.set()
        await asyncio.wait_for(full.wait(), 30)
        for _ in range(20):
            await asyncio.sleep(0)
        running -= 1
        status, body = server.answer(request.url.path, request.content)
        return httpx2.Response(status, json=body)

    http_client = httpx2.AsyncClient(transport=httpx2.MockTransport(handle))
    async with AsyncSteersman(http_client=http_client) as client:
        await answered(client, tmp_path / "log", spec(concurrency=concurrency), count=10)
    assert most == allowed


async def test_a_server_that_dies_ends_the_run_and_keeps_what_was_done(
    client: AsyncSteersman, server: MadeUpServer, tmp_path: Path
) -> None:
    def die(body: dict[str, Any], before: int) -> None:
        if before >= 5:
            raise httpx2.ConnectError("refused")

    server.script = die
    with pytest.raises(EvaluationError, match="does not answer"):
        await answered(client, tmp_path / "log", spec(concurrency=1), count=10)
    with ResponseLog(tmp_path / "log") as log:
        assert len(log.records) == 5


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (
            refusal("control.search.n", "n (99) is above 16"),
            r"refuses control 'search': control\.search\.n: n \(99\) is above 16",
        ),
        ((500, {"error": {"message": "boom"}}), r"HTTP 500 under control 'search': boom"),
    ],
)
async def test_a_refused_control_is_named_with_the_reason(
    client: AsyncSteersman,
    server: MadeUpServer,
    tmp_path: Path,
    reply: tuple[int, dict[str, Any]],
    message: str,
) -> None:
    server.script = lambda body, before: reply if "control" in body else None
    with pytest.raises(EvaluationError, match=message):
        await answered(client, tmp_path / "log", spec())


async def test_a_server_that_ignores_controls_is_found_out(
    client: AsyncSteersman, server: MadeUpServer, tmp_path: Path
) -> None:
    def ignore(body: dict[str, Any], before: int) -> tuple[int, dict[str, Any]]:
        return 200, {key: part for key, part in completion(body).items() if key != "control"}

    server.script = ignore
    with pytest.raises(EvaluationError, match="is not a Steersman server"):
        await answered(client, tmp_path / "log", spec())


async def test_the_served_model_is_asked_for(client: AsyncSteersman) -> None:
    assert await served_model(client, None) == MODEL
    assert await served_model(client, MODEL) == MODEL
    with pytest.raises(EvaluationError, match="serves tiny, not other"):
        await served_model(client, "other")


async def test_a_server_that_is_not_there_is_named() -> None:
    async with AsyncSteersman(base_url="http://127.0.0.1:9/v1", max_retries=0) as client:
        with pytest.raises(EvaluationError, match=r"http://127\.0\.0\.1:9/v1/ does not answer"):
            await served_model(client, None)
