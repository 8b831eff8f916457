"""`/ready`: 200 only while requests are served."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

import httpx
import pytest
from fastapi import FastAPI

from steersman.api import ready
from steersman.ending import Ending
from tests.unit.keys.test_bucket import Clock


@dataclass
class Engine:
    errored: bool = False
    paused: bool = False
    hangs: bool = False
    asked: int = 0

    async def is_paused(self) -> bool:
        self.asked += 1
        if self.hangs:
            await asyncio.Event().wait()
        return self.paused

    def refuse(self, reason: str) -> int:
        raise AssertionError(reason)


@dataclass
class Server:
    should_exit: bool = False


@contextlib.asynccontextmanager
async def client(
    engine: Engine, ending: Ending, clock: Clock | None = None
) -> AsyncGenerator[httpx.AsyncClient]:
    app = FastAPI()
    app.include_router(ready.router(engine, ending, clock or Clock()))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as http:
        yield http


def ask(engine: Engine, ending: Ending) -> httpx.Response:
    async def get() -> httpx.Response:
        async with client(engine, ending) as http:
            return await http.get("/ready")

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


@dataclass
class Slow(Engine):
    """An engine that answers when it is let."""

    answers: asyncio.Event = field(default_factory=asyncio.Event)

    async def is_paused(self) -> bool:
        self.asked += 1
        await self.answers.wait()
        return self.paused


async def until_asked(engine: Engine) -> None:
    while not engine.asked:
        await asyncio.sleep(0)


def test_all_who_ask_at_once_wait_for_one_answer() -> None:
    engine = Slow()

    async def run() -> list[int]:
        async with client(engine, Ending(1)) as http:
            asks = [asyncio.create_task(http.get("/ready")) for _ in range(20)]
            await until_asked(engine)
            for _ in range(100):
                await asyncio.sleep(0)
            engine.answers.set()
            return [response.status_code for response in await asyncio.gather(*asks)]

    assert asyncio.run(run()) == [200] * 20
    assert engine.asked == 1


def test_an_answer_serves_for_a_second_from_when_it_came() -> None:
    engine, clock = Engine(), Clock()

    async def run() -> list[tuple[int, int]]:
        told = []
        async with client(engine, Ending(1), clock) as http:
            for clock.now in (0.0, 0.5, 0.9, 1.0, 1.5, 2.5):
                response = await http.get("/ready")
                told.append((response.status_code, engine.asked))
                engine.paused = True
        return told

    fresh = [(200, 1)] * 3
    assert asyncio.run(run()) == [*fresh, (503, 2), (503, 2), (503, 3)]


def test_whoever_hangs_up_leaves_the_answer_to_the_others() -> None:
    engine = Slow()

    async def run() -> int:
        async with client(engine, Ending(1)) as http:
            first = asyncio.create_task(http.get("/ready"))
            await until_asked(engine)
            second = asyncio.create_task(http.get("/ready"))
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            assert first.cancelled()
            engine.answers.set()
            return (await second).status_code

    assert asyncio.run(run()) == 200
    assert engine.asked == 1


def test_the_end_is_told_at_once_whatever_the_last_answer_was() -> None:
    engine, ending = Engine(), Ending(600)

    async def run() -> list[str | None]:
        async with client(engine, ending) as http:
            told = [(await http.get("/ready")).json()["reason"]]
            engine.errored = True
            told.append((await http.get("/ready")).json()["reason"])
            ending.begin(Server(), engine)
            told.append((await http.get("/ready")).json()["reason"])
        return told

    assert asyncio.run(run()) == [None, "the engine has died", "the server is shutting down"]
    assert engine.asked == 1
