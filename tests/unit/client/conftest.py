"""A scripted server under both clients: it records the requests and answers what it was told."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx2
import pytest

from steersman_client import AsyncSteersman, Steersman


class ScriptedServer:
    """Answers each request with the next scripted reply."""

    def __init__(self) -> None:
        self.requests: list[httpx2.Request] = []
        self._replies: list[httpx2.Response] = []

    def reply(self, body: dict[str, Any], status: int = 200) -> None:
        self._replies.append(httpx2.Response(status, json=body))

    def reply_chunks(self, *chunks: dict[str, Any]) -> None:
        """A stream of chat or text chunks, with the server's comments and the end mark."""
        lines = [": steersman {}", *(f"data: {json.dumps(chunk)}" for chunk in chunks)]
        self._reply_stream([*lines, "data: [DONE]"])

    def reply_events(self, *events: dict[str, Any]) -> None:
        """A stream of Responses events."""
        self._reply_stream([f"event: {e['type']}\ndata: {json.dumps(e)}" for e in events])

    def _reply_stream(self, lines: list[str]) -> None:
        content = "".join(f"{line}\n\n" for line in lines)
        headers = {"content-type": "text/event-stream"}
        self._replies.append(httpx2.Response(200, headers=headers, content=content))

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        return self._replies.pop(0)

    @property
    def body(self) -> dict[str, Any]:
        """JSON body of the only request."""
        (request,) = self.requests
        return dict(json.loads(request.content))

    @property
    def sent(self) -> tuple[str, str, str]:
        """Method, URL and key of the only request."""
        (request,) = self.requests
        return request.method, str(request.url), request.headers["authorization"]


@pytest.fixture(params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STEERSMAN_ADMIN_API_KEY", "STEERSMAN_API_KEY", "STEERSMAN_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> ScriptedServer:
    return ScriptedServer()


@pytest.fixture
def client(server: ScriptedServer) -> Iterator[Steersman]:
    http_client = httpx2.Client(transport=httpx2.MockTransport(server))
    with Steersman(http_client=http_client, max_retries=0) as client:
        yield client


@pytest.fixture
async def async_client(server: ScriptedServer) -> AsyncIterator[AsyncSteersman]:
    http_client = httpx2.AsyncClient(transport=httpx2.MockTransport(server))
    async with AsyncSteersman(http_client=http_client, max_retries=0) as client:
        yield client


@pytest.fixture
def receipt() -> dict[str, Any]:
    return {
        "applied": {
            "profile": None,
            "search": {
                "method": "first_finish",
                "launched": 4,
                "finished": 1,
                "cancelled": 3,
                "winner": 2,
                "winners": [2],
                "decided_by": "first",
            },
        },
        "compute": {"sampled_tokens": 40, "returned_tokens": 12, "wall_ms": 8.5},
        "newer_part": {"kept": True},
    }


@pytest.fixture
def chat_completion() -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": '{"answer": 4}'},
            }
        ],
    }


@pytest.fixture
def chat_chunk() -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "delta": {}, "finish_reason": None}],
    }


@pytest.fixture
def text_completion() -> dict[str, Any]:
    return {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "text": "4", "finish_reason": "stop", "logprobs": None}],
    }


@pytest.fixture
def response() -> dict[str, Any]:
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": "m",
        "status": "completed",
        "output": [
            {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "status": "completed",
                "content": [{"type": "output_text", "text": "4", "annotations": []}],
            }
        ],
        "parallel_tool_calls": False,
        "tool_choice": "auto",
        "tools": [],
    }
