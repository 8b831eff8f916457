"""`/ready`: 200 only while requests are served."""

import asyncio
from dataclasses import dataclass

import httpx
import pytest
from fastapi import FastAPI

from steersman.api import ready
from steersman.ending import Ending


@dataclass
class Engine:
    errored: bool = False
    paused: bool = False
    hangs: bool = False

    async def is_paused(self) -> bool:
        if self.hangs:
            await asyncio.Event().wait()
        return self.paused

    def refuse(self, reason: str) -> None:
        raise AssertionError(reason)


@dataclass
class Server:
    should_exit: bool = False


def ask(engine: Engine, ending: Ending) -> httpx.Response:
    app = FastAPI()
    app.include_router(ready.router(engine, ending))

    async def get() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            return await client.get("/ready")

    return asyncio.run(get())


def test_a_server_whose_engine_answers_is_ready() -> None:
    response = ask(Engine(), Ending(1))
    assert response.status_code == 200
    assert response.json() == {"ready": True, "reason": None}


@pytest.mark.parametrize(
    ("engine", "reason"),
    [
        (Engine(errored=True), "the engine has died"),
        (Engine(paused=True), "the engine is paused"),
        (Engine(hangs=True), "the engine has not answered for 0.01 s"),
    ],
)
def test_an_engine_that_serves_nobody(
    engine: Engine, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ready, "ANSWER_SECONDS", 0.01)
    response = ask(engine, Ending(1))
    assert response.status_code == 503
    assert response.json() == {"ready": False, "reason": reason}


def test_a_server_that_ends_is_not_ready() -> None:
    ending, engine = Ending(600), Engine()

    async def begin() -> None:
        ending.begin(Server(), engine)

    asyncio.run(begin())
    response = ask(engine, ending)
    assert response.json() == {"ready": False, "reason": "the server is shutting down"}
