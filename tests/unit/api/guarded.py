"""Keys of a guarded application, its clients, and an answer of it."""

from typing import Any

import httpx
from starlette.types import ASGIApp, Receive, Scope, Send

from steersman.keys import key as keys
from steersman.keys.key import Key, KeyLimits, digest
from steersman.keys.ring import Keys

LIMITS = KeyLimits(concurrency=1, fan_out=4, tokens_per_minute=600)
KEYS = Keys(
    ["sk-use"],
    "sk-admin",
    [
        Key("alice", digest("sk-alice"), limits=LIMITS),
        Key("prometheus", digest("sk-prometheus"), frozenset({keys.Scope.METRICS})),
        Key("ops", digest("sk-ops"), frozenset({keys.Scope.ADMIN})),
    ],
)


def client(app: ASGIApp, key: str | None = None, scheme: str = "Bearer") -> httpx.AsyncClient:
    headers = {} if key is None else {"authorization": f"{scheme} {key}"}
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers)


async def answer(scope: Scope, receive: Receive, send: Send, code: int = 200) -> None:
    headers: list[Any] = [(b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": code, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})
