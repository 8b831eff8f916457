"""The end of a server: what is under way finishes, or is told at the deadline."""

import asyncio
import os
import signal
from dataclasses import dataclass, field

from steersman.ending import Ending


@dataclass
class Server:
    should_exit: bool = False


@dataclass
class Engine:
    told: asyncio.Event = field(default_factory=asyncio.Event)
    reasons: list[str] = field(default_factory=list)

    def refuse(self, reason: str) -> None:
        self.reasons.append(reason)
        self.told.set()


def test_at_the_first_signal_requests_may_finish() -> None:
    ending, server, engine = Ending(600), Server(), Engine()

    async def run() -> None:
        ending.listen(server, engine)
        assert not ending.begun
        os.kill(os.getpid(), signal.SIGTERM)
        while not ending.begun:
            await asyncio.sleep(0)

    asyncio.run(run())
    assert server.should_exit
    assert engine.reasons == []


def test_at_a_second_signal_they_are_told() -> None:
    server, engine = Server(), Engine()

    async def run() -> None:
        ending = Ending(600)
        ending.begin(server, engine)
        ending.begin(server, engine)

    asyncio.run(run())
    assert engine.reasons == ["the server is shutting down; try again, or another one"]


def test_all_who_have_requests_are_told() -> None:
    engine, rewards = Engine(), Engine()

    async def run() -> None:
        ending = Ending(600)
        ending.begin(Server(), engine, rewards)
        ending.begin(Server(), engine, rewards)
        ending.close()

    asyncio.run(run())
    assert engine.reasons == rewards.reasons
    assert len(rewards.reasons) == 1


def test_at_the_deadline_they_are_told_until_all_have_heard() -> None:
    engine = Engine()

    async def run() -> None:
        ending = Ending(0)
        ending.begin(Server(), engine)
        for _ in range(2):
            await engine.told.wait()
            engine.told.clear()
        ending.close()

    asyncio.run(run())
    assert len(engine.reasons) == 2


def test_nobody_is_told_once_it_is_closed() -> None:
    ending, engine = Ending(0), Engine()

    async def run() -> None:
        ending.begin(Server(), engine)
        ending.close()
        await asyncio.sleep(0.01)

    asyncio.run(run())
    assert engine.reasons == []
    assert ending.begun
